//! What every store does, whatever it is made of.

use crate::change::{QUIET, advancing, first_of, repairing, retiring, set_aside, statement};
use crate::store_factory::StoreFactory;
use std::collections::HashSet;
use strongroom::error::Kind;
use strongroom::ledger::verify::StoredBatch;
use strongroom::ledger::{AccessHead, DeviceId, Hash, LogPosition, leaf, sha256};
use strongroom::store::{Access, AccessCount, Store};

/// The whole suite for one kind of store.
macro_rules! conformance {
    ($suite:ident, $factory:ty) => {
        conformance! { $suite, $factory:
            a_new_store_is_empty
            what_is_appended_is_read
            pages_hold_about_the_budget
            a_batch_is_found_by_any_of_its_statements
            the_chain_is_known_at_the_ends_of_batches
            the_second_change_of_a_head_conflicts
            a_conflict_changes_nothing
            other_subjects_do_not_conflict
            a_role_change_and_a_put_do_not_cross
            a_batch_follows_directly_where_it_must
            a_batch_lands_only_on_the_chain_its_author_has_seen
            an_empty_batch_is_refused
            sealed_bytes_are_found_by_their_digest
            destroyed_bytes_are_gone
            bytes_take_the_place_of_others_whole_or_not_at_all
            a_tail_is_set_aside
            heads_that_were_set_aside_are_free
            nothing_is_set_aside_twice
            accesses_are_paged_newest_first
            accesses_are_chained_per_device
            the_oldest_accesses_are_dropped
            a_checkpoint_takes_the_place_of_the_one_before
            checkpoints_are_set_aside_with_a_tail
            a_devices_lines_are_counted
            what_is_reopened_is_as_it_was
            another_connection_sees_what_was_appended
            the_largest_batch_fits
            of_many_writers_of_one_head_one_wins
            many_writers_of_many_heads_all_win
            records_and_appends_do_not_lose_each_other
        }
    };
    ($suite:ident, $factory:ty: $($test:ident)+) => {
        mod $suite {
            $(#[test] fn $test() {
                if <$factory as $crate::store_factory::StoreFactory>::available() {
                    $crate::conformance::$test::<$factory>();
                }
            })+
        }
    };
}

fn position(n: u64, statements: &[Vec<u8>]) -> LogPosition {
    let end = statements.iter().fold(LogPosition::START, |at, bytes| at.after(leaf(bytes)));
    assert_eq!(end.n, n);
    end
}

/// Everything, page by page, as a verifier would see it; positions must be without gaps.
fn whole_ledger(store: &mut dyn Store) -> Vec<StoredBatch> {
    let (mut batches, mut n) = (Vec::new(), 0);
    loop {
        let page = store.batches_after(n, 10_000).unwrap();
        if page.is_empty() {
            return batches;
        }
        for batch in &page {
            assert_eq!(batch.first, n + 1);
            n += batch.statements.len() as u64;
        }
        batches.extend(page);
    }
}

pub fn a_new_store_is_empty<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    assert_eq!(store.tail().unwrap(), LogPosition::START);
    assert_eq!(store.chain_at(0).unwrap(), Some(Hash::ZERO));
    assert_eq!(store.chain_at(1).unwrap(), None);
    assert_eq!(store.batches_after(0, usize::MAX).unwrap(), []);
    assert_eq!(store.batch_of(1).unwrap(), None);
    assert_eq!(store.sealed(&Hash::ZERO).unwrap(), None);
    assert_eq!(store.accesses(0, 10).unwrap(), []);
    assert_eq!(store.check_accesses().unwrap().kept, 0);
}

pub fn what_is_appended_is_read<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    let (one, two) = (first_of(0..3), first_of([3]));
    assert_eq!(one.append(&mut *store).unwrap(), position(3, &one.statements));
    let all = [one.statements.clone(), two.statements.clone()].concat();
    assert_eq!(two.append(&mut *store).unwrap(), position(4, &all));
    assert_eq!(store.tail().unwrap(), position(4, &all));
    assert_eq!(store.batches_after(0, usize::MAX).unwrap(), [one.stored(1), two.stored(4)]);
    assert_eq!(store.batches_after(3, usize::MAX).unwrap(), [two.stored(4)]);
    assert_eq!(store.batches_after(4, usize::MAX).unwrap(), []);
}

