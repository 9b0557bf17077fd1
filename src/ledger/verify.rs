//! Verifying batches: each must be what an enrolled device signed, at this position (docs/reference/format.md, sections
//! 4 and 5).

use super::body::{Body, Role};
use super::cbor::{Malformed, NEWER};
use super::envelope::{Envelope, Signed};
use super::error::{Ineffective, Tampering};
use super::id::{Hash, StoreId};
use super::judge::{DeviceState, LedgerView, enrolment_in_form};
use super::statement::Statement;
use super::{Batch, LogPosition, MAX_BATCH_BYTES, leaf, merkle};
use crate::device::PublicKey;
use crate::error::{Error, Result};

/// A batch from a store: untrusted bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    /// The position of its first statement, as the store says.
    pub first: u64,
    /// COSE_Sign1.
    pub sign1: Vec<u8>,
    /// The statements, in order.
    pub statements: Vec<Vec<u8>>,
}

/// A batch that is no tampering.
#[derive(Debug)]
pub struct CheckedBatch {
    /// What was signed.
    pub batch: Batch,
    /// The author as of the batch.
    pub author: DeviceState,
    /// Each statement with its hash.
    pub statements: Vec<(Statement, Hash)>,
    /// Why none of its statements has an effect, if so.
    pub verdict: std::result::Result<(), Ineffective>,
    /// The position after it.
    pub end: LogPosition,
}

/// Where verification stands.
pub trait Chain: LedgerView {
    /// The store's id.
    fn store(&self) -> StoreId;
    /// The last verified position.
    fn position(&self) -> LogPosition;
    /// chain(n), if `n` is 0 or the end of a verified batch.
    fn chain_at(&self, n: u64) -> Result<Option<Hash>>;
    /// The RFC 6962 root over the statements up to `n`, if that is the end of a verified batch.
    fn root_at(&self, n: u64) -> Result<Option<Hash>>;
}

/// Why a batch was not accepted.
#[derive(Debug)]
pub enum Fault {
    /// The store was altered.
    Tampering(Tampering),
    /// The verified state could not be read.
    View(Error),
}

impl From<Tampering> for Fault {
    fn from(tampering: Tampering) -> Self {
        Self::Tampering(tampering)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::View(error)
    }
}

/// Checks the batch that should come next on `chain`.
///
/// # Errors
/// `Fault::Tampering` when anything differs from what its author signed; `Fault::View` when the view fails.
pub fn check_batch(stored: &StoredBatch, chain: &impl Chain) -> std::result::Result<CheckedBatch, Fault> {
    let first = chain.position().n + 1;
    if stored.first != first {
        return Err(Tampering::Gap { expected: first, found: stored.first }.into());
    }
    if stored.statements.iter().map(Vec::len).sum::<usize>() > MAX_BATCH_BYTES {
        return Err(Tampering::Batch { first, what: "more than 16 MiB of statements" }.into());
    }
    let envelope =
        Envelope::decode(&stored.sign1, Signed::Batch).map_err(|e| Tampering::Batch { first, what: e.0 })?;
    let leaves: Vec<Hash> = stored.statements.iter().map(|bytes| leaf(bytes)).collect();
    let known = match first {
        1 => None,
        _ => Some(
            chain
                .device(&envelope.author)?
                .ok_or(Tampering::UnknownDevice { first, device: envelope.author })?,
        ),
    };
    let key = match &known {
        Some(author) => author.signing.clone(),
        None => genesis_key(stored, &leaves, chain.store())?,
    };
    // Check this before parsing signed bytes: only an admin's device may claim a newer format, or any device that was ever
    // enrolled could stop everybody for good.
    if !envelope.is_signed_by(&key) {
        return Err(Tampering::Signature { first, device: envelope.author }.into());
    }
    let by_admin = known.as_ref().is_none_or(|author| author.roles.contains(&Role::Admin));
    let batch = envelope.batch().map_err(|e| Tampering::Batch { first, what: believed(e, by_admin) })?;
    if leaves.len() as u64 != batch.size || merkle::root(&leaves) != batch.root {
        return Err(Tampering::Contents { first }.into());
    }
    let statements = decode(stored, &batch, chain.store(), by_admin)?;
    let author = match known {
        Some(author) => author,
        None => first_author(&statements, &leaves, &batch)?,
    };
    check_seen(&batch, first, chain)?;
    let verdict = judge_batch(&batch, &author, &statements, chain)?;
    let end = leaves.iter().fold(chain.position(), |position, leaf| position.after(*leaf));
    let statements = statements.into_iter().zip(leaves).collect();
    Ok(CheckedBatch { batch, author, statements, verdict, end })
}

