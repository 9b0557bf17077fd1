//! Quarantines what cannot be verified. The rows stay in the database, in separate tables.

use super::connection::{Failure, Param, Session};
use super::ledger;
use crate::failpoint;
use crate::ledger::{Hash, LogPosition, MAX_STATEMENT_BYTES, Statement};
use crate::store::Append;
use crate::store::rules::{Columns, came_in_between, stored};
use postgres::types::Type;

/// All of the index is set aside, and what the kept statements advance comes back. What came back was not set aside.
const MOVE_HEADS: &str = "
    INSERT INTO strongroom.set_aside_heads SELECT subject, prev, batch FROM strongroom.heads;
    DELETE FROM strongroom.heads;
";
const KEEP_HEADS: &str = "
    DELETE FROM strongroom.set_aside_heads s USING strongroom.heads h
        WHERE s.subject = h.subject AND s.prev = h.prev AND s.batch = h.batch;
";

const MOVE_CHECKPOINTS: &str = "
    INSERT INTO strongroom.set_aside_checkpoints SELECT device, sign1 FROM strongroom.checkpoints;
    DELETE FROM strongroom.checkpoints;
";

/// Keeps what ends at `kept`, which the caller verified, quarantines the rest and appends `repair`. Returns the number
/// of quarantined statements.
pub(super) fn quarantine_after(
    session: &mut Session<'_>,
    kept: LogPosition,
    end: Option<LogPosition>,
    repair: Option<&Append<'_>>,
) -> Result<u64, Failure> {
    session.begin_writing()?;
    // Everybody else waits from here on, and begins again.
    session.batch("UPDATE strongroom.changes SET n = n + 1 WHERE part = 'ledger'")?;
    if told(ledger::tail(session))? != end {
        return Err(came_in_between(session.at.to, session.at.location).into());
    }
    let moved = move_after(session, kept.n)?;
    failpoint::reach("repair.moved");
    if ledger::tail(session)? != kept {
        let row = kept.n.to_string();
        return Err(session.at.tampered("batches", &row, "is not what was verified here before").into());
    }
    match repair {
        Some(repair) => super::append::insert(session, repair)?,
        None if moved > 0 => return Err(came_in_between(session.at.to, session.at.location).into()),
        None => {}
    }
    failpoint::reach("repair.written");
    session.forget_warnings();
    session.commit()?;
    session.expect_no_warning()?;
    failpoint::reach("repair.committed");
    Ok(moved)
}

/// None for what was altered; the server's errors remain errors.
fn told<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Failure::Told(_)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn move_after(session: &mut Session<'_>, n: u64) -> Result<u64, Failure> {
    let kept = session.at.integer(n)?;
    let outside: [Param<'_>; 1] = [(&kept, Type::INT8)];
    let copy = "INSERT INTO strongroom.set_aside_statements
        SELECT n, bytes FROM strongroom.statements WHERE n NOT BETWEEN 1 AND $1";
    session.execute(copy, &outside)?;
    let statements =
        session.execute("DELETE FROM strongroom.statements WHERE n NOT BETWEEN 1 AND $1", &outside)?;
    let strays = strays(session, kept)?;
    let params: [Param<'_>; 1] = [(&strays, Type::INT8_ARRAY)];
    let copy = "INSERT INTO strongroom.set_aside_batches
        SELECT first, last, chain, sign1 FROM strongroom.batches WHERE first = ANY ($1)";
    session.execute(copy, &params)?;
    session.execute("DELETE FROM strongroom.batches WHERE first = ANY ($1)", &params)?;
    session.batch(MOVE_HEADS)?;
    index_kept(session)?;
    session.batch(KEEP_HEADS)?;
    if statements > 0 {
        // What witnesses said of the quarantined part would stand against the store for ever.
        session.batch(MOVE_CHECKPOINTS)?;
    }
    Ok(statements)
}

/// The first positions of the batches that are not in one sequence from 1 to `kept`. Their fields may hold anything.
fn strays(session: &mut Session<'_>, kept: i64) -> Result<Vec<i64>, Failure> {
    let (mut next, mut strays) = (1, Vec::new());
    session.scan("batches", "SELECT first, last FROM strongroom.batches ORDER BY first", |_, row| {
        let (first, last): (i64, i64) = (row.row.try_get(0)?, row.row.try_get(1).unwrap_or(0));
        if first == next && (first..=kept).contains(&last) {
            next = last + 1
        } else {
            strays.push(first)
        }
        Ok(true)
    })?;
    Ok(strays)
}

/// The advances of the kept statements, each with the start of its batch. The first to advance a head keeps it.
fn index_kept(session: &mut Session<'_>) -> Result<(), Failure> {
    let sql = format!(
        "SELECT n, substring(bytes FROM 1 FOR {}) AS bytes,
             (SELECT max(first) FROM strongroom.batches WHERE first <= n) AS batch
         FROM strongroom.statements ORDER BY n",
        MAX_STATEMENT_BYTES + 1
    );
    session.scan("statements", &sql, |session, row| {
        let batch = session.at.integer(row.uint(2)?)?;
        let statement =
            Statement::decode(&row.blob(1, MAX_STATEMENT_BYTES)?).map_err(|e| row.wrong(1, e.0))?;
        advance(session, statement.advances.iter().map(|(subject, prev)| (subject.encode(), *prev)), batch)
            .map(|()| true)
    })
}

fn advance(
    session: &mut Session<'_>,
    advances: impl Iterator<Item = (Vec<u8>, Hash)>,
    batch: i64,
) -> Result<(), Failure> {
    let (subjects, prevs): (Vec<Vec<u8>>, Vec<Vec<u8>>) =
        advances.map(|(subject, prev)| (subject, stored(&prev).to_vec())).unzip();
    let sql = "INSERT INTO strongroom.heads (subject, prev, batch)
        SELECT a.subject, a.prev, $3 FROM unnest($1, $2) AS a (subject, prev)
        ON CONFLICT (subject, prev) DO NOTHING";
    session
        .execute(sql, &[(&subjects, Type::BYTEA_ARRAY), (&prevs, Type::BYTEA_ARRAY), (&batch, Type::INT8)])?;
    Ok(())
}
