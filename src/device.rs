//! A device: enrolled hardware with two keys, one that opens and one that signs.
//!
//! A driver implements [`Device`]; abilities that only some have are traits of their own, asked for. The drivers do raw
//! private-key operations and nothing else: stanzas are `seal`'s business, statements are the ledger's.
//!
//! A device belongs to one thread at a time. Closing is `Drop`: sessions first, then the login, then the module.

use crate::error::{Error, Kind, Result};
use crate::prompt::Prompter;
use crate::uri::{DeviceUri, Scheme};
use std::fmt;
use zeroize::Zeroizing;

#[cfg(feature = "certificates")]
pub mod certificates;
mod measured;
mod options;
#[cfg(feature = "piv")]
pub mod piv;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
#[cfg(feature = "tpm")]
pub mod tpm;
pub mod watchdog;

pub use measured::{Measured, Measurement, PcrState, Prediction};
pub use options::{CreateOptions, PivOptions, TpmOptions};

/// What a device says of itself. Claims, not proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// Which driver speaks to it.
    pub scheme: Scheme,
    /// Manufacturer, trimmed of padding.
    pub maker: String,
    /// Model, trimmed of padding.
    pub model: String,
    /// Serial number. Not always unique.
    pub serial: String,
    /// Firmware version, `major.minor`.
    pub firmware: String,
    /// The device's own label (PKCS#11: the token label).
    pub label: String,
    /// SoftHSM, swtpm, a virtual card.
    pub simulator: bool,
}

impl DeviceIdentity {
    /// Of a device that did not answer when it was asked.
    pub fn unknown(scheme: Scheme) -> Self {
        let unknown = || "unknown".to_owned();
        Self {
            scheme,
            maker: unknown(),
            model: unknown(),
            serial: String::new(),
            firmware: unknown(),
            label: scheme.name().into(),
            simulator: false,
        }
    }
}

/// What a key is for. Never one key for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Key agreement or decryption: opens sealed tokens.
    Open,
    /// ECDSA: signs changes.
    Sign,
}

/// What a key is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// EC P-256 (secp256r1): opening by ECDH, or signing by ECDSA.
    P256,
    /// RSA of so many bits, opening by RSA-OAEP.
    Rsa(u16),
    /// AES-256-GCM inside the HSM.
    Aes256,
}

/// The hash of RSA-OAEP and its MGF1 (RFC 8017 §7.1), pinned at enrolment and never negotiated afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OaepHash {
    /// SHA-256.
    Sha256,
    /// Only where the module can do no other.
    Sha1,
}

/// The part of a key that everybody may know, enough to seal to it or to check its signatures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PublicKey {
    /// SEC1 uncompressed point, 65 bytes, on the curve.
    P256([u8; 65]),
    /// Big-endian modulus and exponent without leading zeroes.
    Rsa {
        /// Modulus.
        n: Vec<u8>,
        /// Public exponent.
        e: Vec<u8>,
        /// The padding this key is used with.
        oaep: OaepHash,
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
        match (self, other) {
            (Self::Rsa { n, e, .. }, Self::Rsa { n: other_n, e: other_e, .. }) => {
                (n, e) == (other_n, other_e)
            }
            _ => self == other,
        }
    }

    /// The key's algorithm and size.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::P256(_) => Algorithm::P256,
            Self::Rsa { n, .. } => Algorithm::Rsa(u16::try_from(n.len() * 8).unwrap_or(u16::MAX)),
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
        let refused = |answer: String| {
            let advice = "let Strongroom create the key in the device; a key that was imported or can leave is refused";
            Error::new(Kind::Evidence, "trust the key", answer).on(&key.uri).advice(advice)
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
    /// (docs/format.md, section 8): a TPM's key blob and policy, a YubiKey's attestation certificates. No secret. Empty where
    /// nothing is needed.
    pub material: Vec<u8>,
}

/// The one private operation that opening needs, as the device sees it.
#[derive(Clone, Copy, Debug)]
pub enum Challenge<'a> {
    /// Raw ECDH: the peer's uncompressed point (on the curve: the caller checked) in, the 32-byte x-coordinate out.
    Ecdh {
        /// SEC1 uncompressed point.
        peer: &'a [u8; 65],
    },
    /// RSA-OAEP decryption with an empty label.
    Oaep {
        /// Hash and MGF1 hash.
        hash: OaepHash,
        /// As long as the modulus.
        ciphertext: &'a [u8],
    },
    /// AES-256-GCM decryption, 128-bit tag at the ciphertext's end.
    AesGcm {
        /// 96-bit nonce.
        iv: &'a [u8; 12],
        /// Additional authenticated data.
        aad: &'a [u8],
        /// Ciphertext and tag.
        ciphertext: &'a [u8],
    },
}

