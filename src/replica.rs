//! The part of a store that this client has verified. The client trusts nothing else.
//!
//! One local SQLite file per store, with metadata only. [`Replica::sync`] verifies the store's new batches and applies
//! them; every read, list and search uses the replica. If it is lost, it is rebuilt from the store. The [`StorePin`], a
//! separate file, records the last verified position.

mod apply;
mod cache;
mod compare;
mod devices;
mod grants;
mod ledger_changes;
mod ledger_view;
mod policies;
mod read;
mod rebuild;
mod rollback;
mod rows;
mod schema;
mod store_pin;
mod sync;
mod witnesses;

pub use compare::Difference;
pub use devices::{AnchorRow, DeviceRow, ProposalRow};
pub use grants::GrantRow;
pub use ledger_changes::LedgerChange;
pub use policies::{PolicyRow, RotationRow};
pub use read::{ListFilter, SealedRow, TokenRow, VersionRow};
pub use rebuild::Partial;
pub use store_pin::{StorePin, TrustAnchor};
pub use sync::Followed;
pub(crate) use sync::{other_store, tampered};

use crate::error::{Error, Kind, Result};
use crate::ledger::merkle::Frontier;
use crate::ledger::{Hash, LogPosition, StoreId};
use cache::Cache;
use rand_core::{OsRng, RngCore};
use rows::blob;
use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};
use schema::{Mode, Unusable};
use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The verified state of one store.
pub struct Replica {
    db: Connection,
    path: PathBuf,
    store: StoreId,
    position: LogPosition,
    /// The Merkle tree over the statements up to there.
    frontier: Frontier,
    admin_head: Hash,
    newest: u64,
    /// The number of batches with counted changes (docs/reference/format.md, section 9).
    counted_changes: u64,
    cache: RefCell<Cache>,
    /// A message for the user about the file.
    notice: Option<String>,
    /// Damage found in the file since it was opened.
    damage: RefCell<Option<String>>,
}

impl Replica {
    /// Opens the replica of `store` at `path`, or creates an empty one. The parent directory must exist.
    ///
    /// Creates the replica again if it is missing, damaged or of another format; [`Replica::take_notice`] then says so.
    ///
    /// # Errors
    /// `Io` when the file cannot be read or created.
    pub fn open(path: &Path, store: StoreId) -> Result<Self> {
        let _alone = lock_exclusive(path)?;
        let (db, notice) = match schema::open(path) {
            Ok(db) => (db, None),
            Err(Unusable::Missing) => {
                remove_journals(path)?;
                (schema::create(path, &store.0, Mode::Shared)?, None)
            }
            Err(Unusable::Unreachable(error)) => return Err(error),
            Err(Unusable::Broken(why)) => return Self::rebuild_empty(path, store, &why),
        };
        match Self::over(db, path, store, notice) {
            Err(error) if error.kind() == Kind::Tampered => Self::rebuild_empty(path, store, error.message()),
            other => other,
        }
    }

    /// Replaces a damaged file with an empty replica. Returns whether it was damaged.
    pub(crate) fn recover(&mut self) -> Result<bool> {
        let Some(why) = self.damage.take() else { return Ok(false) };
        let _alone = lock_exclusive(&self.path)?;
        *self = Self::rebuild_empty(&self.path, self.store, &why)?;
        Ok(true)
    }

    /// An empty replica in a new file of its own, with a cache of this many KiB; for first contacts and `verify`.
    pub(crate) fn temporary(path: &Path, store: StoreId, cache: u32) -> Result<Self> {
        remove(path)?;
        Self::over(schema::create(path, &store.0, Mode::Bulk { cache })?, path, store, None)
    }

    /// An empty replica in memory.
    pub(crate) fn in_memory(store: StoreId) -> Result<Self> {
        let path = Path::new("(memory)");
        Self::over(schema::create_in_memory(&store.0)?, path, store, None)
    }

    fn rebuild_empty(path: &Path, store: StoreId, why: &str) -> Result<Self> {
        let aside = path.with_extension("damaged");
        std::fs::rename(path, &aside).map_err(|e| io(path, e))?;
        remove_journals(path)?;
        let notice = format!(
            "the replica could not be used ({why}) and is rebuilt from the store; the old file is {}",
            crate::error::printable(&aside.display().to_string())
        );
        Self::over(schema::create(path, &store.0, Mode::Shared)?, path, store, Some(notice))
    }

    fn over(db: Connection, path: &Path, store: StoreId, notice: Option<String>) -> Result<Self> {
        let mut replica = Self {
            db,
            path: path.into(),
            store,
            position: LogPosition::START,
            frontier: Frontier::default(),
            admin_head: Hash::ZERO,
            newest: 0,
            counted_changes: 0,
            cache: RefCell::default(),
            notice,
            damage: RefCell::default(),
        };
        replica.reload()?;
        Ok(replica)
    }

