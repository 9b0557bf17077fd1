//! A YubiKey's PIV application as a [`Device`].

use super::card::Card;
use super::error::{DriverError, catch_malformed};
use super::evidence;
use super::find;
use super::login::{self, Login, lock};
use super::padding;
use super::slots::{SelectedSlot, SlotInfo, Slots, a_key_of, attribute, name};
use super::transaction::Transaction;
use crate::device::{
    CreateOptions, Device, DeviceIdentity, KeyInfo, KeyRef, PrivateOperation, Provision, PublicKey, Purpose,
};
use crate::error::{Error, Kind, Result};
use crate::prompt::Prompter;
use crate::uri::{DeviceUri, Scheme};
use std::sync::{Arc, Mutex};
use yubikey::{Serial, Version, YubiKey};
use zeroize::Zeroizing;

/// A connected YubiKey, sharing this process's login.
pub struct PivDevice {
    /// Always includes the serial number, even if the caller's URI did not.
    pub(super) uri: DeviceUri,
    pub(super) name: String,
    pub(super) serial: Serial,
    pub(super) version: Version,
    pub(super) slots: Slots,
    pub(super) login: Arc<Mutex<Login>>,
    pub(super) card: Option<Card>,
    /// Whether it is a simulator; `None` until the card was asked.
    simulator: Option<bool>,
}

impl PivDevice {
    /// Finds the YubiKey and selects its PIV application.
    pub fn connect(uri: &DeviceUri) -> Result<Self> {
        let slots = Slots::from_uri(uri)?;
        match find::find(uri)? {
            Some(yubikey) => Self::new(uri, slots, yubikey),
            None => Err(find::absent(uri)),
        }
    }

    /// As [`PivDevice::connect`], but waits for a person to plug in the YubiKey.
    pub fn connect_attended(uri: &DeviceUri, prompter: &mut dyn Prompter) -> Result<Self> {
        let slots = Slots::from_uri(uri)?;
        let yubikey = match find::find(uri)? {
            Some(yubikey) => yubikey,
            None => find::await_insertion(uri, prompter)?,
        };
        Self::new(uri, slots, yubikey)
    }

    fn new(uri: &DeviceUri, slots: Slots, yubikey: YubiKey) -> Result<Self> {
        let (serial, version) = (yubikey.serial(), yubikey.version());
        let uri = uri.with("serial", &serial.to_string())?;
        Ok(Self {
            name: uri.display_name(),
            uri,
            serial,
            version,
            slots,
            login: login::join(serial),
            card: Some(Card::new(yubikey)),
            simulator: None,
        })
    }

    /// Whether it is a simulator, judged by its attestation key's certificate. Without such a certificate it is not; `None` when
    /// the card does not answer.
    fn is_simulator(&mut self) -> Option<bool> {
        let card = self.card.as_mut()?;
        let issuer = catch_malformed(|| card.certificate(yubikey::piv::SlotId::Attestation))?.ok()?;
        Some(issuer.is_some_and(|object| evidence::is_of_a_simulator(&object)))
    }

    /// The keys in the card, with their evidence.
    fn list(&mut self, judge: &evidence::Judge, prompter: &mut dyn Prompter) -> Result<Vec<KeyInfo>> {
        let version = self.version;
        self.operate("list the keys", prompter, |transaction| {
            let mut keys = Vec::new();
            for purpose in [Purpose::Open, Purpose::Sign] {
                keys.extend(transaction.found(purpose, version, judge)?);
            }
            Ok(keys)
        })
    }
}

impl Transaction<'_> {
    /// The key for a purpose, if there is one and it is Strongroom's.
    fn found(
        &mut self,
        purpose: Purpose,
        version: Version,
        judge: &evidence::Judge,
    ) -> Result<Option<KeyInfo>, DriverError> {
        let chosen = self.slots.for_purpose(purpose);
        let Some(info) = self.card.slot(chosen.slot)? else { return Ok(None) };
        match &info.public {
            None if chosen.named => Err(self.unsupported_algorithm(purpose, chosen, &info).into()),
            None => Ok(None),
            Some(public) => {
                let mark = evidence::mark(self.card, chosen.slot, public)?;
                if !chosen.named && mark.is_none() {
                    return Ok(None);
                }
                self.key_info(purpose, version, &info, mark, judge).map(Some)
            }
        }
    }

    /// The public information on the key in a slot. Asks the card for an attestation if none is given.
    pub fn key_info(
        &mut self,
        purpose: Purpose,
        version: Version,
        info: &SlotInfo,
        attestation: Option<Vec<u8>>,
        judge: &evidence::Judge,
    ) -> Result<KeyInfo, DriverError> {
        let chosen = self.slots.for_purpose(purpose);
        let Some(public) = info.public_for(purpose) else {
            return Err(self.unsupported_algorithm(purpose, chosen, info).into());
        };
        let device = evidence::Subject { serial: self.serial, version, slot: chosen.slot, info, attestation };
        let (evidence, material) = judge.evidence(self.card, &device)?;
        let uri = DeviceUri::parse("piv:")?.with("serial", &self.serial.to_string())?;
        let uri = uri.with(attribute(purpose), &name(chosen.slot))?.to_string();
        Ok(KeyInfo { uri, purpose, public, evidence, material })
    }

    fn unsupported_algorithm(&self, purpose: Purpose, chosen: SelectedSlot, info: &SlotInfo) -> Error {
        let held = a_key_of(info.algorithm);
        let message = format!(
            "slot {} holds {held}, and Strongroom uses p256, p384, and RSA of 2048 bits or more",
            name(chosen.slot)
        );
        Error::new(Kind::Unsupported, "use the key", message)
            .with_target(self.name)
            .with_hint(format!("name another slot with {}= in the device's URI", attribute(purpose)))
    }
}

