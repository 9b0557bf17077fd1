//! One operation's context: the card, the locked login and the prompter.

use super::card::{Card, Verdict};
use super::error::DriverError;
use super::login::{self, Login};
use super::slots::{SlotInfo, Slots, a_key_of, attribute, id_of, name};
use crate::device::{KeyRef, Purpose};
use crate::error::{Error, Kind, Result};
use crate::prompt::Prompter;
use crate::uri::DeviceUri;
use std::time::{Duration, Instant};
use yubikey::piv::SlotId;
use yubikey::{PinPolicy, Serial};

/// A card that was busy this long was waiting for a touch. It gives up after 15 seconds.
const TOUCH: Duration = Duration::from_secs(10);

/// Only one exists at a time per YubiKey in this process.
pub struct Transaction<'a> {
    pub card: &'a mut Card,
    pub login: &'a mut Login,
    pub prompter: &'a mut dyn Prompter,
    pub uri: &'a DeviceUri,
    pub name: &'a str,
    pub serial: Serial,
    pub slots: Slots,
}

impl Transaction<'_> {
    /// Runs an operation with an enrolled private key: finds the key, verifies the PIN and asks for a touch as its policies require.
    pub fn with_key<T>(
        &mut self,
        key: &KeyRef,
        purpose: Purpose,
        run: impl FnOnce(&mut Card, SlotId) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        if key.purpose != purpose {
            let message = format!("this is not what its {} key is for", key.purpose);
            return Err(Error::new(Kind::Usage, "use the key", message).with_target(self.name).into());
        }
        let slot = self.slots.for_purpose(key.purpose).slot;
        let info = self.card.slot(slot)?.ok_or_else(|| self.empty(key.purpose))?;
        self.expect(key, &info)?;
        self.ready(info.pin)?;
        if info.wants_touch() {
            self.ask_for_touch()?;
        }
        let began = Instant::now();
        match run(self.card, slot) {
            Err(DriverError::Crate { call, error: yubikey::Error::AuthenticationError }) => {
                Err(self.why_refused(&info, call, began)?)
            }
            Err(fault @ DriverError::Crate { error: yubikey::Error::GenericError, .. }) => {
                // If another application was selected meanwhile, this call fails, too, and says so.
                self.card.slot(slot)?;
                Err(fault)
            }
            done => done,
        }
    }

    /// Asks the person to touch the YubiKey.
    pub fn ask_for_touch(&mut self) -> Result<()> {
        self.prompter.touch(&format!("touch your YubiKey {}", self.serial))
    }

    /// Verifies the PIN if the key's policy requires it.
    pub fn ready(&mut self, policy: PinPolicy) -> Result<(), DriverError> {
        match policy {
            PinPolicy::Never => Ok(()),
            PinPolicy::Always => self.verify(),
            // After this process forgot the PIN, ask for it even if the card still counts it as verified.
            _ if self.login.pin.pin().is_some() && self.card.verified_in(self.login.epoch()) => Ok(()),
            _ => self.verify(),
        }
    }

    /// Sends the kept PIN, or asks for one.
    pub fn verify(&mut self) -> Result<(), DriverError> {
        let tries = self.card.tries()?;
        if tries == 0 {
            return Err(self.blocked()?.into());
        }
        // The response to the last PIN was lost, but it cost a try: it was refused.
        if self.login.pin.was_refused_unheard(tries.into()) {
            self.login.refuse();
            return Err(login::wrong(tries, self.name).into());
        }
        let pin = self.login.credential(tries, self.name, self.uri.pin_source(), self.prompter)?;
        self.login.pin.note_sent(tries.into());
        let verdict = self.card.verify(&pin, self.login.epoch())?;
        self.login.pin.note_judged();
        match verdict {
            Verdict::Right => {
                self.login.accept(pin);
                Ok(())
            }
            Verdict::Wrong { tries } => {
                self.login.refuse();
                Err(match tries {
                    0 => self.blocked()?,
                    tries => login::wrong(tries, self.name),
                }
                .into())
            }
        }
    }

    fn blocked(&mut self) -> Result<Error, DriverError> {
        Ok(login::blocked(self.name, self.card.puk_tries()?))
    }

    /// Finds out why the card said "security status not satisfied": because of a missing PIN or a missing touch.
    fn why_refused(
        &mut self,
        info: &SlotInfo,
        call: &'static str,
        began: Instant,
    ) -> Result<DriverError, DriverError> {
        let waited = info.wants_touch() && began.elapsed() >= TOUCH;
        if info.pin != PinPolicy::Never && !waited && !self.card.remembers()? {
            return Ok(DriverError::Forgotten);
        }
        if !info.wants_touch() {
            return Ok(DriverError::Crate { call, error: yubikey::Error::AuthenticationError });
        }
        let message = format!("it was not touched (waited {} s)", began.elapsed().as_secs());
        let hint = "repeat the command, and touch the YubiKey's contact while it blinks";
        Ok(Error::new(Kind::Cancelled, "use the key", message).with_target(self.name).with_hint(hint).into())
    }

    /// Refuses a key that is not the enrolled one.
    pub fn expect(&self, key: &KeyRef, info: &SlotInfo) -> Result<()> {
        if info.is_of(&key.public) {
            return Ok(());
        }
        let (slot, enrolled) = (name(self.slots.for_purpose(key.purpose).slot), key.public.algorithm());
        let message = match id_of(enrolled) {
            Some(id) if id == info.algorithm => {
                format!("the key in slot {slot} is not the {} key that was enrolled", key.purpose)
            }
            _ => {
                format!("slot {slot} holds {}, and the enrolled one is {enrolled}", a_key_of(info.algorithm))
            }
        };
        Err(Error::new(Kind::KeyMissing, "find the key", message).with_target(self.name).with_hint(format!(
            "plug in the enrolled YubiKey, or name the key's slot with {}= in the device's URI; a key that was overwritten is lost",
            attribute(key.purpose)
        )))
    }

    fn empty(&self, purpose: Purpose) -> Error {
        let slot = name(self.slots.for_purpose(purpose).slot);
        let message = format!("slot {slot}, where the {purpose} key should be, is empty");
        Error::new(Kind::KeyMissing, "find the key", message).with_target(self.name).with_hint(format!(
            "name the key's slot with {}= in the device's URI; after a reset of the PIV application its keys are lost",
            attribute(purpose)
        ))
    }
}
