//! The access log: who read what, chained per device.

use super::file;
use super::operation::{Fields, SqliteOperation};
use crate::error::Result;
use crate::ledger::{AccessHead, DeviceId, Hash};
use crate::store::{Access, RecordedAccess};
use minicbor::Encoder;
use rusqlite::params;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

pub(super) fn record(attempt: &SqliteOperation<'_>, accesses: &[Access]) -> Result<()> {
    file::refuse_read_only(attempt)?;
    let transaction = attempt.writing(false)?;
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
    attempt.commit(transaction)
}

/// The chain's value after a device's last line.
fn end_of(attempt: &SqliteOperation<'_>, device: &str) -> Result<Hash> {
    let sql = "SELECT n, chain FROM access WHERE device = ?1 ORDER BY n DESC LIMIT 1";
    Ok(attempt.first("access", sql, [device], |row| row.hash(1))?.unwrap_or(Hash::ZERO))
}

/// How many lines name the device, and the chain after the last of them.
pub(super) fn head(attempt: &SqliteOperation<'_>, device: &DeviceId) -> Result<AccessHead> {
    let _snapshot = attempt.reading()?;
    let (device, sql) = (device.to_string(), "SELECT count(*) FROM access WHERE device = ?1");
    let count = attempt.first("access", sql, [&device], |row| row.uint(0))?.unwrap_or(0);
    Ok(AccessHead { count, chain: end_of(attempt, &device)? })
}

/// The chain after the device's line number `count`.
pub(super) fn chain_at(attempt: &SqliteOperation<'_>, device: &DeviceId, count: u64) -> Result<Option<Hash>> {
    let sql = "SELECT n, chain FROM access WHERE device = ?1 ORDER BY n LIMIT 1 OFFSET ?2";
    // Nobody reads more lines than SQLite can count.
    let Some(before) = count.checked_sub(1).and_then(|before| i64::try_from(before).ok()) else {
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
        accesses.push(read(row)?);
        Ok(true)
    })?;
    Ok(accesses)
}

/// The longest text in the access log, a program's path, with room for what is written in place of its odd bytes.
const MAX_TEXT_BYTES: usize = 16 << 10;

/// Longer than a device's id in hex.
const MAX_DEVICE_BYTES: usize = 64;

/// More devices than a store has. Each takes memory while the chains are checked.
const MAX_DEVICES: usize = 1 << 16;

/// Recomputes the chain of every device. Returns the number of rows.
pub(super) fn check(attempt: &SqliteOperation<'_>) -> Result<u64> {
    let (mut rows, mut ends) = (0, HashMap::<String, Hash>::new());
    let sql = "SELECT n, time, device, uid, pid, exe, name, version, outcome, chain FROM access ORDER BY n";
    attempt.each("access", sql, [], |row| {
        let RecordedAccess { access, chain, .. } = read(row)?;
        let previous = ends.get(&access.device).copied().unwrap_or(Hash::ZERO);
        if link(previous, &access) != chain {
            return Err(row.wrong(9, "does not follow from the rows before it"));
        }
        ends.insert(access.device, chain);
        if ends.len() > MAX_DEVICES {
            return Err(row.wrong(2, "is one of more devices than a store has"));
        }
        rows += 1;
        Ok(true)
    })?;
    Ok(rows)
}

fn read(row: &Fields<'_>) -> Result<RecordedAccess> {
    let access = Access {
        time: row.uint(1)?,
        device: row.text(2, MAX_DEVICE_BYTES)?,
        uid: row.small(3)?,
        pid: row.small(4)?,
        exe: row.text(5, MAX_TEXT_BYTES)?,
        name: row.text(6, MAX_TEXT_BYTES)?,
        version: row.uint(7)?,
        outcome: row.text(8, MAX_TEXT_BYTES)?,
    };
    Ok(RecordedAccess { n: row.uint(0)?, access, chain: row.hash(9)? })
}

/// SHA-256(`previous` ‖ the line as a CBOR array).
fn link(previous: Hash, access: &Access) -> Hash {
    let mut line = Encoder::new(Vec::with_capacity(256));
    // Writing into a vector cannot fail.
    let _ = line
        .array(8)
        .and_then(|w| w.u64(access.time))
        .and_then(|w| w.str(&access.device))
        .and_then(|w| w.u32(access.uid))
        .and_then(|w| w.u32(access.pid))
        .and_then(|w| w.str(&access.exe))
        .and_then(|w| w.str(&access.name))
        .and_then(|w| w.u64(access.version))
        .and_then(|w| w.str(&access.outcome))
        .map(|_| ());
    Hash(Sha256::new().chain_update(previous.0).chain_update(line.into_writer()).finalize().into())
}