fn decode(
    stored: &StoredBatch,
    batch: &Batch,
    store: StoreId,
    by_admin: bool,
) -> std::result::Result<Vec<Statement>, Tampering> {
    if batch.store != store {
        return Err(Tampering::OtherStore { n: stored.first });
    }
    (stored.first..)
        .zip(&stored.statements)
        .map(|(n, bytes)| {
            let statement = Statement::decode(bytes)
                .map_err(|e| Tampering::Statement { n, what: believed(e, by_admin) })?;
            if statement.author != batch.author {
                return Err(Tampering::Author { n });
            }
            let expected = if n == 1 { StoreId::ZERO } else { store };
            if statement.store != expected {
                return Err(Tampering::OtherStore { n });
            }
            match (&statement.body, n) {
                (Body::Genesis(_), 2..) => Err(Tampering::Genesis { what: "a second genesis" }),
                _ => Ok(statement),
            }
        })
        .collect()
}

/// What is wrong with bytes: a newer format, if an admin signed them, else nothing that a repair would have to keep.
fn believed(malformed: Malformed, by_admin: bool) -> &'static str {
    match malformed {
        NEWER if !by_admin => "a value of a newer format, which only an admin's device may begin",
        Malformed(what) => what,
    }
}

/// The signing key in the genesis statement, whose hash is the store's id.
fn genesis_key(
    stored: &StoredBatch,
    leaves: &[Hash],
    store: StoreId,
) -> std::result::Result<PublicKey, Tampering> {
    let [bytes, ..] = stored.statements.as_slice() else {
        return Err(Tampering::Contents { first: stored.first });
    };
    if leaves[0].0 != store.0 {
        return Err(Tampering::Genesis { what: "its hash is not the store's id" });
    }
    match Statement::decode(bytes).map_err(|e| Tampering::Statement { n: 1, what: e.0 })?.body {
        Body::Genesis(genesis) => Ok(genesis.signing),
        _ => Err(Tampering::Genesis { what: "another statement stands there" }),
    }
}

/// The first batch is the genesis statement and the enrolment of the device it names.
fn first_author(
    statements: &[Statement],
    leaves: &[Hash],
    batch: &Batch,
) -> std::result::Result<DeviceState, Tampering> {
    let wrong = |what| Err(Tampering::Genesis { what });
    let [
        Statement { body: Body::Genesis(genesis), .. },
        Statement { body: Body::Enrol(enrol), advances, .. },
    ] = statements
    else {
        return wrong("other statements stand there");
    };
    if genesis.device != batch.author || enrol.device != genesis.device {
        return wrong("it names another device");
    }
    if enrol.signing.key != genesis.signing {
        return wrong("it names another signing key");
    }
    if !enrol.roles.contains(&Role::Admin) || enrolment_in_form(enrol).is_err() {
        return wrong("the enrolment is not allowed");
    }
    if batch.admin_head != Hash::ZERO || statements[0].advances[0].1 != Hash::ZERO {
        return wrong("something is said to come before it");
    }
    let expected = [leaves[0]];
    if !advances.iter().map(|(_, prev)| *prev).eq(expected) {
        return wrong("the enrolment does not follow it");
    }
    Ok(DeviceState {
        name: enrol.name.clone(),
        signing: genesis.signing.clone(),
        opening: enrol.opening.key.clone(),
        roles: vec![Role::Admin],
        retired: false,
        compromised: false,
    })
}

fn check_seen(batch: &Batch, first: u64, chain: &impl Chain) -> std::result::Result<(), Fault> {
    let seen = batch.seen;
    let ours = if seen.n < first { chain.chain_at(seen.n)? } else { None };
    if ours == Some(seen.chain) {
        return Ok(());
    }
    Err(Tampering::Seen { first, seen: seen.n, chain: seen.chain }.into())
}

fn judge_batch(
    batch: &Batch,
    author: &DeviceState,
    statements: &[Statement],
    chain: &impl Chain,
) -> Result<std::result::Result<(), Ineffective>> {
    let admin = statements.iter().filter(|s| s.body.is_admin()).count();
    let elsewhere = batch.seen != chain.position();
    Ok(if author.retired {
        Err(Ineffective::Retired)
    } else if admin > 0 && admin < statements.len() {
        Err(Ineffective::AdminBatch)
    } else if elsewhere && statements.iter().any(|s| s.body.follows_directly()) {
        Err(Ineffective::Elsewhere)
    } else if batch.admin_head != chain.head(&super::Subject::Store)? {
        Err(Ineffective::StaleAdminHead)
    } else {
        Ok(())
    })
}
