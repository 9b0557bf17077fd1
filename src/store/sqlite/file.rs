//! Creates and opens the file, and explains why it cannot be opened.

use super::error;
use super::operation::SqliteOperation;
use crate::error::{Error, Kind, Result, printable};
use crate::store::rules::Columns;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::cell::Cell;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `Strg`, in the header of every store.
const APPLICATION_ID: i32 = 0x5374_7267;

/// The tables.
const SCHEMA: &str = include_str!("schema.sql");

/// The version of the tables.
const FORMAT: i32 = 1;

/// How long to wait for another connection's transaction.
const PATIENCE: Duration = Duration::from_secs(30);

/// Larger than any row of ours, so that a planted one cannot fill the memory.
pub(super) const MAX_ROW_BYTES: i32 = 2 << 20;

/// Readers too checkpoint a log longer than this.
const LONG_LOG_BYTES: u64 = 400 << 10;

/// A path as a URL.
pub(crate) fn location(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    printable(&format!("sqlite://{}", path.display()))
}

/// Creates the file and its tables. A crash leaves at most an empty file, which the next attempt fills.
pub(super) fn create(path: &Path, location: &str) -> Result<Connection> {
    let to = "create the store";
    make_file(path).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => occupied(location),
        _ => Error::new(Kind::Io, to, e.to_string()).with_target(location).caused_by(e),
    })?;
    let db = connect(path, READ_WRITE).map_err(|e| explain(to, location, path, &e))?;
    let attempt = SqliteOperation { db: &db, location, durable: &Cell::new(None), to };
    make_tables(&attempt)?;
    write_ahead(&attempt)?;
    sync_directory(path)
        .map_err(|e| Error::new(Kind::Io, to, e.to_string()).with_target(location).caused_by(e))?;
    Ok(db)
}

/// Locks the directory of a store that is to be created.
pub(crate) fn reserve(path: &Path) -> Result<File> {
    let (to, location) = ("create the store", location(path));
    let failed =
        |e: io::Error| Error::new(Kind::Io, to, e.to_string()).with_target(location.clone()).caused_by(e);
    make_directory(path).map_err(failed)?;
    let directory = File::open(directory_of(path)).map_err(failed)?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(directory),
        Err(Errno::WOULDBLOCK) => {
            Err(Error::new(Kind::Conflict, to, "another process is creating a store in this directory")
                .with_target(location)
                .with_hint("wait for it, then look whether there is a store"))
        }
        Err(e) => Err(failed(e.into())),
    }
}

/// Removes the file of a store and what SQLite keeps beside it.
pub(crate) fn remove(path: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match fs::remove_file(&file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                let failed = Error::new(Kind::Io, "remove the empty store", e.to_string());
                return Err(failed.with_target(location(path)).caused_by(e));
            }
            _ => {}
        }
    }
    Ok(())
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory_of(path))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn make_file(path: &Path) -> io::Result<()> {
    make_directory(path)?;
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match created {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && fs::metadata(path)?.len() == 0 => {
            fs::set_permissions(path, Permissions::from_mode(0o600))
        }
        other => other.map(|_| ()),
    }
}

fn make_tables(attempt: &SqliteOperation<'_>) -> Result<()> {
    let transaction = attempt.writing(true)?;
    let tables =
        attempt.first("sqlite_schema", "SELECT count(*) FROM sqlite_schema", [], |row| row.uint(0))?;
    if tables != Some(0) {
        return Err(occupied(attempt.location));
    }
    attempt.db.execute_batch(SCHEMA).map_err(|e| attempt.failed(None, &e))?;
    attempt.pragma("application_id", APPLICATION_ID)?;
    attempt.pragma("user_version", FORMAT)?;
    attempt.commit(transaction)
}

/// Turns on the write-ahead log. SQLite needs exclusive access for this, and does not wait for it by itself.
fn write_ahead(attempt: &SqliteOperation<'_>) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match attempt.db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())) {
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(2));
            }
            done => return done.map_err(|e| attempt.failed(None, &e)),
        }
    }
}

fn occupied(location: &str) -> Error {
    Error::new(Kind::Conflict, "create the store", "the file already exists")
        .with_target(location)
        .with_hint("use that store, or name another file with --store")
}

