//! Devices as recipients of other age programs: `age1strongroom1…`, which they have `age-plugin-strongroom` seal to.
//!
//! The Bech32 data is a byte for the kind of the key, and the key: 1 and a compressed point of P-256 (SEC1 §2.3.3), 2 and one of
//! P-384, 3 (OAEP with SHA-256) or 4 (with SHA-1) and the RSA modulus, whose exponent is 65537.

use super::ec_tag::compressed;
use super::{cannot_seal, wrap};
use crate::device::{OaepHash, PublicKey};
use crate::error::{Error, Kind, Result};
use age_core::format::{FileKey, Stanza};
use age_core::secrecy::ExposeSecret;
use p256::elliptic_curve::sec1::ToEncodedPoint;

/// The name by which age programs call the plugin.
pub const PLUGIN: &str = "strongroom";

/// RSA keys of devices have this exponent.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// A device's opening key, for age files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRecipient(PublicKey);

impl PluginRecipient {
    /// For a key that can be sealed to without its device.
    ///
    /// # Errors
    /// `Unsupported`.
    pub fn new(public: &PublicKey) -> Result<Self> {
        match public {
            PublicKey::Rsa { e, .. } if *e != EXPONENT => Err(unsupported("its exponent is not 65537")),
            PublicKey::P256(_) | PublicKey::P384(_) | PublicKey::Rsa { .. } => Ok(Self(public.clone())),
            PublicKey::RsaPss { .. } => Err(unsupported("its key is for signing")),
            PublicKey::Aes256 { .. } => Err(unsupported("its AES key has no public half")),
        }
    }

    /// From the data of its text.
    ///
    /// # Errors
    /// `Usage` for what is no recipient.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let wrong = || Error::new(Kind::Usage, "read the recipient", "it is no recipient of this plugin's");
        let (kind, key) = bytes.split_first().ok_or_else(wrong)?;
        let rsa = |oaep| PublicKey::Rsa { n: key.to_vec(), e: EXPONENT.to_vec(), oaep };
        let public = match kind {
            1 => p256::PublicKey::from_sec1_bytes(key).ok().and_then(|point| {
                Some(PublicKey::P256(point.to_encoded_point(false).as_bytes().try_into().ok()?))
            }),
            2 => p384::PublicKey::from_sec1_bytes(key).ok().and_then(|point| {
                Some(PublicKey::P384(point.to_encoded_point(false).as_bytes().try_into().ok()?))
            }),
            3 => Some(rsa(OaepHash::Sha256)),
            4 => Some(rsa(OaepHash::Sha1)),
            _ => None,
        };
        // One key has one text.
        public.map(Self).filter(|read| read.bytes() == bytes).ok_or_else(wrong)
    }

    fn bytes(&self) -> Vec<u8> {
        match &self.0 {
            PublicKey::P256(point) => [&[1], compressed(point).as_slice()].concat(),
            PublicKey::P384(point) => [&[2], compressed(point).as_slice()].concat(),
            PublicKey::Rsa { n, oaep: OaepHash::Sha256, .. } => [&[3], n.as_slice()].concat(),
            PublicKey::Rsa { n, .. } => [&[4], n.as_slice()].concat(),
            // `new` lets none of these in.
            PublicKey::RsaPss { .. } | PublicKey::Aes256 { .. } => Vec::new(),
        }
    }

    /// `age1strongroom1…`
    ///
    /// # Errors
    /// `Unsupported` for a key too long for Bech32.
    pub fn text(&self) -> Result<String> {
        let hrp = bech32::Hrp::parse(&format!("age1{PLUGIN}")).map_err(|e| unsupported(e.to_string()))?;
        let unlimited = bech32::encode::<Unlimited>(hrp, &self.bytes());
        unlimited.map_err(|e| unsupported(e.to_string()))
    }

    /// Encrypts a file key to it.
    ///
    /// # Errors
    /// `Unsupported` for a key that cannot be sealed to.
    pub fn wrap(&self, file_key: &FileKey) -> Result<Stanza> {
        wrap(&self.0, file_key.expose_secret()).map_err(unsupported)
    }
}

fn unsupported(why: impl Into<String>) -> Error {
    cannot_seal(Kind::Unsupported, why)
}

/// Bech32 without its limit of 90 characters, as age has it.
enum Unlimited {}

impl bech32::Checksum for Unlimited {
    type MidstateRepr = u32;
    const CODE_LENGTH: usize = 4096;
    const CHECKSUM_LENGTH: usize = bech32::Bech32::CHECKSUM_LENGTH;
    const GENERATOR_SH: [u32; 5] = bech32::Bech32::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = bech32::Bech32::TARGET_RESIDUE;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(text: &str) -> Vec<u8> {
        bech32::primitives::decode::CheckedHrpstring::new::<Unlimited>(text).unwrap().byte_iter().collect()
    }

    #[test]
    fn every_kind_of_key_is_read_as_it_was_written() {
        let p256 = p256::SecretKey::from_slice(&[7; 32]).unwrap().public_key().to_encoded_point(false);
        let p384 = p384::SecretKey::from_slice(&[7; 48]).unwrap().public_key().to_encoded_point(false);
        let rsa = |bytes: usize, oaep| PublicKey::Rsa { n: vec![0xc5; bytes], e: EXPONENT.to_vec(), oaep };
        for public in [
            PublicKey::P256(p256.as_bytes().try_into().unwrap()),
            PublicKey::P384(p384.as_bytes().try_into().unwrap()),
            rsa(256, OaepHash::Sha256),
            rsa(512, OaepHash::Sha1),
        ] {
            let recipient = PluginRecipient::new(&public).unwrap();
            let text = recipient.text().unwrap();
            assert!(text.starts_with("age1strongroom1"), "{text}");
            assert_eq!(PluginRecipient::from_bytes(&decoded(&text)).unwrap(), recipient);
        }
        for none in [PublicKey::Aes256 { id: [0; 16] }, PublicKey::RsaPss { n: vec![1; 256], e: vec![3] }] {
            assert_eq!(PluginRecipient::new(&none).unwrap_err().kind(), Kind::Unsupported);
        }
    }

    proptest! {
        #[test]
        fn what_is_no_key_is_refused_or_has_one_form(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            if let Ok(recipient) = PluginRecipient::from_bytes(&bytes) {
                prop_assert_eq!(recipient.bytes(), bytes);
            }
        }
    }
}
