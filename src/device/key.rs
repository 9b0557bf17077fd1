//! Keys: what they are for and made of, why they are believed to stay in their device, and how a driver finds them.

use crate::error::{Error, Kind, Result};
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::traits::PublicKeyParts;
use rsa::{Oaep, RsaPublicKey};
use sha1::Sha1;
use sha2::Sha256;
use std::fmt;
use std::ops::RangeInclusive;

/// What a key is for. Never one key for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Key agreement or decryption: opens sealed tokens.
    Open,
    /// ECDSA or RSASSA-PSS: signs changes.
    Sign,
}

/// What a key is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// EC P-256 (secp256r1): opening by ECDH, or signing by ECDSA.
    P256,
    /// EC P-384 (secp384r1): opening by ECDH, or signing by ECDSA.
    P384,
    /// RSA of so many bits: opening by RSA-OAEP, or signing by RSASSA-PSS.
    Rsa(u16),
    /// AES-256-GCM inside the HSM.
    Aes256,
}

/// How long an RSA modulus may be: 2048 to 4096 bits.
pub const RSA_BYTES: RangeInclusive<usize> = 256..=512;

/// The hash of RSA-OAEP and its MGF1 (RFC 8017 §7.1), pinned at enrolment and never negotiated afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OaepHash {
    /// SHA-256.
    Sha256,
    /// Only where the module can do no other.
    Sha1,
}

impl OaepHash {
    /// The padding, with an empty label.
    pub fn padding(self) -> Oaep {
        match self {
            Self::Sha256 => Oaep::new::<Sha256>(),
            Self::Sha1 => Oaep::new::<Sha1>(),
        }
    }
}

/// The part of a key that everybody may know, enough to seal to it or to check its signatures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PublicKey {
    /// SEC1 uncompressed point, 65 bytes, on the curve.
    P256([u8; 65]),
    /// SEC1 uncompressed point, 97 bytes, on the curve.
    P384([u8; 97]),
    /// Big-endian modulus and exponent without leading zeroes. For opening.
    Rsa {
        /// Modulus.
        n: Vec<u8>,
        /// Public exponent.
        e: Vec<u8>,
        /// The padding this key is used with.
        oaep: OaepHash,
    },
    /// The same, for signing: RSASSA-PSS (RFC 8017 §8.1) with SHA-256, also in MGF1, and a salt of 32 bytes.
    RsaPss {
        /// Modulus.
        n: Vec<u8>,
        /// Public exponent.
        e: Vec<u8>,
    },
    /// A symmetric key has no public half: its `CKA_ID`, random, 16 bytes.
    Aes256 {
        /// `CKA_ID`.
        id: [u8; 16],
    },
}

impl PublicKey {
    /// Whether it is the same key, whatever padding it is used with.
    pub fn is_same_key(&self, other: &Self) -> bool {
        match (self.rsa(), other.rsa()) {
            (None, None) => self == other,
            (own, others) => own == others,
        }
    }

    /// An RSA key's modulus and exponent.
    pub fn rsa(&self) -> Option<(&[u8], &[u8])> {
        match self {
            Self::Rsa { n, e, .. } | Self::RsaPss { n, e } => Some((n, e)),
            Self::P256(_) | Self::P384(_) | Self::Aes256 { .. } => None,
        }
    }

    /// The RSA key in an `RSAPublicKey` (RFC 8017 §A.1.1), for this purpose; `None` unless it has 2048 to 4096 bits.
    pub fn from_pkcs1(der: &[u8], purpose: Purpose) -> Option<Self> {
        let key = RsaPublicKey::from_pkcs1_der(der).ok()?;
        let (n, e) = (key.n().to_bytes_be(), key.e().to_bytes_be());
        match purpose {
            _ if !RSA_BYTES.contains(&n.len()) => None,
            Purpose::Open => Some(Self::Rsa { n, e, oaep: OaepHash::Sha256 }),
            Purpose::Sign => Some(Self::RsaPss { n, e }),
        }
    }

    /// Bytes that tell a signing key from all others: an EC key's point, an RSA key's modulus and exponent.
    pub fn signer(&self) -> Vec<u8> {
        match self.rsa() {
            Some((n, e)) => [n, e].concat(),
            None => self.point().unwrap_or_default().to_vec(),
        }
    }

