//! A store in a PostgreSQL database, for many machines.
//!
//! Every change is one call of a function in the database, which commits before it answers. Positions come from a
//! compare-and-swap, not from a sequence; a lost answer is made good by looking whether the batch is there.

mod access;
mod append;
mod connection;
mod error;
mod grants;
mod leases;
mod ledger;
mod password;
mod repair;
mod row;
mod schema;
pub(crate) mod tls;
pub(crate) mod uri;

use super::{Access, AccessCount, Append, Lease, RecordedAccess, Store};
use crate::error::Result;
use crate::failpoint;
use crate::ledger::verify::StoredBatch;
use crate::ledger::{AccessHead, DeviceId, Hash, LogPosition, MAX_SEALED_BYTES, MAX_SIGN1_BYTES};
use ::postgres::types::Type;
use connection::{Connection, Param};
pub use grants::{DatabaseRole, grant_sql};

/// A connection to a store in a database. One process or many may hold several.
pub struct PostgresStore {
    connection: Connection,
}

impl PostgresStore {
    /// Creates a store in the database of this URL, in a schema of its own, `strongroom`.
    ///
    /// # Errors
    /// `Conflict` when there is such a schema; `Usage` for a URL that cannot be used; `Refused` and `Store`.
    pub fn create(url: &str) -> Result<Self> {
        let mut connection = Connection::open(uri::server(url)?, "create the store")?;
        schema::create(&mut connection)?;
        Ok(Self { connection })
    }

    /// Opens the store in the database of this URL.
    ///
    /// # Errors
    /// `Store` when there is none, it is of another version or the server cannot be reached; `Refused` when the server
    /// does not let this user in; `Usage` for a URL that cannot be used.
    pub fn open(url: &str) -> Result<Self> {
        let mut connection = Connection::open(uri::server(url)?, "open the store")?;
        schema::expect_ours(&mut connection)?;
        Ok(Self { connection })
    }

    /// Removes the tables, if no statement is in them.
    pub(super) fn remove(mut self) -> Result<()> {
        schema::remove(&mut self.connection)
    }
}

const READ_LEDGER: &str = "read the ledger";
const READ_ACCESS: &str = "read the access log";

impl Store for PostgresStore {
    fn location(&self) -> &str {
        self.connection.location()
    }

    fn tail(&mut self) -> Result<LogPosition> {
        self.connection.run(READ_LEDGER, ledger::tail)
    }

    fn chain_at(&mut self, n: u64) -> Result<Option<Hash>> {
        self.connection.run(READ_LEDGER, |session| ledger::chain_at(session, n))
    }

    fn batches_after(&mut self, n: u64, budget: usize) -> Result<Vec<StoredBatch>> {
        self.connection.run(READ_LEDGER, |session| ledger::batches_after(session, n, budget))
    }

    fn batch_of(&mut self, n: u64) -> Result<Option<StoredBatch>> {
        self.connection.run(READ_LEDGER, |session| ledger::batch_of(session, n))
    }

    fn append(&mut self, append: &Append<'_>) -> Result<LogPosition> {
        append::append(&mut self.connection, append)
    }

    fn release(&mut self, advances: &[(Vec<u8>, Hash)], at: LogPosition) -> Result<()> {
        self.connection.run("change the ledger", |session| append::release(session, advances, at))
    }

    fn sealed(&mut self, digest: &Hash) -> Result<Option<Vec<u8>>> {
        let most = MAX_SEALED_BYTES as usize;
        let sql = format!(
            "SELECT digest, substring(bytes FROM 1 FOR {}) AS bytes
             FROM strongroom.sealed WHERE digest = $1 AND NOT destroyed",
            most + 1
        );
        self.connection.run("read sealed bytes", |session| {
            session.first("sealed", &sql, &[(&&digest.0[..], Type::BYTEA)], |row| row.blob(1, most))
        })
    }

    fn count_after(&mut self, n: u64) -> Result<u64> {
        self.connection.run(READ_LEDGER, |session| ledger::count_after(session, n))
    }

    fn quarantine_after(
        &mut self,
        kept: LogPosition,
        end: Option<LogPosition>,
        repair: Option<&Append<'_>>,
    ) -> Result<u64> {
        self.connection.run("set the unverifiable tail aside", |session| {
            repair::quarantine_after(session, kept, end, repair)
        })
    }

    fn record(&mut self, accesses: &[Access]) -> Result<()> {
        access::record(&mut self.connection, accesses)
    }

    fn accesses(&mut self, before: u64, limit: u32) -> Result<Vec<RecordedAccess>> {
        self.connection.run(READ_ACCESS, |session| access::accesses(session, before, limit))
    }

    fn take_lease(&mut self, lease: &Lease, now: u64) -> Result<Option<Lease>> {
        self.connection.run("lease a token", |session| leases::take(session, lease, now))
    }

    fn end_lease(&mut self, token: &[u8; 16], holder: &str) -> Result<()> {
        self.connection.run("end a lease", |session| leases::end(session, token, holder))
    }

    fn checkpoint(&mut self, device: &DeviceId) -> Result<Option<Vec<u8>>> {
        let sql = format!(
            "SELECT device, substring(sign1 FROM 1 FOR {}) AS sign1 FROM strongroom.checkpoints WHERE device = $1",
            MAX_SIGN1_BYTES + 1
        );
        self.connection.run("read a checkpoint", |session| {
            session.first("checkpoints", &sql, &[(&&device.0[..], Type::BYTEA)], |row| {
                row.blob(1, MAX_SIGN1_BYTES)
            })
        })
    }

    fn put_checkpoint(&mut self, device: &DeviceId, sign1: &[u8]) -> Result<()> {
        failpoint::reach("checkpoint.written");
        self.connection.run("store a checkpoint", |session| {
            let params: [Param<'_>; 2] = [(&&device.0[..], Type::BYTEA), (&sign1, Type::BYTEA)];
            append::taken(session, "SELECT strongroom.put_checkpoint($1, $2)", &params).map(drop)
        })
    }

    fn access_head(&mut self, device: &DeviceId) -> Result<AccessHead> {
        self.connection.run(READ_ACCESS, |session| access::head(session, device))
    }

    fn access_chain_at(&mut self, device: &DeviceId, count: u64) -> Result<Option<Hash>> {
        self.connection.run(READ_ACCESS, |session| access::chain_at(session, device, count))
    }

    fn check_heads(&mut self) -> Result<()> {
        self.connection.run("verify the heads", append::check_heads)
    }

    fn drop_accesses(&mut self, most: u64, by: &Access) -> Result<u64> {
        self.connection.run("drop lines of the access log", |session| access::drop_oldest(session, most, by))
    }

    fn dropped_accesses(&mut self, device: &DeviceId) -> Result<AccessHead> {
        self.connection.run(READ_ACCESS, |session| access::dropped(session, &device.to_string()))
    }

    fn check_accesses(&mut self) -> Result<AccessCount> {
        self.connection.run("verify the access log", access::check)
    }
}