/// One piece of hardware, connected.
pub trait Device: Send {
    /// What it says of itself.
    fn identity(&self) -> &DeviceIdentity;

    /// The device in the user's words, for errors and prompts: its URI without module path and PIN source.
    fn name(&self) -> &str;

    /// Strongroom's keys in it: the opening and the signing key, as far as they exist. Logs in where that is needed.
    ///
    /// # Errors
    /// `KeyMissing` when more than one object answers to a key's name; `Evidence` is judged by the caller.
    fn keys(&mut self, prompter: &mut dyn Prompter) -> Result<Vec<KeyInfo>>;

    /// As [`Device::keys`], for keys that are to be enrolled: their evidence may rest on what the options name.
    ///
    /// # Errors
    /// As [`Device::keys`]; `Evidence` where a driver can say more of what is wrong than [`Evidence::check`].
    fn keys_judged_by(
        &mut self,
        _options: &CreateOptions,
        prompter: &mut dyn Prompter,
    ) -> Result<Vec<KeyInfo>> {
        self.keys(prompter)
    }

    /// Whether an enrolled key is one of this device's. Devices that keep keys outside themselves look at the material.
    ///
    /// # Errors
    /// As [`Device::keys`].
    fn holds(&mut self, key: &KeyRef, prompter: &mut dyn Prompter) -> Result<bool> {
        let keys = self.keys(prompter)?;
        Ok(keys.iter().any(|own| own.purpose == key.purpose && own.public == key.public))
    }

    /// Answers a challenge with `key`: the ECDH x-coordinate (32 bytes) or the decrypted bytes.
    ///
    /// # Errors
    /// `KeyMissing`, `Device`, `DeviceGone`, `PinWrong`, `PinLocked`, `PinUnavailable`.
    fn open_key(
        &mut self,
        key: &KeyRef,
        challenge: Challenge<'_>,
        prompter: &mut dyn Prompter,
    ) -> Result<Zeroizing<Vec<u8>>>;

    /// ECDSA P-256 over a SHA-256 digest: r ‖ s, 64 bytes, either half of s.
    ///
    /// # Errors
    /// As [`Device::open_key`].
    fn sign(&mut self, key: &KeyRef, digest: &[u8; 32], prompter: &mut dyn Prompter) -> Result<[u8; 64]>;

    /// Forgets the PIN and logs out. The next private operation asks again.
    fn lock(&mut self);

    /// Creating and destroying keys.
    fn provisioning(&mut self) -> Option<&mut dyn Provision>;

    /// Sealing inside the device: only symmetric opening keys need it.
    fn wrapping(&mut self) -> Option<&mut dyn Wrap> {
        None
    }

    /// More sessions on the same login, for devices that answer several at once.
    fn parallel(&mut self) -> Option<&mut dyn Parallel> {
        None
    }

    /// Counters that only go up, for devices that have them.
    fn counting(&mut self) -> Option<&mut dyn Counting> {
        None
    }

    /// Keys that are bound to what was measured at boot, for devices that have them.
    fn measured(&mut self) -> Option<&mut dyn Measured> {
        None
    }
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

/// Creating and destroying keys.
pub trait Provision {
    /// Creates a key that cannot leave the device, and proves by reading its attributes back that it cannot.
    ///
    /// # Errors
    /// `Unsupported` when the device has no mechanism for the algorithm, or an option is another driver's; `Conflict` when
    /// the key already exists.
    fn create(
        &mut self,
        purpose: Purpose,
        algorithm: Algorithm,
        options: &CreateOptions,
        prompter: &mut dyn Prompter,
    ) -> Result<KeyInfo>;

    /// The algorithms it can make opening keys with, best first (P-256, then RSA, then AES).
    fn algorithms(&mut self) -> Result<Vec<Algorithm>>;

    /// Destroys one of Strongroom's keys. What was sealed only to it is lost.
    fn destroy(&mut self, key: &KeyInfo, prompter: &mut dyn Prompter) -> Result<()>;
}

/// Encrypting inside the device, with a key that never leaves it.
pub trait Wrap {
    /// AES-256-GCM encryption of a file key: ciphertext and 128-bit tag.
    fn wrap(
        &mut self,
        key: &KeyRef,
        iv: &[u8; 12],
        aad: &[u8],
        plaintext: &[u8],
        prompter: &mut dyn Prompter,
    ) -> Result<Vec<u8>>;
}

/// Monotonic counters in the device (TPM 2.0 part 1 §37.2.4: an NV index of type counter).
pub trait Counting {
    /// Makes a counter and raises it once: its index, and where it stands.
    ///
    /// # Errors
    /// `Conflict` when no index is free; the device's.
    fn make_counter(&mut self) -> Result<(u32, u64)>;