    /// The EC key with this point, SEC1 uncompressed; `None` unless it is on P-256 or P-384.
    pub fn from_point(point: &[u8]) -> Option<Self> {
        let uncompressed = point.first() == Some(&4);
        let of_p256 = || point.try_into().ok().filter(|_| p256::PublicKey::from_sec1_bytes(point).is_ok());
        let of_p384 = || point.try_into().ok().filter(|_| p384::PublicKey::from_sec1_bytes(point).is_ok());
        match point.len() {
            65 if uncompressed => of_p256().map(Self::P256),
            97 if uncompressed => of_p384().map(Self::P384),
            _ => None,
        }
    }

    /// An EC key's point, SEC1 uncompressed.
    pub fn point(&self) -> Option<&[u8]> {
        match self {
            Self::P256(point) => Some(point),
            Self::P384(point) => Some(point),
            Self::Rsa { .. } | Self::RsaPss { .. } | Self::Aes256 { .. } => None,
        }
    }

    /// The key's algorithm and size.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::P256(_) => Algorithm::P256,
            Self::P384(_) => Algorithm::P384,
            Self::Rsa { n, .. } | Self::RsaPss { n, .. } => {
                Algorithm::Rsa(u16::try_from(n.len() * 8).unwrap_or(u16::MAX))
            }
            Self::Aes256 { .. } => Algorithm::Aes256,
        }
    }
}

/// How it is known that a key cannot leave its device. Ordered from weak to strong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvidenceLevel {
    /// A simulator's word: for tests, never hardware.
    Simulator,
    /// The device itself says so.
    Reported,
    /// A chain to the vendor's root was verified.
    Attested,
}

/// The evidence a key is enrolled with: the level and the attributes it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// How strong it is.
    pub level: EvidenceLevel,
    /// The attributes that were checked and what they said, e.g. `("CKA_LOCAL", true)`.
    pub claims: Vec<(String, bool)>,
}

impl Evidence {
    /// Whether a key may be enrolled: the driver's attributes must all be there and say that it was made in the device and
    /// cannot leave it.
    ///
    /// # Errors
    /// `Evidence`, naming the attribute that is missing or wrong.
    pub fn check(&self, key: &KeyInfo) -> Result<()> {
        let refused = |message: String| {
            let hint = "let Strongroom create the key in the device; a key that was imported or can leave is refused";
            Error::new(Kind::Evidence, "trust the key", message).with_target(&key.uri).with_hint(hint)
        };
        let required = required_claims(&key.uri, &self.claims);
        if required.is_empty() && self.level < EvidenceLevel::Attested {
            return Err(refused(format!("its evidence is no better than `{}`", self.level)));
        }
        for (name, wanted) in required {
            match self.claims.iter().find(|(claim, _)| claim == name) {
                Some((_, is)) if is == wanted => {}
                Some((_, is)) => return Err(refused(format!("{name} is {is}, and must be {wanted}"))),
                None => return Err(refused(format!("the device does not tell {name}"))),
            }
        }
        Ok(())
    }
}

/// What a user who takes a key of a YubiKey on trust signs to have done.
pub const ALLOW_UNATTESTED: &str = "allow-unattested";

/// The attributes that a driver's keys must have (PKCS#11 v2.40 §4.9, TPM 2.0 part 2 §8.3).
fn required_claims(uri: &str, claims: &[(String, bool)]) -> &'static [(&'static str, bool)] {
    match uri.split_once(':') {
        Some(("pkcs11", _)) => &[
            ("CKA_LOCAL", true),
            ("CKA_SENSITIVE", true),
            ("CKA_ALWAYS_SENSITIVE", true),
            ("CKA_EXTRACTABLE", false),
            ("CKA_NEVER_EXTRACTABLE", true),
        ],
        Some(("tpm", _)) => &[("fixedTPM", true), ("fixedParent", true), ("sensitiveDataOrigin", true)],
        Some(("piv", _)) if claims.iter().any(|(claim, is)| claim == ALLOW_UNATTESTED && *is) => {
            &[(ALLOW_UNATTESTED, true)]
        }
        Some(("piv", _)) => &[("generated", true), ("attestation", true)],
        _ => &[],
    }
}

/// One key in a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Where it lies, in RFC 7512 form, without module path or PIN source: `pkcs11:token=demo;object=strongroom-open`.
    pub uri: String,
    /// Opening or signing.
    pub purpose: Purpose,
    /// What everybody may know of it.
    pub public: PublicKey,
    /// Why it is believed to stay where it is.
    pub evidence: Evidence,
    /// What the driver needs besides the device to use the key or to show the evidence again, in a form of the driver's own
    /// (docs/reference/format.md, section 8): a TPM's key blob and policy, a YubiKey's attestation certificates. No secret. Empty where
    /// nothing is needed.
    pub material: Vec<u8>,
}

