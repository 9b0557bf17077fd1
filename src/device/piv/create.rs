//! Making and removing keys.

use super::device::PivDevice;
use super::discovery::free_slots;
use super::error::DriverError;
use super::evidence::{Judge, object_of};
use super::slots::{SlotInfo, a_key_of, attribute, id_of, name};
use super::transaction::Transaction;
use crate::device::{Algorithm, CreateOptions, KeyInfo, KeyRef, Provision, PublicKey, Purpose};
use crate::error::{Error, Kind, Result};
use crate::prompt::Prompter;
use crate::uri::Scheme;
use yubikey::piv::{AlgorithmId, SlotId};
use yubikey::{PinPolicy, TouchPolicy, Version};

/// The first firmware that can remove a key.
const REMOVES: Version = Version { major: 5, minor: 7, patch: 0 };

impl Provision for PivDevice {
    fn create(
        &mut self,
        purpose: Purpose,
        algorithm: Algorithm,
        options: &CreateOptions,
        prompter: &mut dyn Prompter,
    ) -> Result<KeyInfo> {
        let operation = format!("create the {purpose} key");
        options.only_for(Scheme::Piv, self)?;
        let Some(id) = id_of(algorithm).filter(|_| !matches!(algorithm, Algorithm::Rsa(_))) else {
            let message = format!("Strongroom makes keys of p256 or p384 in a YubiKey, not {algorithm}");
            return Err(Error::new(Kind::Unsupported, operation, message).with_target(&self.name).with_hint(
                format!(
                    "to use an existing RSA key, name its slot in the device's URI with {}=",
                    attribute(purpose)
                ),
            ));
        };
        let policies = Policies::from_options(purpose, options).map_err(|e| e.with_target(&self.name))?;
        let (judge, version) = (Judge::new(options)?, self.version);
        let public = self.operate(&operation, prompter, |transaction| {
            transaction.make_room(purpose, options)?.make((purpose, id), policies, &operation)
        })?;
        let made = self.operate(&operation, prompter, |transaction| {
            let info = transaction.made(purpose, policies, &public)?;
            transaction.complete(purpose, version, &info, &judge)
        });
        if made.as_ref().is_err_and(|error| error.kind() == Kind::Evidence) && version >= REMOVES {
            let slot = self.slots.for_purpose(purpose).slot;
            let removed = self.operate(&operation, prompter, |transaction| {
                transaction.authenticate()?;
                transaction.card.delete(slot)
            });
            removed
                .unwrap_or_else(|error| log::warn!("the refused key stays in slot {}: {error}", name(slot)));
        }
        made
    }

    fn algorithms(&mut self, _: Purpose) -> Result<Vec<Algorithm>> {
        Ok(vec![Algorithm::P256, Algorithm::P384])
    }

    fn destroy(&mut self, key: &KeyInfo, prompter: &mut dyn Prompter) -> Result<()> {
        let (version, slot) = (self.version, self.slots.for_purpose(key.purpose).slot);
        self.operate("destroy the key", prompter, |transaction| {
            let Some(info) = transaction.card.slot(slot)? else { return Ok(()) };
            transaction.expect(&KeyRef::from(key), &info)?;
            transaction.authenticate()?;
            match version >= REMOVES {
                true => transaction.card.delete(slot)?,
                // Older firmware cannot remove a key. Overwriting destroys it, too.
                false => {
                    let guarded = (PinPolicy::Always, TouchPolicy::Always);
                    transaction.card.generate(slot, AlgorithmId::EccP256, guarded).map(drop)?;
                }
            }
            transaction.card.write_certificate(slot, &mut [])
        })
    }
}

/// A new key's PIN and touch policies.
#[derive(Clone, Copy)]
struct Policies {
    pin: PinPolicy,
    touch: TouchPolicy,
}

impl Policies {
    /// The chosen ones. Defaults: PIN once for opening, PIN for each signature, and a touch that is valid for 15 seconds.
    fn from_options(purpose: Purpose, options: &CreateOptions) -> Result<Self> {
        let unknown = |option: &str, given: &str, known: &str| {
            let message = format!("`{}` is no {option} policy", crate::error::printable(given));
            Error::new(Kind::Usage, "choose how the key is guarded", message)
                .with_hint(format!("choose one of {known}"))
        };
        let pin = match (options.piv.pin_policy.as_deref(), purpose) {
            (None, Purpose::Open) | (Some("once"), _) => PinPolicy::Once,
            (None, Purpose::Sign) | (Some("always"), _) => PinPolicy::Always,
            (Some("never"), _) => PinPolicy::Never,
            (Some(other), _) => return Err(unknown("PIN", other, "never, once, always")),
        };
        let touch = match options.piv.touch_policy.as_deref() {
            None | Some("cached") => TouchPolicy::Cached,
            Some("always") => TouchPolicy::Always,
            Some("never") => TouchPolicy::Never,
            Some(other) => return Err(unknown("touch", other, "never, always, cached")),
        };
        Ok(Self { pin, touch })
    }

