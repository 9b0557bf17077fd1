//! What was dropped from the beginning of the access log: of each device, how many lines, and the chain after them.

use super::access;
use super::file;
use super::operation::SqliteOperation;
use crate::error::Result;
use crate::ledger::AccessHead;
use crate::store::Access;
use crate::store::access_chain::{Ends, drop_before, dropped_line, read_head};
use crate::store::rules::Columns;
use rusqlite::params;

/// What was dropped of one device.
pub(super) fn of(attempt: &SqliteOperation<'_>, device: &str) -> Result<AccessHead> {
    let sql = "SELECT device, count, chain FROM access_dropped WHERE device = ?1";
    Ok(attempt.first("access_dropped", sql, [device], |row| read_head(row))?.unwrap_or(AccessHead::EMPTY))
}

/// What was dropped, by device.
pub(super) fn all(attempt: &SqliteOperation<'_>) -> Result<Ends> {
    let mut dropped = Ends::default();
    attempt.each("access_dropped", "SELECT device, count, chain FROM access_dropped", [], |row| {
        dropped.start(row)
    })?;
    Ok(dropped)
}

/// Drops the oldest lines, so that about `most` are left, and appends `by` with how many these were. They are verified
/// first: what was altered is not made to disappear.
pub(super) fn drop_oldest(attempt: &SqliteOperation<'_>, most: u64, by: &Access) -> Result<u64> {
    file::refuse_read_only(attempt)?;
    let number = |order: &str| {
        let sql = format!("SELECT n FROM access ORDER BY n {order} LIMIT 1");
        attempt.first("access", &sql, [], |row| row.uint(0))
    };
    let transaction = attempt.writing(false)?;
    let (Some(first), Some(last)) = (number("ASC")?, number("DESC")?) else { return Ok(0) };
    let Some(before) = drop_before(first, last, most) else { return Ok(0) };
    let before = attempt.integer(before)?;
    let mut ends = all(attempt)?;
    let dropped = access::follow(attempt, before, &mut ends)?;
    for (device, end) in ends.into_iter() {
        let sql = "INSERT OR REPLACE INTO access_dropped (device, count, chain) VALUES (?1, ?2, ?3)";
        attempt.execute("access_dropped", sql, params![device, attempt.integer(end.count)?, end.chain.0])?;
    }
    attempt.execute("access", "DELETE FROM access WHERE n < ?1", [before])?;
    access::append(attempt, &[dropped_line(dropped, by)])?;
    attempt.commit(transaction)?;
    Ok(dropped)
}
