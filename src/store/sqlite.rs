//! A store in one SQLite file.
//!
//! Uses WAL mode: readers never wait for writers. An `append` is durable when it returns; a line of the access log
//! becomes durable with the next append or checkpoint.

mod access;
mod access_dropped;
mod append;
mod checkpoint;
mod copy;
mod error;
mod file;
mod leases;
mod ledger;
mod operation;
mod repair;

use super::{Access, AccessCount, Append, Lease, RecordedAccess, Store};
use crate::error::Result;
use crate::ledger::verify::StoredBatch;
use crate::ledger::{AccessHead, DeviceId, Hash, LogPosition, MAX_SEALED_BYTES};
pub(crate) use file::{location, move_log_when_closed, remove, reserve};
use operation::SqliteOperation;
use rusqlite::Connection;
use std::cell::Cell;
use std::path::Path;

/// A connection to a store in an SQLite file. One process or many may hold several.
pub struct SqliteStore {
    db: Connection,
    location: String,
    /// Whether transactions wait for the disk; `None` before the first.
    durable: Cell<Option<bool>>,
}

impl SqliteStore {
    /// Creates a store at `path` that only its owner can use: new directories get mode 0700, the file 0600. Initializes
    /// an empty file.
    ///
    /// # Errors
    /// `Conflict` when there is something already; `Store` and `Io`.
    pub fn create(path: &Path) -> Result<Self> {
        let location = file::location(path);
        file::create(path, &location).map(|db| Self { db, location, durable: Cell::new(None) })
    }

    /// Opens the store at `path`; read-only if it cannot be written.
    ///
    /// # Errors
    /// `Store` when it is missing, empty, not a store, of a newer format, locked, damaged or not for this user.
    pub fn open(path: &Path) -> Result<Self> {
        let location = file::location(path);
        file::open(path, &location).map(|db| Self { db, location, durable: Cell::new(None) })
    }

    fn attempt(&self, to: &'static str) -> SqliteOperation<'_> {
        SqliteOperation { db: &self.db, location: &self.location, durable: &self.durable, to }
    }
}

impl Store for SqliteStore {
    fn location(&self) -> &str {
        &self.location
    }

    fn tail(&mut self) -> Result<LogPosition> {
        ledger::tail(&self.attempt("read the ledger"))
    }

    fn chain_at(&mut self, n: u64) -> Result<Option<Hash>> {
        ledger::chain_at(&self.attempt("read the ledger"), n)
    }

    fn batches_after(&mut self, n: u64, budget: usize) -> Result<Vec<StoredBatch>> {
        let attempt = self.attempt("read the ledger");
        let _snapshot = attempt.reading()?;
        ledger::batches_after(&attempt, n, budget)
    }

    fn batch_of(&mut self, n: u64) -> Result<Option<StoredBatch>> {
        let attempt = self.attempt("read the ledger");
        let _snapshot = attempt.reading()?;
        ledger::batch_of(&attempt, n)
    }

    fn append(&mut self, append: &Append<'_>) -> Result<LogPosition> {
        append::append(&self.attempt("append to the ledger"), append)
    }

    fn release(&mut self, advances: &[(Vec<u8>, Hash)], at: LogPosition) -> Result<()> {
        append::release(&self.attempt("change the ledger"), advances, at)
    }

    fn sealed(&mut self, digest: &Hash) -> Result<Option<Vec<u8>>> {
        self.attempt("read sealed bytes").first(
            "sealed",
            "SELECT digest, bytes FROM sealed WHERE digest = ?1 AND NOT destroyed",
            [digest.0],
            |row| row.blob(1, MAX_SEALED_BYTES as usize),
        )
    }

    fn count_after(&mut self, n: u64) -> Result<u64> {
        ledger::count_after(&self.attempt("read the ledger"), n)
    }

    fn quarantine_after(
        &mut self,
        kept: LogPosition,
        end: Option<LogPosition>,
        repair: Option<&Append<'_>>,
    ) -> Result<u64> {
        repair::quarantine_after(&self.attempt("set the unverifiable tail aside"), kept, end, repair)
    }

    fn record(&mut self, accesses: &[Access]) -> Result<()> {
        access::record(&self.attempt("write the access log"), accesses)
    }

    fn accesses(&mut self, before: u64, limit: u32) -> Result<Vec<RecordedAccess>> {
        access::accesses(&self.attempt("read the access log"), before, limit)
    }

    fn take_lease(&mut self, lease: &Lease, now: u64) -> Result<Option<Lease>> {
        leases::take(&self.attempt("lease a token"), lease, now)
    }

    fn end_lease(&mut self, token: &[u8; 16], holder: &str) -> Result<()> {
        leases::end(&self.attempt("end a lease"), token, holder)
    }

    fn checkpoint(&mut self, device: &DeviceId) -> Result<Option<Vec<u8>>> {
        checkpoint::read(&self.attempt("read a checkpoint"), device)
    }

    fn put_checkpoint(&mut self, device: &DeviceId, sign1: &[u8]) -> Result<()> {
        checkpoint::put(&self.attempt("store a checkpoint"), device, sign1)
    }

    fn access_head(&mut self, device: &DeviceId) -> Result<AccessHead> {
        access::head(&self.attempt("read the access log"), device)
    }

    fn access_chain_at(&mut self, device: &DeviceId, count: u64) -> Result<Option<Hash>> {
        access::chain_at(&self.attempt("read the access log"), device, count)
    }

    fn check_heads(&mut self) -> Result<()> {
        let attempt = self.attempt("verify the heads");
        let _snapshot = attempt.reading()?;
        append::check_heads(&attempt)
    }

    fn drop_accesses(&mut self, most: u64, by: &Access) -> Result<u64> {
        access_dropped::drop_oldest(&self.attempt("drop lines of the access log"), most, by)
    }

    fn dropped_accesses(&mut self, device: &DeviceId) -> Result<AccessHead> {
        access_dropped::of(&self.attempt("read the access log"), &device.to_string())
    }

    fn check_accesses(&mut self) -> Result<AccessCount> {
        access::check(&self.attempt("verify the access log"))
    }

    fn copy_to(&mut self, file: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        copy::copy_to(&self.attempt("copy the store"), file, progress)
    }
}
