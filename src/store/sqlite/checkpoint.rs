//! Checkpoints: one row for each witness, replaced in place.

use super::file;
use super::operation::SqliteOperation;
use crate::error::Result;
use crate::failpoint;
use crate::ledger::{DeviceId, MAX_SIGN1_BYTES};
use rusqlite::params;

pub(super) fn read(attempt: &SqliteOperation<'_>, device: &DeviceId) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT device, sign1 FROM checkpoints WHERE device = ?1";
    attempt.first("checkpoints", sql, [device.0], |row| row.blob(1, MAX_SIGN1_BYTES))
}

pub(super) fn put(attempt: &SqliteOperation<'_>, device: &DeviceId, sign1: &[u8]) -> Result<()> {
    file::refuse_read_only(attempt)?;
    let transaction = attempt.writing(false)?;
    let sql = "INSERT INTO checkpoints (device, sign1) VALUES (?1, ?2)
               ON CONFLICT (device) DO UPDATE SET sign1 = excluded.sign1";
    attempt.execute("checkpoints", sql, params![device.0, sign1])?;
    failpoint::reach("checkpoint.written");
    attempt.commit(transaction)
}