/// A new file is durable once its directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

pub(super) fn open(path: &Path, location: &str) -> Result<Connection> {
    let answer = match connect_and_read_header(path, READ_WRITE, Sharing::Others) {
        Ok((db, header)) => return check(db, header, path, location),
        Err(answer) => answer,
    };
    let otherwise = match answer.sqlite_error_code() {
        // The medium is read-only, so readers of a log cannot create its shared memory. A file without a log does not
        // need it.
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) if is_readable(path) && log_bytes(path) == 0 => {
            connect_and_read_header(&immutable(path), READ_ONLY_URI, Sharing::Others)
        }
        // The disk is full. An exclusive connection needs no shared memory file.
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => {
            connect_and_read_header(path, READ_WRITE, Sharing::Nobody)
        }
        _ => return Err(explain("open the store", location, path, &answer)),
    };
    match otherwise {
        Ok((db, header)) => check(db, header, path, location),
        Err(_) => Err(explain("open the store", location, path, &answer)),
    }
}

const READ_WRITE: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE;
const READ_ONLY_URI: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_URI);

#[derive(PartialEq)]
enum Sharing {
    Others,
    Nobody,
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(PATIENCE)?;
    db.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_ROW_BYTES)?;
    // Otherwise SQLite prepares a statement again whenever its parameters change, for plans that point queries do not
    // need.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // What an attacker plants in the schema must not run with the reader's rights.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    // A writer checkpoints it anyway.
    move_log_when_closed(&db, path, LONG_LOG_BYTES)?;
    db.pragma_update(None, "cell_size_check", true)?;
    Ok(db)
}

type Header = (i32, i32);

fn connect_and_read_header(
    path: &Path,
    flags: OpenFlags,
    sharing: Sharing,
) -> rusqlite::Result<(Connection, Header)> {
    let db = connect(path, flags)?;
    if sharing == Sharing::Nobody {
        db.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    }
    let application_id = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let user_version = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((db, (application_id, user_version)))
}

fn check(
    db: Connection,
    (application_id, version): Header,
    path: &Path,
    location: &str,
) -> Result<Connection> {
    let (answer, hint) = match (application_id, version) {
        (APPLICATION_ID, FORMAT) => return check_tables(&db, location).map(|()| db),
        (APPLICATION_ID, FORMAT..) => {
            (format!("it has format {version}, this build knows {FORMAT}"), "upgrade Strongroom")
        }
        _ => match fs::metadata(path).map_or(u64::MAX, |file| file.len()) {
            0 => ("the file is empty".into(), EMPTY),
            // SQLite treats a file shorter than its smallest page as an empty database.
            1..512 => ("it is not an SQLite database, or was cut short".into(), CHECK_THE_PATH),
            _ => ("it is an SQLite database, but not a Strongroom store".into(), CHECK_THE_PATH),
        },
    };
    Err(Error::new(Kind::Store, "open the store", answer).with_target(location).with_hint(hint))
}

/// Refuses tables that are not exactly those of the schema: a generated column or a view computes what the file does not
/// hold, and may take all memory.
fn check_tables(db: &Connection, location: &str) -> Result<()> {
    let attempt = SqliteOperation { db, location, durable: &Cell::new(None), to: "open the store" };
    let mut found = 0;
    let sql = "SELECT name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL";
    attempt.each("sqlite_schema", sql, [], |row| {
        let (name, table) = (row.text(0, SCHEMA.len())?, row.text(1, SCHEMA.len())?);
        let sql = row.text(2, SCHEMA.len())?;
        let starts = [format!("CREATE TABLE {name} ("), format!("CREATE INDEX {name} ON {table} (")];
        found += 1;
        match SCHEMA.contains(&format!("{sql};")) && starts.iter().any(|start| sql.starts_with(start)) {
            true => Ok(true),
            false => Err(other_tables(
                location,
                format!("table `{}` is not as Strongroom makes it", printable(&name)),
            )),
        }
    })?;
    match found == SCHEMA.matches("\nCREATE ").count() {
        true => Ok(()),
        false => Err(other_tables(location, "a table is missing, or its index".into())),
    }
}

fn other_tables(location: &str, what: String) -> Error {
    Error::new(Kind::Tampered, "open the store", what)
        .with_target(location)
        .with_hint("restore a backup, and find out who could write to the file")
}

