//! A device's signature over a payload: one COSE_Sign1 (docs/reference/format.md, section 4).

use super::cbor::Malformed;
use super::id::DeviceId;
use super::signature::SignatureAlgorithm;
use crate::device::PublicKey;
use coset::{CborSerializable, CoseSign1, CoseSign1Builder, HeaderBuilder};

/// An upper bound for a COSE_Sign1, which holds a payload of fixed-size parts and a signature.
pub const MAX_SIGN1_BYTES: usize = 1024;

/// What a signature is over. It is part of what is signed, so that no signature counts for anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// A batch of statements.
    Batch,
    /// A checkpoint.
    Checkpoint,
}

/// A signature over a payload whose format may be newer than this program.
///
/// It is checked before the payload is parsed, so that only an enrolled device can claim a newer version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The `kid`.
    pub author: DeviceId,
    payload: Vec<u8>,
    to_be_signed: Vec<u8>,
    algorithm: SignatureAlgorithm,
    signature: Vec<u8>,
}

impl Signed {
    fn external_aad(self) -> &'static [u8] {
        match self {
            Self::Batch => b"strongroom/batch/1",
            Self::Checkpoint => b"strongroom/checkpoint/1",
        }
    }

    /// SHA-256 or SHA-384 of the COSE `Sig_structure` (RFC 9052 §4.4): what the device signs.
    pub(super) fn digest(self, by: SignatureAlgorithm, author: DeviceId, payload: Vec<u8>) -> Vec<u8> {
        by.digest(&unsigned(by, author, payload).tbs_data(self.external_aad()))
    }
}

fn unsigned(by: SignatureAlgorithm, author: DeviceId, payload: Vec<u8>) -> CoseSign1 {
    let protected = HeaderBuilder::new().algorithm(by.cose()).key_id(author.0.to_vec()).build();
    CoseSign1Builder::new().protected(protected).payload(payload).build()
}

impl Envelope {
    /// Adds a device's signature to a payload. ECDSA signatures are normalized to low s.
    ///
    /// # Errors
    /// When r or s is not a scalar of the curve, or the length is none of the algorithm's.
    pub(super) fn sign_with(
        what: Signed,
        by: SignatureAlgorithm,
        author: DeviceId,
        payload: Vec<u8>,
        signature: &[u8],
    ) -> Result<Self, Malformed> {
        let signature = by.canonical(signature).ok_or(Malformed("a signature"))?;
        Ok(Self::from_parts(what, by, author, payload, signature))
    }

    fn from_parts(
        what: Signed,
        algorithm: SignatureAlgorithm,
        author: DeviceId,
        payload: Vec<u8>,
        signature: Vec<u8>,
    ) -> Self {
        let to_be_signed = unsigned(algorithm, author, payload.clone()).tbs_data(what.external_aad());
        Self { author, payload, to_be_signed, algorithm, signature }
    }

    /// Canonical COSE_Sign1 bytes, untagged.
    pub(super) fn encode(&self) -> Vec<u8> {
        let unsigned = unsigned(self.algorithm, self.author, self.payload.clone());
        let sign1 = CoseSign1 { signature: self.signature.clone(), ..unsigned };
        // Encoding fixed-size parts in memory cannot fail; an empty result would not decode.
        sign1.to_vec().unwrap_or_default()
    }

    /// Parses a COSE_Sign1 in exactly the specified form. What it is over shows in the signature alone.
    ///
    /// # Errors
    /// The malformed element, including a high s.
    pub fn decode(bytes: &[u8], what: Signed) -> Result<Self, Malformed> {
        if bytes.len() > MAX_SIGN1_BYTES {
            return Err(Malformed("a COSE_Sign1 that is too long"));
        }
        let sign1 = CoseSign1::from_slice(bytes).map_err(|_| Malformed("a COSE_Sign1"))?;
        let author = DeviceId::from_slice(&sign1.protected.header.key_id).ok_or(Malformed("a key id"))?;
        let payload = sign1.payload.ok_or(Malformed("a COSE payload"))?;
        let signature = sign1.signature;
        // The comparison below also rejects a header with another algorithm.
        let algorithm = SignatureAlgorithm::from_signature(&signature).ok_or(Malformed("a signature"))?;
        if algorithm.canonical(&signature).ok_or(Malformed("a signature"))? != signature {
            return Err(Malformed("a signature with high s"));
        }
        let envelope = Self::from_parts(what, algorithm, author, payload, signature);
        if envelope.encode() == bytes { Ok(envelope) } else { Err(Malformed("COSE that is not canonical")) }
    }

    /// Whether the signature is `key`'s.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.algorithm.verifies(key, &self.to_be_signed, &self.signature)
    }

    /// What was signed, in its encoding.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }
}
