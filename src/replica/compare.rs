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
/// agree too. A table with an index is read both ways, so that an altered index shows.
const TABLES: [(&str, &str, &str); 21] = [
    ("sqlite_schema", "name, type, tbl_name, sql", "name"),
    // All but the newest time, which depends on when it was seen. So do the witnesses' positions.
    ("position", "n, chain, admin_head, guarded, settings, frontier", "n"),
    ("boundaries", "*", "n"),
    ("tokens", "*", "row"),
    ("tokens", "id", "id"),
    ("names", "*", "name"),
    ("recipients", "*", "row"),
    ("recipients", "devices", "devices"),
    ("versions", "*", "token, version"),
    ("seals", "*", "token, version, digest"),
    ("seals", "digest", "digest"),
    ("history", "*", "token, n"),
    ("devices", "*", "n"),
    ("devices", "*", "id"),
    ("devices", "signing", "signing"),
    ("prefixes", "*", "prefix"),
    ("proposals", "*", "hash"),
    ("policies", "*", "subject"),
    ("grants", "*", "n"),
    ("grants", "*", "id"),
    ("ineffective", "*", "n"),
];

impl Replica {
    /// The first differing row of each table. `other` must be at the same position.
    ///
    /// # Errors
    /// Those of reading either.
    pub fn differences(&self, other: &Self) -> Result<Vec<Difference>> {
        let mut differences: Vec<Difference> = Vec::new();
        for (table, columns, order) in TABLES {
            if differences.last().is_some_and(|found| found.table == table) {
                continue;
            }
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
