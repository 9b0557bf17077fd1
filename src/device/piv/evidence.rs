//! Evidence: a certificate, made by the YubiKey, stating that a key was generated in it and which policies protect it.
//!
//! The attestation key in slot f9 signs the slot's certificate, and Yubico issued the certificate of the attestation key. We verify the
//! chain, that the certificate is for the key in the slot, and that its serial number, firmware and policies match what the card
//! reports (<https://developers.yubico.com/PIV/Introduction/PIV_attestation.html>).
//!
//! The private key of our test simulator's root is public. A chain to that root proves nothing and is reported as `simulator`; no
//! option raises it.

use super::card::Card;
use super::error::DriverError;
use super::slots::{SlotInfo, name};
use super::tlv;
use crate::device::certificates::{Certificate, Oid, SubjectKey, from_pem, roots_from, verify_chain};
use crate::device::{ALLOW_UNATTESTED, CreateOptions, Evidence, EvidenceLevel, PublicKey, Purpose};
use crate::error::{Error, Kind, Result};
use std::time::SystemTime;
use yubikey::piv::SlotId;
use yubikey::{PinPolicy, Serial, TouchPolicy, Version};

/// The firmware's version, three bytes.
const FIRMWARE: Oid = Oid::new_unwrap("1.3.6.1.4.1.41482.3.3");
/// The serial number, an ASN.1 INTEGER.
const SERIAL: Oid = Oid::new_unwrap("1.3.6.1.4.1.41482.3.7");
/// PIN policy and touch policy, two bytes.
const POLICIES: Oid = Oid::new_unwrap("1.3.6.1.4.1.41482.3.8");

/// Yubico's roots and intermediates. See the README beside them.
const YUBICO: [&[u8]; 2] = [
    include_bytes!("roots/yubico-piv-root-263751.pem"),
    include_bytes!("roots/yubico-attestation-root-1.pem"),
];
const BETWEEN: &[u8] = include_bytes!("roots/yubico-piv-intermediates.pem");
/// The root of the virtual YubiKey in tests/yubikey.
const SIMULATOR: &[u8] = include_bytes!("roots/simulator.pem");

/// The element of a certificate object that holds the certificate (SP 800-73-4 part 1 table 10).
const TAG_CERTIFICATE: u8 = 0x70;
/// Whether it is compressed.
const TAG_INFO: u8 = 0x71;
/// Empty, by the standard.
const TAG_ERRORS: u8 = 0xfe;

/// The version of a key's material: an array of this number, the slot's certificate, and its issuer's certificate.
const MATERIAL_VERSION: u8 = 1;

/// A key whose evidence is verified.
pub struct Subject<'a> {
    pub serial: Serial,
    pub version: Version,
    pub slot: SlotId,
    pub info: &'a SlotInfo,
    /// The attestation made with the key, if it is known.
    pub attestation: Option<Vec<u8>>,
}

/// Verifies evidence against trusted roots.
pub struct Judge {
    roots: Vec<Vec<u8>>,
    between: Vec<Vec<u8>>,
    simulator: Vec<u8>,
    allow_unattested: bool,
    lenient: bool,
}

impl Judge {
    /// With Yubico's roots, or those the user named.
    ///
    /// # Errors
    /// As [`roots_from`].
    pub fn new(options: &CreateOptions) -> Result<Self> {
        let roots = match &options.roots {
            Some(directory) => roots_from(directory)?,
            None => YUBICO.iter().map(|pem| from_pem(pem)).collect::<Result<Vec<_>>>()?.concat(),
        };
        let simulator = from_pem(SIMULATOR)?.into_iter().next().unwrap_or_default();
        Ok(Self {
            roots,
            between: from_pem(BETWEEN)?,
            simulator,
            allow_unattested: options.piv.allow_unattested,
            lenient: false,
        })
    }