impl Drop for PivDevice {
    fn drop(&mut self) {
        if let Some(card) = self.card.take() {
            card.close();
        }
        lock(&self.login).leave();
    }
}

impl Device for PivDevice {
    fn identity(&mut self) -> DeviceIdentity {
        if self.simulator.is_none() {
            self.simulator = self.is_simulator();
        }
        DeviceIdentity {
            scheme: Scheme::Piv,
            maker: "Yubico".into(),
            model: format!("YubiKey {}", self.version.major),
            serial: self.serial.to_string(),
            firmware: self.version.to_string(),
            label: format!("YubiKey {}", self.serial),
            simulator: self.simulator.unwrap_or(false),
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn keys(&mut self, prompter: &mut dyn Prompter) -> Result<Vec<KeyInfo>> {
        self.list(&evidence::Judge::lenient()?, prompter)
    }

    fn keys_judged_by(
        &mut self,
        options: &CreateOptions,
        prompter: &mut dyn Prompter,
    ) -> Result<Vec<KeyInfo>> {
        match options.piv.overwrite {
            // The present key is about to be replaced.
            Some(_) => Ok(Vec::new()),
            None => self.list(&evidence::Judge::new(options)?, prompter),
        }
    }

    fn has_key(&mut self, key: &KeyRef, prompter: &mut dyn Prompter) -> Result<bool> {
        self.operate("look for the key", prompter, |transaction| {
            let info = transaction.card.slot(transaction.slots.for_purpose(key.purpose).slot)?;
            Ok(info.is_some_and(|info| info.is_of(&key.public)))
        })
    }

    fn open_key(
        &mut self,
        key: &KeyRef,
        challenge: PrivateOperation<'_>,
        prompter: &mut dyn Prompter,
    ) -> Result<Zeroizing<Vec<u8>>> {
        const OPERATION: &str = "open with the key";
        match challenge {
            PrivateOperation::Ecdh { peer } => self.operate(OPERATION, prompter, |transaction| {
                transaction.with_key(key, Purpose::Open, |card, slot| card.agree(slot, peer))
            }),
            PrivateOperation::Oaep { hash, ciphertext } => {
                let block = self.operate(OPERATION, prompter, |transaction| {
                    transaction.with_key(key, Purpose::Open, |card, slot| card.rsa(slot, ciphertext))
                })?;
                padding::without_oaep(&block, hash).ok_or_else(|| {
                    Error::new(Kind::Device, OPERATION, "the decrypted block has no OAEP padding")
                        .with_target(&self.name)
                })
            }
            PrivateOperation::AesGcm { .. } => {
                let message = "Strongroom opens with ECDH or RSA in a YubiKey";
                Err(Error::new(Kind::Unsupported, OPERATION, message).with_target(&self.name))
            }
        }
    }

    fn sign(&mut self, key: &KeyRef, digest: &[u8], prompter: &mut dyn Prompter) -> Result<Vec<u8>> {
        const OPERATION: &str = "sign";
        if let PublicKey::RsaPss { n, .. } = &key.public {
            // A modulus with a leading zero bit would need a different padding. YubiKeys do not make such keys.
            let block = padding::with_pss(digest, n.len()).filter(|_| n[0] >= 0x80);
            let block = block.ok_or_else(|| {
                let message = format!("a YubiKey signs with no RSA key like this one of {} bytes", n.len());
                Error::new(Kind::Unsupported, OPERATION, message).with_target(&self.name)
            })?;
            let signature = self.operate(OPERATION, prompter, |transaction| {
                transaction.with_key(key, Purpose::Sign, |card, slot| card.rsa(slot, &block))
            })?;
            return Ok(signature.to_vec());
        }
        let asn1 = self.operate(OPERATION, prompter, |transaction| {
            transaction.with_key(key, Purpose::Sign, |card, slot| card.sign(slot, digest))
        })?;
        let signature = match digest.len() {
            32 => p256::ecdsa::Signature::from_der(&asn1).map(|signature| signature.to_bytes().to_vec()).ok(),
            _ => p384::ecdsa::Signature::from_der(&asn1).map(|signature| signature.to_bytes().to_vec()).ok(),
        };
        signature.ok_or_else(|| {
            Error::new(Kind::Device, OPERATION, "its answer is no signature (RFC 3279 §2.2.3)")
                .with_target(&self.name)
        })
    }

    fn lock(&mut self) {
        let mut login = lock(&self.login);
        login.forget();
        if let Some(card) = self.card.take() {
            card.close();
        }
    }

    fn provisioning(&mut self) -> Option<&mut dyn Provision> {
        Some(self)
    }
}
