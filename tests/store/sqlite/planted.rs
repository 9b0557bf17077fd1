//! What somebody with write access to the file plants in it: told as tampering with the row named, or without effect.

use crate::change::{access, first_of, set_aside, statement, use_it};
use crate::store_factory::{Sqlite, StoreFactory};
use rusqlite::types::Value;
use std::fs;
use std::sync::LazyLock;
use strongroom::error::{Error, Kind};
use strongroom::ledger::{Hash, sha256};
use strongroom::store::open;

const COLUMNS: [(&str, &[&str]); 6] = [
    ("batches", &["first", "last", "chain", "sign1"]),
    ("statements", &["n", "bytes"]),
    ("heads", &["subject", "prev", "batch"]),
    ("sealed", &["id", "digest", "destroyed", "bytes"]),
    ("access", &["n", "time", "device", "uid", "pid", "exe", "name", "version", "outcome", "chain"]),
    ("access_dropped", &["device", "count", "chain"]),
];

fn values() -> Vec<Value> {
    vec![
        Value::Null,
        Value::Integer(-1),
        Value::Integer(0),
        Value::Integer(i64::MAX),
        Value::Integer(i64::MIN),
        Value::Real(1.5),
        Value::Text("\u{1b}[2Jtext".into()),
        Value::Blob(vec![]),
        Value::Blob(vec![0xff; 33]),
        Value::Blob(vec![0; 3 << 20]),
    ]
}

fn store_of_two() -> Sqlite {
    let factory = Sqlite::new();
    let mut store = factory.open();
    for n in 1..=2 {
        first_of([n]).sealing(&[n as u8; 300]).append(&mut *store).unwrap();
        store.record(&[access()]).unwrap();
    }
    factory
}

/// Takes the types and constraints off every column, as an attacker can who edits the schema.
fn take_types_off(db: &rusqlite::Connection) {
    db.execute_batch(
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(replace(sql, ' STRICT', ''), 'WITHOUT', ' WITHOUT');
         UPDATE sqlite_schema SET sql = replace(replace(sql, ' NOT NULL', ''), ' BLOB', '');
         UPDATE sqlite_schema SET sql = replace(sql, ', WITHOUT', ' WITHOUT');
         UPDATE sqlite_schema SET sql = replace(sql, ',  WITHOUT', ' WITHOUT');
         PRAGMA writable_schema = RESET;",
    )
    .unwrap();
}

/// The tables' own text, by name.
static SCHEMA: LazyLock<Vec<[String; 2]>> = LazyLock::new(|| {
    let store = Sqlite::new();
    let db = store.attacker();
    let mut schema = db.prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").unwrap();
    schema.query_map([], |row| Ok([row.get(0)?, row.get(1)?])).unwrap().map(Result::unwrap).collect()
});

/// Puts that text back over rows that it does not allow: the file then opens.
fn put_types_back(db: &rusqlite::Connection) {
    db.execute_batch("PRAGMA writable_schema = ON").unwrap();
    for [name, sql] in SCHEMA.iter() {
        db.execute("UPDATE sqlite_schema SET sql = ?2 WHERE name = ?1", [name, sql]).unwrap();
    }
    db.execute_batch("PRAGMA writable_schema = RESET").unwrap();
}

