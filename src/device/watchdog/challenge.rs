//! A challenge that can go to another thread.

use crate::device::{Challenge, OaepHash};

/// [`Challenge`], owned.
pub enum OwnedChallenge {
    Ecdh { peer: Vec<u8> },
    Oaep { hash: OaepHash, ciphertext: Vec<u8> },
    AesGcm { iv: [u8; 12], aad: Vec<u8>, ciphertext: Vec<u8> },
}

impl From<Challenge<'_>> for OwnedChallenge {
    fn from(challenge: Challenge<'_>) -> Self {
        match challenge {
            Challenge::Ecdh { peer } => Self::Ecdh { peer: peer.into() },
            Challenge::Oaep { hash, ciphertext } => Self::Oaep { hash, ciphertext: ciphertext.into() },
            Challenge::AesGcm { iv, aad, ciphertext } => {
                Self::AesGcm { iv: *iv, aad: aad.into(), ciphertext: ciphertext.into() }
            }
        }
    }
}

impl OwnedChallenge {
    /// In the driver's form.
    pub fn borrow(&self) -> Challenge<'_> {
        match self {
            Self::Ecdh { peer } => Challenge::Ecdh { peer },
            Self::Oaep { hash, ciphertext } => Challenge::Oaep { hash: *hash, ciphertext },
            Self::AesGcm { iv, aad, ciphertext } => Challenge::AesGcm { iv, aad, ciphertext },
        }
    }
}