/// Which key an operation is for: enough to find it without asking the device for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRef {
    /// Opening or signing.
    pub purpose: Purpose,
    /// As enrolled. A driver refuses a key that it can see is another one.
    pub public: PublicKey,
    /// As enrolled: [`KeyInfo::material`].
    pub material: Vec<u8>,
}

impl From<&KeyInfo> for KeyRef {
    fn from(key: &KeyInfo) -> Self {
        Self { purpose: key.purpose, public: key.public.clone(), material: key.material.clone() }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256 => f.write_str("p256"),
            Self::P384 => f.write_str("p384"),
            Self::Rsa(bits) => write!(f, "rsa{bits}"),
            Self::Aes256 => f.write_str("aes256"),
        }
    }
}

impl std::str::FromStr for Algorithm {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "p256" => Ok(Self::P256),
            "p384" => Ok(Self::P384),
            "rsa2048" => Ok(Self::Rsa(2048)),
            "rsa3072" => Ok(Self::Rsa(3072)),
            "rsa4096" => Ok(Self::Rsa(4096)),
            "aes256" => Ok(Self::Aes256),
            _ => Err("one of p256, p384, rsa2048, rsa3072, rsa4096, aes256".into()),
        }
    }
}

impl fmt::Display for EvidenceLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simulator => "simulator",
            Self::Reported => "reported",
            Self::Attested => "attested",
        })
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "opening",
            Self::Sign => "signing",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(claims: &[(&str, bool)], level: EvidenceLevel) -> KeyInfo {
        let claims = claims.iter().map(|(name, is)| ((*name).into(), *is)).collect();
        KeyInfo {
            uri: "pkcs11:token=demo;object=strongroom-open".into(),
            purpose: Purpose::Open,
            public: PublicKey::Aes256 { id: [0; 16] },
            evidence: Evidence { level, claims },
            material: Vec::new(),
        }
    }

    const GOOD: [(&str, bool); 5] = [
        ("CKA_LOCAL", true),
        ("CKA_SENSITIVE", true),
        ("CKA_ALWAYS_SENSITIVE", true),
        ("CKA_NEVER_EXTRACTABLE", true),
        ("CKA_EXTRACTABLE", false),
    ];

    #[test]
    fn every_attribute_counts() {
        let good = key(&GOOD, EvidenceLevel::Reported);
        good.evidence.check(&good).unwrap();
        for i in 0..GOOD.len() {
            let mut claims = GOOD;
            claims[i].1 = !claims[i].1;
            let wrong = key(&claims, EvidenceLevel::Reported);
            let error = wrong.evidence.check(&wrong).unwrap_err();
            assert_eq!(error.kind(), Kind::Evidence);
            assert!(error.message().starts_with(&format!("{} is {}", claims[i].0, claims[i].1)), "{error}");

            let silent: Vec<_> = GOOD.into_iter().filter(|claim| claim.0 != GOOD[i].0).collect();
            let silent = key(&silent, EvidenceLevel::Reported);
            assert!(silent.evidence.check(&silent).unwrap_err().message().contains(GOOD[i].0));
        }
    }

    #[test]
    fn a_key_of_a_yubikey_is_attested_or_taken_on_trust() {
        let of = |claims: &[(&str, bool)]| {
            let mut key = key(claims, EvidenceLevel::Reported);
            key.uri = "piv:serial=1;slot=9d".into();
            key.evidence.check(&key).map_err(|error| error.message().to_owned())
        };
        of(&[("generated", true), ("attestation", true)]).unwrap();
        of(&[("generated", false), ("attestation", false), (ALLOW_UNATTESTED, true)]).unwrap();
        let imported = [("generated", false), ("attestation", false)];
        assert_eq!(of(&imported).unwrap_err(), "generated is false, and must be true");
        let refused = [("generated", true), ("attestation", false), (ALLOW_UNATTESTED, false)];
        assert_eq!(of(&refused).unwrap_err(), "attestation is false, and must be true");
    }

    #[test]
    fn a_device_without_known_attributes_needs_a_chain() {
        let mut key = key(&[], EvidenceLevel::Reported);
        key.uri = "other:serial=1".into();
        assert_eq!(key.evidence.check(&key).unwrap_err().kind(), Kind::Evidence);
        key.evidence.level = EvidenceLevel::Attested;
        key.evidence.check(&key).unwrap();
    }
}