#[test]
fn no_value_in_any_column_causes_a_panic() {
    let untouched = store_of_two();
    assert_eq!(untouched.open().drop_accesses(1, &access()).unwrap(), 2);
    take_types_off(&untouched.attacker());
    untouched.attack("PRAGMA wal_checkpoint(TRUNCATE)");
    let untouched = fs::read(untouched.path()).unwrap();
    let mut noticed = 0;
    for (table, columns) in COLUMNS {
        for column in columns {
            for value in values() {
                let factory = Sqlite::of(&untouched);
                let db = factory.attacker();
                let last = format!("(SELECT max({0}) FROM {table})", columns[0]);
                let sql = format!("UPDATE {table} SET {column} = ?1 WHERE {} = {last}", columns[0]);
                // SQLite itself refuses some, a NULL in a primary key for one.
                if db.execute(&sql, [&value]).is_err() {
                    continue;
                }
                put_types_back(&db);
                drop(db);
                for error in use_it(&mut *factory.open()) {
                    noticed += 1;
                    let expected = matches!(error.kind(), Kind::Tampered | Kind::Conflict);
                    assert!(expected, "{table}.{column} = {value:?}: {error:?}");
                    let shown = format!("{error} {}", error.hint().unwrap_or_default());
                    assert!(!shown.chars().any(char::is_control), "{shown:?}");
                }
                // Whatever it was, an admin can go on from what was verified.
                if !matches!((table, *column), ("access" | "access_dropped" | "sealed", _)) {
                    let mut store = factory.open();
                    set_aside(&mut *store, 1).unwrap();
                    first_of([2]).append(&mut *store).unwrap();
                    assert_eq!(store.batches_after(0, usize::MAX).unwrap().len(), 3);
                }
            }
        }
    }
    assert!(noticed > 100, "{noticed}");
}

fn tampered(answer: Result<impl Sized, Error>, names: &str) {
    let error = answer.err().unwrap();
    assert_eq!(error.kind(), Kind::Tampered, "{error}");
    assert!(error.message().contains(names), "{error}");
    assert!(error.hint().unwrap().contains("strongroom repair"));
}

#[test]
fn rows_are_named() {
    for (edit, names) in [
        ("UPDATE statements SET bytes = NULL WHERE n = 2", "table `statements`, row 2: `bytes` is not bytes"),
        ("UPDATE statements SET bytes = zeroblob(1048577) WHERE n = 1", "row 1: `bytes` is longer than"),
        ("UPDATE batches SET sign1 = 'x' WHERE first = 2", "table `batches`, row 2: `sign1` is not bytes"),
        ("UPDATE batches SET last = -2 WHERE first = 1", "table `batches`, row 1: `last` is negative"),
        ("UPDATE statements SET bytes = zeroblob(3000000)", "table `statements`: a row is larger"),
    ] {
        let factory = store_of_two();
        let db = factory.attacker();
        take_types_off(&db);
        db.execute_batch(edit).unwrap();
        put_types_back(&db);
        drop(db);
        tampered(factory.open().batches_after(0, usize::MAX), names);
    }
}

#[test]
fn a_statement_that_is_missing_is_not_made_up_for() {
    let factory = Sqlite::new();
    let change = first_of(1..=3);
    change.append(&mut *factory.open()).unwrap();
    factory.attack("DELETE FROM statements WHERE n = 2");
    let batches = factory.open().batches_after(0, usize::MAX).unwrap();
    assert_eq!(batches[0].statements, [&change.statements[0][..], &change.statements[2][..]]);
}

