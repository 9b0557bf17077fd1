//! A full disk: a small file system of the test's own.

use super::{inner, run_isolated};
use crate::change::{access, first_of};
use std::fs;
use std::path::Path;
use strongroom::error::{Error, Kind};
use strongroom::ledger::sha256;
use strongroom::store::{Store, create, open};
use tempfile::TempDir;

fn on_a_small_disk(test: &str) {
    let dir = TempDir::new().unwrap();
    run_isolated("-Urm", "mount -t tmpfs -o size=1m tmpfs \"$1\"", test, dir.path());
}

/// Takes all the space that is left.
fn fill(disk: &Path) {
    use std::io::Write;
    let mut ballast = fs::File::create(disk.join("ballast")).unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}
}

fn assert_full(error: &Error) {
    assert_eq!(error.kind(), Kind::Store, "{error}");
    assert!(error.message().contains("the disk is full; nothing was changed and nothing is lost"), "{error}");
    assert!(error.hint().unwrap().contains("free space"), "{error}");
}

#[test]
fn a_full_disk_loses_nothing() {
    on_a_small_disk("sqlite::full::append_until_full");
}

#[test]
#[ignore = "the inner half of another test"]
fn append_until_full() {
    let disk = inner();
    let url = disk.join("store.sqlite").display().to_string();
    let mut store = create(&url).unwrap();
    fs::write(disk.join("ballast"), vec![0; 300 << 10]).unwrap();
    let mut tail = store.tail().unwrap();
    let error = loop {
        match first_of([tail.n]).sealing(&vec![tail.n as u8; 20_000]).append(&mut *store) {
            Ok(end) => tail = end,
            Err(error) => break error,
        }
    };
    assert_full(&error);
    assert_eq!(store.tail().unwrap(), tail, "{error}");
    fs::remove_file(disk.join("ballast")).unwrap();
    assert_eq!(first_of([tail.n]).append(&mut *store).unwrap().n, tail.n + 1);
    drop(store);
    let mut store = open(&url).unwrap();
    assert_eq!(store.batches_after(0, usize::MAX).unwrap().len() as u64, tail.n + 1);
    for n in 0..tail.n {
        assert!(store.sealed(&sha256(&vec![n as u8; 20_000])).unwrap().is_some());
    }
}

#[test]
fn a_store_on_a_full_disk_can_be_read() {
    on_a_small_disk("sqlite::full::read_when_full");
}

#[test]
#[ignore = "the inner half of another test"]
fn read_when_full() {
    let disk = inner();
    let url = disk.join("store.sqlite").display().to_string();
    first_of([1]).sealing(b"sealed").append(&mut *create(&url).unwrap()).unwrap();
    let read = |store: &mut dyn Store| {
        assert_eq!(store.batches_after(0, usize::MAX).unwrap().len(), 1);
        assert_eq!(store.sealed(&sha256(b"sealed")).unwrap().unwrap(), b"sealed");
    };
    // Once the file is whole, once part of the store is in the log.
    for lines in 0..2 {
        fill(&disk);
        let mut store = open(&url).unwrap();
        read(&mut *store);
        assert_eq!(store.accesses(0, 10).unwrap().len(), lines);
        assert_full(&store.record(&[access()]).unwrap_err());
        assert_full(&first_of([2]).append(&mut *store).unwrap_err());
        read(&mut *store);
        drop(store);
        fs::remove_file(disk.join("ballast")).unwrap();
        open(&url).unwrap().record(&[access()]).unwrap();
    }
    first_of([2]).append(&mut *open(&url).unwrap()).unwrap();
}

#[test]
fn a_full_disk_takes_no_new_store() {
    on_a_small_disk("sqlite::full::create_when_full");
}

#[test]
#[ignore = "the inner half of another test"]
fn create_when_full() {
    let disk = inner();
    let url = disk.join("store.sqlite").display().to_string();
    fill(&disk);
    let error = create(&url).err().unwrap();
    assert_full(&error);
    assert_eq!(error.operation(), "create the store");
    fs::remove_file(disk.join("ballast")).unwrap();
    create(&url).unwrap();
}