    /// Whether a key has these policies.
    fn fit(self, info: &SlotInfo) -> bool {
        info.generated && info.pin == self.pin && info.touch == self.touch
    }
}

impl Transaction<'_> {
    /// Makes sure that the slot is empty, or that the user wants it overwritten.
    fn make_room(&mut self, purpose: Purpose, options: &CreateOptions) -> Result<&mut Self, DriverError> {
        let slot = self.slots.for_purpose(purpose).slot;
        let held = match self.card.slot(slot)? {
            Some(info) => a_key_of(info.algorithm).to_owned(),
            None if self.card.certificate(slot)?.is_some() => "a certificate".into(),
            None => return Ok(self),
        };
        match options.piv.overwrite.as_deref() {
            Some(typed) if typed == self.serial.to_string() => {
                log::warn!("{}: overwriting {held} in slot {}", self.name, name(slot));
                Ok(self)
            }
            Some(_) => {
                let message = format!("the serial number you typed is not that of YubiKey {}", self.serial);
                Err(Error::new(Kind::Usage, format!("overwrite slot {}", name(slot)), message)
                    .with_target(self.name)
                    .into())
            }
            None => Err(self.in_use(purpose, slot, &held)?.into()),
        }
    }

    fn in_use(&mut self, purpose: Purpose, slot: SlotId, held: &str) -> Result<Error, DriverError> {
        let other = match purpose {
            Purpose::Open => self.slots.signing.slot,
            Purpose::Sign => self.slots.opening.slot,
        };
        let free = free_slots(self.card, purpose)?;
        let free: Vec<_> = free.into_iter().filter(|free| *free != other).map(name).collect();
        let option = attribute(purpose);
        let hint = match free.first() {
            Some(first) => format!(
                "free are {}: add {option}={first} to the device's URI; or use the key that is there with {option}={}",
                free.join(", "),
                name(slot)
            ),
            None => format!(
                "no slot is free: say --force {} to overwrite it, which destroys what is in it",
                self.serial
            ),
        };
        let message = format!("slot {} is in use: it holds {held}", name(slot));
        Ok(Error::new(Kind::Conflict, format!("create the {purpose} key"), message)
            .with_target(self.name)
            .with_hint(hint))
    }

    /// Makes the key. Not repeated, because a command may have run even if its response was lost.
    fn make(
        &mut self,
        (purpose, algorithm): (Purpose, AlgorithmId),
        policies: Policies,
        operation: &str,
    ) -> Result<PublicKey, DriverError> {
        let slot = self.slots.for_purpose(purpose).slot;
        self.authenticate()?;
        match self.card.generate(slot, algorithm, (policies.pin, policies.touch)) {
            Err(fault) if fault.is_of_the_connection() => {
                let hint =
                    format!("inspect slot {} with `ykman piv info`, then repeat the command", name(slot));
                Err(fault.into_error(operation, self.name).with_hint(hint).into())
            }
            done => done,
        }
    }

    /// The key in the slot. It must be the one just made, with the requested policies.
    fn made(
        &mut self,
        purpose: Purpose,
        policies: Policies,
        made: &PublicKey,
    ) -> Result<SlotInfo, DriverError> {
        let gone = || Error::new(Kind::KeyMissing, "find the key", "the key that was made is gone");
        let slot = self.slots.for_purpose(purpose).slot;
        let info = self.card.slot(slot)?.ok_or_else(|| gone().with_target(self.name))?;
        match policies.fit(&info) && info.is_of(made) {
            true => Ok(info),
            false => {
                let message = "the YubiKey did not make the requested key";
                Err(Error::new(Kind::Evidence, "trust the key", message).with_target(self.name).into())
            }
        }
    }

    /// Verifies the new key's evidence and stores its attestation in the slot, which marks the key as Strongroom's.
    fn complete(
        &mut self,
        purpose: Purpose,
        version: Version,
        info: &SlotInfo,
        judge: &Judge,
    ) -> Result<KeyInfo, DriverError> {
        let slot = self.slots.for_purpose(purpose).slot;
        let attestation = self.card.attest(slot)?;
        let key = self.key_info(purpose, version, info, attestation.clone(), judge)?;
        key.evidence.check(&key)?;
        self.authenticate()?;
        // This also replaces the certificate of an overwritten key.
        let mut object = attestation.as_deref().map(object_of).unwrap_or_default();
        self.card.write_certificate(slot, &mut object)?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_guarded_otherwise_does_not_fit() {
        let asked = Policies { pin: PinPolicy::Always, touch: TouchPolicy::Cached };
        let right = SlotInfo {
            algorithm: AlgorithmId::EccP256,
            public: None,
            pin: PinPolicy::Always,
            touch: TouchPolicy::Cached,
            generated: true,
        };
        assert!(asked.fit(&right));
        assert!(!asked.fit(&SlotInfo { pin: PinPolicy::Never, ..right.clone() }));
        assert!(!asked.fit(&SlotInfo { touch: TouchPolicy::Never, ..right.clone() }));
        assert!(!asked.fit(&SlotInfo { generated: false, ..right }));
    }
}