pub fn pages_hold_about_the_budget<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    for token in 0..20 {
        first_of([token]).append(&mut *store).unwrap();
    }
    let size = first_of([0]).statements[0].len();
    for (budget, batches) in [(0, 1..=1), (1, 1..=1), (size, 1..=1), (9 * size, 2..=9), (usize::MAX, 20..=20)]
    {
        let read = store.batches_after(0, budget).unwrap().len();
        assert!(batches.contains(&read), "{budget}: {read}");
    }
    assert_eq!(whole_ledger(&mut *store).len(), 20);
}

pub fn a_batch_is_found_by_any_of_its_statements<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    let (one, two) = (first_of(0..3), first_of(3..5));
    one.append(&mut *store).unwrap();
    two.append(&mut *store).unwrap();
    for n in 1..=3 {
        assert_eq!(store.batch_of(n).unwrap(), Some(one.stored(1)));
    }
    for n in 4..=5 {
        assert_eq!(store.batch_of(n).unwrap(), Some(two.stored(4)));
    }
    assert_eq!(store.batch_of(0).unwrap(), None);
    assert_eq!(store.batch_of(6).unwrap(), None);
}

pub fn the_chain_is_known_at_the_ends_of_batches<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    let (one, two) =
        (first_of(0..3).append(&mut *store).unwrap(), first_of(3..5).append(&mut *store).unwrap());
    let chains: Vec<_> = (0..=6).map(|n| store.chain_at(n).unwrap()).collect();
    assert_eq!(chains, [Some(Hash::ZERO), None, None, Some(one.chain), None, Some(two.chain), None]);
}

pub fn the_second_change_of_a_head_conflicts<B: StoreFactory>() {
    let factory = B::new();
    let (mut ours, mut theirs) = (factory.open(), factory.open());
    first_of([7]).append(&mut *theirs).unwrap();
    let error = first_of([7]).append(&mut *ours).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.message().contains("the token 00000000000000000000000000000007"), "{error}");
    assert!(error.message().contains("came first, at position 1"), "{error}");
    let head = statement(7, Hash::ZERO).hash();
    advancing([(7, head)]).append(&mut *ours).unwrap();
    assert_eq!(advancing([(7, head)]).append(&mut *theirs).unwrap_err().kind(), Kind::Conflict);
}

pub fn a_conflict_changes_nothing<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    let bytes = b"sealed".to_vec();
    let tail = first_of([1]).sealing(&bytes).append(&mut *store).unwrap();
    // The conflict is found late, after much of the batch was written.
    let late = first_of((2..50).chain([1])).sealing(b"never").destroying(&bytes);
    assert_eq!(late.append(&mut *store).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(store.tail().unwrap(), tail);
    assert_eq!(whole_ledger(&mut *store).len(), 1);
    assert_eq!(store.sealed(&sha256(b"never")).unwrap(), None);
    assert_eq!(store.sealed(&sha256(&bytes)).unwrap(), Some(bytes));
    first_of(2..50).append(&mut *store).unwrap();
}

pub fn other_subjects_do_not_conflict<B: StoreFactory>() {
    let factory = B::new();
    let (mut ours, mut theirs) = (factory.open(), factory.open());
    for token in 0..10 {
        first_of([2 * token]).append(&mut *ours).unwrap();
        first_of([2 * token + 1]).append(&mut *theirs).unwrap();
    }
    assert_eq!(whole_ledger(&mut *ours), whole_ledger(&mut *theirs));
    assert_eq!(ours.tail().unwrap().n, 20);
}

pub fn a_role_change_and_a_put_do_not_cross<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    first_of([1]).append(&mut *store).unwrap();
    retiring(9, QUIET, 1).append(&mut *store).unwrap();
    let error = first_of([2]).append(&mut *store).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.message().contains("devices or roles"), "{error}");
    let mut put = first_of([2]);
    put.admin = Hash([2; 32]);
    put.append(&mut *store).unwrap();
}

