//! Files that are no store, each said by its name.

use crate::change::first_of;
use crate::store_factory::{Sqlite, StoreFactory};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use strongroom::error::{Error, Kind};
use strongroom::store::sqlite::SqliteStore;
use strongroom::store::{create, open, sqlite_path};
use tempfile::TempDir;

fn refused(path: &Path) -> Error {
    let Err(error) = SqliteStore::open(path) else { panic!("{} was opened", path.display()) };
    assert_eq!(error.kind(), Kind::Store, "{error}");
    assert_eq!(error.operation(), "open the store");
    assert_eq!(error.target(), Some(&*format!("sqlite://{}", path.display())));
    assert!(error.hint().is_some(), "{error}");
    error
}

#[test]
fn a_missing_store_is_missing() {
    let dir = TempDir::new().unwrap();
    let error = refused(&dir.path().join("store.sqlite"));
    assert_eq!(error.message(), "there is no such file");
    assert!(error.hint().unwrap().contains("strongroom init"));
    assert_eq!(refused(&dir.path().join("no/such/dir")).message(), "there is no such file");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is created by looking");
}

#[test]
fn an_empty_file_is_empty() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store.sqlite");
    fs::write(&path, "").unwrap();
    assert_eq!(refused(&path).message(), "the file is empty");
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn a_file_that_is_not_sqlite_is_not() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store.sqlite");
    for contents in ["x", "not a database\n", &"a text of some length\n".repeat(1000), &"\0".repeat(8192)] {
        fs::write(&path, contents).unwrap();
        assert!(refused(&path).message().contains("not an SQLite database"), "{}", refused(&path));
        assert_eq!(fs::read(&path).unwrap(), contents.as_bytes());
    }
}

#[test]
fn a_directory_is_no_file() {
    let dir = TempDir::new().unwrap();
    assert_eq!(refused(dir.path()).message(), "it is not a file");
}

#[test]
fn another_programs_database_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store.sqlite");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE batches (first); PRAGMA user_version = 1").unwrap();
    drop(db);
    let before = fs::read(&path).unwrap();
    assert!(refused(&path).message().contains("not a Strongroom store"));
    assert_eq!(create(path.to_str().unwrap()).err().unwrap().kind(), Kind::Conflict);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_newer_format_asks_for_a_newer_program() {
    let factory = Sqlite::new();
    factory.attack("PRAGMA user_version = 2");
    let error = refused(&factory.path());
    assert_eq!(error.message(), "it has format 2, this build knows 1");
    assert_eq!(error.hint(), Some("upgrade Strongroom"));
    factory.attack("PRAGMA user_version = 0");
    assert!(refused(&factory.path()).message().contains("not a Strongroom store"));
}

#[test]
fn a_truncated_store_is_damaged() {
    let factory = Sqlite::new();
    first_of(0..1000).append(&mut *factory.open()).unwrap();
    let whole = fs::read(factory.path()).unwrap();
    for kept in [50, 99, 600, 4095] {
        fs::write(factory.path(), &whole[..kept]).unwrap();
        refused(&factory.path());
    }
    fs::write(factory.path(), &whole[..whole.len() / 2]).unwrap();
    let damaged = open(&factory.url()).and_then(|mut store| store.batches_after(0, usize::MAX));
    let error = damaged.unwrap_err();
    assert_eq!(error.kind(), Kind::Store);
    assert!(error.message().contains("damaged"), "{error}");
}

#[test]
fn nothing_is_created_over_a_store() {
    let factory = Sqlite::new();
    let tail = first_of([1]).append(&mut *factory.open()).unwrap();
    let error = create(&factory.url()).err().unwrap();
    assert_eq!((error.kind(), error.message()), (Kind::Conflict, "the file already exists"));
    assert_eq!(factory.open().tail().unwrap(), tail);
}

#[test]
fn one_of_many_creators_creates() {
    let dir = TempDir::new().unwrap();
    let url = dir.path().join("store.sqlite").display().to_string();
    let created = std::thread::scope(|scope| {
        let creators: Vec<_> = (0..8).map(|_| scope.spawn(|| create(&url).map(|_| ()))).collect();
        let answers = creators.into_iter().map(|creator| creator.join().unwrap());
        answers
            .filter(|answer| answer.as_ref().map_err(Error::kind) != Err(Kind::Conflict))
            .collect::<Vec<_>>()
    });
    assert!(matches!(created[..], [Ok(())]), "{created:?}");
    open(&url).unwrap();
}

#[test]
fn a_creation_that_was_cut_off_is_gone_on_with() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store.sqlite");
    fs::write(&path, "").unwrap();
    first_of([1]).append(&mut SqliteStore::create(&path).unwrap()).unwrap();
    // Crashed after the tables, before the log's mode was set.
    let other = dir.path().join("other.sqlite");
    drop(SqliteStore::create(&other).unwrap());
    rusqlite::Connection::open(&other).unwrap().pragma_update(None, "journal_mode", "DELETE").unwrap();
    first_of([1]).append(&mut SqliteStore::open(&other).unwrap()).unwrap();
}

#[test]
fn paths_are_whatever_a_file_system_allows() {
    let dir = TempDir::new().unwrap();
    for name in ["a?b#c%41", "with space", "pässword", "line\nbreak", ":memory:"] {
        let path = dir.path().join(name).join(name);
        let store = SqliteStore::create(&path).unwrap();
        let location = strongroom::store::Store::location(&store).to_owned();
        assert!(!location.chars().any(char::is_control), "{location}");
        assert!(fs::metadata(&path).unwrap().len() > 0);
        SqliteStore::open(&path).unwrap();
    }
    let unprintable = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    SqliteStore::create(&unprintable).unwrap();
    SqliteStore::open(&unprintable).unwrap();
}

#[test]
fn urls_say_which_kind_of_store() {
    assert_eq!(sqlite_path("sqlite:///a/b").unwrap(), Path::new("/a/b"));
    assert_eq!(sqlite_path("a/b").unwrap(), Path::new("a/b"));
    let error = sqlite_path("mysql://a/b").unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains("`mysql`"));
}

#[test]
fn a_writer_waits_for_another() {
    let factory = Sqlite::new();
    let other = factory.attacker();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| first_of([1]).append(&mut *factory.open()).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(factory.open().tail().unwrap().n, 0, "a reader does not wait");
        assert!(!writer.is_finished());
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(writer.join().unwrap().n, 1);
    });
}
