//! The changes after a position, by name: what an older copy of the store lacks.

use super::Replica;
use crate::error::Result;

/// What one statement made or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerChange {
    /// A version that was put.
    Version(String, u64),
    /// A change of a token: its state, its name, its seals, its end.
    Change(String),
    /// A device that was enrolled.
    Enrolled(String),
    /// A device that was retired.
    Retired(String),
    /// A grant: on what, to whom.
    Grant(String, String),
}

impl Replica {
    /// What came after position `n`, oldest first, at most `limit`. Changes of roles and settings, and grants that were
    /// taken back, are not among it.
    pub(crate) fn changes_since(&self, n: u64, limit: u32) -> Result<Vec<LedgerChange>> {
        let sql = "
            SELECT n, 'version', name, version FROM versions WHERE n > ?1
            UNION ALL SELECT h.n, 'change', t.name, 0 FROM history h JOIN tokens t ON t.row = h.token
                WHERE h.n > ?1 AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.n = h.n AND g.live = 1)
            UNION ALL SELECT n, 'enrolled', name, 0 FROM devices WHERE n > ?1
            UNION ALL SELECT gone, 'retired', name, 0 FROM devices WHERE gone > ?1
            UNION ALL SELECT g.n, coalesce(t.name, g.prefix || '/'), g.grantee, NULL FROM grants g
                LEFT JOIN tokens t ON t.id = g.token WHERE g.n > ?1 AND g.live = 1
            ORDER BY 1 LIMIT ?2";
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        self.many(sql, (n, limit), |row| {
            let (what, name): (String, String) = (row.get(1)?, row.get(2)?);
            // Only a grant has no fourth column, and a name in the place of a word.
            let Some(version) = row.get::<_, Option<u64>>(3)? else {
                return Ok(LedgerChange::Grant(what, name));
            };
            Ok(match what.as_str() {
                "version" => LedgerChange::Version(name, version),
                "change" => LedgerChange::Change(name),
                "enrolled" => LedgerChange::Enrolled(name),
                _ => LedgerChange::Retired(name),
            })
        })
    }
}
