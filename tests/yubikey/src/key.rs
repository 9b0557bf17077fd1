//! Private keys: what PIV's GENERAL AUTHENTICATE, GENERATE and IMPORT do with them.

use crate::tlv;
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::elliptic_curve::Generate;
use p256::elliptic_curve::point::AffineCoordinates;
use p256::elliptic_curve::sec1::ToSec1Point;
use rand::rngs::StdRng;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use rsa::{BoxedUint, RsaPrivateKey};
use serde::{Deserialize, Serialize};

/// A key's algorithm, by its PIV number (NIST SP 800-78-5 §6.2 and Yubico's extensions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// 06.
    Rsa1024,
    /// 07.
    Rsa2048,
    /// 05; firmware 5.7.
    Rsa3072,
    /// 16; firmware 5.7.
    Rsa4096,
    /// 11.
    P256,
    /// 14.
    P384,
}

impl Algorithm {
    /// By its number.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0x05 => Self::Rsa3072,
            0x06 => Self::Rsa1024,
            0x07 => Self::Rsa2048,
            0x11 => Self::P256,
            0x14 => Self::P384,
            0x16 => Self::Rsa4096,
            _ => return None,
        })
    }

    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::Rsa3072 => 0x05,
            Self::Rsa1024 => 0x06,
            Self::Rsa2048 => 0x07,
            Self::P256 => 0x11,
            Self::P384 => 0x14,
            Self::Rsa4096 => 0x16,
        }
    }

    /// Whether this firmware has it.
    pub fn is_known_to(self, firmware: [u8; 3]) -> bool {
        !matches!(self, Self::Rsa3072 | Self::Rsa4096) || firmware >= [5, 7, 0]
    }

    fn rsa_bits(self) -> Option<u32> {
        match self {
            Self::Rsa1024 => Some(1024),
            Self::Rsa2048 => Some(2048),
            Self::Rsa3072 => Some(3072),
            Self::Rsa4096 => Some(4096),
            Self::P256 | Self::P384 => None,
        }
    }
}

/// A private key.
#[derive(Clone)]
pub enum Key {
    /// EC P-256.
    P256(p256::SecretKey),
    /// EC P-384.
    P384(p384::SecretKey),
    /// RSA with two primes and the exponent 65537.
    Rsa(Box<RsaPrivateKey>),
}

impl Key {
    /// Makes one. RSA-2048 keys are taken from a published list in turn, starting at `turn`: nobody waits for primes in a test.
    pub fn generate(algorithm: Algorithm, rng: &mut StdRng, turn: usize) -> Option<Self> {
        match algorithm {
            Algorithm::P256 => Some(Self::P256(p256::SecretKey::generate_from_rng(rng))),
            Algorithm::P384 => Some(Self::P384(p384::SecretKey::generate_from_rng(rng))),
            Algorithm::Rsa2048 => Self::published(turn),
            _ => {
                let bits = algorithm.rsa_bits()?;
                RsaPrivateKey::new(rng, bits as usize).ok().map(|key| Self::Rsa(Box::new(key)))
            }
        }
    }

    fn published(turn: usize) -> Option<Self> {
        let keys = include_str!("rsa-2048.txt").lines().filter(|line| !line.starts_with('#'));
        let (p, q) = keys.cycle().nth(turn)?.split_once(' ')?;
        let number = |hex: &str| BoxedUint::from_be_hex(hex, 1024).into_option();
        Self::from_primes(number(p)?, number(q)?)
    }

    fn from_primes(p: BoxedUint, q: BoxedUint) -> Option<Self> {
        RsaPrivateKey::from_p_q(p, q, BoxedUint::from(65_537u64)).ok().map(|key| Self::Rsa(Box::new(key)))
    }

    /// From IMPORT ASYMMETRIC KEY's data: the scalar (06), or the primes (01, 02).
    pub fn import(algorithm: Algorithm, data: &[u8]) -> Option<Self> {
        match algorithm {
            Algorithm::P256 => p256::SecretKey::from_slice(tlv::find(data, 6)?).ok().map(Self::P256),
            Algorithm::P384 => p384::SecretKey::from_slice(tlv::find(data, 6)?).ok().map(Self::P384),
            _ => {
                let half = algorithm.rsa_bits()? / 2;
                let prime = |tag| BoxedUint::from_be_slice(tlv::find(data, tag)?, half).ok();
                let (p, q) = (prime(1)?, prime(2)?);
                if [&p, &q].iter().any(|prime| {
                    prime.bit_width() != half || prime.to_be_bytes().last().is_none_or(|low| low & 1 == 0)
                }) {
                    return None;
                }
                Self::from_primes(p, q)
            }
        }
    }

    /// As [`Key::import`] takes it: how a key lies in the state file.
    pub fn export(&self) -> Vec<u8> {
        match self {
            Self::P256(key) => tlv::encode(6, &key.to_bytes()),
            Self::P384(key) => tlv::encode(6, &key.to_bytes()),
            Self::Rsa(key) => {
                let prime = |i: usize| key.primes()[i].to_be_bytes_trimmed_vartime();
                [tlv::encode(1, &prime(0)), tlv::encode(2, &prime(1))].concat()
            }
        }
    }