const EMPTY: &str = "restore a backup; `strongroom init` makes a new store, which has no tokens";
const CHECK_THE_PATH: &str = "check the path";

/// Why a file cannot be opened, as precisely as the file system tells. Looks at the path only: opening and closing the
/// file here would drop the locks of this process's other connections.
fn explain(to: &'static str, location: &str, path: &Path, answer: &rusqlite::Error) -> Error {
    if !matches!(answer.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied)) {
        return error::decode(to, location, None, answer);
    }
    let (answer, hint) = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            ("there is no such file".to_owned(), "check the path, or make a store with `strongroom init`")
        }
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => ("permission denied".into(), OWNERSHIP),
        Err(e) => (e.to_string(), CHECK_THE_PATH),
        Ok(file) if !file.is_file() => ("it is not a file".into(), CHECK_THE_PATH),
        Ok(_) if !is_readable(path) => ("permission denied".into(), OWNERSHIP),
        Ok(_) if log_bytes(path) > 0 => (
            "its log (-wal) cannot be read here: the directory is read-only, or the log is another user's"
                .into(),
            "copy the store with its -wal to a directory of yours",
        ),
        Ok(_) => return error::decode(to, location, None, answer),
    };
    Error::new(Kind::Store, to, answer).with_target(location).with_hint(hint)
}

const OWNERSHIP: &str = "run it as the user who owns the store, or ask that user";

fn is_readable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::READ_OK).is_ok()
}

/// Checkpoints the write-ahead log when the connection is closed, if the log is longer than `bytes` now. Each process
/// that is the first to open a file reads the whole log, but a checkpoint waits for the disk.
pub(crate) fn move_log_when_closed(db: &Connection, path: &Path, bytes: u64) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, log_bytes(path) <= bytes).map(drop)
}

/// The length of the write-ahead log; the maximum if it cannot be read.
fn log_bytes(path: &Path) -> u64 {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    match fs::metadata(Path::new(&log)) {
        Ok(log) => log.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
        Err(_) => u64::MAX,
    }
}

/// The path as a URI that tells SQLite that nobody writes.
fn immutable(path: &Path) -> PathBuf {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                uri.push(char::from(*byte))
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    uri.into()
}

pub(super) fn refuse_read_only(attempt: &SqliteOperation<'_>) -> Result<()> {
    match attempt.db.is_readonly(MAIN_DB) {
        Ok(true) => Err(error::read_only(attempt.to, attempt.location)),
        Ok(false) => Ok(()),
        Err(e) => Err(attempt.failed(None, &e)),
    }
}

/// Sets the longest row, in bytes, that is read or written.
pub(super) fn allow_rows_of(attempt: &SqliteOperation<'_>, bytes: i32) -> Result<()> {
    let set = attempt.db.set_limit(Limit::SQLITE_LIMIT_LENGTH, bytes);
    set.map(|_| ()).map_err(|e| attempt.failed(None, &e))
}

/// Settings that only writers of the ledger need, so that readers open faster.
pub(super) fn prepare_for_writing(attempt: &SqliteOperation<'_>) -> Result<()> {
    refuse_read_only(attempt)?;
    // A copy made by a backup tool may have left this mode.
    write_ahead(attempt)?;
    attempt.pragma("journal_size_limit", LONG_LOG_BYTES as i64)?;
    attempt.pragma("secure_delete", true)?;
    // A writer has waited for the disk anyway, so it leaves one complete file, ready to be copied.
    attempt
        .db
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
        .map(|_| ())
        .map_err(|e| attempt.failed(None, &e))
}

/// Empties the log, which still holds destroyed bytes. Best effort: if a reader uses an older snapshot, the next
/// checkpoint does it.
pub(super) fn forget_destroyed(attempt: &SqliteOperation<'_>) {
    let emptied = attempt
        .db
        .busy_timeout(Duration::from_millis(250))
        .and_then(|()| attempt.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)));
    if !matches!(emptied, Ok(0)) {
        log::debug!("{}: the log still holds what was destroyed until its next checkpoint", attempt.location);
    }
    attempt.db.busy_timeout(PATIENCE).ok();
}
