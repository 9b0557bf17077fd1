//! Tampering as a property: whatever somebody does who can write to the file, each question is answered as before, or the
//! next command says that the store was tampered with and where.

use crate::edits::{Row, edits};
use crate::history::{Copy, History, asked, history};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::Connection;
use rusqlite::types::Value;
use strongroom::ledger::{Body, Hash, LogPosition, Statement, leaf, sha256};
use strongroom::replica::StorePin;
use strongroom::vault::{PutOptions, Vault};
use strongroom::{Error, Kind};
use test_support::forged_batch::sealed;
use test_support::test_store::{Actor, name, secret};

/// The tables of a store, with their columns.
const TABLES: [(&str, &[&str]); 5] = [
    ("batches", &["first", "last", "chain", "sign1"]),
    ("statements", &["n", "bytes"]),
    ("heads", &["subject", "prev", "batch"]),
    ("sealed", &["id", "digest", "destroyed", "bytes"]),
    ("access", &["n", "time", "device", "uid", "pid", "exe", "name", "version", "outcome", "chain"]),
];

fn rows(db: &Connection, table: &str, columns: &[&str]) -> Vec<Row> {
    let mut query = db.prepare(&format!("SELECT {} FROM {table} ORDER BY 1", columns.join(", "))).unwrap();
    let read =
        |row: &rusqlite::Row<'_>| (0..columns.len()).map(|i| row.get(i)).collect::<rusqlite::Result<Row>>();
    query.query_map([], read).unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

/// Writes a table back. What its constraints do not allow is written into one without constraints.
fn write(db: &Connection, table: &str, columns: &[&str], rows: &[Row]) {
    let fill = |db: &Connection| -> rusqlite::Result<()> {
        let places: Vec<String> = (1..=columns.len()).map(|i| format!("?{i}")).collect();
        let sql = format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), places.join(", "));
        let mut insert = db.prepare(&sql)?;
        rows.iter().try_for_each(|row| insert.execute(rusqlite::params_from_iter(row)).map(drop))
    };
    db.execute_batch(&format!("BEGIN; DELETE FROM {table}; SAVEPOINT whole;")).unwrap();
    if fill(db).is_err() {
        let sql =
            format!("ROLLBACK TO whole; DROP TABLE {table}; CREATE TABLE {table} ({})", columns.join(", "));
        db.execute_batch(&sql).unwrap();
        fill(db).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

/// Makes every chain value fit what lies there now.
fn recompute_chain(db: &Connection) {
    let blob = |value: &Value| if let Value::Blob(bytes) = value { bytes.clone() } else { Vec::new() };
    let number = |value: &Value| if let Value::Integer(n) = value { *n } else { 0 };
    let statements = rows(db, TABLES[1].0, TABLES[1].1);
    let mut batches = rows(db, TABLES[0].0, TABLES[0].1);
    let mut at = LogPosition::START;
    for batch in &mut batches {
        let (first, last) = (number(&batch[0]), number(&batch[1]));
        for statement in statements.iter().filter(|row| (first..=last).contains(&number(&row[0]))) {
            at = at.after(leaf(&blob(&statement[1])));
        }
        batch[2] = Value::Blob(at.chain.0.to_vec());
    }
    write(db, TABLES[0].0, TABLES[0].1, &batches);
}

/// What the next commands may fail with, as long as they say where.
fn says_where(error: &Error, context: &str) {
    let places = ["table `", "statement", "batch at", "batches", "it ends at", "sealed", "row"];
    let words = format!("{error} {}", error.hint().unwrap_or_default());
    let kind = matches!(error.kind(), Kind::Tampered | Kind::RolledBack);
    assert!(kind, "{context}: {:?}: {words}", error.kind());
    assert!(places.iter().any(|place| words.contains(place)), "{context}: no place is named: {words}");
}

/// Every answer is the one it was, or says that and where the store was tampered with.
fn check_answers(history: &History, vault: &mut Vault, context: &str, opening: bool) -> bool {
    let mut answers = asked(vault, opening);
    let mut all = true;
    for (question, expected) in &history.answers {
        if question.starts_with("get ") && !opening {
            continue;
        }
        match answers.remove(question) {
            Some(Ok(answer)) if answer == *expected => {}
            // What was replayed stands in the ledger, and says that it has no effect.
            Some(Ok(answer)) if question.starts_with("log") => {
                let more = answer.strip_prefix(expected.as_str()).or(answer.strip_suffix(expected.as_str()));
                let more = more.unwrap_or_else(|| panic!("{context}: {question} lost lines"));
                assert!(more.lines().all(|line| line.contains("Some(")), "{context}: {question}: {more}");
            }
            Some(Ok(answer)) => panic!("{context}: {question}: {answer}, not {expected}"),
            Some(Err(error)) => {
                says_where(&error, &format!("{context}: {question}"));
                all = false;
            }
            None => panic!("{context}: {question} is no question any more"),
        }
    }
    assert!(answers.is_empty(), "{context}: new questions: {:?}", answers.keys());
    all
}

/// The oracle: clients that know the store, one that was handed its head, one that only knows its id.
fn check(copy: &Copy) {
    let mut verified = false;
    match copy.open("reader") {
        Err(error) => says_where(&error, "reader"),
        Ok(mut vault) => {
            let answered = check_answers(&copy.history, &mut vault, "reader", true);
            let report = vault.verify(&mut |_, _, _| {}).unwrap_or_else(|e| panic!("verify: {e}"));
            verified = report.problems.is_empty();
            assert!(answered || !verified, "`verify` finds nothing");
        }
    }
    // One that had verified the half of it, and one that meets it now.
    for (client, opened) in [("slow", copy.open("slow")), ("handed", copy.meet("handed", &copy.history.head))]
    {
        match opened {
            // The slow one may be shown a shorter ledger, as long as it is not shorter than what it saw.
            Ok(_) if client == "slow" && !verified => {}
            Ok(mut vault) => drop(check_answers(&copy.history, &mut vault, client, false)),
            Err(error) => {
                says_where(&error, client);
                assert!(!verified, "`verify` finds nothing, and {client} is refused: {error}");
            }
        }
    }
    // With the id alone an older state may be shown; never anything that was not true once.
    if let Ok(mut vault) = copy.meet("told", &StorePin::from_store(copy.history.head.store)) {
        for token in ["prod/db", "prod/key", "w/own", "many/0", "many/3", "moved/2", "last/token"] {
            if let Ok(token) = vault.get(&name(token), None) {
                let text = String::from_utf8_lossy(token.expose()).into_owned();
                assert!(text.starts_with("token ") || PLAINTEXTS.contains(&&*text), "{text}");
            }
        }
    }
    // And who writes either can, or is told where the store was tampered with.
    if let Ok(mut vault) = copy.open("reader") {
        match vault.put(&name("prod/db"), &secret("after"), &PutOptions::default()) {
            Ok(_) => assert_eq!(vault.get(&name("prod/db"), None).unwrap().expose(), b"after"),
            Err(error) => says_where(&error, "put"),
        }
    }
}

/// Every plaintext that was ever put, but for those of the import.
const PLAINTEXTS: [&str; 10] =
    ["one", "two", "key", "key 2", "own", "a new one", "pruning", "staged", "last", "very last"];

/// Runs `tamper` on copies of the store.
fn property<S: Strategy>(cases: u32, strategy: S, tamper: impl Fn(&Connection, S::Value))
where
    S::Value: Clone + std::fmt::Debug,
{
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 40, ..Config::default() };
    let history = history();
    let outcome = TestRunner::new(config).run(&strategy, |value| {
        let copy = history.copy();
        tamper(&Connection::open(copy.path()).unwrap(), value);
        check(&copy);
        Ok(())
    });
    outcome.unwrap();
}

