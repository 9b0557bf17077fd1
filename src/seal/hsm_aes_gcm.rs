//! `strongroom/hsm-aes-gcm <key tag> <iv>`: the file key under AES-256-GCM inside an HSM, for devices that do not
//! export an ECDH secret. There is no public half, so sealing asks the device too.

use super::{TAG_BYTES, decoded, encoded, first_four};
use crate::device::PrivateOperation;
use age_core::format::Stanza;
use sha2::{Digest, Sha256};

/// The stanza's type.
pub(super) const TYPE: &str = "strongroom/hsm-aes-gcm";

/// A well-formed stanza.
pub(super) struct HsmAesGcm {
    tag: [u8; 4],
    iv: [u8; 12],
    body: Vec<u8>,
}

impl HsmAesGcm {
    pub(super) fn new(id: &[u8; 16], iv: [u8; 12], body: Vec<u8>) -> Self {
        Self { tag: key_tag(id), iv, body }
    }

    /// A stanza that seals so many bytes.
    pub(super) fn from_stanza(stanza: &Stanza, secret_bytes: usize) -> Option<Self> {
        let [tag, iv] = stanza.args.as_slice() else { return None };
        let body = Some(stanza.body.clone()).filter(|body| body.len() == secret_bytes + TAG_BYTES)?;
        Some(Self { tag: decoded(tag)?, iv: decoded(iv)?, body })
    }

    pub(super) fn to_stanza(&self) -> Stanza {
        Stanza {
            tag: TYPE.into(),
            args: vec![encoded(&self.tag), encoded(&self.iv)],
            body: self.body.clone(),
        }
    }

    /// Whether the stanza has this key's tag. It has four bytes, so other keys may share it.
    pub(super) fn is_for(&self, id: &[u8; 16]) -> bool {
        self.tag == key_tag(id)
    }

    /// The challenge for the device. `aad` is the context's line, which binds a wrapped file key to one version.
    pub(super) fn challenge<'a>(&'a self, aad: &'a str) -> PrivateOperation<'a> {
        PrivateOperation::AesGcm { iv: &self.iv, aad: aad.as_bytes(), ciphertext: &self.body }
    }
}

/// The first 4 bytes of SHA-256(stanza type ‖ `CKA_ID`).
fn key_tag(id: &[u8; 16]) -> [u8; 4] {
    first_four(&Sha256::new().chain_update(TYPE).chain_update(id).finalize())
}
