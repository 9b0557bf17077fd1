//! The access log: who read what, chained per device.

use super::operation::SqliteOperation;
use super::{access_dropped, file};
use crate::error::Result;
use crate::ledger::{AccessHead, DeviceId, Hash};
use crate::store::access_chain::{Ends, link, read_line};
use crate::store::rules::Columns;
use crate::store::{Access, AccessCount, RecordedAccess};
use rusqlite::params;
use std::collections::HashMap;

pub(super) fn record(attempt: &SqliteOperation<'_>, accesses: &[Access]) -> Result<()> {
    file::refuse_read_only(attempt)?;
    let transaction = attempt.writing(false)?;
    append(attempt, accesses)?;
    attempt.commit(transaction)
}

/// Appends lines within a transaction.
pub(super) fn append(attempt: &SqliteOperation<'_>, accesses: &[Access]) -> Result<()> {
    // Grouped by device, so that each is looked up once.
    let mut ends = HashMap::<&str, Hash>::new();
    for access in accesses {
        let previous = match ends.get(access.device.as_str()) {
            Some(end) => *end,
            None => end_of(attempt, &access.device)?,
        };
        let chain = link(previous, access);
        insert(attempt, access, chain)?;
        ends.insert(&access.device, chain);
    }
    Ok(())
}

/// The chain's value after a device's last line.
fn end_of(attempt: &SqliteOperation<'_>, device: &str) -> Result<Hash> {
    let sql = "SELECT n, chain FROM access WHERE device = ?1 ORDER BY n DESC LIMIT 1";
    match attempt.first("access", sql, [device], |row| row.hash(1))? {
        Some(end) => Ok(end),
        None => Ok(access_dropped::of(attempt, device)?.chain),
    }
}

/// How many lines name the device, those included that were dropped, and the chain after the last of them.
pub(super) fn head(attempt: &SqliteOperation<'_>, device: &DeviceId) -> Result<AccessHead> {
    let _snapshot = attempt.reading()?;
    let (device, sql) = (device.to_string(), "SELECT count(*) FROM access WHERE device = ?1");
    let kept = attempt.first("access", sql, [&device], |row| row.uint(0))?.unwrap_or(0);
    let count = access_dropped::of(attempt, &device)?.count.saturating_add(kept);
    Ok(AccessHead { count, chain: end_of(attempt, &device)? })
}

/// The chain after the device's line number `count`, unless that was dropped.
pub(super) fn chain_at(attempt: &SqliteOperation<'_>, device: &DeviceId, count: u64) -> Result<Option<Hash>> {
    let _snapshot = attempt.reading()?;
    let dropped = access_dropped::of(attempt, &device.to_string())?;
    if count == dropped.count && count > 0 {
        return Ok(Some(dropped.chain));
    }
    let sql = "SELECT n, chain FROM access WHERE device = ?1 ORDER BY n LIMIT 1 OFFSET ?2";
    // Nobody reads more lines than SQLite can count.
    let before = count.checked_sub(dropped.count).and_then(|kept| kept.checked_sub(1));
    let Some(before) = before.and_then(|before| i64::try_from(before).ok()) else {
        return Ok(None);
    };
    attempt.first("access", sql, params![device.to_string(), before], |row| row.hash(1))
}

fn insert(attempt: &SqliteOperation<'_>, access: &Access, chain: Hash) -> Result<()> {
    let (time, version) = (attempt.integer(access.time)?, attempt.integer(access.version)?);
    let Access { device, uid, pid, exe, name, outcome, .. } = access;
    attempt.execute(
        "access",
        "INSERT INTO access (time, device, uid, pid, exe, name, version, outcome, chain)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![time, device, uid, pid, exe, name, version, outcome, chain.0],
    )?;
    Ok(())
}

pub(super) fn accesses(
    attempt: &SqliteOperation<'_>,
    before: u64,
    limit: u32,
) -> Result<Vec<RecordedAccess>> {
    let before = if before == 0 { i64::MAX } else { attempt.integer(before)? };
    let sql = "SELECT n, time, device, uid, pid, exe, name, version, outcome, chain
               FROM access WHERE n < ?1 ORDER BY n DESC LIMIT ?2";
    let mut accesses = Vec::new();
    attempt.each("access", sql, params![before, limit], |row| {
        accesses.push(read_line(row)?);
        Ok(true)
    })?;
    Ok(accesses)
}

/// Recomputes the chain of every device, from what was dropped on.
pub(super) fn check(attempt: &SqliteOperation<'_>) -> Result<AccessCount> {
    let _snapshot = attempt.reading()?;
    let mut ends = access_dropped::all(attempt)?;
    let dropped = ends.count();
    Ok(AccessCount { kept: follow(attempt, i64::MAX, &mut ends)?, dropped })
}

/// Recomputes the chains of the lines before `before`, and moves each device's end forward. Returns how many these are.
pub(super) fn follow(attempt: &SqliteOperation<'_>, before: i64, ends: &mut Ends) -> Result<u64> {
    let mut rows = 0;
    let sql = "SELECT n, time, device, uid, pid, exe, name, version, outcome, chain
               FROM access WHERE n < ?1 ORDER BY n";
    attempt.each("access", sql, [before], |row| {
        ends.follow(row)?;
        rows += 1;
        Ok(true)
    })?;
    Ok(rows)
}
