//! Where the conformance suite gets its stores from.

use std::path::PathBuf;
use strongroom::store::Store;
use tempfile::TempDir;

/// One new store in a place of its own, which goes when this is dropped.
pub trait StoreFactory: Sync {
    /// Whether there can be one here. If not, that was said.
    fn available() -> bool {
        true
    }
    fn new() -> Self;
    /// One more connection.
    fn open(&self) -> Box<dyn Store>;
}

/// A store in an SQLite file.
pub struct Sqlite {
    pub dir: TempDir,
}

impl Sqlite {
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("store.sqlite")
    }

    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    /// A store in a file with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let factory = Self { dir: TempDir::new().unwrap() };
        std::fs::write(factory.path(), bytes).unwrap();
        factory
    }

    /// A connection that can do what an attacker with the file can.
    pub fn attacker(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }

    pub fn attack(&self, sql: &str) {
        self.attacker().execute_batch(sql).unwrap();
    }
}

impl StoreFactory for Sqlite {
    fn new() -> Self {
        let factory = Self { dir: TempDir::new().unwrap() };
        strongroom::store::create(&factory.url()).unwrap();
        factory
    }

    fn open(&self) -> Box<dyn Store> {
        strongroom::store::open(&self.url()).unwrap()
    }
}

/// A store in a PostgreSQL database.
#[cfg(feature = "postgres")]
pub struct Postgres {
    pub database: test_support::postgres::Database,
}

#[cfg(feature = "postgres")]
impl StoreFactory for Postgres {
    fn available() -> bool {
        test_support::postgres::Postgres::shared().is_some()
    }

    fn new() -> Self {
        let database = test_support::postgres::Postgres::database().unwrap();
        strongroom::store::create(&database.url()).unwrap();
        Self { database }
    }

    fn open(&self) -> Box<dyn Store> {
        strongroom::store::open(&self.database.url()).unwrap()
    }
}
