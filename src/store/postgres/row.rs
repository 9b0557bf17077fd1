//! Rows of tables that anybody may have written to: each field's type and length is checked.

use super::connection::Place;
use crate::error::{Error, Result, printable};
use crate::ledger::Hash;
use crate::store::rules::Columns;
use postgres::Row;
use postgres::types::FromSql;

/// One row. Its first column names it in errors.
pub(super) struct Fields<'a> {
    pub(super) at: Place<'a>,
    pub(super) table: &'static str,
    pub(super) row: &'a Row,
}

impl Columns for Fields<'_> {
    fn uint(&self, column: usize) -> Result<u64> {
        let n = self.value::<i64>(column, "is not a number")?;
        u64::try_from(n).map_err(|_| self.wrong(column, "is negative"))
    }

    fn text(&self, column: usize, max: usize) -> Result<String> {
        let text = self.value::<&str>(column, "is not text")?;
        if text.len() > max {
            return Err(self.too_long(column, max));
        }
        Ok(text.to_owned())
    }

    fn hash(&self, column: usize) -> Result<Hash> {
        let bytes = self.value::<&[u8]>(column, "is not bytes")?;
        Hash::from_slice(bytes).ok_or_else(|| self.wrong(column, "is not 32 bytes long"))
    }

    fn wrong(&self, column: usize, what: &str) -> Error {
        let name = self.row.columns().get(column).map_or("?", |column| column.name());
        self.at.tampered(self.table, &self.name(), &format!("`{}` {what}", printable(name)))
    }
}

impl Fields<'_> {
    pub(super) fn flag(&self, column: usize) -> Result<bool> {
        self.value(column, "is not true or false")
    }

    /// At most `max` bytes.
    pub(super) fn blob(&self, column: usize, max: usize) -> Result<Vec<u8>> {
        let bytes = self.value::<&[u8]>(column, "is not bytes")?;
        if bytes.len() > max {
            return Err(self.too_long(column, max));
        }
        Ok(bytes.to_vec())
    }

    /// Values of at most `max` bytes each; `None` for NULL.
    pub(super) fn blobs(&self, column: usize, max: usize) -> Result<Option<Vec<Vec<u8>>>> {
        let blobs = self.value::<Option<Vec<&[u8]>>>(column, "is not bytes")?;
        if blobs.iter().flatten().any(|bytes| bytes.len() > max) {
            return Err(self.too_long(column, max));
        }
        Ok(blobs.map(|blobs| blobs.into_iter().map(<[u8]>::to_vec).collect()))
    }

    /// As [`Fields::uint`], `None` for NULL.
    pub(super) fn maybe_uint(&self, column: usize) -> Result<Option<u64>> {
        match self.row.try_get::<_, Option<i64>>(column) {
            Ok(None) => Ok(None),
            _ => self.uint(column).map(Some),
        }
    }

    fn value<'r, T: FromSql<'r>>(&'r self, column: usize, otherwise: &str) -> Result<T> {
        self.row.try_get(column).map_err(|_| self.wrong(column, otherwise))
    }

    fn name(&self) -> String {
        if let Ok(n) = self.row.try_get::<_, i64>(0) {
            return n.to_string();
        }
        if let Ok(text) = self.row.try_get::<_, &str>(0) {
            return printable(&text.chars().take(64).collect::<String>());
        }
        match self.row.try_get::<_, &[u8]>(0) {
            Ok(bytes) => hex::encode(&bytes[..bytes.len().min(32)]),
            Err(_) => "NULL".into(),
        }
    }
}