    /// Reports a failed verification as a claim, not as an error.
    pub fn lenient() -> Result<Self> {
        Ok(Self { lenient: true, ..Self::new(&CreateOptions::default())? })
    }

    /// A key's evidence and the material that proves it.
    pub fn evidence(&self, card: &mut Card, key: &Subject<'_>) -> Result<(Evidence, Vec<u8>), DriverError> {
        let shown = match shown(card, key)? {
            Some([slot, issuer]) => {
                self.judge(key, &slot, &issuer).map(|level| (level, material(&slot, &issuer)))
            }
            None if key.info.generated => {
                Err(refused("the YubiKey has no certificate for its attestation key, slot f9"))
            }
            None => Err(refused("the key was imported: copies of it may exist elsewhere")),
        };
        let mut claims =
            vec![("generated".to_owned(), key.info.generated), ("attestation".to_owned(), shown.is_ok())];
        claims.extend(policies(key.info).map(|policy| (policy, true)));
        let (level, material) = match shown {
            Ok(shown) => shown,
            Err(_) if self.allow_unattested => {
                claims.push((ALLOW_UNATTESTED.into(), true));
                (EvidenceLevel::Reported, Vec::new())
            }
            Err(_) if self.lenient => (EvidenceLevel::Reported, Vec::new()),
            Err(error) => {
                let place = format!("slot {} of YubiKey {}", name(key.slot), key.serial);
                return Err(error.with_target(place).into());
            }
        };
        Ok((Evidence { level, claims }, material))
    }

    /// The evidence level of a key's certificates.
    fn judge(&self, key: &Subject<'_>, slot: &[u8], issuer: &[u8]) -> Result<EvidenceLevel> {
        let level = self.chain(slot, issuer)?;
        agrees(&Certificate::parse(slot)?, key)?;
        Ok(level)
    }

    fn chain(&self, slot: &[u8], issuer: &[u8]) -> Result<EvidenceLevel> {
        let between: Vec<_> = self.between.iter().cloned().chain([issuer.to_vec()]).collect();
        let now = SystemTime::now();
        // Checked first, also through the user's roots: naming a simulator's certificate as a root must not raise the level.
        let any: Vec<_> = between.iter().chain(&self.roots).cloned().collect();
        if verify_chain(slot, &any, std::slice::from_ref(&self.simulator), None, now).is_ok() {
            return Ok(EvidenceLevel::Simulator);
        }
        match verify_chain(slot, &between, &self.roots, None, now) {
            Ok(_) => Ok(EvidenceLevel::Attested),
            Err(error) => Err(error.with_hint(
                "name the directory of the root's certificate with --attestation-roots, or take the key on trust with \
                 --allow-unattested",
            )),
        }
    }
}

/// Checks that the certificate agrees with what the card reports.
fn agrees(certificate: &Certificate, key: &Subject<'_>) -> Result<()> {
    let disagrees = |what: &str| Err(refused(format!("its attestation is for another {what}")));
    if !public_of(certificate).is_some_and(|public| key.info.is_of(&public)) {
        return disagrees("key");
    }
    let serial = certificate.extension(&SERIAL).and_then(integer);
    if serial != Some(u32::from(key.serial)) {
        return disagrees("serial number");
    }
    let Version { major, minor, patch } = key.version;
    if certificate.extension(&FIRMWARE) != Some(&[major, minor, patch]) {
        return disagrees("firmware");
    }
    let policies = [u8::from(key.info.pin), u8::from(key.info.touch)];
    if certificate.extension(&POLICIES) != Some(&policies) {
        return disagrees("PIN policy or touch policy");
    }
    Ok(())
}

/// A certificate's key; `None` for a kind that Strongroom does not use.
fn public_of(certificate: &Certificate) -> Option<PublicKey> {
    match certificate.key().ok()? {
        SubjectKey::Ec { point, .. } => PublicKey::from_point(point),
        SubjectKey::Rsa(der) => PublicKey::from_pkcs1(der, Purpose::Open),
    }
}