#[test]
fn a_batch_that_is_missing_leaves_a_gap() {
    let factory = store_of_two();
    factory.attack("DELETE FROM batches WHERE first = 1");
    let batches = factory.open().batches_after(0, usize::MAX).unwrap();
    assert_eq!(batches.iter().map(|batch| batch.first).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_batch_that_claims_too_much_is_bounded() {
    let factory = Sqlite::new();
    for batch in 0..2 {
        first_of(batch * 10_000..(batch + 1) * 10_000).append(&mut *factory.open()).unwrap();
    }
    factory.attack("UPDATE batches SET last = 9223372036854775807 WHERE first = 1");
    assert_eq!(factory.open().batches_after(0, 1).unwrap()[0].statements.len(), 10_001);
}

#[test]
fn a_planted_head_is_no_change_that_came_first() {
    let factory = store_of_two();
    let planted = statement(7, Hash::ZERO);
    let subject = planted.advances[0].0.encode();
    for batch in [1, 2, 99] {
        let sql = "INSERT OR REPLACE INTO heads (subject, prev, batch) VALUES (?1, x'', ?2)";
        factory.attacker().execute(sql, rusqlite::params![subject, batch]).unwrap();
        tampered(first_of([7]).append(&mut *factory.open()), "no statement advances it");
        tampered(factory.open().check_heads(), "no statement advances it");
    }
    assert_eq!(set_aside(&mut *factory.open(), 2).unwrap(), 0);
    factory.open().check_heads().unwrap();
    first_of([7]).append(&mut *factory.open()).unwrap();
    assert_eq!(first_of([1]).append(&mut *factory.open()).unwrap_err().kind(), Kind::Conflict);
}

#[test]
fn heads_that_were_deleted_come_back_with_a_repair() {
    let factory = store_of_two();
    factory.attack("DELETE FROM heads");
    set_aside(&mut *factory.open(), 2).unwrap();
    for token in 1..=2 {
        assert_eq!(first_of([token]).append(&mut *factory.open()).unwrap_err().kind(), Kind::Conflict);
    }
}

#[test]
fn a_planted_statement_is_named_and_can_be_set_aside() {
    let factory = store_of_two();
    factory.attack("INSERT INTO statements VALUES (3, x'00')");
    tampered(first_of([3]).append(&mut *factory.open()), "table `statements`, row 3: no batch covers it");
    assert_eq!(factory.open().tail().unwrap().n, 2);
    assert_eq!(set_aside(&mut *factory.open(), 2).unwrap(), 1);
    assert_eq!(first_of([3]).append(&mut *factory.open()).unwrap().n, 4);
    let kept: i64 =
        factory.attacker().query_row("SELECT n FROM set_aside_statements", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 3, "the row is kept for whoever investigates");
}

#[test]
fn a_batch_planted_between_others_can_be_set_aside() {
    let factory = Sqlite::new();
    let change = first_of(1..=3);
    let end = change.append(&mut *factory.open()).unwrap();
    factory.attack("INSERT INTO batches VALUES (2, 3, zeroblob(32), x'00'), (-5, 9, x'', x'')");
    let (mut store, tail) = (factory.open(), factory.open().tail().ok());
    assert_eq!(store.quarantine_after(end, tail, None).unwrap(), 0);
    assert_eq!(factory.open().batches_after(0, usize::MAX).unwrap(), [change.stored(1)]);
}

#[test]
fn planted_triggers_do_nothing_to_those_who_have_it_open() {
    let factory = store_of_two();
    let mut store = factory.open();
    factory.attack(
        "CREATE TRIGGER t1 AFTER INSERT ON statements BEGIN DELETE FROM heads; DELETE FROM sealed; END;
         CREATE TRIGGER t2 BEFORE INSERT ON access BEGIN SELECT RAISE(IGNORE); END;",
    );
    first_of([3]).append(&mut *store).unwrap();
    assert_eq!(first_of([1]).append(&mut *store).unwrap_err().kind(), Kind::Conflict);
    assert!(store.sealed(&sha256(&[1; 300])).unwrap().is_some());
    store.record(&[access()]).unwrap();
    assert_eq!(store.check_accesses().unwrap().kept, 3);
}

/// Whatever is not exactly the schema's is refused before anything is read: it may compute what the file does not hold.
#[test]
fn other_tables_are_refused() {
    for (attack, names) in [
        ("CREATE TRIGGER t1 AFTER INSERT ON statements BEGIN DELETE FROM heads; END;", "`t1` is not as"),
        ("CREATE VIEW other AS SELECT * FROM batches", "`other` is not as"),
        ("CREATE TABLE other (x)", "`other` is not as"),
        ("CREATE INDEX other ON statements (bytes)", "`other` is not as"),
        ("DROP TABLE sealed; CREATE VIEW sealed AS SELECT 1 AS digest", "`sealed` is not as"),
        ("DROP TABLE set_aside_statements; CREATE TABLE set_aside_statements (x)", "`set_aside_statements`"),
        (
            "DROP TABLE batches; CREATE TABLE batches (first INTEGER PRIMARY KEY, last INTEGER NOT NULL,
             chain BLOB NOT NULL, sign1 BLOB GENERATED ALWAYS AS (zeroblob(2000000))) STRICT;",
            "`batches` is not as",
        ),
        ("DROP INDEX access_by_device", "a table is missing"),
        ("ANALYZE", "`sqlite_stat1` is not as"),
    ] {
        let factory = store_of_two();
        factory.attack(attack);
        let error = open(&factory.url()).err().unwrap();
        assert_eq!(error.kind(), Kind::Tampered, "{error}");
        assert!(error.message().contains(names), "{error}");
        assert!(error.hint().unwrap().contains("restore a backup"));
    }
    for (table, _) in COLUMNS {
        let factory = store_of_two();
        factory.attack(&format!("DROP TABLE {table}"));
        assert_eq!(open(&factory.url()).err().unwrap().kind(), Kind::Tampered);
    }
}

/// Rows that are small in the file and large in memory: each is bounded, and so is what is read at once.
#[test]
fn small_files_do_not_take_much_memory() {
    let factory = Sqlite::new();
    let mut store = factory.open();
    factory.attack(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000)
         INSERT INTO statements SELECT n, x'' FROM n;
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000)
         INSERT INTO batches SELECT n, 20000, zeroblob(32), zeroblob(60000 * (n % 2)) FROM n;
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 70000)
         INSERT INTO access SELECT n, 1, printf('%032x', n), 0, 1, '', 'n', 1, 'opened', zeroblob(32) FROM n;",
    );
    assert!(store.batches_after(0, 4 << 20).unwrap().len() < 20);
    factory.attack("UPDATE batches SET sign1 = zeroblob(100000)");
    tampered(store.batches_after(0, 4 << 20), "`sign1` is longer than 65536 bytes");
    factory.attack("UPDATE access SET exe = printf('%.*c', 100000, 'x') WHERE n = 70000");
    tampered(store.accesses(0, 500), "`exe` is longer than 16384 bytes");
    let chain = |n: u64| sha256(&[&Hash::ZERO.0[..], &line(n)].concat());
    let db = factory.attacker();
    let transaction = db.unchecked_transaction().unwrap();
    for n in 1..70_000 {
        let sql = "UPDATE access SET chain = ?2 WHERE n = ?1";
        transaction.prepare_cached(sql).unwrap().execute(rusqlite::params![n, chain(n).0]).unwrap();
    }
    transaction.commit().unwrap();
    tampered(store.check_accesses(), "row 65537: `device` is one of more devices than a store has");
}

/// A line of the access log as the chain holds it.
fn line(n: u64) -> Vec<u8> {
    let mut line = vec![0x88, 0x01, 0x78, 0x20];
    line.extend(format!("{n:032x}").bytes());
    line.extend([0x00, 0x01, 0x60, 0x61, b'n', 0x01, 0x66]);
    line.extend(b"opened");
    line
}

#[test]
fn altered_lines_are_not_dropped() {
    let factory = Sqlite::new();
    let mut store = factory.open();
    store.record(&vec![access(); 10]).unwrap();
    factory.attack("UPDATE access SET outcome = 'denied' WHERE n = 3");
    let error = store.drop_accesses(5, &access()).unwrap_err();
    assert_eq!(error.kind(), Kind::Tampered, "{error}");
    assert_eq!(store.accesses(0, 100).unwrap().len(), 10);
    // Nor is it believed that lines were dropped which are there.
    factory.attack("UPDATE access SET outcome = 'opened' WHERE n = 3");
    assert_eq!(store.check_accesses().unwrap().kept, 10);
    let planted = "01".repeat(32);
    factory.attack(&format!("INSERT INTO access_dropped VALUES ('ab', 1, x'{planted}')"));
    store.check_accesses().unwrap_err();
}
