//! SQL statements on a file that anybody may have written to. Each error names the operation, and each field's type is
//! checked.

use super::error;
use crate::error::{Error, Result, printable};
use crate::ledger::Hash;
use crate::store::rules::{self, Columns};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Params, Row, Transaction, TransactionBehavior};
use std::cell::Cell;

/// One operation on the store.
pub(super) struct SqliteOperation<'a> {
    pub(super) db: &'a Connection,
    pub(super) location: &'a str,
    /// Whether the connection waits for the disk now.
    pub(super) durable: &'a Cell<Option<bool>>,
    /// Completes "cannot …".
    pub(super) to: &'static str,
}

impl SqliteOperation<'_> {
    /// Begins a transaction that reads one snapshot of the store.
    pub(super) fn reading(&self) -> Result<Transaction<'_>> {
        self.begin(TransactionBehavior::Deferred)
    }

    /// Begins a write transaction. Waits for other writers now, so that it cannot fail half-way.
    ///
    /// With `durable`, it waits for the disk when it commits.
    pub(super) fn writing(&self, durable: bool) -> Result<Transaction<'_>> {
        if self.durable.get() != Some(durable) {
            self.pragma("synchronous", if durable { "FULL" } else { "NORMAL" })?;
            self.durable.set(Some(durable));
        }
        self.begin(TransactionBehavior::Immediate)
    }

    fn begin(&self, behavior: TransactionBehavior) -> Result<Transaction<'_>> {
        Transaction::new_unchecked(self.db, behavior).map_err(|e| self.failed(None, &e))
    }

    pub(super) fn commit(&self, transaction: Transaction<'_>) -> Result<()> {
        transaction.commit().map_err(|e| self.failed(None, &e))
    }

    pub(super) fn pragma(&self, name: &str, value: impl rusqlite::ToSql) -> Result<()> {
        // Some pragmas return their new value, some do not.
        self.db.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(|e| match e {
            rusqlite::Error::QueryReturnedNoRows => Ok(()),
            e => Err(self.failed(None, &e)),
        })
    }

    /// Runs a statement on `table`. Returns the number of changed rows.
    pub(super) fn execute(&self, table: &'static str, sql: &str, params: impl Params) -> Result<usize> {
        self.raw(sql, params).map_err(|e| self.failed(Some(table), &e))
    }

    /// As `execute`, for callers that expect a certain failure.
    pub(super) fn raw(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.db.prepare_cached(sql)?.execute(params)
    }

    /// The first row of a query on `table`. The query's first column names the row.
    pub(super) fn first<T>(
        &self,
        table: &'static str,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Fields<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut read = Some(read);
        let mut found = None;
        self.each(table, sql, params, |row| {
            found = read.take().map(|read| read(row)).transpose()?;
            Ok(false)
        })?;
        Ok(found)
    }

    /// Visits the rows of a query on `table` until `visit` returns false. The query's first column names the row.
    pub(super) fn each(
        &self,
        table: &'static str,
        sql: &str,
        params: impl Params,
        mut visit: impl FnMut(&Fields<'_>) -> Result<bool>,
    ) -> Result<()> {
        let failed = |e| self.failed(Some(table), &e);
        let mut statement = self.db.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            if !visit(&Fields { attempt: self, table, row })? {
                break;
            }
        }
        Ok(())
    }

    /// The error for SQLite's failure.
    pub(super) fn failed(&self, table: Option<&'static str>, answer: &rusqlite::Error) -> Error {
        error::decode(self.to, self.location, table, answer)
    }

    /// As [`rules::tampered`].
    pub(super) fn tampered(&self, table: &str, row: &str, what: &str) -> Error {
        rules::tampered(self.to, self.location, table, row, what)
    }

    /// A number in SQLite's range.
    pub(super) fn integer(&self, n: u64) -> Result<i64> {
        rules::integer(self.to, self.location, n)
    }
}

/// One row. Its first column names it in errors.
pub(super) struct Fields<'a> {
    attempt: &'a SqliteOperation<'a>,
    table: &'static str,
    row: &'a Row<'a>,
}

impl Columns for Fields<'_> {
    fn uint(&self, column: usize) -> Result<u64> {
        match self.value(column) {
            ValueRef::Integer(n) => u64::try_from(n).map_err(|_| self.wrong(column, "is negative")),
            _ => Err(self.wrong(column, "is not a number")),
        }
    }

    fn text(&self, column: usize, max: usize) -> Result<String> {
        match self.value(column) {
            ValueRef::Text(text) if text.len() > max => Err(self.too_long(column, max)),
            ValueRef::Text(text) => {
                String::from_utf8(text.to_vec()).map_err(|_| self.wrong(column, "is not UTF-8"))
            }
            _ => Err(self.wrong(column, "is not text")),
        }
    }

    fn hash(&self, column: usize) -> Result<Hash> {
        match self.value(column) {
            ValueRef::Blob(bytes) => {
                Hash::from_slice(bytes).ok_or_else(|| self.wrong(column, "is not 32 bytes long"))
            }
            _ => Err(self.wrong(column, "is not bytes")),
        }
    }

    fn wrong(&self, column: usize, what: &str) -> Error {
        let name = self.row.as_ref().column_name(column).unwrap_or("?");
        self.attempt.tampered(self.table, &self.name(), &format!("`{}` {what}", printable(name)))
    }
}

impl Fields<'_> {
    /// At most `max` bytes.
    pub(super) fn blob(&self, column: usize, max: usize) -> Result<Vec<u8>> {
        match self.value(column) {
            ValueRef::Blob(bytes) if bytes.len() > max => Err(self.too_long(column, max)),
            ValueRef::Blob(bytes) => Ok(bytes.to_vec()),
            _ => Err(self.wrong(column, "is not bytes")),
        }
    }

    /// Callers only use column numbers that the query has.
    fn value(&self, column: usize) -> ValueRef<'_> {
        self.row.get_ref(column).unwrap_or(ValueRef::Null)
    }

    fn name(&self) -> String {
        match self.value(0) {
            ValueRef::Null => "NULL".into(),
            ValueRef::Integer(n) => n.to_string(),
            ValueRef::Real(x) => x.to_string(),
            ValueRef::Text(text) => printable(&String::from_utf8_lossy(&text[..text.len().min(64)])),
            ValueRef::Blob(bytes) => hex::encode(&bytes[..bytes.len().min(32)]),
        }
    }
}