fn a_table_is_edited(table: usize, cases: u32) {
    let (table, columns) = TABLES[table];
    property(cases, (prop::collection::vec(edits(), 1..3), any::<bool>()), |db, (edits, recompute)| {
        let mut edited = rows(db, table, columns);
        for edit in edits {
            if !edited.is_empty() {
                edit.apply(&mut edited);
            }
        }
        write(db, table, columns, &edited);
        if recompute {
            recompute_chain(db);
        }
    });
}

#[test]
fn batches_are_edited() {
    a_table_is_edited(0, 130);
}

#[test]
fn statements_are_edited() {
    a_table_is_edited(1, 130);
}

#[test]
fn heads_are_edited() {
    a_table_is_edited(2, 60);
}

#[test]
fn sealed_bytes_are_edited() {
    a_table_is_edited(3, 80);
}

#[test]
fn the_access_log_is_edited() {
    a_table_is_edited(4, 50);
}

/// A whole batch as it lies in the file.
#[derive(Clone)]
struct Batch {
    sign1: Vec<u8>,
    statements: Vec<Vec<u8>>,
}

fn batches(db: &Connection) -> Vec<Batch> {
    let mut query = db.prepare("SELECT first, last, sign1 FROM batches ORDER BY first").unwrap();
    let read = |row: &rusqlite::Row<'_>| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?))
    };
    let rows: Vec<_> = query.query_map([], read).unwrap().map(Result::unwrap).collect();
    let statement =
        |n: i64| db.query_row("SELECT bytes FROM statements WHERE n = ?1", [n], |row| row.get(0)).unwrap();
    rows.into_iter()
        .map(|(first, last, sign1)| Batch { sign1, statements: (first..=last).map(statement).collect() })
        .collect()
}

