//! What somebody plants who may do anything in the database: told as tampering with the row named, or without effect.

use crate::change::{access, first_of, set_aside, statement, use_it};
use crate::store_factory::{Postgres, StoreFactory};
use strongroom::error::{Error, Kind};
use strongroom::ledger::Hash;

fn store_of_two() -> Option<Postgres> {
    if !Postgres::available() {
        return None;
    }
    let factory = Postgres::new();
    let mut store = factory.open();
    for n in 1..=2 {
        first_of([n]).sealing(&[n as u8; 300]).append(&mut *store).unwrap();
        store.record(&[access()]).unwrap();
    }
    Some(factory)
}

/// The last row of each table, with each value that its column takes, and with columns of other types.
#[test]
fn no_value_in_any_column_causes_a_panic() {
    if !Postgres::available() {
        return;
    }
    let numbers = ["-1", "0", "9223372036854775807", "(-9223372036854775807 - 1)"];
    let bytes = ["''", "'\\xff'", "decode(repeat('ff', 33), 'hex')", "decode(repeat('00', 3145728), 'hex')"];
    let texts = ["''", "E'\\x1b[2Jtext'", "repeat('x', 100000)"];
    let mut noticed = 0;
    for (table, key, columns, values) in [
        ("batches", "first", &["first", "last"][..], &numbers[..]),
        ("batches", "first", &["chain", "sign1"], &bytes),
        ("statements", "n", &["n"], &numbers),
        ("statements", "n", &["bytes"], &bytes),
        ("heads", "batch", &["batch"], &numbers),
        ("heads", "batch", &["subject", "prev"], &bytes),
        ("sealed", "digest", &["digest", "bytes"], &bytes),
        ("access", "n", &["n", "time", "uid", "pid", "version"], &numbers),
        ("access", "n", &["device", "exe", "name", "outcome"], &texts),
        ("access", "n", &["chain"], &bytes),
    ] {
        for (column, value) in
            columns.iter().flat_map(|column| values.iter().map(move |value| (column, value)))
        {
            let factory = store_of_two().unwrap();
            let last = format!("(SELECT {key} FROM strongroom.{table} ORDER BY {key} DESC LIMIT 1)");
            let sql = format!("UPDATE strongroom.{table} SET {column} = {value} WHERE {key} = {last}");
            let database = &factory.database;
            // The database itself refuses some: what no index holds, and a key that is there.
            if !database.server().psql_in(&database.name, "postgres", None, &sql).status.success() {
                continue;
            }
            for error in use_it(&mut *factory.open()) {
                noticed += 1;
                assert!(matches!(error.kind(), Kind::Tampered | Kind::Conflict), "{sql}: {error:?}");
                let shown = format!("{error} {}", error.hint().unwrap_or_default());
                assert!(!shown.chars().any(char::is_control), "{shown:?}");
            }
            // Whatever it was, an admin can go on from what was verified.
            if !matches!(table, "access" | "sealed") {
                let mut store = factory.open();
                set_aside(&mut *store, 1).unwrap();
                first_of([2]).append(&mut *store).unwrap();
                assert_eq!(store.batches_after(0, usize::MAX).unwrap().len(), 3, "{sql}");
            }
        }
    }
    assert!(noticed > 50, "{noticed}");
}

#[test]
fn tables_of_another_make() {
    for (attack, words) in [
        ("ALTER TABLE strongroom.batches ALTER last TYPE text", "not a whole one"),
        (
            "ALTER TABLE strongroom.batches ALTER sign1 DROP NOT NULL; UPDATE strongroom.batches SET sign1 = NULL",
            "`sign1` is not bytes",
        ),
        ("ALTER TABLE strongroom.statements RENAME bytes TO other", "not as Strongroom makes them"),
        ("DROP TABLE strongroom.statements", "not a whole one"),
    ] {
        let Some(factory) = store_of_two() else { return };
        factory.database.sql(attack);
        let mut store = factory.open();
        let error =
            store.batches_after(0, usize::MAX).err().or_else(|| first_of([9]).append(&mut *store).err());
        let error = error.unwrap_or_else(|| panic!("{attack}"));
        assert!(error.message().contains(words) && error.hint().is_some(), "{attack}: {error}");
    }
}

fn tampered(answer: Result<impl Sized, Error>, names: &str) {
    let error = answer.err().unwrap();
    assert_eq!(error.kind(), Kind::Tampered, "{error}");
    assert!(error.message().contains(names), "{error}");
    assert!(error.hint().unwrap().contains("strongroom repair"));
}

#[test]
fn a_planted_head_is_no_change_that_came_first() {
    let Some(factory) = store_of_two() else { return };
    let subject = hex(&statement(7, Hash::ZERO).advances[0].0.encode());
    for batch in [1, 2, 99] {
        factory.database.sql(&format!(
            "INSERT INTO strongroom.heads VALUES ('\\x{subject}', '', {batch})
             ON CONFLICT (subject, prev) DO UPDATE SET batch = excluded.batch"
        ));
        tampered(first_of([7]).append(&mut *factory.open()), "no statement advances it");
        tampered(factory.open().check_heads(), "no statement advances it");
    }
    assert_eq!(set_aside(&mut *factory.open(), 2).unwrap(), 0);
    factory.open().check_heads().unwrap();
    first_of([7]).append(&mut *factory.open()).unwrap();
    assert_eq!(first_of([1]).append(&mut *factory.open()).unwrap_err().kind(), Kind::Conflict);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_planted_statement_is_named_and_can_be_set_aside() {
    let Some(factory) = store_of_two() else { return };
    factory.database.sql("INSERT INTO strongroom.statements VALUES (3, '\\x00')");
    tampered(first_of([3]).append(&mut *factory.open()), "table `statements`, row 3: no batch covers it");
    assert_eq!(factory.open().tail().unwrap().n, 2);
    assert_eq!(set_aside(&mut *factory.open(), 2).unwrap(), 1);
    assert_eq!(first_of([3]).append(&mut *factory.open()).unwrap().n, 4);
    assert_eq!(factory.database.sql("SELECT n FROM strongroom.set_aside_statements").trim(), "3");
}

#[test]
fn altered_lines_are_not_dropped() {
    let Some(factory) = store_of_two() else { return };
    let mut store = factory.open();
    store.record(&vec![access(); 10]).unwrap();
    factory.database.sql("UPDATE strongroom.access SET outcome = 'denied' WHERE n = 3");
    tampered(store.drop_accesses(5, &access()), "does not follow");
    assert_eq!(store.accesses(0, 100).unwrap().len(), 12);
}
