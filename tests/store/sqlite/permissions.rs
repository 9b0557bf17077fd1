//! Files, directories and media that this user may not write, or not even read; and the modes of what we create.

use super::{inner, run_isolated};
use crate::change::{access, first_of, set_aside};
use crate::store_factory::{Sqlite, StoreFactory};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use strongroom::error::{Error, Kind};
use strongroom::ledger::sha256;
use strongroom::store::{Store, create, open};
use tempfile::TempDir;

/// A store of one batch, all of it in one file.
fn store_of_one() -> Sqlite {
    let factory = Sqlite::new();
    first_of([1]).sealing(b"sealed").append(&mut *factory.open()).unwrap();
    assert!(!factory.dir.path().join("store.sqlite-wal").exists(), "a writer leaves one whole file");
    factory
}

fn assert_readable(store: &mut dyn Store) {
    assert_eq!(store.tail().unwrap().n, 1);
    assert_eq!(store.batches_after(0, usize::MAX).unwrap().len(), 1);
    assert_eq!(store.sealed(&sha256(b"sealed")).unwrap().unwrap(), b"sealed");
}

fn assert_read_only(store: &mut dyn Store) {
    let refused = [
        first_of([2]).append(store).unwrap_err(),
        store.record(&[access()]).unwrap_err(),
        set_aside(&mut *store, 0).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), Kind::Store, "{error}");
        assert!(error.message().contains("read-only"), "{error}");
        assert!(error.hint().unwrap().contains("writable"), "{error}");
    }
}

fn open_inner() -> Result<Box<dyn Store>, Error> {
    open(inner().join("store.sqlite").to_str().unwrap())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Without the rights of root over other users' files, yet as the owner of its own.
fn run_unprivileged(test: &str, place: &Path) {
    run_isolated("-U", "true", test, place);
}

const ON_READ_ONLY_MEDIUM: &str = "mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"";

#[test]
fn a_store_on_a_read_only_medium_can_be_read() {
    let factory = store_of_one();
    run_isolated("-Urm", ON_READ_ONLY_MEDIUM, "sqlite::permissions::read_only", factory.dir.path());
}

#[test]
fn a_read_only_file_can_be_read() {
    let factory = store_of_one();
    fs::set_permissions(factory.path(), Permissions::from_mode(0o400)).unwrap();
    run_unprivileged("sqlite::permissions::read_only", factory.dir.path());
}

#[test]
fn a_store_in_a_read_only_directory_can_be_read() {
    let factory = store_of_one();
    fs::set_permissions(factory.path(), Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(factory.dir.path(), Permissions::from_mode(0o500)).unwrap();
    run_unprivileged("sqlite::permissions::read_only", factory.dir.path());
    fs::set_permissions(factory.dir.path(), Permissions::from_mode(0o700)).unwrap();
}

#[test]
#[ignore = "the inner half of another test"]
fn read_only() {
    let mut store = open_inner().unwrap();
    assert_readable(&mut *store);
    assert_read_only(&mut *store);
    assert_readable(&mut *store);
}

#[test]
fn a_writable_file_in_a_read_only_directory_can_be_read() {
    let factory = store_of_one();
    fs::set_permissions(factory.dir.path(), Permissions::from_mode(0o500)).unwrap();
    run_unprivileged("sqlite::permissions::read_only", factory.dir.path());
    fs::set_permissions(factory.dir.path(), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_log_on_a_read_only_medium_is_read_too() {
    let factory = store_of_one();
    factory.open().record(&[access()]).unwrap();
    let log = factory.dir.path().join("store.sqlite-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0, "a reader leaves the log");
    run_isolated("-Urm", ON_READ_ONLY_MEDIUM, "sqlite::permissions::log_is_read", factory.dir.path());
}

#[test]
#[ignore = "the inner half of another test"]
fn log_is_read() {
    let mut store = open_inner().unwrap();
    assert_readable(&mut *store);
    assert_eq!(store.accesses(0, 10).unwrap().len(), 1);
    assert_read_only(&mut *store);
}

#[test]
fn a_log_that_cannot_be_read_is_not_passed_over() {
    let factory = store_of_one();
    factory.open().record(&[access()]).unwrap();
    fs::remove_file(factory.dir.path().join("store.sqlite-shm")).unwrap();
    run_isolated("-Urm", ON_READ_ONLY_MEDIUM, "sqlite::permissions::log_is_missed", factory.dir.path());
}

#[test]
#[ignore = "the inner half of another test"]
fn log_is_missed() {
    let error = open_inner().err().unwrap();
    assert_eq!(error.kind(), Kind::Store);
    assert!(error.message().contains("its log (-wal) cannot be read"), "{error}");
    assert!(error.hint().unwrap().contains("copy the store with its -wal"));
}

#[test]
fn who_may_not_read_is_told_so() {
    let factory = store_of_one();
    fs::set_permissions(factory.path(), Permissions::from_mode(0o000)).unwrap();
    run_unprivileged("sqlite::permissions::denied", factory.dir.path());
    fs::set_permissions(factory.path(), Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(factory.dir.path(), Permissions::from_mode(0o000)).unwrap();
    run_unprivileged("sqlite::permissions::denied", factory.dir.path());
    fs::set_permissions(factory.dir.path(), Permissions::from_mode(0o700)).unwrap();
}

#[test]
#[ignore = "the inner half of another test"]
fn denied() {
    let error = open_inner().err().unwrap();
    assert_eq!((error.kind(), error.message()), (Kind::Store, "permission denied"));
    assert!(error.hint().unwrap().contains("the user who owns the store"));
}

#[test]
fn who_may_not_create_is_told_so() {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o500)).unwrap();
    run_unprivileged("sqlite::permissions::not_created", dir.path());
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
}

#[test]
#[ignore = "the inner half of another test"]
fn not_created() {
    let error = create(inner().join("store.sqlite").to_str().unwrap()).err().unwrap();
    assert_eq!((error.kind(), error.operation()), (Kind::Io, "create the store"));
    assert!(error.message().contains("Permission denied"), "{error}");
}

#[test]
fn what_is_created_is_for_its_owner_alone() {
    let dir = TempDir::new().unwrap();
    run_isolated("-Ur", "umask 0", "sqlite::permissions::modes", dir.path());
}

#[test]
#[ignore = "the inner half of another test"]
fn modes() {
    let parent = inner().join("made/with/it");
    let path = parent.join("store.sqlite");
    let mut store = create(path.to_str().unwrap()).unwrap();
    first_of([1]).append(&mut *store).unwrap();
    for made in ["made", "made/with", "made/with/it"] {
        assert_eq!(mode(&inner().join(made)), 0o700, "{made}");
    }
    let files: Vec<_> = fs::read_dir(&parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    // An empty file that is filled in is closed to others too.
    let empty = parent.join("empty");
    fs::write(&empty, "").unwrap();
    assert_eq!(mode(&empty), 0o666);
    create(empty.to_str().unwrap()).unwrap();
    assert_eq!(mode(&empty), 0o600);
}
