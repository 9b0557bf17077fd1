//! Storage for the ledger and the sealed bytes. A store is untrusted: the replica verifies all it returns.
//!
//! A store holds no key and no plaintext. It only grows, except that `destroy` deletes sealed bytes and `repair`
//! quarantines a tail.

use crate::error::{Error, Kind, Result};
use crate::ledger::verify::StoredBatch;
use crate::ledger::{AccessHead, DeviceId, Hash, LogPosition};

mod access_chain;
#[cfg(feature = "postgres")]
pub mod postgres;
mod rules;
pub mod sqlite;

/// A batch to append, with everything that must be stored in the same transaction.
#[derive(Debug)]
pub struct Append<'a> {
    /// COSE_Sign1.
    pub sign1: &'a [u8],
    /// The statements, in order.
    pub statements: &'a [Vec<u8>],
    /// The encoded subject and `prev` of every advance. The store refuses a pair that it has seen.
    pub advances: &'a [(Vec<u8>, Hash)],
    /// The encoded admin subject and the head that the batch was signed under. The store refuses the batch if that pair
    /// was advanced already, so a role change and a put cannot cross.
    pub admin: (Vec<u8>, Hash),
    /// The last position that its author had verified. The store refuses the batch if its chain has another value
    /// there.
    pub seen: LogPosition,
    /// Whether the batch must follow `seen` directly, as one with an anchor must.
    pub directly: bool,
    /// Sealed bytes by their SHA-256.
    pub sealed: &'a [(Hash, Vec<u8>)],
    /// Digests whose sealed bytes are destroyed.
    pub destroyed: &'a [Hash],
}

/// One line of the access log: who read what, when, with what outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// When, in milliseconds.
    pub time: u64,
    /// The id, in hex, of the device that opened it or failed; empty if none was reached.
    pub device: String,
    /// Real user id of the reader.
    pub uid: u32,
    /// Process id of the reader.
    pub pid: u32,
    /// Its program, as the kernel names it.
    pub exe: String,
    /// The token's name as asked for.
    pub name: String,
    /// Its version; 0 if there is none.
    pub version: u64,
    /// `opened`, or why not.
    pub outcome: String,
}

/// The lines of an access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessCount {
    /// How many there are.
    pub kept: u64,
    /// How many were dropped before them.
    pub dropped: u64,
}

/// An access with its position in the access log's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedAccess {
    /// Its row, from 1.
    pub n: u64,
    /// What was recorded.
    pub access: Access,
    /// SHA-256 over the previous row's value (of the same device) and this row, see docs/reference/format.md.
    pub chain: Hash,
}

/// Who is rotating a token. The store is not believed: a lease only spares machines each other's work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The token's id.
    pub token: [u8; 16],
    /// Whose it is: a name of the machine, for people.
    pub holder: String,
    /// When it runs out. Milliseconds since 1970.
    pub until: u64,
}

/// The storage of one store. Statements are numbered from 1 without gaps.
pub trait Store: Send {
    /// Its location: `sqlite:///var/lib/strongroom/store.sqlite`, `postgres://db.example:5432/tokens`.
    fn location(&self) -> &str;

    /// The last position, as the store claims; [`LogPosition::START`] without a genesis.
    fn tail(&mut self) -> Result<LogPosition>;

    /// The chain value at the end of the batch that ends at `n`, as the store claims.
    fn chain_at(&mut self, n: u64) -> Result<Option<Hash>>;

    /// The batches after position `n`, in order: about `budget` bytes in memory, but at least one batch if there is one.
    fn batches_after(&mut self, n: u64, budget: usize) -> Result<Vec<StoredBatch>>;

    /// The batch that holds statement `n`.
    fn batch_of(&mut self, n: u64) -> Result<Option<StoredBatch>>;

