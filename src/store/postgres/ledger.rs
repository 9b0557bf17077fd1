//! Reading batches and statements: each page in one query, which sees one state of the store.

use super::connection::{Failure, Session};
use super::row::Fields;
use crate::error::Result;
use crate::ledger::verify::StoredBatch;
use crate::ledger::{Hash, LogPosition, MAX_BATCH, MAX_BATCH_BYTES, MAX_STATEMENT_BYTES};
use crate::store::rules::{Columns, MAX_BATCH_SIGN1_BYTES, ROW_BYTES};
use postgres::types::Type;

/// How many batches are in a page at most.
const PAGE: i64 = 512;

pub(super) fn tail(session: &mut Session<'_>) -> Result<LogPosition, Failure> {
    let sql = "SELECT first, last, chain FROM strongroom.batches ORDER BY first DESC LIMIT 1";
    let last =
        session.first("batches", sql, &[], |row| Ok(LogPosition { n: row.uint(1)?, chain: row.hash(2)? }))?;
    Ok(last.unwrap_or(LogPosition::START))
}

pub(super) fn chain_at(session: &mut Session<'_>, n: u64) -> Result<Option<Hash>, Failure> {
    if n == 0 {
        return Ok(Some(Hash::ZERO));
    }
    let sql =
        "SELECT first, last, chain FROM strongroom.batches WHERE first <= $1 ORDER BY first DESC LIMIT 1";
    let end = session.first("batches", sql, &[(&at(n), Type::INT8)], |row| {
        Ok((row.uint(1)? == n).then_some(row.hash(2)?))
    })?;
    Ok(end.flatten())
}

/// The batch whose first statement is the last at `n` or before, if it reaches `n`.
pub(super) fn batch_of(session: &mut Session<'_>, n: u64) -> Result<Option<StoredBatch>, Failure> {
    let page = format!(
        "SELECT first, last, sign1 FROM strongroom.batches WHERE first <= {} ORDER BY first DESC LIMIT 1",
        at(n)
    );
    let batches = page_of(session, &page, 0)?;
    Ok(batches.into_iter().find(|(last, _)| *last >= n).map(|(_, batch)| batch))
}

/// The batch that starts at `first`.
pub(super) fn batch_at(session: &mut Session<'_>, first: u64) -> Result<Option<StoredBatch>, Failure> {
    Ok(batch_of(session, first)?.filter(|batch| batch.first == first))
}

pub(super) fn batches_after(
    session: &mut Session<'_>,
    n: u64,
    budget: usize,
) -> Result<Vec<StoredBatch>, Failure> {
    let page = format!(
        "SELECT first, last, sign1 FROM strongroom.batches WHERE first > {} ORDER BY first LIMIT {PAGE}",
        at(n)
    );
    let (mut left, mut batches) = (budget, page_of(session, &page, budget)?.into_iter());
    let mut taken: Vec<StoredBatch> = Vec::new();
    // The database's sum leaves rounding to us.
    while (taken.is_empty() || left > 0)
        && let Some((_, batch)) = batches.next()
    {
        left = left.saturating_sub(memory(&batch));
        taken.push(batch);
    }
    Ok(taken)
}

/// How many statements lie outside positions 1 to `n`.
pub(super) fn count_after(session: &mut Session<'_>, n: u64) -> Result<u64, Failure> {
    let sql = "SELECT count(*) FROM strongroom.statements WHERE n NOT BETWEEN 1 AND $1";
    Ok(session.first("statements", sql, &[(&at(n), Type::INT8)], |row| row.uint(0))?.unwrap_or(0))
}

/// The batches that the query `page` names, with their last positions, until they fill `budget`; at least one.
///
/// A batch that is too large for one comes without its statements: the planted ones are not sent.
fn page_of(session: &mut Session<'_>, page: &str, budget: usize) -> Result<Vec<(u64, StoredBatch)>, Failure> {
    let sql = format!(
        "WITH page AS ({page}),
         sized AS (
             SELECT first, last, sign1,
                 (SELECT coalesce(sum(octet_length(s.bytes)), 0) FROM strongroom.statements s WHERE s.n BETWEEN first AND last)::BIGINT AS size
             FROM page),
         summed AS (
             SELECT first, last, sign1, size, (sum(size) OVER (ORDER BY first) - size)::BIGINT AS before FROM sized)
         SELECT first, last, substring(sign1 FROM 1 FOR {sign1}) AS sign1, size,
             CASE WHEN size <= {most} THEN ARRAY(
                 SELECT substring(s.bytes FROM 1 FOR {statement}) FROM strongroom.statements s
                 WHERE s.n BETWEEN first AND last ORDER BY s.n LIMIT {count}) END AS statements
         FROM summed WHERE before = 0 OR before < $1 ORDER BY first",
        sign1 = MAX_BATCH_SIGN1_BYTES + 1,
        most = MAX_BATCH_BYTES,
        statement = MAX_STATEMENT_BYTES + 1,
        count = MAX_BATCH + 1,
    );
    let budget = i64::try_from(budget).unwrap_or(i64::MAX);
    let place = session.at;
    let rows = session.rows(&sql, &[(&budget, Type::INT8)])?;
    let read = |row| read_batch(&Fields { at: place, table: "batches", row });
    Ok(rows.iter().map(read).collect::<Result<_>>()?)
}

fn read_batch(row: &Fields<'_>) -> Result<(u64, StoredBatch)> {
    let (first, last) = (row.uint(0)?, row.uint(1)?);
    let statements = row.blobs(4, MAX_STATEMENT_BYTES)?;
    let statements = statements.ok_or_else(|| row.wrong(4, "make it larger than a batch can be"))?;
    Ok((last, StoredBatch { first, sign1: row.blob(2, MAX_BATCH_SIGN1_BYTES)?, statements }))
}

/// About how many bytes a batch takes in memory. A planted one may have thousands of empty statements.
fn memory(batch: &StoredBatch) -> usize {
    let statements: usize = batch.statements.iter().map(|bytes| bytes.len() + ROW_BYTES).sum();
    statements + batch.sign1.len() + ROW_BYTES
}

/// A position for the database, capped at its maximum, which no statement reaches.
pub(super) fn at(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