/// Lays the batches down anew, without gaps, with chain values that fit, or with the old ones of their places.
fn lay_down(db: &Connection, batches: &[Batch], recompute: bool) {
    let old: Vec<Vec<u8>> = rows(db, TABLES[0].0, &["first", "chain"])
        .into_iter()
        .map(|row| if let Value::Blob(chain) = &row[1] { chain.clone() } else { Vec::new() })
        .collect();
    let (mut rows, mut statements, mut first) = (Vec::new(), Vec::new(), 1);
    for (i, batch) in batches.iter().enumerate() {
        for (n, bytes) in (first..).zip(&batch.statements) {
            statements.push(vec![Value::Integer(n), Value::Blob(bytes.clone())]);
        }
        let last = first + batch.statements.len() as i64 - 1;
        let chain = old.get(i).cloned().unwrap_or_else(|| vec![0; 32]);
        rows.push(vec![
            Value::Integer(first),
            Value::Integer(last),
            Value::Blob(chain),
            Value::Blob(batch.sign1.clone()),
        ]);
        first = last + 1;
    }
    write(db, TABLES[0].0, TABLES[0].1, &rows);
    write(db, TABLES[1].0, TABLES[1].1, &statements);
    if recompute {
        recompute_chain(db);
    }
}

/// Un-revoking among them: the last statement revokes, and so does one in the middle.
#[test]
fn batches_are_dropped_moved_and_replayed() {
    let change = (0..5u8, any::<Index>(), any::<Index>(), any::<bool>());
    property(60, change, |db, (kind, one, other, recompute)| {
        let mut all = batches(db);
        let (one, other) = (one.index(all.len()), other.index(all.len()));
        match kind {
            0 => drop(all.remove(one)),
            1 => all.truncate(all.len() - 1 - one % 3),
            2 => all.swap(one, other),
            3 => all.insert(other, all[one].clone()),
            _ => all.push(all[one].clone()),
        }
        lay_down(db, &all, recompute);
    });
}

