//! Appends a batch by compare-and-swap: what it rests on is read first, and one function of the database then takes it,
//! all or nothing, if nobody changed the ledger in between.

use super::connection::{Connection, Failure, Param, Session, pause};
use super::{error, ledger};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::ledger::{Hash, LogPosition, Statement, leaf};
use crate::store::Append;
use crate::store::rules::{self, Columns, MAX_SUBJECT_BYTES, stored, unstored};
use postgres::types::Type;
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

/// Completes "cannot …".
pub(super) const APPEND: &str = "append to the ledger";

/// For how long a writer begins again because others came first.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a batch is to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Landing {
    first: u64,
    end: LogPosition,
}

/// The state that a batch is appended to.
struct State {
    changes: i64,
    tail: LogPosition,
    chain_at_seen: Option<Hash>,
    /// Whether the batch of an earlier attempt lies where it was to lie.
    landed: bool,
}

/// What the database did with a batch.
enum Outcome {
    Taken(LogPosition),
    /// Somebody else came first.
    Crossed,
}

pub(super) fn append(connection: &mut Connection, append: &Append<'_>) -> Result<LogPosition> {
    rules::expect_batch_size(append, APPEND, connection.location())?;
    let until = Instant::now() + PATIENCE;
    let (mut tried, mut crossed) = (None, 0);
    loop {
        // An attempt whose outcome got lost is made again on a new connection, and finds its batch if it had landed.
        match connection.run(APPEND, |session| attempt(session, append, &mut tried))? {
            Outcome::Taken(end) => return Ok(end),
            Outcome::Crossed if Instant::now() < until => pause(crossed),
            Outcome::Crossed => {
                let message = "other changes kept coming first for 30 seconds".into();
                return Err(rules::conflict(APPEND, connection.location(), message));
            }
        }
        crossed = (crossed + 1).min(5);
    }
}

fn attempt(
    session: &mut Session<'_>,
    append: &Append<'_>,
    tried: &mut Option<Landing>,
) -> Result<Outcome, Failure> {
    let state = read_state(session, append, *tried)?;
    if state.landed
        && let Some(landing) = *tried
    {
        return Ok(Outcome::Taken(landing.end));
    }
    check_order(session, append, &state)?;
    let landing = landing(session, append, state.tail)?;
    *tried = Some(landing);
    failpoint::reach("append.begun");
    session.forget_warnings();
    let taken = call(session, append, &state, landing);
    // Whoever got an answer knows. Another's batch may be the same to the last byte.
    if !matches!(&taken, Err(Failure::Server(answer)) if error::is_broken(answer)) {
        *tried = None;
    }
    failpoint::reach("append.committed");
    match taken {
        Ok(true) => {
            session.expect_no_warning()?;
            Ok(Outcome::Taken(landing.end))
        }
        Ok(false) => Ok(Outcome::Crossed),
        Err(Failure::Server(answer)) => Err(refused(session, append, landing.first, answer)),
        Err(other) => Err(other),
    }
}

/// Appends a batch in the transaction that was begun, which has changed the ledger already.
pub(super) fn insert(session: &mut Session<'_>, append: &Append<'_>) -> Result<(), Failure> {
    rules::expect_batch_size(append, session.at.to, session.at.location)?;
    let state = read_state(session, append, None)?;
    check_order(session, append, &state)?;
    let landing = landing(session, append, state.tail)?;
    match call(session, append, &state, landing)? {
        true => Ok(()),
        false => {
            Err(rules::conflict(session.at.to, session.at.location, "another change came first".into())
                .into())
        }
    }
}

/// Where a batch will lie after `tail`.
fn landing(session: &Session<'_>, append: &Append<'_>, tail: LogPosition) -> Result<Landing> {
    let end = append.statements.iter().fold(tail, |end, statement| end.after(leaf(statement)));
    match i64::try_from(end.n) {
        Ok(_) => Ok(Landing { first: tail.n + 1, end }),
        Err(_) => Err(session.at.tampered("batches", &tail.n.to_string(), "no ledger is that long")),
    }
}

