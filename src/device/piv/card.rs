//! A connection to one YubiKey.
//!
//! The crate copies PINs into a plain vector, so VERIFY is sent over a second connection of our own. PC/SC connections to one
//! card share its state: a PIN verified on one counts on the other.

use super::error::{DriverError, from_call, from_pcsc};
use super::slots::{SlotInfo, certificate_object, id_of, metadata};
use crate::device::{Algorithm, PublicKey};
use crate::secret::Secret;
use std::ffi::CString;
use yubikey::piv::{self, AlgorithmId, ManagementSlotId, SlotId};
use yubikey::{PinPolicy, TouchPolicy, YubiKey};
use zeroize::Zeroizing;

/// DELETE KEY: MOVE KEY to nowhere, from firmware 5.7 on.
const DELETE: [u8; 3] = [0x00, 0xf6, 0xff];

/// The crate's connection and our own.
pub struct Card {
    yubikey: YubiKey,
    own: Option<pcsc::Card>,
    /// The login in which the PIN was verified here.
    verified: Option<u64>,
}

/// The card's answer to a PIN.
pub enum Verdict {
    /// It is right.
    Right,
    /// It is wrong, and this many tries are left.
    Wrong { tries: u8 },
}

impl Card {
    /// Takes over an open YubiKey.
    pub fn new(yubikey: YubiKey) -> Self {
        Self { yubikey, own: None, verified: None }
    }

    /// Disconnects. Resets the card if we verified the PIN on it, so that no other program can use the verification.
    pub fn close(self) {
        super::find::leave(self.yubikey);
        let disposition = match self.verified {
            Some(_) => pcsc::Disposition::ResetCard,
            None => pcsc::Disposition::LeaveCard,
        };
        if let Some(own) = self.own {
            let _ = own.disconnect(disposition);
        }
    }

    /// Disconnects from a card that another program has reset, or that was removed.
    pub fn abandon(mut self) {
        self.verified = None;
        self.close();
    }

    /// The crate's connection.
    pub fn yubikey(&mut self) -> &mut YubiKey {
        &mut self.yubikey
    }

    /// What is in a slot; `None` when it is empty.
    pub fn slot(&mut self, slot: SlotId) -> Result<Option<SlotInfo>, DriverError> {
        SlotInfo::read(&mut self.yubikey, slot)
    }

    /// Tries left before the PIN is blocked.
    pub fn tries(&mut self) -> Result<u8, DriverError> {
        self.tries_of(ManagementSlotId::Pin)
    }

    /// Tries left before the PUK is blocked.
    pub fn puk_tries(&mut self) -> Result<u8, DriverError> {
        self.tries_of(ManagementSlotId::Puk)
    }

    fn tries_of(&mut self, reference: ManagementSlotId) -> Result<u8, DriverError> {
        let metadata = metadata(&mut self.yubikey, SlotId::Management(reference))?;
        let retries = metadata.and_then(|metadata| metadata.retries);
        let retries = retries.ok_or(yubikey::Error::InvalidObject).map_err(from_call("GET METADATA"))?;
        Ok(retries.remaining_count)
    }

    /// Whether the PIN was verified here in this login. The card may have forgotten it since.
    pub fn verified_in(&self, epoch: u64) -> bool {
        self.verified == Some(epoch)
    }

    /// Whether the card itself still knows that the PIN was verified. Costs no try.
    pub fn remembers(&mut self) -> Result<bool, DriverError> {
        match self.command("VERIFY", &[0x00, 0x20, 0x00, 0x80])? {
            0x9000 => Ok(true),
            _ => Ok(false),
        }
    }

    /// Sends the PIN, once.
    pub fn verify(&mut self, pin: &Secret, epoch: u64) -> Result<Verdict, DriverError> {
        const CALL: &str = "VERIFY";
        // SP 800-73-4 part 2 §3.2.1: padded with FF to 8 bytes.
        let mut command = Zeroizing::new([0xff; 13]);
        command[..5].copy_from_slice(&[0x00, 0x20, 0x00, 0x80, 8]);
        let room = &mut command[5..];
        match room.get_mut(..pin.len()) {
            Some(room) => room.copy_from_slice(pin.expose()),
            None => return Err(from_call(CALL)(yubikey::Error::SizeError)),
        }
        self.verified = None;
        match self.command(CALL, &*command)? {
            0x9000 => {
                self.verified = Some(epoch);
                Ok(Verdict::Right)
            }
            0x6983 => Ok(Verdict::Wrong { tries: 0 }),
            sw @ 0x63c0..=0x63cf => Ok(Verdict::Wrong { tries: (sw & 0xf) as u8 }),
            // PIV is no longer the selected application, so the PIN was not checked.
            0x6d00 | 0x6e00 => Err(DriverError::Forgotten),
            sw => Err(DriverError::Status { call: CALL, sw }),
        }
    }

