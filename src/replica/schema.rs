//! The replica's tables, and how its file is opened.

use crate::error::{Error, Kind, Result};
use crate::store::sqlite::move_log_when_closed;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};
use std::path::Path;
use std::time::Duration;

/// "Strm": tells a replica from any other SQLite file.
const APPLICATION_ID: i32 = 0x5374_726d;
/// Raised with every change of the tables or their meaning. An older replica is rebuilt, never migrated.
const SCHEMA: i32 = 6;
/// The size of a few changes.
const LONG_LOG_BYTES: u64 = 128 << 10;

const TABLES: &str = "
CREATE TABLE position (
  id INTEGER PRIMARY KEY CHECK (id = 1), store BLOB NOT NULL, n INTEGER NOT NULL, chain BLOB NOT NULL,
  admin_head BLOB NOT NULL, newest INTEGER NOT NULL, guarded INTEGER NOT NULL, settings BLOB,
  frontier BLOB NOT NULL
) STRICT;
-- At the end of every batch, chain(n) and the Merkle root: what an author's `seen` and checkpoints are compared with.
CREATE TABLE boundaries (n INTEGER PRIMARY KEY, chain BLOB NOT NULL, root BLOB NOT NULL) STRICT;
-- The greatest position that was taken from each witness's checkpoints.
CREATE TABLE witnesses (device BLOB PRIMARY KEY, n INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE tokens (
  row INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, name TEXT NOT NULL, head BLOB NOT NULL,
  latest INTEGER NOT NULL, suspended INTEGER NOT NULL, destroyed INTEGER NOT NULL
) STRICT;
-- Every name that was ever used; token is null while no living token has it.
CREATE TABLE names (name TEXT PRIMARY KEY, head BLOB NOT NULL, token INTEGER) STRICT, WITHOUT ROWID;
-- Few sets of recipients serve many versions.
CREATE TABLE recipients (row INTEGER PRIMARY KEY, devices BLOB NOT NULL UNIQUE) STRICT;
CREATE TABLE versions (
  token INTEGER NOT NULL, version INTEGER NOT NULL, name TEXT NOT NULL, threshold INTEGER NOT NULL,
  state INTEGER NOT NULL,  reason TEXT NOT NULL, not_before INTEGER, expiry INTEGER, labels TEXT NOT NULL, description TEXT NOT NULL,
  keep INTEGER, n INTEGER NOT NULL, time INTEGER NOT NULL, author BLOB NOT NULL, chosen INTEGER NOT NULL, since INTEGER,
  PRIMARY KEY (token, version)
) STRICT, WITHOUT ROWID;
-- The seals of every version; those that a reseal dropped are not live.
CREATE TABLE seals (
  token INTEGER NOT NULL, version INTEGER NOT NULL, digest BLOB NOT NULL UNIQUE, length INTEGER NOT NULL,
  recipients INTEGER NOT NULL, live INTEGER NOT NULL, PRIMARY KEY (token, version, digest)
) STRICT, WITHOUT ROWID;
-- The statements that changed a token and were no puts: those stand with the versions.
CREATE TABLE history (token INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (token, n)) STRICT, WITHOUT ROWID;
CREATE TABLE devices (
  id BLOB PRIMARY KEY, signing BLOB NOT NULL UNIQUE, name TEXT NOT NULL, roles TEXT NOT NULL,
  retired INTEGER NOT NULL, reason TEXT NOT NULL, n INTEGER NOT NULL, enrolment BLOB NOT NULL,
  time INTEGER NOT NULL, author BLOB NOT NULL, replaces BLOB UNIQUE,
  gone INTEGER, anchor INTEGER, anchor_start INTEGER, anchor_after INTEGER
) STRICT;
-- Changes that admins must agree to. `about` is the device, or empty for settings. Votes are device ids, joined.
-- `closed` is null while it is open.
CREATE TABLE proposals (
  hash BLOB PRIMARY KEY, n INTEGER NOT NULL, proposer BLOB NOT NULL, until INTEGER NOT NULL, change BLOB NOT NULL,
  about BLOB NOT NULL, approved BLOB NOT NULL, rejected BLOB NOT NULL, closed INTEGER
) STRICT;
-- Rotation policies, each of a token or of a prefix.
CREATE TABLE policies (
  subject BLOB PRIMARY KEY, token BLOB, prefix TEXT, n INTEGER NOT NULL, policy BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE prefixes (prefix TEXT PRIMARY KEY, head BLOB NOT NULL) STRICT, WITHOUT ROWID;
-- A grant that stands is live: it was not ungranted, and its token not destroyed.
CREATE TABLE grants (
  id BLOB PRIMARY KEY, token BLOB, prefix TEXT, grantee TEXT NOT NULL, ops TEXT NOT NULL, until INTEGER,
  alias TEXT, n INTEGER NOT NULL, live INTEGER NOT NULL
) STRICT;
-- What the agent asks before every answer.
CREATE INDEX grants_on_token ON grants (token);
CREATE INDEX grants_on_prefix ON grants (prefix);
CREATE INDEX grants_to ON grants (grantee);
CREATE TABLE ineffective (n INTEGER PRIMARY KEY, reason TEXT NOT NULL) STRICT;
";

/// How a replica's file is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Shared with other processes; a crash leaves the last complete state.
    Shared,
    /// A temporary file, renamed when it is complete: no journal, and this many KiB of cache. Ids and digests are
    /// random, so pages outside the cache are read again and again.
    Bulk {
        /// Page cache in KiB.
        cache: u32,
    },
}

/// Why a replica's file could not be used as it is.
pub(super) enum Unusable {
    /// There is none.
    Missing,
    /// Not a replica, damaged, or with another version of the tables.
    Broken(String),
    /// Cannot be read, though it may be sound.
    Unreachable(Error),
}

pub(super) fn open(path: &Path) -> std::result::Result<Connection, Unusable> {
    if !path.exists() {
        return Err(Unusable::Missing);
    }
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(|e| unusable(path, e))?;
    let tell = |name| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (id, schema) = tell("application_id")
        .and_then(|id| Ok((id, tell("user_version")?)))
        .map_err(|e| unusable(path, e))?;
    if (id, schema) != (APPLICATION_ID, SCHEMA) {
        return Err(Unusable::Broken(format!("it is of another format ({id:08x}, {schema})")));
    }
    settings(&db, path, Mode::Shared).map_err(|e| unusable(path, e))?;
    Ok(db)
}

pub(super) fn create(path: &Path, store: &[u8; 32], mode: Mode) -> Result<Connection> {
    private_file(path)?;
    let db = Connection::open(path).map_err(|e| failed(path, e))?;
    let build = || {
        if mode == Mode::Shared {
            db.pragma_update(None, "journal_mode", "WAL")?;
        }
        settings(&db, path, mode)?;
        make_tables(&db, store)
    };
    build().map_err(|e| failed(path, e))?;
    Ok(db)
}

/// For a store that does not exist yet.
pub(super) fn create_in_memory(store: &[u8; 32]) -> Result<Connection> {
    let build = || {
        let db = Connection::open_in_memory()?;
        make_tables(&db, store)?;
        Ok(db)
    };
    build().map_err(|e| failed(Path::new("(memory)"), e))
}

fn make_tables(db: &Connection, store: &[u8; 32]) -> rusqlite::Result<()> {
    db.pragma_update(None, "application_id", APPLICATION_ID)?;
    db.execute_batch(TABLES)?;
    db.execute(
        "INSERT INTO position VALUES (1, ?1, 0, ?2, ?2, 0, 0, NULL, x'')",
        params![store.as_slice(), [0u8; 32].as_slice()],
    )?;
    // Written last, so that a half-built file never counts as a replica.
    db.pragma_update(None, "user_version", SCHEMA)
}

/// Readable by its owner alone: SQLite gives the journals the mode of the file.
fn private_file(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    file.map(drop).map_err(|e| super::io(path, e))
}

fn settings(db: &Connection, path: &Path, mode: Mode) -> rusqlite::Result<()> {
    db.set_prepared_statement_cache_capacity(64);
    db.busy_timeout(Duration::from_secs(30))?;
    // Otherwise SQLite prepares a statement again whenever its parameters change, for plans that point queries do not
    // need.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    match mode {
        // A lost replica is rebuilt from the store, and the pin records its position, so there is no need to wait for
        // the disk.
        Mode::Shared => {
            move_log_when_closed(db, path, LONG_LOG_BYTES)?;
            db.pragma_update(None, "synchronous", "NORMAL")
        }
        Mode::Bulk { cache } => {
            db.pragma_update(None, "journal_mode", "OFF")?;
            db.pragma_update(None, "synchronous", "OFF")?;
            db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            db.pragma_update(None, "cache_size", -i64::from(cache))
        }
    }
}

fn unusable(path: &Path, error: rusqlite::Error) -> Unusable {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error.sqlite_error_code() {
        Some(NotADatabase | DatabaseCorrupt) => Unusable::Broken(error.to_string()),
        _ => Unusable::Unreachable(failed(path, error)),
    }
}

/// An SQLite error on the replica, as the library's error.
pub(super) fn failed(path: &Path, error: rusqlite::Error) -> Error {
    Error::new(Kind::Io, "use the replica", error.to_string())
        .with_target(crate::error::printable(&path.display().to_string()))
        .with_hint("check the directory's permissions and free space; a replica may be removed, it is rebuilt from the store")
        .caused_by(error)
}