/// One query, so that all of it is of one moment.
fn read_state(
    session: &mut Session<'_>,
    append: &Append<'_>,
    tried: Option<Landing>,
) -> Result<State, Failure> {
    let sql = "SELECT c.n, t.last, t.chain, s.last, s.chain, EXISTS (
            SELECT 1 FROM strongroom.batches WHERE first = $2 AND last = $3 AND chain = $4 AND sign1 = $5)
        FROM strongroom.changes c
        LEFT JOIN (SELECT last, chain FROM strongroom.batches ORDER BY first DESC LIMIT 1) t ON true
        LEFT JOIN (SELECT last, chain FROM strongroom.batches WHERE first <= $1 ORDER BY first DESC LIMIT 1) s ON true
        WHERE c.part = 'ledger'";
    let none = Landing { first: 0, end: LogPosition::START };
    let landing = tried.unwrap_or(none);
    let (first, last) = (ledger::at(landing.first), ledger::at(landing.end.n));
    let params: [Param<'_>; 5] = [
        (&ledger::at(append.seen.n), Type::INT8),
        (&first, Type::INT8),
        (&last, Type::INT8),
        (&&landing.end.chain.0[..], Type::BYTEA),
        (&append.sign1, Type::BYTEA),
    ];
    let seen = append.seen.n;
    let state = session.first("batches", sql, &params, |row| {
        let tail = match row.maybe_uint(1)? {
            Some(n) => LogPosition { n, chain: row.hash(2)? },
            None => LogPosition::START,
        };
        let chain_at_seen = match row.maybe_uint(3)? {
            _ if seen == 0 => Some(Hash::ZERO),
            Some(last) if last == seen => Some(row.hash(4)?),
            _ => None,
        };
        Ok(State { changes: ledger::at(row.uint(0)?), tail, chain_at_seen, landed: row.flag(5)? })
    })?;
    state.ok_or_else(|| session.at.tampered("changes", "ledger", "is missing").into())
}

/// Checks that the batch follows the state its author had seen.
fn check_order(session: &mut Session<'_>, append: &Append<'_>, state: &State) -> Result<(), Failure> {
    let (subject, head) = &append.admin;
    let admin = advanced_by(session, subject, *head)?;
    match rules::out_of_order(append, admin, state.chain_at_seen, state.tail) {
        Some(message) => Err(rules::conflict(session.at.to, session.at.location, message).into()),
        None => Ok(()),
    }
}

/// One statement, and so one transaction: it commits before it answers.
fn call(
    session: &mut Session<'_>,
    append: &Append<'_>,
    state: &State,
    landing: Landing,
) -> Result<bool, Failure> {
    let (subjects, prevs) = columns(append.advances);
    // The same bytes once.
    let sealed: BTreeMap<Hash, &[u8]> =
        append.sealed.iter().map(|(digest, bytes)| (*digest, &bytes[..])).collect();
    let digests: Vec<&[u8]> = sealed.keys().map(|digest| &digest.0[..]).collect();
    let bytes: Vec<&[u8]> = sealed.values().copied().collect();
    let destroyed: Vec<&[u8]> = append.destroyed.iter().map(|digest| &digest.0[..]).collect();
    let params: [Param<'_>; 10] = [
        (&state.changes, Type::INT8),
        (&ledger::at(landing.first), Type::INT8),
        (&append.statements, Type::BYTEA_ARRAY),
        (&&landing.end.chain.0[..], Type::BYTEA),
        (&append.sign1, Type::BYTEA),
        (&subjects, Type::BYTEA_ARRAY),
        (&prevs, Type::BYTEA_ARRAY),
        (&digests, Type::BYTEA_ARRAY),
        (&bytes, Type::BYTEA_ARRAY),
        (&destroyed, Type::BYTEA_ARRAY),
    ];
    let sql = "SELECT strongroom.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    taken(session, sql, &params)
}

/// Subjects and heads as the table has them.
fn columns(advances: &[(Vec<u8>, Hash)]) -> (Vec<&[u8]>, Vec<&[u8]>) {
    // Sorted like the index, so that a large batch touches each of its pages once.
    let mut sorted: Vec<_> = advances.iter().collect();
    sorted.sort_unstable();
    sorted.into_iter().map(|(subject, prev)| (&subject[..], stored(prev))).unzip()
}

/// The answer of a function that says whether it did its work.
pub(super) fn taken(session: &mut Session<'_>, sql: &str, params: &[Param<'_>]) -> Result<bool, Failure> {
    Ok(session.first("changes", sql, params, |row| row.flag(0))?.unwrap_or(false))
}

/// Why the database did not take a batch whose place was free.
fn refused(session: &mut Session<'_>, append: &Append<'_>, first: u64, answer: postgres::Error) -> Failure {
    match error::taken(&answer) {
        Some("heads") => first_taken(session, append).unwrap_or(Failure::Server(answer)),
        Some(table @ ("statements" | "batches")) => {
            let place = first_planted(session, first).unwrap_or(first);
            session.at.tampered(table, &place.to_string(), "no batch covers it").into()
        }
        _ => Failure::Server(answer),
    }
}

/// The first statement from `first` on.
fn first_planted(session: &mut Session<'_>, first: u64) -> Option<u64> {
    let sql = "SELECT n FROM strongroom.statements WHERE n >= $1 ORDER BY n LIMIT 1";
    session.first("statements", sql, &[(&ledger::at(first), Type::INT8)], |row| row.uint(0)).ok().flatten()
}

