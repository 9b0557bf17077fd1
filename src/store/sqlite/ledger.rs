//! Reading batches and statements.

use super::operation::{Fields, SqliteOperation};
use crate::error::Result;
use crate::ledger::verify::StoredBatch;
use crate::ledger::{Hash, LogPosition, MAX_BATCH, MAX_BATCH_BYTES, MAX_STATEMENT_BYTES};
use crate::store::rules::{Columns, MAX_BATCH_SIGN1_BYTES, ROW_BYTES};
use rusqlite::params;

/// The last batch that starts at ?1 or before.
const BATCH_AT: &str =
    "SELECT first, last, chain, sign1 FROM batches WHERE first <= ?1 ORDER BY first DESC LIMIT 1";

pub(super) fn tail(attempt: &SqliteOperation<'_>) -> Result<LogPosition> {
    let last = attempt.first("batches", BATCH_AT, [i64::MAX], |row| {
        Ok(LogPosition { n: row.uint(1)?, chain: row.hash(2)? })
    })?;
    Ok(last.unwrap_or(LogPosition::START))
}

pub(super) fn chain_at(attempt: &SqliteOperation<'_>, n: u64) -> Result<Option<Hash>> {
    if n == 0 {
        return Ok(Some(Hash::ZERO));
    }
    let end =
        attempt.first("batches", BATCH_AT, [at(n)], |row| Ok((row.uint(1)? == n).then_some(row.hash(2)?)))?;
    Ok(end.flatten())
}

pub(super) fn batch_of(attempt: &SqliteOperation<'_>, n: u64) -> Result<Option<StoredBatch>> {
    let covering = attempt.first("batches", BATCH_AT, [at(n)], |row| {
        if row.uint(1)? < n { Ok(None) } else { read_batch(attempt, row, 3).map(Some) }
    })?;
    Ok(covering.flatten())
}

pub(super) fn batches_after(
    attempt: &SqliteOperation<'_>,
    n: u64,
    budget: usize,
) -> Result<Vec<StoredBatch>> {
    let mut left = budget;
    let mut batches = Vec::new();
    let sql = "SELECT first, last, sign1 FROM batches WHERE first > ?1 ORDER BY first";
    attempt.each("batches", sql, [at(n)], |row| {
        let batch = read_batch(attempt, row, 2)?;
        left = left.saturating_sub(memory(&batch));
        batches.push(batch);
        Ok(left > 0)
    })?;
    Ok(batches)
}

/// How many statements lie outside positions 1 to `n`.
pub(super) fn count_after(attempt: &SqliteOperation<'_>, n: u64) -> Result<u64> {
    let sql = "SELECT count(*) FROM statements WHERE n NOT BETWEEN 1 AND ?1";
    Ok(attempt.first("statements", sql, [at(n)], |row| row.uint(0))?.unwrap_or(0))
}

/// About how many bytes a batch takes in memory. A planted one may have thousands of empty statements.
fn memory(batch: &StoredBatch) -> usize {
    let statements: usize = batch.statements.iter().map(|bytes| bytes.len() + ROW_BYTES).sum();
    statements + batch.sign1.len() + ROW_BYTES
}

/// The batch of a row that starts with `first` and `last`. Missing statements are left out.
fn read_batch(attempt: &SqliteOperation<'_>, row: &Fields<'_>, sign1: usize) -> Result<StoredBatch> {
    let (first, last) = (row.uint(0)?, row.uint(1)?);
    let statements = statements(attempt, first, last)?;
    Ok(StoredBatch { first, sign1: row.blob(sign1, MAX_BATCH_SIGN1_BYTES)?, statements })
}

/// Reads at most one statement more than a batch may hold: that shows it has too many, whatever `last` claims.
fn statements(attempt: &SqliteOperation<'_>, first: u64, last: u64) -> Result<Vec<Vec<u8>>> {
    let (mut statements, mut total) = (Vec::new(), 0);
    let sql = "SELECT n, bytes FROM statements WHERE n BETWEEN ?1 AND ?2 ORDER BY n LIMIT ?3";
    let params = params![at(first), at(last), MAX_BATCH as i64 + 1];
    attempt.each("statements", sql, params, |row| {
        let bytes = row.blob(1, MAX_STATEMENT_BYTES)?;
        total += bytes.len();
        if total > MAX_BATCH_BYTES {
            return Err(row.wrong(1, "makes its batch larger than a batch can be"));
        }
        statements.push(bytes);
        Ok(true)
    })?;
    Ok(statements)
}

/// A position for SQLite, capped at its maximum, which no statement reaches.
fn at(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