    /// Reads the replica's position, which another process may have advanced.
    fn reload(&mut self) -> Result<()> {
        let sql = "SELECT store, n, chain, admin_head, newest, guarded, frontier FROM position";
        let row = self.one(sql, [], |row| {
            let head = (blob::<32>(row, 0)?, row.get(1)?, blob(row, 2)?, blob(row, 3)?);
            let frontier = Frontier::from_bytes(head.1, row.get_ref(6)?.as_blob()?);
            Ok((head, row.get(4)?, row.get(5)?, frontier))
        })?;
        let Some(((store, n, chain, admin_head), newest, guarded, frontier)) = row else {
            return Err(self.damaged("it has no position"));
        };
        let Some(frontier) = frontier else {
            return Err(self.damaged("its Merkle tree does not belong to its position"));
        };
        if store != self.store.0 {
            return Err(self.damaged("it belongs to another store"));
        }
        if self.position.n != n {
            self.forget();
        }
        self.position = LogPosition { n, chain: Hash(chain) };
        self.frontier = frontier;
        self.admin_head = Hash(admin_head);
        self.newest = newest;
        self.counted_changes = guarded;
        Ok(())
    }

    /// Begins a read transaction, until [`Replica::end_read`]. Without it, another process may advance the file between
    /// two queries.
    pub(crate) fn begin_read(&mut self) -> Result<()> {
        self.db.execute_batch("BEGIN").map_err(|e| self.failed(e))?;
        self.reload().inspect_err(|_| self.end_read())
    }

    /// Ends the read transaction.
    pub(crate) fn end_read(&self) {
        // Ending a transaction that only read cannot fail in a way that matters.
        self.db.execute_batch("COMMIT").ok();
    }

    /// Clears the cache, after another process or a rollback changed the file.
    fn forget(&self) {
        self.cache.take();
    }

    /// Takes the message about the file, if there is one.
    pub fn take_notice(&mut self) -> Option<String> {
        self.notice.take()
    }

    /// The head of the admin subject, which every batch is signed under.
    pub fn admin_head(&self) -> Hash {
        self.admin_head
    }

    /// The newest plausible time in the ledger, in milliseconds (docs/reference/format.md, section 5).
    pub fn newest_time(&self) -> u64 {
        self.newest
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, error: rusqlite::Error) -> Error {
        use rusqlite::ErrorCode::{ConstraintViolation, DatabaseCorrupt, NotADatabase, Unknown};
        match error {
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
            // Our own queries are sound, so the tables are not.
            | rusqlite::Error::SqlInputError { .. }
            | rusqlite::Error::QueryReturnedNoRows => self.damaged(&error.to_string()),
            // The last two: its tables disagree or are missing.
            _ if matches!(
                error.sqlite_error_code(),
                Some(DatabaseCorrupt | NotADatabase | ConstraintViolation | Unknown)
            ) =>
            {
                self.damaged(&error.to_string())
            }
            _ => schema::failed(&self.path, error),
        }
    }

    fn damaged(&self, why: &str) -> Error {
        self.damage.replace(Some(why.into()));
        Error::new(Kind::Tampered, "read the replica", format!("the replica is damaged: {why}"))
            .with_target(crate::error::printable(&self.path.display().to_string()))
            .with_hint("run `strongroom verify --rebuild` to rebuild it from the store")
    }
}

fn io(path: &Path, error: std::io::Error) -> Error {
    Error::io("use the replica", path, error).with_hint("check the directory's permissions and free space")
}

/// Until the lock is dropped, no other process opens, creates or replaces the file. This keeps others from taking a
/// half-built file for damaged, and from finding one file's journal beside another.
fn lock_exclusive(path: &Path) -> Result<File> {
    let lock = File::create(path.with_extension("lock")).map_err(|e| io(path, e))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|e| io(path, e.into()))?;
    Ok(lock)
}

/// A file beside `path` for this use alone, also among processes of other PID namespaces. Removes what killed processes
/// have left.
pub(crate) fn scratch(path: &Path, what: &str) -> Result<PathBuf> {
    remove_left_over(path);
    let mut random = [0; 8];
    OsRng
        .try_fill_bytes(&mut random)
        .map_err(|e| Error::new(Kind::Io, "name a temporary file", e.to_string()))?;
    Ok(path.with_extension(format!("{what}-{}", hex::encode(random))))
}

/// Removes scratch files that nobody has written to for a day. Best effort.
fn remove_left_over(path: &Path) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let (Some(directory), Some(stem)) = (path.parent(), path.file_stem()) else { return };
    let own = ["new", "verify"].map(|what| format!("{}.{what}-", stem.to_string_lossy()));
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let scratch = own.iter().any(|own| name.to_string_lossy().starts_with(own));
        let modified = entry.metadata().and_then(|file| file.modified());
        if scratch && modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > DAY)) {
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(path, e)),
        _ => remove_journals(path),
    }
}

/// SQLite would take an old write-ahead log for the new file's own.
fn remove_journals(path: &Path) -> Result<()> {
    for suffix in ["-wal", "-shm", "-journal"] {
        let mut journal = path.as_os_str().to_owned();
        journal.push(suffix);
        match std::fs::remove_file(&journal) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(path, e)),
            _ => {}
        }
    }
    Ok(())
}