/// That one of the batch's heads was advanced before.
fn first_taken(session: &mut Session<'_>, append: &Append<'_>) -> Option<Failure> {
    let (subjects, prevs) = columns(append.advances);
    let sql = "SELECT h.subject, h.prev FROM strongroom.heads h
        JOIN unnest($1, $2) AS a (subject, prev) ON a.subject = h.subject AND a.prev = h.prev
        ORDER BY h.subject, h.prev LIMIT 1";
    let params: [Param<'_>; 2] = [(&subjects, Type::BYTEA_ARRAY), (&prevs, Type::BYTEA_ARRAY)];
    let pair =
        session.first("heads", sql, &params, |row| Ok((row.blob(0, MAX_SUBJECT_BYTES)?, row.blob(1, 32)?)));
    let (subject, prev) = pair.ok().flatten()?;
    Some(match advanced_by(session, &subject, unstored(&prev)?) {
        Ok(Some(first)) => {
            rules::conflict(session.at.to, session.at.location, rules::came_first(&subject, first)).into()
        }
        Ok(None) => return None,
        Err(failure) => failure,
    })
}

/// Releases pairs. The caller verified that no effective statement up to `at` advanced them.
pub(super) fn release(
    session: &mut Session<'_>,
    advances: &[(Vec<u8>, Hash)],
    at: LogPosition,
) -> Result<(), Failure> {
    let sql = "SELECT n FROM strongroom.changes WHERE part = 'ledger'";
    let changes = session.first("changes", sql, &[], |row| row.uint(0))?.unwrap_or(0);
    let (subjects, prevs) = columns(advances);
    let params: [Param<'_>; 3] =
        [(&ledger::at(changes), Type::INT8), (&subjects, Type::BYTEA_ARRAY), (&prevs, Type::BYTEA_ARRAY)];
    // The number was read first: what the tail then shows is not older.
    if ledger::tail(session)? != at || !taken(session, "SELECT strongroom.release($1, $2, $3)", &params)? {
        let message = "another change came first".into();
        return Err(rules::conflict(session.at.to, session.at.location, message).into());
    }
    Ok(())
}

/// The first position of the batch that advanced `subject` from `prev`.
///
/// Only a row that a statement confirms counts. Otherwise a planted row would look like an earlier change.
fn advanced_by(session: &mut Session<'_>, subject: &[u8], prev: Hash) -> Result<Option<u64>, Failure> {
    let sql = "SELECT subject, batch FROM strongroom.heads WHERE subject = $1 AND prev = $2";
    let params: [Param<'_>; 2] = [(&subject, Type::BYTEA), (&stored(&prev), Type::BYTEA)];
    let Some(first) = session.first("heads", sql, &params, |row| row.uint(1))? else { return Ok(None) };
    match advances_of(session, first)?.contains(&(subject.to_vec(), prev)) {
        true => Ok(Some(first)),
        false => Err(planted(session, subject).into()),
    }
}

/// What the batch that starts at `first` advances; nothing if there is none.
fn advances_of(session: &mut Session<'_>, first: u64) -> Result<HashSet<(Vec<u8>, Hash)>, Failure> {
    let batch = ledger::batch_at(session, first)?;
    let statements = batch.into_iter().flat_map(|batch| batch.statements);
    let stated = statements.filter_map(|bytes| Statement::decode(&bytes).ok());
    let advances = stated.flat_map(|statement| statement.advances);
    Ok(advances.map(|(subject, prev)| (subject.encode(), prev)).collect())
}

/// Checks every row of `heads` against the statements, batch by batch.
pub(super) fn check_heads(session: &mut Session<'_>) -> Result<(), Failure> {
    session.begin_reading()?;
    let (mut first, mut advances) = (0, HashSet::new());
    let sql =
        "SELECT substring(subject FROM 1 FOR 513) AS subject, substring(prev FROM 1 FOR 33) AS prev, batch
        FROM strongroom.heads ORDER BY batch";
    session.scan("heads", sql, |session, row| {
        let (subject, batch) = (row.blob(0, MAX_SUBJECT_BYTES)?, row.uint(2)?);
        if batch != first {
            (first, advances) = (batch, advances_of(session, batch)?);
        }
        match unstored(&row.blob(1, 32)?).is_some_and(|prev| advances.contains(&(subject.clone(), prev))) {
            true => Ok(true),
            false => Err(planted(session, &subject).into()),
        }
    })?;
    session.commit()
}

fn planted(session: &Session<'_>, subject: &[u8]) -> Error {
    session.at.tampered("heads", &hex::encode(subject), "no statement advances it")
}
