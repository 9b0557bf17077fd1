//! Signatures as batches carry them: ES256 and ES384 (RFC 9053 §2.1), r ‖ s with low s, and PS256 (RFC 8230 §2).

use crate::device::{PublicKey, RSA_BYTES};
use coset::iana;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use sha2::{Digest, Sha256, Sha384};

/// The signature algorithm of a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// P-256 with SHA-256: signatures of 64 bytes.
    Es256,
    /// P-384 with SHA-384: signatures of 96 bytes.
    Es384,
    /// RSASSA-PSS with SHA-256 and a salt of 32 bytes: signatures as long as the modulus, 256 to 512 bytes.
    Ps256,
}

impl SignatureAlgorithm {
    /// The algorithm of a signing key; `None` for a key that cannot sign.
    pub fn from_key(key: &PublicKey) -> Option<Self> {
        match key {
            PublicKey::P256(_) => Some(Self::Es256),
            PublicKey::P384(_) => Some(Self::Es384),
            PublicKey::RsaPss { .. } => Some(Self::Ps256),
            PublicKey::Rsa { .. } | PublicKey::Aes256 { .. } => None,
        }
    }

    /// The algorithm of a signature, by its length.
    pub(super) fn from_signature(signature: &[u8]) -> Option<Self> {
        match signature.len() {
            64 => Some(Self::Es256),
            96 => Some(Self::Es384),
            bytes if RSA_BYTES.contains(&bytes) => Some(Self::Ps256),
            _ => None,
        }
    }

    pub(super) fn cose(self) -> iana::Algorithm {
        match self {
            Self::Es256 => iana::Algorithm::ES256,
            Self::Es384 => iana::Algorithm::ES384,
            Self::Ps256 => iana::Algorithm::PS256,
        }
    }

    pub(super) fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Es256 | Self::Ps256 => Sha256::digest(message).to_vec(),
            Self::Es384 => Sha384::digest(message).to_vec(),
        }
    }

    /// The signature in its stored form (ECDSA: low s); `None` if it is not of this algorithm.
    pub(super) fn canonical(self, signature: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Es256 => {
                let signature = p256::ecdsa::Signature::from_slice(signature).ok()?;
                Some(signature.normalize_s().unwrap_or(signature).to_bytes().to_vec())
            }
            Self::Es384 => {
                let signature = p384::ecdsa::Signature::from_slice(signature).ok()?;
                Some(signature.normalize_s().unwrap_or(signature).to_bytes().to_vec())
            }
            Self::Ps256 => (Self::from_signature(signature) == Some(self)).then(|| signature.to_vec()),
        }
    }

    pub(super) fn verifies(self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        let verified = match (self, key) {
            (Self::Es256, PublicKey::P256(point)) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Self::Es384, PublicKey::P384(point)) => {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature)
            }
            (Self::Ps256, PublicKey::RsaPss { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, message, signature)
            }
            _ => return false,
        };
        verified.is_ok()
    }
}