    /// ECDH: the x-coordinate.
    pub fn agree(&mut self, slot: SlotId, peer: &[u8]) -> Result<Zeroizing<Vec<u8>>, DriverError> {
        let algorithm = if peer.len() == 65 { AlgorithmId::EccP256 } else { AlgorithmId::EccP384 };
        piv::decrypt_data(&mut self.yubikey, peer, algorithm, slot).map_err(from_call("GENERAL AUTHENTICATE"))
    }

    /// ECDSA over a digest: ASN.1.
    pub fn sign(&mut self, slot: SlotId, digest: &[u8]) -> Result<Zeroizing<Vec<u8>>, DriverError> {
        let algorithm = if digest.len() == 32 { AlgorithmId::EccP256 } else { AlgorithmId::EccP384 };
        piv::sign_data(&mut self.yubikey, digest, algorithm, slot).map_err(from_call("GENERAL AUTHENTICATE"))
    }

    /// The raw RSA private-key operation. The input is as long as the modulus and less than it.
    pub fn rsa(&mut self, slot: SlotId, input: &[u8]) -> Result<Zeroizing<Vec<u8>>, DriverError> {
        const CALL: &str = "GENERAL AUTHENTICATE";
        let bits = u16::try_from(8 * input.len()).ok();
        let algorithm = bits.and_then(|bits| id_of(Algorithm::Rsa(bits)));
        let algorithm = algorithm.ok_or(yubikey::Error::SizeError).map_err(from_call(CALL))?;
        let output = piv::decrypt_data(&mut self.yubikey, input, algorithm, slot).map_err(from_call(CALL))?;
        if output.len() == input.len() { Ok(output) } else { Err(from_call(CALL)(yubikey::Error::SizeError)) }
    }

    /// Makes an EC key. Needs the management key.
    pub fn generate(
        &mut self,
        slot: SlotId,
        algorithm: AlgorithmId,
        (pin, touch): (PinPolicy, TouchPolicy),
    ) -> Result<PublicKey, DriverError> {
        const CALL: &str = "GENERATE ASYMMETRIC KEY PAIR";
        let made = piv::generate(&mut self.yubikey, slot, algorithm, pin, touch).map_err(from_call(CALL))?;
        let public = PublicKey::from_point(made.subject_public_key.raw_bytes());
        public.ok_or_else(|| from_call(CALL)(yubikey::Error::InvalidObject))
    }

    /// Removes a key, from firmware 5.7 on. Needs the management key.
    pub fn delete(&mut self, slot: SlotId) -> Result<(), DriverError> {
        const CALL: &str = "MOVE KEY";
        let [class, instruction, nowhere] = DELETE;
        match self.command(CALL, &[class, instruction, nowhere, u8::from(slot)])? {
            0x9000 => Ok(()),
            sw => Err(DriverError::Status { call: CALL, sw }),
        }
    }

    /// The card's certificate for a key made in it; `None` for an imported key.
    pub fn attest(&mut self, slot: SlotId) -> Result<Option<Vec<u8>>, DriverError> {
        match piv::attest(&mut self.yubikey, slot) {
            Ok(der) => Ok(Some(der.to_vec())),
            Err(yubikey::Error::PcscError { inner }) => {
                Err(from_call("ATTEST")(yubikey::Error::PcscError { inner }))
            }
            Err(error) => {
                log::debug!("no attestation for the slot {}: {error}", super::slots::name(slot));
                Ok(None)
            }
        }
    }

    /// A slot's certificate object, unparsed; `None` when there is none.
    pub fn certificate(&mut self, slot: SlotId) -> Result<Option<Vec<u8>>, DriverError> {
        match self.yubikey.fetch_object(certificate_object(slot)) {
            Ok(object) => Ok(Some(object.to_vec()).filter(|object| !object.is_empty())),
            Err(yubikey::Error::NotFound) => Ok(None),
            Err(error) => Err(from_call("GET DATA")(error)),
        }
    }

    /// Writes a slot's certificate object, or removes it. Needs the management key.
    pub fn write_certificate(&mut self, slot: SlotId, object: &mut [u8]) -> Result<(), DriverError> {
        self.yubikey.save_object(certificate_object(slot), object).map_err(from_call("PUT DATA"))
    }

    /// Sends a command over our own connection and returns the status word.
    fn command(&mut self, call: &'static str, command: &[u8]) -> Result<u16, DriverError> {
        let mut answer = [0; 258];
        let own = match &mut self.own {
            Some(own) => own,
            None => self.own.insert(line(self.yubikey.name()).map_err(from_pcsc("SCardConnect"))?),
        };
        let answer = own.transmit(command, &mut answer).map_err(from_pcsc(call))?;
        match answer {
            [.., high, low] => Ok(u16::from_be_bytes([*high, *low])),
            _ => Err(from_call(call)(yubikey::Error::SizeError)),
        }
    }
}

fn line(reader: &str) -> Result<pcsc::Card, pcsc::Error> {
    let context = pcsc::Context::establish(pcsc::Scope::System)?;
    let reader = CString::new(reader).map_err(|_| pcsc::Error::UnknownReader)?;
    context.connect(&reader, pcsc::ShareMode::Shared, pcsc::Protocols::T1)
}
