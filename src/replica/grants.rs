//! Queries: grants.

use super::Replica;
use super::read::TokenRow;
use super::rows::blob;
use crate::error::Result;
use crate::ledger::body::Target;
use crate::ledger::{GrantId, TokenId};
use rusqlite::Row;

/// An active grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRow {
    /// Its id.
    pub id: GrantId,
    /// Its target.
    pub target: Target,
    /// The token's name now; none for a prefix.
    pub name: Option<String>,
    /// The grantee.
    pub to: String,
    /// Operations, sorted.
    pub ops: Vec<String>,
    /// Until when (ms).
    pub until: Option<u64>,
    /// The credential id that a systemd unit uses for it.
    pub alias: Option<String>,
    /// The position of the grant.
    pub n: u64,
}

impl GrantRow {
    /// The token's name, or the prefix.
    pub fn path(&self) -> &str {
        self.target.path(self.name.as_deref())
    }

    /// Its target as users write it: `prod/db`, `prod/`.
    pub fn on(&self) -> String {
        self.target.written(self.name.as_deref())
    }
}

impl Replica {
    /// The active grants on one token, without those on prefixes.
    pub fn grants(&self, token: &TokenId) -> Result<Vec<GrantRow>> {
        self.many(&format!("{GRANT} AND g.token = ?1 ORDER BY g.n"), [&token.0[..]], grant_from)
    }

    /// The active grants on prefixes that cover this name, whether or not a token has it.
    pub fn grants_covering(&self, name: &str) -> Result<Vec<GrantRow>> {
        let ends = name.match_indices('/').map(|(at, _)| at).chain([0, name.len()]);
        let mut found = Vec::new();
        for end in ends {
            let sql = format!("{GRANT} AND g.prefix = ?1 ORDER BY g.n");
            found.extend(self.many(&sql, [&name[..end]], grant_from)?);
        }
        found.sort_by_key(|grant| grant.n);
        Ok(found)
    }

    /// The active grants on a token, and on prefixes that cover its name.
    pub fn grants_reaching(&self, token: &TokenRow) -> Result<Vec<GrantRow>> {
        let mut found = self.grants(&token.id)?;
        found.extend(self.grants_covering(&token.name)?);
        found.sort_by_key(|grant| grant.n);
        Ok(found)
    }

    /// The active grants of this grantee.
    pub fn grants_to(&self, grantee: &str) -> Result<Vec<GrantRow>> {
        self.many(&format!("{GRANT} AND g.grantee = ?1 ORDER BY g.n"), [grantee], grant_from)
    }

    /// Whether any active grant names a program's digest.
    pub fn any_granted_by_digest(&self) -> Result<bool> {
        let sql = "SELECT 1 FROM grants WHERE live = 1 AND instr(grantee, 'exe:sha256:') > 0 LIMIT 1";
        Ok(self.one(sql, [], |_| Ok(()))?.is_some())
    }

    /// All active grants, oldest first.
    pub fn all_grants(&self) -> Result<Vec<GrantRow>> {
        self.many(&format!("{GRANT} ORDER BY g.n"), [], grant_from)
    }

    /// All grants there ever were, oldest first, and whether each stands.
    pub fn grants_ever(&self) -> Result<Vec<(GrantRow, bool)>> {
        let sql = GRANT
            .replace("FROM grants g", ", g.live FROM grants g")
            .replace("WHERE g.live = 1", "ORDER BY g.n");
        self.many(&sql, [], |row| Ok((grant_from(row)?, row.get(9)?)))
    }

    /// The active grant of this id.
    pub fn grant_row(&self, id: &GrantId) -> Result<Option<GrantRow>> {
        self.one(&format!("{GRANT} AND g.id = ?1"), [&id.0[..]], grant_from)
    }
}

const GRANT: &str =
    "SELECT g.id, g.token, g.prefix, t.name, g.grantee, g.ops, g.until, g.alias, g.n FROM grants g
                     LEFT JOIN tokens t ON t.id = g.token WHERE g.live = 1";

fn grant_from(row: &Row<'_>) -> rusqlite::Result<GrantRow> {
    let target = match row.get::<_, Option<String>>(2)? {
        Some(prefix) => Target::Prefix(prefix),
        None => Target::Token(TokenId(blob(row, 1)?)),
    };
    Ok(GrantRow {
        id: GrantId(blob(row, 0)?),
        target,
        name: row.get(3)?,
        to: row.get(4)?,
        ops: row.get_ref(5)?.as_str()?.split(',').map(str::to_owned).collect(),
        until: row.get(6)?,
        alias: row.get(7)?,
        n: row.get(8)?,
    })
}
