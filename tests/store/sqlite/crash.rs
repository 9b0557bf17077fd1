//! kill -9 between any two writes.

use super::{INNER, inner};
use crate::change::first_of;
use crate::store_factory::{Sqlite, StoreFactory};
use strongroom::ledger::{LogPosition, leaf, sha256};
use test_support::subprocess::{FAILPOINTS, killed_at, rerun};

/// What was acknowledged on standard output is in the store, whole; and so is its sealed part.
#[test]
fn a_kill_loses_nothing_acknowledged() {
    let factory = Sqlite::new();
    let mut acknowledged = 0;
    for point in FAILPOINTS.iter().filter(|point| point.starts_with("append.")) {
        for times in [1, 4] {
            let mut writer = rerun("store::sqlite::crash::append_for_ever");
            let said = killed_at(writer.env(INNER, factory.path()), &format!("{point}:{times}"));
            let lines: Vec<u64> =
                said.lines().filter_map(|line| line.strip_prefix("appended ")?.parse().ok()).collect();
            assert_eq!(lines.len(), times - 1);
            acknowledged = lines.last().copied().unwrap_or(acknowledged);
            let unheard = check(&factory, acknowledged) - acknowledged;
            // All of it is there, or nothing.
            assert_eq!(unheard, if *point == "append.committed" { 3 } else { 0 }, "{point}");
            acknowledged += unheard;
        }
    }
}

/// Returns where the store ends.
fn check(factory: &Sqlite, acknowledged: u64) -> u64 {
    let mut store = factory.open();
    let batches = store.batches_after(0, usize::MAX).unwrap();
    let mut end = LogPosition::START;
    for batch in batches {
        assert_eq!(batch.first, end.n + 1);
        assert_eq!(batch.statements.len(), 3, "half a batch");
        end = batch.statements.iter().fold(end, |at, bytes| at.after(leaf(bytes)));
    }
    assert_eq!(store.tail().unwrap(), end);
    assert!(end.n >= acknowledged, "{acknowledged} were acknowledged, {} are there", end.n);
    store.check_heads().unwrap();
    for n in (0..end.n).step_by(3) {
        // The next change destroyed it.
        let there = store.sealed(&sha256(&n.to_be_bytes())).unwrap().is_some();
        assert_eq!(there, n + 3 == end.n, "the bytes sealed at {n}");
    }
    end.n
}

#[test]
#[ignore = "the inner half of another test"]
#[allow(clippy::print_stdout)]
fn append_for_ever() {
    let mut store = strongroom::store::open(inner().to_str().unwrap()).unwrap();
    loop {
        let next = store.tail().unwrap().n;
        let change = first_of(next..next + 3).sealing(&next.to_be_bytes());
        let change = change.destroying(&next.wrapping_sub(3).to_be_bytes());
        println!("\nappended {}", change.append(&mut *store).unwrap().n);
    }
}
