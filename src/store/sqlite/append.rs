//! Appends a batch and everything that belongs to it in one transaction.

use super::operation::SqliteOperation;
use super::{error, file, ledger};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::ledger::{Hash, LogPosition, Statement, leaf};
use crate::store::Append;
use crate::store::rules::{self, Columns, MAX_SUBJECT_BYTES, stored, unstored};
use rusqlite::params;
use std::collections::HashSet;

pub(super) fn append(attempt: &SqliteOperation<'_>, append: &Append<'_>) -> Result<LogPosition> {
    file::prepare_for_writing(attempt)?;
    let transaction = attempt.writing(true)?;
    let end = insert(attempt, append)?;
    attempt.commit(transaction)?;
    failpoint::reach("append.committed");
    if !append.destroyed.is_empty() {
        file::forget_destroyed(attempt);
    }
    Ok(end)
}

/// Inserts a batch in the transaction that was begun.
pub(super) fn insert(attempt: &SqliteOperation<'_>, append: &Append<'_>) -> Result<LogPosition> {
    rules::expect_batch_size(append, attempt.to, attempt.location)?;
    let tail = ledger::tail(attempt)?;
    check_order(attempt, append, tail)?;
    failpoint::reach("append.begun");
    let end = insert_batch(attempt, append, tail)?;
    failpoint::reach("append.batch");
    insert_advances(attempt, append.advances, tail.n + 1)?;
    failpoint::reach("append.heads");
    insert_sealed(attempt, append.sealed)?;
    failpoint::reach("append.sealed");
    for digest in append.destroyed {
        // Zeroes of the same length overwrite the bytes in place; see the schema.
        let sql = "UPDATE sealed SET destroyed = 1, bytes = zeroblob(length(bytes)) WHERE digest = ?1";
        attempt.execute("sealed", sql, [digest.0])?;
    }
    failpoint::reach("append.written");
    Ok(end)
}

/// Releases pairs. The caller verified that no effective statement up to `at` advanced them.
pub(super) fn release(
    attempt: &SqliteOperation<'_>,
    advances: &[(Vec<u8>, Hash)],
    at: LogPosition,
) -> Result<()> {
    file::prepare_for_writing(attempt)?;
    let transaction = attempt.writing(true)?;
    if ledger::tail(attempt)? != at {
        return Err(conflict(attempt, "another change came first".into()));
    }
    for (subject, prev) in advances {
        let sql = "DELETE FROM heads WHERE subject = ?1 AND prev = ?2";
        attempt.execute("heads", sql, params![subject, stored(prev)])?;
    }
    attempt.commit(transaction)
}

/// Checks that the batch follows the state its author had seen.
fn check_order(attempt: &SqliteOperation<'_>, append: &Append<'_>, tail: LogPosition) -> Result<()> {
    let (subject, head) = &append.admin;
    let admin = advanced_by(attempt, subject, *head)?;
    let chain = ledger::chain_at(attempt, append.seen.n)?;
    match rules::out_of_order(append, admin, chain, tail) {
        Some(message) => Err(conflict(attempt, message)),
        None => Ok(()),
    }
}

fn insert_batch(
    attempt: &SqliteOperation<'_>,
    append: &Append<'_>,
    tail: LogPosition,
) -> Result<LogPosition> {
    let mut end = tail;
    let no_room = |n: u64| attempt.tampered("batches", &n.to_string(), "no ledger is that long");
    for statement in append.statements {
        end = end.after(leaf(statement));
        let n = attempt.integer(end.n).map_err(|_| no_room(tail.n))?;
        attempt.raw("INSERT INTO statements (n, bytes) VALUES (?1, ?2)", params![n, statement]).map_err(
            |e| {
                if error::is_taken(&e) {
                    attempt.tampered("statements", &end.n.to_string(), "no batch covers it")
                } else {
                    attempt.failed(Some("statements"), &e)
                }
            },
        )?;
    }
    let (first, last) = (attempt.integer(tail.n + 1)?, attempt.integer(end.n)?);
    attempt.execute(
        "batches",
        "INSERT INTO batches (first, last, chain, sign1) VALUES (?1, ?2, ?3, ?4)",
        params![first, last, end.chain.0, append.sign1],
    )?;
    Ok(end)
}

