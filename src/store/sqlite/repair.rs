//! Quarantines what cannot be verified. The rows stay in the file, in separate tables.

use super::append;
use super::operation::SqliteOperation;
use super::{file, ledger};
use crate::error::Result;
use crate::failpoint;
use crate::ledger::{LogPosition, MAX_STATEMENT_BYTES, Statement};
use crate::store::Append;
use crate::store::rules::{Columns, came_in_between, stored};
use rusqlite::params;

/// The index over the kept statements, while it is built.
const KEPT_HEADS: &str =
    "CREATE TEMP TABLE kept_heads (subject, prev, batch, PRIMARY KEY (subject, prev)) WITHOUT ROWID";

/// `heads` is an index over the statements, rebuilt from those that are kept.
const MOVE_HEADS: &str = "
    INSERT INTO set_aside_heads
        SELECT subject, prev, batch FROM main.heads EXCEPT SELECT subject, prev, batch FROM kept_heads;
    DELETE FROM main.heads;
    INSERT INTO main.heads SELECT subject, prev, batch FROM kept_heads;
    DROP TABLE kept_heads;
";

const MOVE_CHECKPOINTS: &str = "
    INSERT INTO set_aside_checkpoints SELECT device, sign1 FROM checkpoints;
    DELETE FROM checkpoints;
";

/// Keeps what ends at `kept`, which the caller verified, quarantines the rest and appends `repair`. Returns the number
/// of quarantined statements.
pub(super) fn quarantine_after(
    attempt: &SqliteOperation<'_>,
    kept: LogPosition,
    end: Option<LogPosition>,
    repair: Option<&Append<'_>>,
) -> Result<u64> {
    file::prepare_for_writing(attempt)?;
    let transaction = attempt.writing(true)?;
    if ledger::tail(attempt).ok() != end {
        return Err(came_in_between(attempt.to, attempt.location));
    }
    file::allow_rows_of(attempt, i32::MAX)?;
    let moved = move_after(attempt, kept.n);
    file::allow_rows_of(attempt, file::MAX_ROW_BYTES)?;
    let moved = moved?;
    failpoint::reach("repair.moved");
    if ledger::tail(attempt)? != kept {
        return Err(attempt.tampered("batches", &kept.n.to_string(), "is not what was verified here before"));
    }
    match repair {
        Some(repair) => drop(append::insert(attempt, repair)?),
        None if moved > 0 => return Err(came_in_between(attempt.to, attempt.location)),
        None => {}
    }
    failpoint::reach("repair.written");
    attempt.commit(transaction)?;
    failpoint::reach("repair.committed");
    Ok(moved)
}

fn move_after(attempt: &SqliteOperation<'_>, n: u64) -> Result<u64> {
    run(attempt, KEPT_HEADS)?;
    let kept = attempt.integer(n)?;
    let copy =
        "INSERT INTO set_aside_statements SELECT n, bytes FROM statements WHERE n NOT BETWEEN 1 AND ?1";
    attempt.execute("statements", copy, [kept])?;
    let delete = "DELETE FROM statements WHERE n NOT BETWEEN 1 AND ?1";
    let statements = attempt.execute("statements", delete, [kept])?;
    for first in strays(attempt, kept)? {
        let copy =
            "INSERT INTO set_aside_batches SELECT first, last, chain, sign1 FROM batches WHERE first = ?1";
        attempt.execute("batches", copy, [first])?;
        attempt.execute("batches", "DELETE FROM batches WHERE first = ?1", [first])?;
    }
    index_kept(attempt)?;
    run(attempt, MOVE_HEADS)?;
    if statements > 0 {
        // What witnesses said of the quarantined part would stand against the store for ever.
        run(attempt, MOVE_CHECKPOINTS)?;
    }
    Ok(statements as u64)
}

/// The first positions of the batches that are not in one sequence from 1 to `kept`. Their fields may hold anything.
fn strays(attempt: &SqliteOperation<'_>, kept: i64) -> Result<Vec<i64>> {
    let failed = |e| attempt.failed(Some("batches"), &e);
    let mut query = attempt.db.prepare("SELECT first, last FROM batches ORDER BY first").map_err(failed)?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get_ref(1)?.as_i64().unwrap_or(0))));
    let (mut next, mut strays) = (1, Vec::new());
    for row in rows.map_err(failed)? {
        let (first, last): (i64, i64) = row.map_err(failed)?;
        if first == next && (first..=kept).contains(&last) { next = last + 1 } else { strays.push(first) }
    }
    Ok(strays)
}

/// The advances of the kept statements, each with the start of its batch. The first to advance a head keeps it.
fn index_kept(attempt: &SqliteOperation<'_>) -> Result<()> {
    let sql = "SELECT n, bytes, (SELECT max(first) FROM batches WHERE first <= n) FROM statements ORDER BY n";
    attempt.each("statements", sql, [], |row| {
        let batch = attempt.integer(row.uint(2)?)?;
        let statement =
            Statement::decode(&row.blob(1, MAX_STATEMENT_BYTES)?).map_err(|e| row.wrong(1, e.0))?;
        for (subject, prev) in &statement.advances {
            let sql = "INSERT OR IGNORE INTO kept_heads VALUES (?1, ?2, ?3)";
            attempt.execute("kept_heads", sql, params![subject.encode(), stored(prev), batch])?;
        }
        Ok(true)
    })
}

fn run(attempt: &SqliteOperation<'_>, sql: &str) -> Result<()> {
    attempt.db.execute_batch(sql).map_err(|e| attempt.failed(None, &e))
}
