//! PIN and PUK: VERIFY, CHANGE REFERENCE DATA, RESET RETRY COUNTER (NIST SP 800-73-5 part 2 §3.2) and Yubico's SET RETRIES.

use super::memory::{FACTORY_PIN, FACTORY_PUK, Reference, well_formed};
use super::{Answer, Card};
use crate::apdu::Status;

const PIN: u8 = 0x80;
const PUK: u8 = 0x81;

impl Card {
    /// VERIFY. Without data it asks how many tries are left; with P1 = FF it forgets that the PIN was given.
    pub(super) fn verify(&mut self, p1: u8, p2: u8, data: &[u8]) -> Answer {
        if p2 != PIN {
            return Err(Status::REFERENCE_NOT_FOUND);
        }
        match (p1, data.len()) {
            (0xff, 0) => {
                self.forget_pin();
                Ok(Vec::new())
            }
            (0, 0) if self.session.pin_verified => Ok(Vec::new()),
            (0, 0) => Err(match self.memory.pin.left {
                0 => Status::BLOCKED,
                left => Status::tries_left(left),
            }),
            (0, 8) => {
                self.forget_pin();
                self.changing(|card| card.memory.pin.check(data))?;
                (self.session.pin_verified, self.session.pin_fresh) = (true, true);
                Ok(Vec::new())
            }
            (0, _) => Err(Status::BAD_DATA),
            _ => Err(Status::BAD_PARAMETERS),
        }
    }

    /// CHANGE REFERENCE DATA: the old one, then the new one.
    pub(super) fn change_reference(&mut self, p2: u8, data: &[u8]) -> Answer {
        let (old, new) = halves(data)?;
        if !matches!(p2, PIN | PUK) {
            return Err(Status::REFERENCE_NOT_FOUND);
        }
        let new = well_formed(new)?;
        self.changing(|card| {
            let reference = if p2 == PIN { &mut card.memory.pin } else { &mut card.memory.puk };
            reference.check(old)?;
            reference.set(new);
            Ok(())
        })?;
        Ok(Vec::new())
    }

    /// RESET RETRY COUNTER: the PUK, then a new PIN.
    pub(super) fn reset_retry_counter(&mut self, p2: u8, data: &[u8]) -> Answer {
        let (puk, pin) = halves(data)?;
        if p2 != PIN {
            return Err(Status::REFERENCE_NOT_FOUND);
        }
        let pin = well_formed(pin)?;
        self.changing(|card| {
            card.memory.puk.check(puk)?;
            card.memory.pin.set(pin);
            Ok(())
        })?;
        Ok(Vec::new())
    }

    /// SET PIN RETRIES: also puts the factory's PIN and PUK back.
    pub(super) fn set_retries(&mut self, pin: u8, puk: u8) -> Answer {
        self.needs_management()?;
        if !self.session.pin_verified {
            return Err(Status::SECURITY);
        }
        if pin == 0 || puk == 0 {
            return Err(Status::BAD_PARAMETERS);
        }
        self.changing(|card| {
            card.memory.pin = Reference::new(FACTORY_PIN, pin);
            card.memory.puk = Reference::new(FACTORY_PUK, puk);
        });
        Ok(Vec::new())
    }

    fn forget_pin(&mut self) {
        (self.session.pin_verified, self.session.pin_fresh) = (false, false);
    }

    /// Carries out what may change a PIN, a PUK or a counter, and notes whether it did.
    fn changing<T>(&mut self, action: impl FnOnce(&mut Self) -> T) -> T {
        let before = (self.memory.pin.clone(), self.memory.puk.clone());
        let done = action(self);
        self.changed |= before != (self.memory.pin.clone(), self.memory.puk.clone());
        done
    }
}

fn halves(data: &[u8]) -> Result<(&[u8], &[u8]), Status> {
    if data.len() == 16 { Ok(data.split_at(8)) } else { Err(Status::BAD_DATA) }
}
