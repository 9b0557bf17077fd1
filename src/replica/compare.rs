//! Compares a replica with a rebuilt one. `verify` uses this to find edits of the replica itself.

use super::Replica;
use crate::error::Result;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};

/// A table in which a replica differs from what the store's statements say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The table.
    pub table: &'static str,
    /// The first row that differs, actual and expected; keys only.
    pub row: String,
}

/// Tables, their columns, and the order in which both replicas are read. Row numbers follow from the ledger, so they
/// agree too.
const TABLES: [(&str, &str, &str); 15] = [
    ("sqlite_schema", "name, type, tbl_name, sql", "name"),
    // All but the newest time, which depends on when it was seen. So do the witnesses' positions.
    ("position", "n, chain, admin_head, guarded, settings, frontier", "n"),
    ("boundaries", "*", "n"),
    ("tokens", "*", "row"),
    ("names", "*", "name"),
    ("recipients", "*", "row"),
    ("versions", "*", "token, version"),
    ("seals", "*", "token, version, digest"),
    ("history", "*", "token, n"),
    ("devices", "*", "n"),
    ("prefixes", "*", "prefix"),
    ("proposals", "*", "hash"),
    ("policies", "*", "subject"),
    ("grants", "*", "n"),
    ("ineffective", "*", "n"),
];

impl Replica {
    /// What SQLite finds wrong with the file, such as an index that does not fit its table: what is read from it then differs
    /// by the way it is looked for.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn damage(&self) -> Result<Option<String>> {
        let found = self.db.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
        Ok(Some(found.map_err(|e| self.failed(e))?).filter(|found| found != "ok"))
    }

    /// The first differing row of each table. `other` must be at the same position.
    ///
    /// # Errors
    /// Those of reading either.
    pub fn differences(&self, other: &Self) -> Result<Vec<Difference>> {
        let mut differences: Vec<Difference> = Vec::new();
        for (table, columns, order) in TABLES {
            let sql = format!("SELECT {columns} FROM {table} ORDER BY {order}");
            if let Some(row) = self.first_difference(other, &sql)? {
                differences.push(Difference { table, row });
            }
        }
        Ok(differences)
    }

    fn first_difference(&self, other: &Self, sql: &str) -> Result<Option<String>> {
        let mut ours = self.db.prepare(sql).map_err(|e| self.failed(e))?;
        let mut theirs = other.db.prepare(sql).map_err(|e| other.failed(e))?;
        let mut ours = ours.query([]).map_err(|e| self.failed(e))?;
        let mut theirs = theirs.query([]).map_err(|e| other.failed(e))?;
        loop {
            let mine = ours.next().and_then(|row| row.map(digest).transpose()).map_err(|e| self.failed(e))?;
            let right =
                theirs.next().and_then(|row| row.map(digest).transpose()).map_err(|e| other.failed(e))?;
            match (mine, right) {
                (None, None) => return Ok(None),
                (Some(mine), Some(right)) if mine.0 == right.0 => {}
                (Some((_, key)), None) => return Ok(Some(format!("{key} should not be there"))),
                (_, Some((_, key))) => return Ok(Some(format!("{key} is missing or altered"))),
            }
        }
    }
}

/// A row's hash, and its first columns for people.
fn digest(row: &rusqlite::Row<'_>) -> rusqlite::Result<([u8; 32], String)> {
    let (mut hash, mut key) = (Sha256::new(), String::new());
    for column in 0..row.as_ref().column_count() {
        let (kind, bytes) = match row.get_ref(column)? {
            ValueRef::Null => (0u8, Vec::new()),
            ValueRef::Integer(i) => (1, i.to_be_bytes().to_vec()),
            ValueRef::Real(r) => (2, r.to_be_bytes().to_vec()),
            ValueRef::Text(t) => (3, t.to_vec()),
            ValueRef::Blob(b) => (4, b.to_vec()),
        };
        hash.update([kind]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(&bytes);
        if column == 0 {
            key = match row.get_ref(0)? {
                ValueRef::Integer(i) => i.to_string(),
                ValueRef::Text(t) => crate::error::printable(&String::from_utf8_lossy(t)),
                _ => hex::encode(bytes),
            };
        }
    }
    Ok((hash.finalize().into(), key))
}
