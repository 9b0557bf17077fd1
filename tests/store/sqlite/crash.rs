//! kill -9 at any moment.

use super::{INNER, inner};
use crate::bench::{Bench, Sqlite};
use crate::change::first_of;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;
use strongroom::ledger::{LogPosition, leaf};

/// What was acknowledged on standard output is in the store, whole; and so is its sealed part.
#[test]
fn a_kill_loses_nothing_acknowledged() {
    let bench = Sqlite::new();
    let mut acknowledged = 0;
    for round in 0..40 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::crash::append_for_ever", "--include-ignored", "--nocapture"])
            .env(INNER, bench.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
        lines.by_ref().find(|line| line.starts_with("appended"));
        std::thread::sleep(Duration::from_micros(round * 731));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let last = lines.filter_map(|line| line.strip_prefix("appended ")?.parse().ok()).last();
        acknowledged = last.unwrap_or(acknowledged);
        check(&bench, acknowledged);
    }
    assert!(acknowledged > 100, "{acknowledged}");
}

fn check(bench: &Sqlite, acknowledged: u64) {
    let mut store = bench.open();
    let batches = store.batches_after(0, usize::MAX).unwrap();
    let mut end = LogPosition::START;
    for batch in batches {
        assert_eq!(batch.first, end.n + 1);
        assert_eq!(batch.statements.len(), 3, "half a batch");
        end = batch.statements.iter().fold(end, |at, bytes| at.after(leaf(bytes)));
    }
    assert_eq!(store.tail().unwrap(), end);
    assert!(end.n >= acknowledged, "{acknowledged} were acknowledged, {} are there", end.n);
}

#[test]
#[ignore = "the inner half of another test"]
#[allow(clippy::print_stdout)]
fn append_for_ever() {
    let mut store = strongroom::store::open(inner().to_str().unwrap()).unwrap();
    println!("started");
    loop {
        let next = store.tail().unwrap().n;
        let end = first_of(next..next + 3).sealing(&next.to_be_bytes()).append(&mut *store).unwrap();
        println!("appended {}", end.n);
    }
}