    /// Appends a batch in one durable transaction. Returns its end.
    ///
    /// # Errors
    /// `Conflict` when another batch advanced one of the subjects, the admin subject, or (for admin batches) the ledger
    /// first, or when the chain does not lead through what its author had seen: the store was replaced in the meantime.
    fn append(&mut self, append: &Append<'_>) -> Result<LogPosition>;

    /// Releases advances held by statements without effect, so that these cannot block others. The caller has verified
    /// everything up to `at`, and that no effective statement made these advances.
    ///
    /// # Errors
    /// `Conflict` when the ledger no longer ends at `at`: a newer batch may have made these advances.
    fn release(&mut self, advances: &[(Vec<u8>, Hash)], at: LogPosition) -> Result<()>;

    /// Sealed bytes by digest, as the store claims: the caller hashes them. `None` if they are missing.
    fn sealed(&mut self, digest: &Hash) -> Result<Option<Vec<u8>>>;

    /// How many statements lie after position `n`, whether or not a batch covers them.
    fn count_after(&mut self, n: u64) -> Result<u64>;

    /// Quarantines everything after `kept`, with all checkpoints, its advances and every advance that belongs to no statement, and
    /// appends `repair`, which says so, in the same transaction. Returns how many statements were quarantined. The rows
    /// stay in the file for an investigation.
    ///
    /// `end` is the store's tail, read before the rest was verified; `None` if it could not be read. Where no statement
    /// is quarantined, none has to say so.
    ///
    /// # Errors
    /// `Conflict` when the tail has changed, since the new batches may be sound, or when a statement would be
    /// quarantined without `repair`; `Tampered` if what remains does not end at `kept`.
    fn quarantine_after(
        &mut self,
        kept: LogPosition,
        end: Option<LogPosition>,
        repair: Option<&Append<'_>>,
    ) -> Result<u64>;

    /// Appends lines to the access log, all or none, without waiting for the disk.
    fn record(&mut self, accesses: &[Access]) -> Result<()>;

    /// Up to `limit` rows of the access log before row `before` (0: from the newest), newest first.
    fn accesses(&mut self, before: u64, limit: u32) -> Result<Vec<RecordedAccess>>;

    /// Takes or renews a lease. Returns the one that stands in the way, if another holder's has not run out at `now`.
    fn take_lease(&mut self, lease: &Lease, now: u64) -> Result<Option<Lease>>;

    /// Ends a holder's lease on a token, if there is one.
    fn end_lease(&mut self, token: &[u8; 16], holder: &str) -> Result<()>;

    /// The checkpoint of a device as it was stored, a COSE_Sign1; `None` if there is none. The caller verifies it.
    ///
    /// # Errors
    /// `Tampered` for a row that cannot be one.
    fn checkpoint(&mut self, device: &DeviceId) -> Result<Option<Vec<u8>>>;

    /// Stores a device's checkpoint in the place of the one before, without waiting for the disk.
    fn put_checkpoint(&mut self, device: &DeviceId, sign1: &[u8]) -> Result<()>;

    /// Drops the oldest lines of the access log, some thousands at once, until about `most` are left, and appends `by`
    /// with how many these were as its outcome. Returns that number; 0 if there are no more than `most`.
    ///
    /// # Errors
    /// `Tampered` when one of them does not follow from its predecessor: then none is dropped.
    fn drop_accesses(&mut self, most: u64, by: &Access) -> Result<u64>;

    /// How many lines that name the device were dropped, and the chain after the last of them.
    fn dropped_accesses(&mut self, device: &DeviceId) -> Result<AccessHead>;

    /// How many lines of the access log name the device, those included that were dropped, and the chain after the last of them, as the store claims.
    fn access_head(&mut self, device: &DeviceId) -> Result<AccessHead>;

    /// The chain after this device's line number `count`, from 1, as the store claims; `None` if there are fewer.
    fn access_chain_at(&mut self, device: &DeviceId, count: u64) -> Result<Option<Hash>>;

    /// Checks that every advance that the store would refuse is one that a statement makes.
    ///
    /// # Errors
    /// `Tampered`, with the first that is not.
    fn check_heads(&mut self) -> Result<()>;

    /// Recomputes the access log's chain row by row, from what was dropped on. Returns the number of rows.
    ///
    /// # Errors
    /// `Tampered`, with the first row that does not follow from its predecessor.
    fn check_accesses(&mut self) -> Result<AccessCount>;

    /// Copies the store as it is at one moment into `file`, which exists and is empty, while others use the store. The
    /// copy is a store in one SQLite file. Calls `progress` with (done, total), in a unit of the store's own.
    ///
    /// # Errors
    /// `Unsupported` where the store cannot; `Store` and `Io`.
    fn copy_to(&mut self, file: &std::path::Path, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let _ = (file, progress);
        Err(Error::new(Kind::Unsupported, "copy the store", "it is not in a file")
            .with_target(self.location().to_owned())
            .with_hint("make a backup with the database's own tools"))
    }
}

/// Creates a store at `url` (`sqlite:///path`, a plain path, or `postgres://host/database`). It has no genesis yet.
///
/// # Errors
/// `Conflict` when there is one already; `Store` and `Io`.
pub fn create(url: &str) -> Result<Box<dyn Store>> {
    #[cfg(feature = "postgres")]
    if postgres::uri::is_postgres(url) {
        return Ok(Box::new(postgres::PostgresStore::create(url)?));
    }
    Ok(Box::new(sqlite::SqliteStore::create(&sqlite_path(url)?)?))
}

/// Keeps other processes from creating a store at `url` until the result is dropped. A database does so by itself.
///
/// # Errors
/// `Conflict` when another process is about to; `Io`.
pub(crate) fn reserve(url: &str) -> Result<Option<std::fs::File>> {
    #[cfg(feature = "postgres")]
    if postgres::uri::is_postgres(url) {
        return Ok(None);
    }
    sqlite::reserve(&sqlite_path(url)?).map(Some)
}

/// Removes a store that was created and came to nothing.
///
/// # Errors
/// `Io`; a database's.
pub(crate) fn remove(url: &str) -> Result<()> {
    #[cfg(feature = "postgres")]
    if postgres::uri::is_postgres(url) {
        return postgres::PostgresStore::open(url)?.remove();
    }
    sqlite::remove(&sqlite_path(url)?)
}

/// Opens the store at `url`.
///
/// # Errors
/// `Store` when it is missing, empty, not a store, of a newer format or unreadable.
pub fn open(url: &str) -> Result<Box<dyn Store>> {
    #[cfg(feature = "postgres")]
    if postgres::uri::is_postgres(url) {
        return Ok(Box::new(postgres::PostgresStore::open(url)?));
    }
    Ok(Box::new(sqlite::SqliteStore::open(&sqlite_path(url)?)?))
}

/// Where the store at `url` is, as [`Store::location`] tells it.
///
/// # Errors
/// `Unsupported` for another scheme.
pub(crate) fn location(url: &str) -> Result<String> {
    #[cfg(feature = "postgres")]
    if postgres::uri::is_postgres(url) {
        return postgres::uri::location(url);
    }
    Ok(sqlite::location(&sqlite_path(url)?))
}

/// The path of a `sqlite://` URL, or of a plain path.
///
/// # Errors
/// `Unsupported` for another scheme.
pub fn sqlite_path(url: &str) -> Result<std::path::PathBuf> {
    let Some((scheme, path)) = url.split_once("://") else { return Ok(url.into()) };
    let message = match scheme {
        "sqlite" => return Ok(path.into()),
        "postgres" | "postgresql" if cfg!(feature = "postgres") => {
            "that is a database, and no file".to_owned()
        }
        _ => format!("this build does not support `{scheme}` stores"),
    };
    // What comes after may hold a password.
    Err(Error::new(Kind::Unsupported, "open the store", message)
        .with_target(crate::error::printable(&format!("{scheme}://…")))
        .with_hint("use sqlite:///path/to/store.sqlite"))
}