/// An ASN.1 INTEGER of at most 32 bits, unsigned.
fn integer(der: &[u8]) -> Option<u32> {
    let [0x02, length, value @ ..] = der else { return None };
    if usize::from(*length) != value.len() || value.is_empty() || value[0] >= 0x80 || value.len() > 5 {
        return None;
    }
    let number = value.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    number.try_into().ok()
}

/// The certificates of a key and of its issuer; `None` when the card does not attest the key.
fn shown(card: &mut Card, key: &Subject<'_>) -> Result<Option<[Vec<u8>; 2]>, DriverError> {
    let Some(issuer) = card.certificate(SlotId::Attestation)?.as_deref().and_then(certificate_of) else {
        return Ok(None);
    };
    let slot = match &key.attestation {
        Some(attestation) => Some(attestation.clone()),
        None => card.attest(key.slot)?,
    };
    Ok(slot.map(|slot| [slot, issuer]))
}

/// The attestation that Strongroom stored in a slot for its key. Read, not verified: it is no evidence yet.
pub fn mark(card: &mut Card, slot: SlotId, public: &PublicKey) -> Result<Option<Vec<u8>>, DriverError> {
    let Some(der) = card.certificate(slot)?.as_deref().and_then(certificate_of) else { return Ok(None) };
    let ours = Certificate::parse(&der).is_ok_and(|certificate| {
        let is_about = public_of(&certificate).is_some_and(|own| own.is_same_key(public));
        is_about && certificate.extension(&POLICIES).is_some()
    });
    Ok(ours.then_some(der))
}

/// Whether a card's attestation key belongs to a simulator.
pub fn is_of_a_simulator(object: &[u8]) -> bool {
    let Some(issuer) = certificate_of(object) else { return false };
    let root = from_pem(SIMULATOR).ok().and_then(|roots| Certificate::parse(roots.first()?).ok());
    let issuer = Certificate::parse(&issuer).ok();
    root.zip(issuer).is_some_and(|(root, issuer)| issuer.issuer() == root.subject())
}

/// The certificate in an object, unless it is compressed.
fn certificate_of(object: &[u8]) -> Option<Vec<u8>> {
    let plain = tlv::value(object, TAG_INFO).is_none_or(|info| info == [0]);
    tlv::value(object, TAG_CERTIFICATE).filter(|_| plain).map(<[u8]>::to_vec)
}

/// Wraps a certificate in an object.
pub fn object_of(certificate: &[u8]) -> Vec<u8> {
    let mut object = Vec::new();
    tlv::push(&mut object, TAG_CERTIFICATE, certificate);
    tlv::push(&mut object, TAG_INFO, &[0]);
    tlv::push(&mut object, TAG_ERRORS, &[]);
    object
}

/// In deterministic CBOR (RFC 8949 §4.2).
fn material(slot: &[u8], issuer: &[u8]) -> Vec<u8> {
    let mut out = minicbor::Encoder::new(Vec::new());
    let written = out.array(3).and_then(|out| out.u8(MATERIAL_VERSION)?.bytes(slot)?.bytes(issuer));
    // Writing to memory does not fail.
    drop(written.map_err(|never: minicbor::encode::Error<std::convert::Infallible>| never));
    out.into_writer()
}

/// `pin-once`, `touch-cached`.
fn policies(info: &SlotInfo) -> [String; 2] {
    let pin = match info.pin {
        PinPolicy::Never => "never",
        PinPolicy::Once => "once",
        PinPolicy::Always => "always",
        PinPolicy::Default => "default",
    };
    let touch = match info.touch {
        TouchPolicy::Never => "never",
        TouchPolicy::Always => "always",
        TouchPolicy::Cached => "cached",
        TouchPolicy::Default => "default",
    };
    [format!("pin-{pin}"), format!("touch-{touch}")]
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(Kind::Evidence, "trust the key", message)
}