pub fn a_batch_follows_directly_where_it_must<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    first_of([1]).append(&mut *store).unwrap();
    for elsewhere in [0, 2] {
        let error = retiring(9, QUIET, elsewhere).append(&mut *store).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
    }
    assert_eq!(store.tail().unwrap().n, 1);
    retiring(9, QUIET, 1).append(&mut *store).unwrap();
}

pub fn an_empty_batch_is_refused<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    assert_eq!(first_of([]).append(&mut *store).unwrap_err().kind(), Kind::Usage);
}

pub fn sealed_bytes_are_found_by_their_digest<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    let (small, large) = (vec![1; 300], vec![2; (1 << 20) + (64 << 10)]);
    first_of([1]).sealing(&small).sealing(&large).append(&mut *store).unwrap();
    let digests = [sha256(&large), sha256(b"other"), sha256(&small)];
    assert_eq!(store.sealed(&digests[0]).unwrap(), Some(large));
    assert_eq!(store.sealed(&digests[1]).unwrap(), None);
    assert_eq!(store.sealed(&digests[2]).unwrap(), Some(small));
}

pub fn destroyed_bytes_are_gone<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    first_of([1]).sealing(b"one").sealing(b"two").append(&mut *store).unwrap();
    first_of([2]).destroying(b"one").destroying(b"never there").append(&mut *store).unwrap();
    assert_eq!(factory.open().sealed(&sha256(b"one")).unwrap(), None);
    assert_eq!(factory.open().sealed(&sha256(b"two")).unwrap(), Some(b"two".to_vec()));
    assert_eq!(whole_ledger(&mut *store).len(), 2);
}

/// What a reseal rests on: the new bytes come and the old ones go together, and a loser changes neither.
pub fn bytes_take_the_place_of_others_whole_or_not_at_all<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    first_of([1]).sealing(b"old").append(&mut *store).unwrap();
    let (old, new, late) = (sha256(b"old"), sha256(b"new"), sha256(b"late"));
    let head = statement(1, Hash::ZERO).hash();
    let crossing = advancing([(1, Hash::ZERO)]).sealing(b"late").destroying(b"old");
    assert_eq!(crossing.append(&mut *store).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(store.sealed(&old).unwrap(), Some(b"old".to_vec()));
    advancing([(1, head)]).sealing(b"new").destroying(b"old").append(&mut *store).unwrap();
    let found = [old, new, late].map(|digest| store.sealed(&digest).unwrap());
    assert_eq!(found, [None, Some(b"new".to_vec()), None]);
}

pub fn a_tail_is_set_aside<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    let kept = first_of(0..3);
    let end = kept.append(&mut *store).unwrap();
    first_of(3..5).append(&mut *store).unwrap();
    first_of([5]).append(&mut *store).unwrap();
    assert_eq!(store.count_after(3).unwrap(), 3);
    let (tail, repair) = (store.tail().ok(), repairing(3));
    // The statement that says so comes with it, or nothing is set aside.
    let error = store.quarantine_after(end, tail, None).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    let crossing = repair.to_append(LogPosition { chain: Hash([9; 32]), ..end });
    assert!(store.quarantine_after(end, tail, Some(&crossing)).is_err());
    let unverified = LogPosition { chain: Hash([9; 32]), ..end };
    let error = store.quarantine_after(unverified, tail, Some(&repair.to_append(end))).unwrap_err();
    assert_eq!(error.kind(), Kind::Tampered, "{error}");
    assert_eq!(store.tail().ok(), tail);
    assert_eq!(store.quarantine_after(end, tail, Some(&repair.to_append(end))).unwrap(), 3);
    assert_eq!(whole_ledger(&mut *store), [kept.stored(1), repair.stored(4)]);
    assert_eq!(store.batch_of(5).unwrap(), None);
    let next = first_of([9]);
    assert_eq!(next.append(&mut *store).unwrap().n, 5);
    assert_eq!(whole_ledger(&mut *store), [kept.stored(1), repair.stored(4), next.stored(5)]);
}

