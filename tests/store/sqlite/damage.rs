//! A file with flipped bits: an error or the truth, never a panic.

use crate::change::{first_of, set_aside};
use crate::store_factory::{Sqlite, StoreFactory};
use std::fs;
use strongroom::error::{Error, Kind};
use strongroom::ledger::sha256;
use strongroom::store::{Store, open};

fn read_all(store: &mut dyn Store) -> Result<(), Error> {
    store.tail()?;
    store.batches_after(0, usize::MAX)?;
    for n in 0..60_u64 {
        store.sealed(&sha256(&n.to_be_bytes()))?;
        store.batch_of(n)?;
    }
    store.check_accesses()?;
    first_of([1000]).append(store)?;
    set_aside(&mut *store, 30).map(drop)
}

#[test]
fn flipped_bytes_never_cause_a_panic() {
    let factory = Sqlite::new();
    let mut store = factory.open();
    for n in 0..60 {
        first_of([n]).sealing(&n.to_be_bytes()).append(&mut *store).unwrap();
    }
    drop(store);
    let whole = fs::read(factory.path()).unwrap();
    let (mut damaged, mut random) = (0, 0x9e37_79b9_7f4a_7c15_u64);
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..1 + next() % 20 {
            // Mostly in the first bytes of a page, where its structure is.
            let page = next() % (bytes.len() / 4096) * 4096;
            let within = if next() % 4 > 0 { next() % 64 } else { next() % 4096 };
            bytes[page + within] ^= next() as u8;
        }
        let other = Sqlite::of(&bytes);
        let Err(error) = open(&other.url()).and_then(|mut store| read_all(&mut *store)) else { continue };
        damaged += 1;
        let expected = matches!(error.kind(), Kind::Store | Kind::Tampered | Kind::Conflict);
        assert!(expected && error.hint().is_some(), "{error:?}");
    }
    assert!(damaged > 150, "{damaged}");
}