    /// The public key as GENERATE answers it, the contents of 7F49: a point (86), or modulus and exponent (81, 82).
    pub fn public(&self) -> Vec<u8> {
        match self {
            Self::P256(_) | Self::P384(_) => tlv::encode(0x86, &self.point()),
            Self::Rsa(key) => [tlv::encode(0x81, &key.n_bytes()), tlv::encode(0x82, &key.e_bytes())].concat(),
        }
    }

    /// The uncompressed point of an elliptic curve's key; nothing for RSA.
    pub fn point(&self) -> Vec<u8> {
        match self {
            Self::P256(key) => key.public_key().to_sec1_point(false).as_bytes().to_vec(),
            Self::P384(key) => key.public_key().to_sec1_point(false).as_bytes().to_vec(),
            Self::Rsa(_) => Vec::new(),
        }
    }

    /// GENERAL AUTHENTICATE with a challenge (81): ECDSA over a digest, in DER; or RSA's private operation on as many bytes as
    /// the modulus has.
    pub fn sign(&self, challenge: &[u8]) -> Option<Vec<u8>> {
        match self {
            _ if challenge.is_empty() => None,
            Self::P256(key) => {
                let key = p256::ecdsa::SigningKey::from(key);
                let signature: p256::ecdsa::DerSignature = key.sign_prehash(challenge).ok()?;
                Some(signature.as_bytes().to_vec())
            }
            Self::P384(key) => {
                let key = p384::ecdsa::SigningKey::from(key);
                let signature: p384::ecdsa::DerSignature = key.sign_prehash(challenge).ok()?;
                Some(signature.as_bytes().to_vec())
            }
            Self::Rsa(key) => rsa_private(key, challenge),
        }
    }

    /// GENERAL AUTHENTICATE with a peer's point (85): the x-coordinate of the shared point.
    pub fn agree(&self, peer: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::P256(key) if peer.len() == 65 => {
                let peer = p256::PublicKey::from_sec1_bytes(peer).ok()?;
                Some((peer.to_projective() * *key.to_nonzero_scalar()).to_affine().x().to_vec())
            }
            Self::P384(key) if peer.len() == 97 => {
                let peer = p384::PublicKey::from_sec1_bytes(peer).ok()?;
                Some((peer.to_projective() * *key.to_nonzero_scalar()).to_affine().x().to_vec())
            }
            _ => None,
        }
    }
}

/// RSADP and RSASP1 (RFC 8017 §5.1.2, §5.2.1), without blinding: a simulator has no secret to lose by its timing.
fn rsa_private(key: &RsaPrivateKey, input: &[u8]) -> Option<Vec<u8>> {
    let size = key.size();
    if input.len() != size {
        return None;
    }
    let number = BoxedUint::from_be_slice(input, size as u32 * 8).ok()?;
    if number >= **key.n() {
        return None;
    }
    let params = BoxedMontyParams::new_vartime(key.n().as_ref().clone().to_odd().into_option()?);
    let output = BoxedMontyForm::new(number, &params).pow(key.d()).retrieve().to_be_bytes();
    let mut padded = vec![0; size.saturating_sub(output.len())];
    padded.extend(&output[output.len().saturating_sub(size)..]);
    Some(padded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn exported_keys_are_the_same_when_imported() {
        let mut rng = StdRng::seed_from_u64(1);
        for algorithm in [Algorithm::P256, Algorithm::P384, Algorithm::Rsa2048] {
            let key = Key::generate(algorithm, &mut rng, 0).unwrap();
            let again = Key::import(algorithm, &key.export()).unwrap();
            assert_eq!(key.public(), again.public());
            assert!(Key::import(algorithm, &[]).is_none());
        }
        assert!(Key::import(Algorithm::P256, &tlv::encode(6, &[0; 32])).is_none(), "zero is no private key");
        assert!(
            Key::import(Algorithm::Rsa2048, &[tlv::encode(1, &[0; 128]), tlv::encode(2, &[4])].concat())
                .is_none()
        );
    }

    #[test]
    fn both_sides_agree_and_points_off_the_curve_are_refused() {
        let mut rng = StdRng::seed_from_u64(2);
        for algorithm in [Algorithm::P256, Algorithm::P384] {
            let (a, b) = (
                Key::generate(algorithm, &mut rng, 0).unwrap(),
                Key::generate(algorithm, &mut rng, 0).unwrap(),
            );
            assert_eq!(a.agree(&b.point()).unwrap(), b.agree(&a.point()).unwrap());
            let mut off = b.point();
            *off.last_mut().unwrap() ^= 1;
            assert_eq!(a.agree(&off), None);
            assert_eq!(a.agree(&off[1..]), None);
        }
    }

    #[test]
    fn the_private_operation_undoes_the_public_one() {
        let Some(Key::Rsa(key)) = Key::published(1) else { panic!() };
        let message = [[0; 8].as_slice(), &[7; 248]].concat();
        let params = BoxedMontyParams::new_vartime(key.n().as_ref().clone().to_odd().unwrap());
        let number = BoxedUint::from_be_slice(&message, 2048).unwrap();
        let sealed = BoxedMontyForm::new(number, &params).pow(key.e()).retrieve().to_be_bytes();
        assert_eq!(Key::Rsa(key.clone()).sign(&sealed).unwrap(), message);
        assert_eq!(Key::Rsa(key.clone()).sign(&message[1..]), None);
        assert_eq!(Key::Rsa(key).sign(&[0xff; 256]), None, "not below the modulus");
    }
}
