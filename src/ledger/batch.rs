//! A batch: one COSE_Sign1 over consecutive statements (docs/reference/format.md, section 4).

use super::cbor::{Malformed, Reader, Writer};
use super::envelope::{Envelope, Signed};
use super::id::{DeviceId, Hash, StoreId};
use super::signature::SignatureAlgorithm;
use super::{LogPosition, MAX_BATCH, merkle};
use crate::device::PublicKey;

const VERSION: u64 = 1;

/// What an author signs: the statements and the position they follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The store's id, in the genesis batch too.
    pub store: StoreId,
    /// The author: the device whose key signs.
    pub author: DeviceId,
    /// The number of statements, 1 to [`MAX_BATCH`].
    pub size: u64,
    /// RFC 6962 root over the statements.
    pub root: Hash,
    /// The last position that its author had verified.
    pub seen: LogPosition,
    /// The head of the admin subject when its author signed.
    pub admin_head: Hash,
}

/// A batch with its signature, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBatch {
    /// What is signed.
    pub batch: Batch,
    envelope: Envelope,
}

impl Batch {
    /// A batch over statements with these hashes.
    pub fn over(
        store: StoreId,
        author: DeviceId,
        leaves: &[Hash],
        seen: LogPosition,
        admin_head: Hash,
    ) -> Self {
        Self { store, author, size: leaves.len() as u64, root: merkle::root(leaves), seen, admin_head }
    }

    fn payload(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(7).uint(VERSION).bytes(&self.store.0).uint(self.size).bytes(&self.root.0);
        w.uint(self.seen.n).bytes(&self.seen.chain.0).bytes(&self.admin_head.0);
        w.finish()
    }

    fn read(author: DeviceId, payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(payload);
        let len = r.array("a batch")?;
        match r.uint("a batch's version")? {
            VERSION if len == 7 => {}
            VERSION => return Err(Malformed("a batch")),
            _ => return Err(super::cbor::NEWER),
        }
        let batch = Self {
            store: StoreId(r.fixed("a store id")?),
            author,
            size: r.uint("a size")?,
            root: Hash(r.fixed("a root")?),
            seen: LogPosition { n: r.uint("a position")?, chain: Hash(r.fixed("a chain value")?) },
            admin_head: Hash(r.fixed("an admin head")?),
        };
        r.end()?;
        if !(1..=MAX_BATCH as u64).contains(&batch.size) {
            return Err(Malformed("a batch's size"));
        }
        if batch.payload() == payload { Ok(batch) } else { Err(Malformed("CBOR that is not deterministic")) }
    }

    /// SHA-256 or SHA-384 of the COSE `Sig_structure` (RFC 9052 §4.4): what the device signs.
    pub fn digest(&self, by: SignatureAlgorithm) -> Vec<u8> {
        Signed::Batch.digest(by, self.author, self.payload())
    }

    /// Adds the device's signature. ECDSA signatures are normalized to low s.
    ///
    /// # Errors
    /// When r or s is not a scalar of the curve, or the length is none of the algorithm's.
    pub fn sign_with(self, by: SignatureAlgorithm, signature: &[u8]) -> Result<SignedBatch, Malformed> {
        let envelope = Envelope::sign_with(Signed::Batch, by, self.author, self.payload(), signature)?;
        Ok(SignedBatch { batch: self, envelope })
    }
}

impl Envelope {
    /// Reads the payload as a batch's.
    ///
    /// # Errors
    /// The malformed element.
    pub fn batch(&self) -> Result<Batch, Malformed> {
        Batch::read(self.author, self.payload())
    }
}

impl SignedBatch {
    /// Canonical COSE_Sign1 bytes, untagged.
    pub fn encode(&self) -> Vec<u8> {
        self.envelope.encode()
    }

    /// Parses envelope and payload.
    ///
    /// # Errors
    /// As [`Envelope::decode`] and [`Envelope::batch`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let envelope = Envelope::decode(bytes, Signed::Batch)?;
        envelope.batch().map(|batch| Self { batch, envelope })
    }

    /// Whether the signature is `key`'s.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.envelope.is_signed_by(key)
    }
}
