//! What was dropped from the beginning of the access log: of each device, how many lines, and the chain after them.

use super::access;
use super::file;
use super::operation::{Fields, SqliteOperation};
use crate::error::Result;
use crate::ledger::AccessHead;
use crate::store::Access;
use crate::store::rules::{DROPPED_AT_ONCE, MAX_DEVICE_BYTES, MAX_DEVICES};
use rusqlite::params;
use std::collections::HashMap;

/// What was dropped of one device.
pub(super) fn of(attempt: &SqliteOperation<'_>, device: &str) -> Result<AccessHead> {
    let sql = "SELECT device, count, chain FROM access_dropped WHERE device = ?1";
    Ok(attempt.first("access_dropped", sql, [device], read)?.unwrap_or(AccessHead::EMPTY))
}

/// What was dropped, by device.
pub(super) fn all(attempt: &SqliteOperation<'_>) -> Result<HashMap<String, AccessHead>> {
    let mut dropped = HashMap::new();
    attempt.each("access_dropped", "SELECT device, count, chain FROM access_dropped", [], |row| {
        dropped.insert(row.text(0, MAX_DEVICE_BYTES)?, read(row)?);
        Ok(dropped.len() <= MAX_DEVICES)
    })?;
    Ok(dropped)
}

fn read(row: &Fields<'_>) -> Result<AccessHead> {
    Ok(AccessHead { count: row.uint(1)?, chain: row.hash(2)? })
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
    // One more makes room for the line that says so.
    let before =
        last.saturating_add(2).saturating_sub(most.max(1)).min(first.saturating_add(DROPPED_AT_ONCE));
    if last - first < most || before <= first {
        return Ok(0);
    }
    let before = attempt.integer(before)?;
    let mut ends = all(attempt)?;
    let dropped = access::follow(attempt, before, &mut ends)?;
    for (device, end) in ends {
        let sql = "INSERT OR REPLACE INTO access_dropped (device, count, chain) VALUES (?1, ?2, ?3)";
        attempt.execute("access_dropped", sql, params![device, attempt.integer(end.count)?, end.chain.0])?;
    }
    attempt.execute("access", "DELETE FROM access WHERE n < ?1", [before])?;
    let by = Access { outcome: format!("dropped {dropped} lines"), ..by.clone() };
    access::append(attempt, &[by])?;
    attempt.commit(transaction)?;
    Ok(dropped)
}
