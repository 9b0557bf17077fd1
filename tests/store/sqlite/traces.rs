//! What is left of sealed bytes that were destroyed.

use crate::change::first_of;
use crate::store_factory::{Sqlite, StoreFactory};
use std::fs;

/// Bytes that are found wherever a page holds a good part of them.
fn marked(n: u64) -> Vec<u8> {
    format!("<sealed bytes of token {n:04}>").into_bytes().repeat(9 + (n % 40) as usize)
}

fn traces(factory: &Sqlite, n: u64) -> Vec<String> {
    let needle = format!("token {n:04}>");
    let files = fs::read_dir(factory.dir.path()).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).contains(&needle))
        .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn destroyed_bytes_leave_no_trace() {
    let factory = Sqlite::new();
    let mut store = factory.open();
    for n in 0..150 {
        first_of([n]).sealing(&marked(n)).append(&mut *store).unwrap();
    }
    for turn in 0..150_u64 {
        // Every token once, not in order, so that pages are emptied, merged and used again.
        let n = turn * 77 % 150;
        assert!(!traces(&factory, n).is_empty(), "the search finds what is there");
        let change = first_of([1000 + turn]).destroying(&marked(n));
        let change = if turn % 3 == 0 { change.sealing(&marked(2000 + turn)) } else { change };
        change.append(&mut *store).unwrap();
        assert_eq!(traces(&factory, n), [""; 0], "token {n}, destroyed in turn {turn}");
    }
}

#[test]
fn a_reader_does_not_stop_a_destruction() {
    let factory = Sqlite::new();
    let mut store = factory.open();
    first_of([1]).sealing(&marked(1)).append(&mut *store).unwrap();
    let reader = factory.attacker();
    reader.execute_batch("BEGIN; SELECT * FROM sealed").unwrap();
    first_of([2]).destroying(&marked(1)).append(&mut *store).unwrap();
    assert!(factory.open().sealed(&strongroom::ledger::sha256(&marked(1))).unwrap().is_none());
    reader.execute_batch("COMMIT").unwrap();
    drop((store, reader));
    // The next who appends and leaves empties the log.
    first_of([3]).append(&mut *factory.open()).unwrap();
    assert_eq!(traces(&factory, 1), [""; 0]);
}