    /// Where it stands.
    ///
    /// # Errors
    /// `KeyMissing` when there is no such counter: somebody removed it, or this is another device.
    fn read_counter(&mut self, index: u32) -> Result<u64>;

    /// Raises it by one: where it stands then.
    ///
    /// # Errors
    /// As [`Counting::read_counter`].
    fn raise_counter(&mut self, index: u32) -> Result<u64>;

    /// Removes it.
    ///
    /// # Errors
    /// As [`Counting::read_counter`].
    fn remove_counter(&mut self, index: u32) -> Result<()>;
}

/// Several operations at once on one login.
pub trait Parallel {
    /// How many sessions are worth having for this key on this device and machine; 1 where more would not gain.
    fn lanes(&self, key: &KeyRef) -> usize;
    /// Another session on the same login.
    fn another(&mut self) -> Result<Box<dyn Device>>;
}

/// As [`connect`], where a person may be there: a device that one can plug in is asked for, and waited for.
///
/// # Errors
/// As [`connect`].
#[cfg_attr(not(feature = "piv"), allow(unused_variables))]
pub fn connect_attended(uri: &DeviceUri, prompter: &mut dyn Prompter) -> Result<Box<dyn Device>> {
    match uri.scheme() {
        #[cfg(feature = "piv")]
        Scheme::Piv if prompter.is_attended() => piv::connect_attended(uri, prompter),
        _ => connect(uri),
    }
}

/// Connects to the device a URI names. Does not log in.
///
/// A TPM comes with a [`watchdog`]: one that hangs is met with in the field, and nobody can unplug it.
///
/// # Errors
/// `Unsupported` for a driver that was compiled out, naming the feature; else the driver's.
pub fn connect(uri: &DeviceUri) -> Result<Box<dyn Device>> {
    match uri.scheme() {
        Scheme::Tpm => Ok(Box::new(watchdog::Watchdog::connect(uri, watchdog::PATIENCE)?)),
        _ => connect_here(uri),
    }
}

/// On the caller's own thread.
fn connect_here(uri: &DeviceUri) -> Result<Box<dyn Device>> {
    match uri.scheme() {
        #[cfg(feature = "pkcs11")]
        Scheme::Pkcs11 => pkcs11::connect(uri),
        #[cfg(feature = "tpm")]
        Scheme::Tpm => tpm::connect(uri),
        #[cfg(feature = "piv")]
        Scheme::Piv => piv::connect(uri),
        #[allow(unreachable_patterns)]
        scheme => Err(Error::new(
            Kind::Unsupported,
            "connect to the device",
            format!("this build of Strongroom has no `{scheme}` driver"),
        )
        .on(uri.display_name())
        .advice(match scheme {
            Scheme::Pkcs11 => "build it with `cargo build --features pkcs11`",
            Scheme::Tpm => "build it with `cargo build --features tpm`",
            Scheme::Piv => "build it with `cargo build --features piv`",
        })),
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256 => f.write_str("p256"),
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
            "rsa2048" => Ok(Self::Rsa(2048)),
            "rsa3072" => Ok(Self::Rsa(3072)),
            "rsa4096" => Ok(Self::Rsa(4096)),
            "aes256" => Ok(Self::Aes256),
            _ => Err("one of p256, rsa2048, rsa3072, rsa4096, aes256".into()),
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
            assert!(error.answer().starts_with(&format!("{} is {}", claims[i].0, claims[i].1)), "{error}");

            let silent: Vec<_> = GOOD.into_iter().filter(|claim| claim.0 != GOOD[i].0).collect();
            let silent = key(&silent, EvidenceLevel::Reported);
            assert!(silent.evidence.check(&silent).unwrap_err().answer().contains(GOOD[i].0));
        }
    }

    #[test]
    fn a_key_of_a_yubikey_is_attested_or_taken_on_trust() {
        let of = |claims: &[(&str, bool)]| {
            let mut key = key(claims, EvidenceLevel::Reported);
            key.uri = "piv:serial=1;slot=9d".into();
            key.evidence.check(&key).map_err(|error| error.answer().to_owned())
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
