//! A checkpoint: a witness's word that a store stood at a position at a time (docs/reference/format.md, section 10).

use super::LogPosition;
use super::body::Role;
use super::cbor::{Malformed, Reader, Writer};
use super::envelope::{Envelope, Signed};
use super::id::{DeviceId, Hash, StoreId};
use super::signature::SignatureAlgorithm;
use super::verify::Chain;
use crate::device::PublicKey;
use crate::error::Result as ViewResult;

const VERSION: u64 = 1;

/// How far a witness's clock may be ahead of a reader's, in milliseconds.
pub const MAX_AHEAD: u64 = 5 * 60 * 1000;

/// Where one device's lines of the access log end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessHead {
    /// How many lines name the device.
    pub count: u64,
    /// The chain after the last of them.
    pub chain: Hash,
}

impl AccessHead {
    /// Of a device that no line names.
    pub const EMPTY: Self = Self { count: 0, chain: Hash::ZERO };
}

/// What a witness signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The store's id.
    pub store: StoreId,
    /// The witness: the device whose key signs.
    pub witness: DeviceId,
    /// The end of a batch, and the chain's value there.
    pub position: LogPosition,
    /// The RFC 6962 root over the statements up to there.
    pub root: Hash,
    /// The witness's clock, in milliseconds since 1970.
    pub time: u64,
    /// The witness's own lines of the access log.
    pub accesses: AccessHead,
}

/// A checkpoint with its signature, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What is signed.
    pub checkpoint: Checkpoint,
    envelope: Envelope,
}

/// What a reader makes of a checkpoint at the end of what it has verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as if there were none, for this reason.
    Ignored(&'static str),
    /// It stands on another history than the one that was verified.
    Forked,
    /// It names a position that was not reached.
    Withheld,
    /// It agrees with what was verified.
    Agrees,
}

/// Whether a checkpoint's time is right for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Not older than asked for, and not ahead.
    Fresh,
    /// Older than asked for.
    Old,
    /// More than [`MAX_AHEAD`] after the reader's clock.
    Ahead,
}

impl Checkpoint {
    /// Whether its time is right: `clock` is the reader's, `newest` the newest time of its ledger.
    pub fn freshness(&self, clock: u64, newest: u64, max_age: u64) -> Freshness {
        if self.time > clock.saturating_add(MAX_AHEAD) {
            Freshness::Ahead
        } else if self.time < clock.max(newest).saturating_sub(max_age) {
            Freshness::Old
        } else {
            Freshness::Fresh
        }
    }

    fn payload(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(7).uint(VERSION).bytes(&self.store.0);
        w.uint(self.position.n).bytes(&self.position.chain.0).bytes(&self.root.0).uint(self.time);
        w.array(2).uint(self.accesses.count).bytes(&self.accesses.chain.0);
        w.finish()
    }

    fn read(witness: DeviceId, payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(payload);
        let len = r.array("a checkpoint")?;
        match r.uint("a checkpoint's version")? {
            VERSION if len == 7 => {}
            VERSION => return Err(Malformed("a checkpoint")),
            _ => return Err(super::cbor::NEWER),
        }
        let store = StoreId(r.fixed("a store id")?);
        let position = LogPosition { n: r.uint("a position")?, chain: Hash(r.fixed("a chain value")?) };
        let (root, time) = (Hash(r.fixed("a root")?), r.uint("a time")?);
        r.array_of(2, "an access log's head")?;
        let accesses = AccessHead { count: r.uint("a count")?, chain: Hash(r.fixed("a chain value")?) };
        r.end()?;
        let checkpoint = Self { store, witness, position, root, time, accesses };
        match checkpoint.payload() == payload {
            true => Ok(checkpoint),
            false => Err(Malformed("CBOR that is not deterministic")),
        }
    }

    /// SHA-256 or SHA-384 of the COSE `Sig_structure` (RFC 9052 §4.4): what the device signs.
    pub fn digest(&self, by: SignatureAlgorithm) -> Vec<u8> {
        Signed::Checkpoint.digest(by, self.witness, self.payload())
    }

    /// Adds the device's signature. ECDSA signatures are normalized to low s.
    ///
    /// # Errors
    /// When r or s is not a scalar of the curve, or the length is none of the algorithm's.
    pub fn sign_with(self, by: SignatureAlgorithm, signature: &[u8]) -> Result<SignedCheckpoint, Malformed> {
        let envelope = Envelope::sign_with(Signed::Checkpoint, by, self.witness, self.payload(), signature)?;
        Ok(SignedCheckpoint { checkpoint: self, envelope })
    }

    /// The text of a C2SP tlog-checkpoint without its signatures: origin, size and root, a line each.
    pub fn tlog_text(&self) -> String {
        use base64::Engine;
        let root = base64::engine::general_purpose::STANDARD.encode(self.root.0);
        format!("strongroom/{}\n{}\n{root}\n", self.store, self.position.n)
    }
}

impl SignedCheckpoint {
    /// Canonical COSE_Sign1 bytes, untagged.
    pub fn encode(&self) -> Vec<u8> {
        self.envelope.encode()
    }

    /// Parses envelope and payload.
    ///
    /// # Errors
    /// The malformed element; [`super::NEWER_FORMAT`] for a version that this program does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let envelope = Envelope::decode(bytes, Signed::Checkpoint)?;
        let checkpoint = Checkpoint::read(envelope.author, envelope.payload())?;
        Ok(Self { checkpoint, envelope })
    }

    /// Whether the signature is `key`'s.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.envelope.is_signed_by(key)
    }

    /// Judges it at the end of `chain`. `taken` is the greatest position that this reader took from the same device, 0
    /// if it never did.
    ///
    /// # Errors
    /// The view's.
    pub fn judge(&self, taken: u64, chain: &impl Chain) -> ViewResult<Verdict> {
        let at = self.checkpoint.position;
        let device = chain.device(&self.checkpoint.witness)?.filter(|device| !device.retired);
        let Some(device) = device.filter(|device| device.roles.contains(&Role::Witness)) else {
            return Ok(Verdict::Ignored("its device is no witness"));
        };
        if self.checkpoint.store != chain.store() {
            return Ok(Verdict::Ignored("it belongs to another store"));
        }
        if !self.is_signed_by(&device.signing) {
            return Ok(Verdict::Ignored("its signature is not the device's"));
        }
        if at.n < taken {
            return Ok(Verdict::Ignored("it is older than one that was seen before"));
        }
        if at.n > chain.position().n {
            return Ok(Verdict::Withheld);
        }
        let root = chain.root_at(at.n)?.filter(|_| at.n > 0);
        Ok(match (root, chain.chain_at(at.n)?) {
            (Some(root), Some(value)) if (root, value) == (self.checkpoint.root, at.chain) => Verdict::Agrees,
            (Some(_), Some(_)) => Verdict::Forked,
            _ => Verdict::Ignored("it names no end of a batch"),
        })
    }
}