#[test]
fn yesterdays_file_comes_back() {
    let history = history();
    for yesterday in &history.yesterdays {
        let copy = history.copy();
        std::fs::copy(yesterday, copy.path()).unwrap();
        let error = copy.open("reader").err().unwrap();
        assert_eq!(error.kind(), Kind::RolledBack);
        assert!(error.message().contains("it ends at statement"), "{error}");
        assert_eq!(copy.meet("handed", &copy.history.head).err().unwrap().kind(), Kind::RolledBack);
        check(&copy);
    }
}

/// A file that the devices would open, in place of the true one: with and without the digest in the statement.
#[test]
fn sealed_bytes_are_forged() {
    property(30, (any::<Index>(), any::<bool>(), any::<bool>()), |db, (which, restate, recompute)| {
        let mut all = batches(db);
        let puts: Vec<(usize, usize)> = (0..all.len())
            .flat_map(|b| (0..all[b].statements.len()).map(move |s| (b, s)))
            .filter(|(b, s)| matches!(decoded(&all[*b].statements[*s]).body, Body::Put(_)))
            .collect();
        let (b, s) = puts[which.index(puts.len())];
        let mut statement = decoded(&all[b].statements[s]);
        let Body::Put(put) = &mut statement.body else { unreachable!() };
        let history = history();
        let forged = sealed(history.head.store, put.token, put.version, "forged", &history.openers());
        let seal = &mut put.seals[0];
        let old = seal.digest;
        (seal.digest, seal.length) = (sha256(&forged), forged.len() as u64);
        let digest = if restate { seal.digest } else { old };
        let sql = "UPDATE sealed SET digest = ?1, bytes = ?2, destroyed = 0 WHERE digest = ?3";
        db.execute(sql, rusqlite::params![digest.0, forged, old.0]).unwrap();
        if restate {
            all[b].statements[s] = statement.encode();
            lay_down(db, &all, recompute);
        }
    });
}

fn decoded(bytes: &[u8]) -> Statement {
    Statement::decode(bytes).unwrap()
}

/// A role or a grant more, in a statement that is there or in one that is new, without a signature for it.
#[test]
fn roles_and_grants_are_added() {
    use strongroom::ledger::body::{Grant, Role, Roles, State, StateChange, Target};
    property(30, (0..4u8, any::<Index>(), any::<bool>()), |db, (kind, at, recompute)| {
        let mut all = batches(db);
        let (history, mallory) = (history(), Actor::named("mallory"));
        let [admin, opener] = history.openers();
        let revocation = decoded(&all[all.len() - 1].statements[0]);
        let body = match kind {
            0 => mallory.enrolment(vec![Role::Admin]),
            1 => Body::Roles(Roles { device: opener.id, roles: vec![Role::Admin] }),
            2 => Body::Grant(Grant {
                grant: strongroom::ledger::GrantId([8; 16]),
                target: Target::Prefix(String::new()),
                to: "user:mallory".into(),
                ops: vec!["get".into()],
                until: None,
                alias: None,
            }),
            _ => match revocation.body {
                Body::State(change) => Body::State(StateChange { state: State::Active, ..change }),
                _ => unreachable!("the last statement revokes"),
            },
        };
        let forged = Statement::compose(history.head.store, admin.id, 0, body, |_| {
            Ok::<_, std::convert::Infallible>(Hash::ZERO)
        });
        let Ok(forged) = forged;
        let at = 1 + at.index(all.len() - 1);
        match recompute {
            // In place of another.
            true => all[at].statements = vec![forged.encode()],
            // One more, under the signature of another.
            false => {
                all.insert(at, Batch { sign1: all[at].sign1.clone(), statements: vec![forged.encode()] })
            }
        }
        lay_down(db, &all, true);
    });
}

/// Found by the properties above, once in many runs: nothing comes before the first statement.
#[test]
fn the_first_batch_says_that_it_begins_earlier() {
    for first in [0, -1] {
        let copy = history().copy();
        let edit = "UPDATE batches SET first = ?1 WHERE first = 1";
        assert_eq!(Connection::open(copy.path()).unwrap().execute(edit, [first]).unwrap(), 1);
        check(&copy);
    }
}
