//! ECDSA as batches are signed with it: ES256 and ES384 (RFC 9053 §2.1), signatures as r ‖ s with low s.

use crate::device::PublicKey;
use coset::iana;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use sha2::{Digest, Sha256, Sha384};

/// Which of the two; a signing key has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecdsa {
    /// P-256 with SHA-256: signatures of 64 bytes.
    Es256,
    /// P-384 with SHA-384: signatures of 96 bytes.
    Es384,
}

impl Ecdsa {
    /// That of a signing key; `None` for a key that signs nothing.
    pub fn of(key: &PublicKey) -> Option<Self> {
        match key {
            PublicKey::P256(_) => Some(Self::Es256),
            PublicKey::P384(_) => Some(Self::Es384),
            PublicKey::Rsa { .. } | PublicKey::Aes256 { .. } => None,
        }
    }

    /// That of a signature, by its length.
    pub(super) fn of_signature(signature: &[u8]) -> Option<Self> {
        match signature.len() {
            64 => Some(Self::Es256),
            96 => Some(Self::Es384),
            _ => None,
        }
    }

    pub(super) fn cose(self) -> iana::Algorithm {
        match self {
            Self::Es256 => iana::Algorithm::ES256,
            Self::Es384 => iana::Algorithm::ES384,
        }
    }

    pub(super) fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Es256 => Sha256::digest(message).to_vec(),
            Self::Es384 => Sha384::digest(message).to_vec(),
        }
    }

    /// The signature with low s; `None` when r or s is no scalar of the curve.
    pub(super) fn with_low_s(self, signature: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Es256 => {
                let signature = p256::ecdsa::Signature::from_slice(signature).ok()?;
                Some(signature.normalize_s().unwrap_or(signature).to_bytes().to_vec())
            }
            Self::Es384 => {
                let signature = p384::ecdsa::Signature::from_slice(signature).ok()?;
                Some(signature.normalize_s().unwrap_or(signature).to_bytes().to_vec())
            }
        }
    }

    pub(super) fn verifies(self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        let (Some(point), true) = (key.point(), Self::of(key) == Some(self)) else { return false };
        let verified = match self {
            Self::Es256 => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature),
            Self::Es384 => UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature),
        };
        verified.is_ok()
    }
}
