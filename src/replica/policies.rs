//! Queries: rotation policies, and the tokens that they are for.

use super::Replica;
use super::read::{CURRENT, TokenRow, VersionRow, token_from, version_columns, version_from};
use super::rows::{blob, damaged};
use crate::error::Result;
use crate::ledger::body::{Body, RotationPolicy, Target};
use crate::ledger::{Prefix, TokenId};
use rusqlite::Row;

/// A rotation policy in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// What it is for.
    pub target: Target,
    /// The token's name now; none for a prefix.
    pub name: Option<String>,
    /// The policy.
    pub policy: RotationPolicy,
    /// The position of its statement.
    pub n: u64,
}

/// A token that is to be rotated, as far as the ledger tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationRow {
    /// The token.
    pub token: TokenRow,
    /// The version in use: the newest that came into use. It is active.
    pub version: VersionRow,
    /// Its policy.
    pub policy: PolicyRow,
    /// Whether a version is staged: a rotation has begun.
    pub staged: bool,
    /// Whether an older version is not revoked yet.
    pub beside: bool,
}

impl PolicyRow {
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
    /// The policy of this token: its own, or that of the longest prefix that covers its name.
    pub fn policy_for(&self, token: &TokenRow) -> Result<Option<PolicyRow>> {
        let own = self.policy_on(&Target::Token(token.id))?;
        if own.is_some() || self.one("SELECT 1 FROM policies LIMIT 1", [], |_| Ok(()))?.is_none() {
            return Ok(own);
        }
        let shorter = token.name.match_indices('/').map(|(at, _)| at).rev().chain([0]);
        for end in std::iter::once(token.name.len()).chain(shorter) {
            let found = self.policy_on(&Target::Prefix(token.name[..end].into()))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The policy that was set on exactly this.
    pub fn policy_on(&self, target: &Target) -> Result<Option<PolicyRow>> {
        self.one(&format!("{POLICY} WHERE p.subject = ?1"), [target.subject().encode()], |row| {
            policy_from(row, 0)
        })
    }

    /// All policies, by what they are on.
    pub fn policies(&self) -> Result<Vec<PolicyRow>> {
        self.many(&format!("{POLICY} ORDER BY coalesce(p.prefix, t.name), p.prefix"), [], |row| {
            policy_from(row, 0)
        })
    }

    /// The living tokens under `prefix` that a policy is for, with a current version that is active, by name.
    pub fn rotations(&self, prefix: &Prefix) -> Result<Vec<RotationRow>> {
        let sql = ROTATIONS.replace("{V}", &version_columns()).replace("{C}", CURRENT);
        let all = self.many(&sql, [prefix.as_str()], rotation_from)?;
        let mut rows: Vec<RotationRow> = Vec::with_capacity(all.len());
        // The first of each name has the policy that goes before the others.
        for row in all {
            if rows.last().is_none_or(|last| last.token.id != row.token.id) {
                rows.push(row);
            }
        }
        Ok(rows)
    }
}

const POLICY: &str = "SELECT p.token, p.prefix, t.name, p.n, p.policy FROM policies p
                      LEFT JOIN tokens t ON t.id = p.token";

/// A prefix covers itself and what lies below it: these names lie between it and the prefix with `0`, the letter after `/`.
const ROTATIONS: &str = "
    WITH reached AS (
      SELECT t.row AS row, p.subject AS subject, 256 AS depth FROM policies p JOIN tokens t ON t.id = p.token
      UNION ALL
      SELECT n.token, p.subject, length(p.prefix) FROM policies p JOIN names n
      ON n.name >= p.prefix AND n.name < CASE p.prefix WHEN '' THEN '~' ELSE p.prefix || '0' END
      WHERE n.token IS NOT NULL AND (p.prefix = '' OR n.name = p.prefix OR n.name >= p.prefix || '/')
    )
    SELECT t.row, t.id, t.name, t.latest, t.suspended, t.destroyed, p.token, p.prefix, t.name, p.n, p.policy,
    (SELECT count(*) FROM versions o WHERE o.token = t.row AND o.version < v.version AND o.state IN (1, 2)),
    (SELECT count(*) FROM versions o WHERE o.token = t.row AND o.state = 0), {V}
    FROM reached r JOIN tokens t ON t.row = r.row JOIN policies p ON p.subject = r.subject
    JOIN versions v ON v.token = t.row AND v.version = {C}
    WHERE t.destroyed = 0 AND t.suspended = 0 AND v.state = 1
    AND (?1 = '' OR t.name = ?1 OR (t.name >= ?1 || '/' AND t.name < ?1 || '0'))
    ORDER BY t.name, r.depth DESC";

fn rotation_from(row: &Row<'_>) -> rusqlite::Result<RotationRow> {
    let (token, version) = (token_from(row, 0)?, version_from(row, 13)?);
    let policy = policy_from(row, 6)?;
    let (beside, staged) = (row.get::<_, u64>(11)? > 0, row.get::<_, u64>(12)? > 0);
    Ok(RotationRow { token, version, policy, staged, beside })
}

fn policy_from(row: &Row<'_>, at: usize) -> rusqlite::Result<PolicyRow> {
    let (target, name) = match row.get::<_, Option<String>>(at + 1)? {
        Some(prefix) => (Target::Prefix(prefix), None),
        None => (Target::Token(TokenId(blob(row, at)?)), row.get(at + 2)?),
    };
    let bytes = row.get_ref(at + 4)?.as_blob()?;
    match Body::from_bytes(bytes) {
        Some(Body::Policy(change)) => match change.policy {
            Some(policy) => Ok(PolicyRow { target, name, policy, n: row.get(at + 3)? }),
            None => Err(damaged(at + 4, "a policy")),
        },
        _ => Err(damaged(at + 4, "a policy")),
    }
}
