//! Whether a batch is what an enrolled device signed, here and nowhere else (docs/format.md, sections 4 and 5).

use super::batch::SignedBatch;
use super::body::{Body, Role};
use super::fault::{Ineffective, Tampering};
use super::id::{Hash, StoreId};
use super::judge::{DeviceState, Picture, enrolment_in_form};
use super::statement::Statement;
use super::{Batch, Position, leaf, merkle};
use crate::device::PublicKey;
use crate::error::{Error, Result};

/// A batch as a store hands it out: untrusted bytes.
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
    /// Why none of the statements has an effect, where that is so.
    pub verdict: std::result::Result<(), Ineffective>,
    /// The position after it.
    pub end: Position,
}

/// Where verification stands.
pub trait Chain: Picture {
    /// The store's id.
    fn store(&self) -> StoreId;
    /// The last verified position.
    fn position(&self) -> Position;
    /// chain(n), when `n` is 0 or the end of a verified batch.
    fn chain_at(&self, n: u64) -> Result<Option<Hash>>;
}

/// Why a batch was not accepted.
#[derive(Debug)]
pub enum Fault {
    /// The store was altered.
    Tampering(Tampering),
    /// The picture could not be read.
    Picture(Error),
}

impl From<Tampering> for Fault {
    fn from(tampering: Tampering) -> Self {
        Self::Tampering(tampering)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Picture(error)
    }
}

/// Checks the batch that should come next on `chain`.
///
/// # Errors
/// `Fault::Tampering` when anything is not as its author signed it; `Fault::Picture` when the picture fails.
pub fn check_batch(stored: &StoredBatch, chain: &impl Chain) -> std::result::Result<CheckedBatch, Fault> {
    let first = chain.position().n + 1;
    if stored.first != first {
        return Err(Tampering::Gap { expected: first, found: stored.first }.into());
    }
    let signed = SignedBatch::decode(&stored.sign1).map_err(|e| Tampering::Batch { first, what: e.0 })?;
    let leaves: Vec<Hash> = stored.statements.iter().map(|bytes| leaf(bytes)).collect();
    if leaves.len() as u64 != signed.batch.size || merkle::root(&leaves) != signed.batch.root {
        return Err(Tampering::Contents { first }.into());
    }
    if signed.batch.store != chain.store() {
        return Err(Tampering::OtherStore { n: first }.into());
    }
    // The signature comes before the statements: nobody but an enrolled device can make a reader believe that they are of a
    // newer format.
    let enrolled = match first {
        1 if leaves[0].0 != chain.store().0 => return Err(not_ours().into()),
        1 => None,
        _ => Some(enrolled_author(&signed, first, chain)?),
    };
    let statements = decode(stored, &signed.batch)?;
    let author = match enrolled {
        Some(author) => author,
        None => first_author(&statements, leaves[0], &signed)?,
    };
    check_seen(&signed.batch, first, chain)?;
    let verdict = judge_batch(&signed.batch, &author, &statements, chain)?;
    let end = leaves.iter().fold(chain.position(), |position, leaf| position.after(*leaf));
    let statements = statements.into_iter().zip(leaves).collect();
    Ok(CheckedBatch { batch: signed.batch, author, statements, verdict, end })
}

/// The device that the `kid` names, once the signature is known to be its own.
fn enrolled_author(
    signed: &SignedBatch,
    first: u64,
    chain: &impl Chain,
) -> std::result::Result<DeviceState, Fault> {
    let device = signed.batch.author;
    let author = chain.device(&device)?.ok_or(Tampering::UnknownDevice { first, device })?;
    match signed.is_signed_by(&author.signing) {
        true => Ok(author),
        false => Err(Tampering::Signature { first, device }.into()),
    }
}

fn decode(stored: &StoredBatch, batch: &Batch) -> std::result::Result<Vec<Statement>, Tampering> {
    (stored.first..)
        .zip(&stored.statements)
        .map(|(n, bytes)| {
            let statement = Statement::decode(bytes).map_err(|e| Tampering::Statement { n, what: e.0 })?;
            if statement.author != batch.author {
                return Err(Tampering::Author { n });
            }
            let expected = if n == 1 { StoreId::UNBORN } else { batch.store };
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

/// The first batch is the genesis statement and the enrolment of the device it names; the store id is its hash.
fn first_author(
    statements: &[Statement],
    first: Hash,
    signed: &SignedBatch,
) -> std::result::Result<DeviceState, Tampering> {
    let batch = &signed.batch;
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
    if enrol.signing.key != PublicKey::P256(genesis.signing) {
        return wrong("it names another signing key");
    }
    if !enrol.roles.contains(&Role::Admin) || enrolment_in_form(enrol).is_err() {
        return wrong("the enrolment is not allowed");
    }
    if batch.admin_head != Hash::ZERO || statements[0].advances[0].1 != Hash::ZERO {
        return wrong("something is said to come before it");
    }
    let expected = [first, Hash::ZERO];
    if !advances.iter().map(|(_, prev)| *prev).eq(expected) {
        return wrong("the enrolment does not follow it");
    }
    if !signed.is_signed_by(&genesis.signing) {
        return Err(Tampering::Signature { first: 1, device: batch.author });
    }
    Ok(DeviceState {
        name: enrol.name.clone(),
        signing: genesis.signing,
        opening: enrol.opening.key.clone(),
        roles: vec![Role::Admin],
        retired: false,
    })
}

fn not_ours() -> Tampering {
    Tampering::Genesis { what: "its hash is not the store's id" }
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
    let directly = batch.seen == chain.position();
    Ok(if author.retired {
        Err(Ineffective::Retired)
    } else if admin > 0 && (admin < statements.len() || !directly) {
        Err(Ineffective::AdminBatch)
    } else if batch.admin_head != chain.head(&super::Subject::Store)? {
        Err(Ineffective::StaleAdminHead)
    } else {
        Ok(())
    })
}