/// A put that waited for its PIN while the store was replaced by an older copy.
pub fn a_batch_lands_only_on_the_chain_its_author_has_seen<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    let seen = first_of(0..3).append(&mut *store).unwrap();
    let later = first_of([3]).append(&mut *store).unwrap();
    let other = LogPosition { chain: Hash([9; 32]), ..seen };
    for elsewhere in [other, LogPosition { n: 2, ..seen }, LogPosition { n: 5, ..later }] {
        let error = first_of([7]).append_on(&mut *store, elsewhere).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{error}");
    }
    assert_eq!(store.tail().unwrap(), later);
    first_of([7]).append_on(&mut *store, seen).unwrap();
    first_of([8]).append_on(&mut *store, later).unwrap();
}

pub fn heads_that_were_set_aside_are_free<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    first_of([1]).append(&mut *store).unwrap();
    retiring(9, QUIET, 1).append(&mut *store).unwrap();
    set_aside(&mut *store, 1).unwrap();
    assert_eq!(first_of([1]).append(&mut *store).unwrap_err().kind(), Kind::Conflict);
    retiring(9, QUIET, 2).append(&mut *store).unwrap();
}

pub fn nothing_is_set_aside_twice<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    first_of([1]).append(&mut *store).unwrap();
    for kept in 1..=2 {
        first_of([2]).append(&mut *store).unwrap();
        assert_eq!(set_aside(&mut *store, kept).unwrap(), 1);
        assert_eq!(set_aside(&mut *store, kept + 1).unwrap(), 0);
    }
    assert_eq!(set_aside(&mut *store, 0).unwrap(), 3);
    assert_eq!(store.tail().unwrap().n, 1);
    first_of([1]).append(&mut *store).unwrap();
}

fn access(device: &str, version: u64) -> Access {
    Access {
        time: 1_800_000_000_000 + version,
        device: device.into(),
        uid: 1000,
        pid: 4242,
        exe: "/usr/bin/psql".into(),
        name: "prod/db/pässword".into(),
        version,
        outcome: "opened".into(),
    }
}

pub fn accesses_are_paged_newest_first<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    for version in 1..=10 {
        store.record(&[access("ab", version)]).unwrap();
    }
    let (mut versions, mut before) = (Vec::new(), 0);
    loop {
        let page = store.accesses(before, 4).unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 4);
        before = last.n;
        versions.extend(page.into_iter().map(|row| (row.n, row.access)));
    }
    assert_eq!(versions, (1..=10).rev().map(|n| (n, access("ab", n))).collect::<Vec<_>>());
}

pub fn the_oldest_accesses_are_dropped<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    let (device, other) = (DeviceId([0xab; 16]), DeviceId([0xcd; 16]));
    let by = Access { outcome: String::new(), ..access("", 0) };
    assert_eq!(store.drop_accesses(10, &by).unwrap(), 0);
    let lines: Vec<_> =
        (1..=20).map(|n| access(&if n % 4 == 0 { other } else { device }.to_string(), n)).collect();
    store.record(&lines).unwrap();
    assert_eq!(store.drop_accesses(20, &by).unwrap(), 0);
    let whole = store.access_head(&device).unwrap();
    let chains: Vec<_> = (0..=16).map(|count| store.access_chain_at(&device, count).unwrap()).collect();
    // Nine are left, and a tenth that says so.
    assert_eq!(store.drop_accesses(10, &by).unwrap(), 11);
    assert_eq!(store.drop_accesses(10, &by).unwrap(), 0);
    let rows = store.accesses(0, 100).unwrap();
    assert_eq!((rows.len(), rows[0].n, rows[9].n), (10, 21, 12));
    assert_eq!((rows[0].access.outcome.as_str(), rows[0].access.device.as_str()), ("dropped 11 lines", ""));
    assert_eq!(store.check_accesses().unwrap(), AccessCount { kept: 10, dropped: 11 });
    // Counts go on, and so do chains, also from what was dropped last.
    assert_eq!(store.access_head(&device).unwrap(), whole);
    assert_eq!(store.dropped_accesses(&device).unwrap().count, 9);
    assert_eq!(store.dropped_accesses(&other).unwrap().count, 2);
    for (count, chain) in chains.into_iter().enumerate() {
        let kept = if count < 9 { None } else { chain };
        assert_eq!(store.access_chain_at(&device, count as u64).unwrap(), kept, "{count}");
    }
    store.record(&[access(&device.to_string(), 21)]).unwrap();
    assert_eq!(store.access_head(&device).unwrap().count, whole.count + 1);
    // All of a device's lines may go.
    assert_eq!(store.drop_accesses(1, &by).unwrap(), 11);
    assert_eq!(store.access_head(&other).unwrap().count, 5);
    store.record(&[access(&other.to_string(), 22)]).unwrap();
    assert_eq!(store.check_accesses().unwrap(), AccessCount { kept: 2, dropped: 22 });
}

