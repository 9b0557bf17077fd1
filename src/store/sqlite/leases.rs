//! Leases: who is rotating a token. A courtesy among machines that behave; the ledger keeps two from harming each other.

use super::file;
use super::operation::SqliteOperation;
use crate::error::Result;
use crate::store::Lease;
use crate::store::rules::{Columns, MAX_HOLDER_BYTES};
use rusqlite::params;

/// Takes or renews a lease. The one that stands in the way, if another holder's has not run out.
pub(super) fn take(attempt: &SqliteOperation<'_>, lease: &Lease, now: u64) -> Result<Option<Lease>> {
    file::refuse_read_only(attempt)?;
    let transaction = attempt.writing(false)?;
    let sql = "SELECT token, holder, until FROM leases WHERE token = ?1";
    let standing = attempt.first("leases", sql, [lease.token], |row| {
        Ok(Lease { token: lease.token, holder: row.text(1, MAX_HOLDER_BYTES)?, until: row.uint(2)? })
    })?;
    if let Some(other) = standing.filter(|other| other.until > now && other.holder != lease.holder) {
        return Ok(Some(other));
    }
    let until = attempt.integer(lease.until)?;
    let sql = "INSERT OR REPLACE INTO leases (token, holder, until) VALUES (?1, ?2, ?3)";
    attempt.execute("leases", sql, params![lease.token, lease.holder, until])?;
    attempt.commit(transaction)?;
    Ok(None)
}

/// Ends a lease of this holder's.
pub(super) fn end(attempt: &SqliteOperation<'_>, token: &[u8; 16], holder: &str) -> Result<()> {
    file::refuse_read_only(attempt)?;
    let transaction = attempt.writing(false)?;
    attempt.execute(
        "leases",
        "DELETE FROM leases WHERE token = ?1 AND holder = ?2",
        params![token, holder],
    )?;
    attempt.commit(transaction)
}