fn insert_advances(attempt: &SqliteOperation<'_>, advances: &[(Vec<u8>, Hash)], batch: u64) -> Result<()> {
    let batch = attempt.integer(batch)?;
    // Sorted like the index, so that a large batch touches each of its pages once.
    let mut sorted: Vec<_> = advances.iter().collect();
    sorted.sort_unstable();
    for (subject, prev) in sorted {
        let sql = "INSERT INTO heads (subject, prev, batch) VALUES (?1, ?2, ?3)";
        if let Err(e) = attempt.raw(sql, params![subject, stored(prev), batch]) {
            return Err(match advanced_by(attempt, subject, *prev)? {
                Some(first) if error::is_taken(&e) => conflict(attempt, rules::came_first(subject, first)),
                _ => attempt.failed(Some("heads"), &e),
            });
        }
    }
    Ok(())
}

fn insert_sealed(attempt: &SqliteOperation<'_>, sealed: &[(Hash, Vec<u8>)]) -> Result<()> {
    let mut sorted: Vec<_> = sealed.iter().collect();
    sorted.sort_unstable_by_key(|(digest, _)| *digest);
    for (digest, bytes) in sorted {
        // An existing row was quarantined or planted. Bytes that match their digest are never worse.
        let sql = "INSERT INTO sealed (digest, destroyed, bytes) VALUES (?1, 0, ?2)
                   ON CONFLICT (digest) DO UPDATE SET destroyed = 0, bytes = excluded.bytes";
        attempt.execute("sealed", sql, params![digest.0, bytes])?;
    }
    Ok(())
}

/// The first position of the batch that advanced `subject` from `prev`.
///
/// Only a row that a statement confirms counts. Otherwise a planted row would look like an earlier change.
fn advanced_by(attempt: &SqliteOperation<'_>, subject: &[u8], prev: Hash) -> Result<Option<u64>> {
    let sql = "SELECT subject, batch FROM heads WHERE subject = ?1 AND prev = ?2";
    let Some(first) = attempt.first("heads", sql, params![subject, stored(&prev)], |row| row.uint(1))? else {
        return Ok(None);
    };
    match advances_of(attempt, first)?.contains(&(subject.to_vec(), prev)) {
        true => Ok(Some(first)),
        false => Err(planted(attempt, subject)),
    }
}

/// What the batch that starts at `first` advances; nothing if there is none.
fn advances_of(attempt: &SqliteOperation<'_>, first: u64) -> Result<HashSet<(Vec<u8>, Hash)>> {
    let batch = ledger::batch_of(attempt, first)?.filter(|batch| batch.first == first);
    let statements = batch.into_iter().flat_map(|batch| batch.statements);
    let stated = statements.filter_map(|bytes| Statement::decode(&bytes).ok());
    let advances = stated.flat_map(|statement| statement.advances);
    Ok(advances.map(|(subject, prev)| (subject.encode(), prev)).collect())
}

/// Checks every row of `heads` against the statements, batch by batch.
pub(super) fn check_heads(attempt: &SqliteOperation<'_>) -> Result<()> {
    let (mut first, mut advances) = (0, HashSet::new());
    attempt.each("heads", "SELECT subject, prev, batch FROM heads ORDER BY batch", [], |row| {
        let (subject, batch) = (row.blob(0, MAX_SUBJECT_BYTES)?, row.uint(2)?);
        if batch != first {
            (first, advances) = (batch, advances_of(attempt, batch)?);
        }
        let prev = unstored(&row.blob(1, 32)?);
        match prev.is_some_and(|prev| advances.contains(&(subject.clone(), prev))) {
            true => Ok(true),
            false => Err(planted(attempt, &subject)),
        }
    })
}

fn planted(attempt: &SqliteOperation<'_>, subject: &[u8]) -> Error {
    attempt.tampered("heads", &hex::encode(subject), "no statement advances it")
}

fn conflict(attempt: &SqliteOperation<'_>, message: String) -> Error {
    rules::conflict(attempt.to, attempt.location, message)
}