pub fn accesses_are_chained_per_device<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    for (device, version) in [("ab", 1), ("cd", 1), ("ab", 2), ("", 1), ("cd", 2)] {
        store.record(&[access(device, version)]).unwrap();
    }
    let rows = store.accesses(0, 10).unwrap();
    // Section "The access log" of docs/reference/format.md, with the CBOR written out by hand.
    let line = |device: &str, version: u8| {
        let mut line = vec![0x88, 0x1b];
        line.extend((1_800_000_000_000 + u64::from(version)).to_be_bytes());
        line.push(0x60 + device.len() as u8);
        line.extend(device.bytes());
        line.extend([0x19, 0x03, 0xe8, 0x19, 0x10, 0x92, 0x6d]);
        line.extend(b"/usr/bin/psql\x71");
        line.extend("prod/db/pässword".bytes());
        line.extend([version, 0x66]);
        line.extend(b"opened");
        line
    };
    for device in ["ab", "cd", ""] {
        let mut chain = Hash::ZERO;
        for row in rows.iter().rev().filter(|row| row.access.device == device) {
            chain = sha256(&[&chain.0[..], &line(device, row.access.version as u8)].concat());
            assert_eq!(row.chain, chain, "row {}", row.n);
        }
    }
    assert_eq!(store.check_accesses().unwrap().kept, 5);
}

pub fn a_checkpoint_takes_the_place_of_the_one_before<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    let (one, two) = (DeviceId([1; 16]), DeviceId([2; 16]));
    assert_eq!(store.checkpoint(&one).unwrap(), None);
    store.put_checkpoint(&one, b"first").unwrap();
    store.put_checkpoint(&two, b"another's").unwrap();
    store.put_checkpoint(&one, b"second").unwrap();
    let mut again = factory.open();
    assert_eq!(again.checkpoint(&one).unwrap().unwrap(), b"second");
    assert_eq!(again.checkpoint(&two).unwrap().unwrap(), b"another's");
}

pub fn checkpoints_are_set_aside_with_a_tail<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    let witness = DeviceId([1; 16]);
    let end = first_of(0..3).append(&mut *store).unwrap();
    store.put_checkpoint(&witness, b"first").unwrap();
    // Where no statement goes, no checkpoint does.
    assert_eq!(store.quarantine_after(end, Some(end), None).unwrap(), 0);
    assert!(store.checkpoint(&witness).unwrap().is_some());
    let tail = first_of(3..5).append(&mut *store).unwrap();
    store.quarantine_after(end, Some(tail), Some(&repairing(3).to_append(end))).unwrap();
    assert_eq!(store.checkpoint(&witness).unwrap(), None);
}

pub fn a_devices_lines_are_counted<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    let (one, other) = (DeviceId([0xab; 16]), DeviceId([0xcd; 16]));
    assert_eq!(store.access_head(&one).unwrap(), AccessHead::EMPTY);
    for (device, version) in [(one, 1), (other, 1), (one, 2)] {
        store.record(&[access(&device.to_string(), version)]).unwrap();
    }
    store.record(&[access("", 1)]).unwrap();
    let rows = store.accesses(0, 10).unwrap();
    let chain = |n: u64| rows.iter().find(|row| row.n == n).unwrap().chain;
    assert_eq!(store.access_head(&one).unwrap(), AccessHead { count: 2, chain: chain(3) });
    for (device, count, expected) in [
        (one, 1, Some(chain(1))),
        (one, 2, Some(chain(3))),
        (other, 1, Some(chain(2))),
        (one, 3, None),
        (one, 0, None),
        (one, u64::MAX, None),
    ] {
        assert_eq!(store.access_chain_at(&device, count).unwrap(), expected, "{count}");
    }
}

