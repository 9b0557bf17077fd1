//! What one operation has: the card, the login it holds meanwhile, and who is asked.

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

/// A card that was busy for so long was waiting for a touch: it gives up after 15 seconds.
const TOUCH: Duration = Duration::from_secs(10);

/// Held by one operation at a time, in this process.
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
    /// Does what needs the private half of an enrolled key: finds it, verifies the PIN and asks for a touch as its policies say.
    pub fn with_key<T>(
        &mut self,
        key: &KeyRef,
        purpose: Purpose,
        run: impl FnOnce(&mut Card, SlotId) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        if key.purpose != purpose {
            let answer = format!("this is not what its {} key is for", key.purpose);
            return Err(Error::new(Kind::Usage, "use the key", answer).with_target(self.name).into());
        }
        let slot = self.slots.of_purpose(key.purpose).slot;
        let facts = self.card.slot(slot)?.ok_or_else(|| self.empty(key.purpose))?;
        self.expect(key, &facts)?;
        self.ready(facts.pin)?;
        if facts.wants_touch() {
            self.ask_for_touch()?;
        }
        let began = Instant::now();
        match run(self.card, slot) {
            Err(DriverError::Crate { call, error: yubikey::Error::AuthenticationError }) => {
                Err(self.why_refused(&facts, call, began)?)
            }
            Err(fault @ DriverError::Crate { error: yubikey::Error::GenericError, .. }) => {
                // Another application may have been selected meanwhile: then this fails as well, and says so.
                self.card.slot(slot)?;
                Err(fault)
            }
            done => done,
        }
    }

    /// Tells the person to touch it.
    pub fn ask_for_touch(&mut self) -> Result<()> {
        self.prompter.touch(&format!("touch your YubiKey {}", self.serial))
    }

    /// Has the PIN verified, where the key's policy wants it.
    pub fn ready(&mut self, policy: PinPolicy) -> Result<(), DriverError> {
        match policy {
            PinPolicy::Never => Ok(()),
            PinPolicy::Always => self.verify(),
            // A PIN that was forgotten in this process is asked for, whatever the card still knows.
            _ if self.login.pin.pin().is_some() && self.card.verified_in(self.login.epoch()) => Ok(()),
            _ => self.verify(),
        }
    }

    /// Sends the PIN that is kept, or asks for it.
    pub fn verify(&mut self) -> Result<(), DriverError> {
        let tries = self.card.tries()?;
        if tries == 0 {
            return Err(self.blocked()?.into());
        }
        // A PIN whose verdict was lost on the way, and which cost a try: it is refused all the same.
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

    /// The card says "security status not satisfied" for a missing PIN and for a missing touch alike: it is asked which it was.
    fn why_refused(
        &mut self,
        facts: &SlotInfo,
        call: &'static str,
        began: Instant,
    ) -> Result<DriverError, DriverError> {
        let waited = facts.wants_touch() && began.elapsed() >= TOUCH;
        if facts.pin != PinPolicy::Never && !waited && !self.card.remembers()? {
            return Ok(DriverError::Forgotten);
        }
        if !facts.wants_touch() {
            return Ok(DriverError::Crate { call, error: yubikey::Error::AuthenticationError });
        }
        let answer = format!("it was not touched (waited {} s)", began.elapsed().as_secs());
        let advice = "repeat the command, and touch the YubiKey's contact while it blinks";
        Ok(Error::new(Kind::Cancelled, "use the key", answer).with_target(self.name).with_hint(advice).into())
    }

    /// Refuses a key that is not the enrolled one.
    pub fn expect(&self, key: &KeyRef, facts: &SlotInfo) -> Result<()> {
        if facts.is_of(&key.public) {
            return Ok(());
        }
        let (slot, enrolled) = (name(self.slots.of_purpose(key.purpose).slot), key.public.algorithm());
        let answer = match id_of(enrolled) {
            Some(id) if id == facts.algorithm => {
                format!("the key in slot {slot} is not the {} key that was enrolled", key.purpose)
            }
            _ => {
                format!("slot {slot} holds {}, and the enrolled one is {enrolled}", a_key_of(facts.algorithm))
            }
        };
        Err(Error::new(Kind::KeyMissing, "find the key", answer).with_target(self.name).with_hint(format!(
            "plug in the enrolled YubiKey, or name the key's slot with {}= in the device's URI; a key that was overwritten is lost",
            attribute(key.purpose)
        )))
    }

    fn empty(&self, purpose: Purpose) -> Error {
        let slot = name(self.slots.of_purpose(purpose).slot);
        let answer = format!("slot {slot}, where the {purpose} key should be, is empty");
        Error::new(Kind::KeyMissing, "find the key", answer).with_target(self.name).with_hint(format!(
            "name the key's slot with {}= in the device's URI; after a reset of the PIV application its keys are lost",
            attribute(purpose)
        ))
    }
}
