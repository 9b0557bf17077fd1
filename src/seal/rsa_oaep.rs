//! `strongroom/rsa-oaep <key tag> <hash>`: the file key under RSA-OAEP (RFC 8017 §7.1), for devices without ECDH.
//!
//! The `rsa` crate is used only to encrypt. Its private-key operations leak the key through timing (RUSTSEC-2023-0071);
//! the device does ours.

use super::{decoded, encoded, first_four, tampered};
use crate::device::{OaepHash, PrivateOperation};
use crate::error::Result;
use age_core::format::Stanza;
use rand_core::OsRng;
use rsa::{BigUint, RsaPublicKey};
use sha2::{Digest, Sha256};

/// The stanza's type.
pub(super) const TYPE: &str = "strongroom/rsa-oaep";

/// The smallest RSA key that may be sealed to. The `rsa` crate refuses keys over 4096 bits.
const MIN_BYTES: usize = 2048 / 8;

/// A well-formed stanza.
pub(super) struct RsaOaep {
    tag: [u8; 4],
    hash: OaepHash,
    ciphertext: Vec<u8>,
}

impl RsaOaep {
    pub(super) fn from_stanza(stanza: &Stanza) -> Option<Self> {
        let [tag, hash] = stanza.args.as_slice() else { return None };
        let hash = [OaepHash::Sha256, OaepHash::Sha1].into_iter().find(|h| name(*h) == hash)?;
        Some(Self { tag: decoded(tag)?, hash, ciphertext: stanza.body.clone() })
    }

    /// Whether the stanza has this key's tag. It has four bytes, so other keys may share it.
    pub(super) fn is_for(&self, n: &[u8], e: &[u8]) -> bool {
        self.tag == key_tag(n, e)
    }

    /// The challenge for the device. Fails unless the stanza uses the enrolled hash, so that an author cannot make a
    /// device use a weaker one.
    pub(super) fn challenge(&self, n: &[u8], enrolled: OaepHash) -> Result<PrivateOperation<'_>> {
        if self.hash != enrolled {
            return Err(tampered(format!(
                "its rsa-oaep stanza uses {}, the key is enrolled with {}",
                name(self.hash),
                name(enrolled)
            )));
        }
        if self.ciphertext.len() != n.len() {
            return Err(tampered("its rsa-oaep stanza is not as long as the key's modulus"));
        }
        Ok(PrivateOperation::Oaep { hash: self.hash, ciphertext: &self.ciphertext })
    }
}

/// Wraps a secret to a public key. The error says why the key cannot be used.
pub(super) fn wrap(n: &[u8], e: &[u8], hash: OaepHash, secret: &[u8]) -> Result<Stanza, String> {
    if n.len() < MIN_BYTES || n[0] == 0 {
        return Err("RSA keys under 2048 bits are not sealed to".into());
    }
    let key = RsaPublicKey::new(BigUint::from_bytes_be(n), BigUint::from_bytes_be(e))
        .map_err(|e| format!("not an RSA key to seal to: {e}"))?;
    let body = key.encrypt(&mut OsRng, hash.padding(), secret).map_err(|e| e.to_string())?;
    Ok(Stanza { tag: TYPE.into(), args: vec![encoded(&key_tag(n, e)), name(hash).into()], body })
}

/// The first 4 bytes of SHA-256(stanza type ‖ length of n as 4 big-endian bytes ‖ n ‖ e).
fn key_tag(n: &[u8], e: &[u8]) -> [u8; 4] {
    let length = u32::try_from(n.len()).unwrap_or(u32::MAX);
    let hash = Sha256::new().chain_update(TYPE).chain_update(length.to_be_bytes());
    first_four(&hash.chain_update(n).chain_update(e).finalize())
}

fn name(hash: OaepHash) -> &'static str {
    match hash {
        OaepHash::Sha256 => "sha256",
        OaepHash::Sha1 => "sha1",
    }
}