pub fn what_is_reopened_is_as_it_was<B: StoreFactory>() {
    let factory = B::new();
    let change = first_of(0..5).sealing(b"sealed");
    let tail = change.append(&mut *factory.open()).unwrap();
    factory.open().record(&[access("ab", 1)]).unwrap();
    let mut store = factory.open();
    assert_eq!(store.tail().unwrap(), tail);
    assert_eq!(whole_ledger(&mut *store), [change.stored(1)]);
    assert_eq!(store.sealed(&sha256(b"sealed")).unwrap().unwrap(), b"sealed");
    assert_eq!(store.accesses(0, 10).unwrap()[0].access, access("ab", 1));
    assert_eq!(factory.open().location(), store.location());
}

pub fn another_connection_sees_what_was_appended<B: StoreFactory>() {
    let factory = B::new();
    let (mut ours, mut theirs) = (factory.open(), factory.open());
    for token in 0..5 {
        let tail = first_of([token]).append(&mut *ours).unwrap();
        assert_eq!(theirs.tail().unwrap(), tail);
    }
    assert_eq!(whole_ledger(&mut *theirs).len(), 5);
}

pub fn the_largest_batch_fits<B: StoreFactory>() {
    let factory = B::new();
    let mut store = factory.open();
    let change = first_of(0..10_000);
    assert_eq!(change.append(&mut *store).unwrap().n, 10_000);
    assert_eq!(store.batches_after(0, 1).unwrap(), [change.stored(1)]);
}

const WRITERS: u64 = 8;

pub fn of_many_writers_of_one_head_one_wins<B: StoreFactory>() {
    let factory = B::new();
    let (rounds, turn) = (20, std::sync::Barrier::new(WRITERS as usize));
    let write = || {
        let mut store = factory.open();
        let (mut head, mut won) = (Hash::ZERO, 0);
        for _ in 0..rounds {
            turn.wait();
            match advancing([(1, head)]).append(&mut *store) {
                Ok(_) => won += 1,
                Err(error) => assert_eq!(error.kind(), Kind::Conflict, "{error}"),
            }
            head = statement(1, head).hash();
        }
        won
    };
    let won: u64 = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!(won, rounds);
    assert_eq!(factory.open().tail().unwrap().n, rounds);
}

pub fn many_writers_of_many_heads_all_win<B: StoreFactory>() {
    let (factory, each) = (B::new(), 50);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let factory = &factory;
            scope.spawn(move || {
                let mut store = factory.open();
                for change in 0..each {
                    let token = writer * each + change;
                    let bytes = token.to_be_bytes();
                    first_of([token]).sealing(&bytes).append(&mut *store).unwrap();
                }
            });
        }
    });
    let mut store = factory.open();
    let all: Vec<_> = whole_ledger(&mut *store).into_iter().flat_map(|batch| batch.statements).collect();
    assert_eq!(store.tail().unwrap(), position(WRITERS * each, &all), "one order, one chain");
    let expected: HashSet<_> =
        (0..WRITERS * each).map(|token| statement(token, Hash::ZERO).encode()).collect();
    assert_eq!(all.into_iter().collect::<HashSet<_>>(), expected, "none lost");
    for token in 0..WRITERS * each {
        assert!(store.sealed(&sha256(&token.to_be_bytes())).unwrap().is_some());
    }
}

pub fn records_and_appends_do_not_lose_each_other<B: StoreFactory>() {
    let factory = B::new();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let factory = &factory;
            scope.spawn(move || {
                for change in 0..25 {
                    let mut store = factory.open();
                    first_of([writer * 25 + change]).append(&mut *store).unwrap();
                }
            });
            scope.spawn(move || {
                for version in 0..25 {
                    factory.open().record(&[access(&format!("{writer}"), version)]).unwrap();
                }
            });
        }
    });
    let mut store = factory.open();
    assert_eq!(store.tail().unwrap().n, 100);
    let rows = store.accesses(0, 1000).unwrap();
    assert_eq!(store.check_accesses().unwrap().kept, 100);
    assert_eq!(rows.len(), 100);
    for writer in 0..4 {
        let of_writer = rows.iter().rev().filter(|row| row.access.device == format!("{writer}"));
        assert!(of_writer.map(|row| row.access.version).eq(0..25));
    }
}
