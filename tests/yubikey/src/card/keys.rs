//! Keys in their slots: GENERATE, IMPORT, MOVE, and GENERAL AUTHENTICATE with them (NIST SP 800-73-5 part 2 §3.2.4, §3.3.2).

use super::memory::{Origin, Slot};
use super::{Answer, Card, Surroundings};
use crate::apdu::Status;
use crate::key::{Algorithm, Key};
use crate::tlv;
use std::time::Duration;

/// For how long one touch serves a key whose touch policy is "cached".
const TOUCH_LASTS: Duration = Duration::from_secs(15);

impl Card {
    /// GENERATE ASYMMETRIC KEY PAIR: AC { 80 algorithm, AA PIN policy, AB touch policy }. A key that is there is gone.
    pub(super) fn generate(&mut self, slot: u8, data: &[u8]) -> Answer {
        self.needs_management()?;
        check_slot(slot)?;
        let template = tlv::find(data, 0xac).ok_or(Status::BAD_DATA)?;
        let Some(&[number]) = tlv::find(template, 0x80) else { return Err(Status::BAD_DATA) };
        let algorithm = self.algorithm(number)?;
        let (pin_policy, touch_policy) = policies(template, slot)?;
        let key = Key::generate(algorithm, &mut self.rng, self.rsa_keys_made).ok_or(Status::BAD_DATA)?;
        self.rsa_keys_made += usize::from(algorithm == Algorithm::Rsa2048);
        self.store(slot, Slot::new(algorithm, &key, pin_policy, touch_policy, Origin::Generated));
        Ok(tlv::encode(0x7f49, &key.public()))
    }

    /// IMPORT ASYMMETRIC KEY: the scalar or the primes, AA, AB.
    pub(super) fn import(&mut self, number: u8, slot: u8, data: &[u8]) -> Answer {
        self.needs_management()?;
        check_slot(slot)?;
        let algorithm = self.algorithm(number)?;
        let key = Key::import(algorithm, data).ok_or(Status::BAD_DATA)?;
        let (pin_policy, touch_policy) = policies(data, slot)?;
        self.store(slot, Slot::new(algorithm, &key, pin_policy, touch_policy, Origin::Imported));
        Ok(Vec::new())
    }

    /// MOVE KEY from P2 to P1; to FF deletes it.
    pub(super) fn move_key(&mut self, to: u8, from: u8) -> Answer {
        self.needs_management()?;
        if to != 0xff {
            check_slot(to)?;
            if self.memory.slots.contains_key(&to) {
                return Err(Status::BAD_DATA);
            }
        }
        let slot = self.memory.slots.remove(&from).ok_or(Status::REFERENCE_NOT_FOUND)?;
        self.session.touches.remove(&from);
        self.changed = true;
        if to != 0xff {
            self.store(to, slot);
        }
        Ok(Vec::new())
    }

    /// GENERAL AUTHENTICATE: 7C { 82 empty, 81 challenge or 85 point }. PIN first, then touch, then the key.
    pub(super) fn private_operation(
        &mut self,
        number: u8,
        slot: u8,
        data: &[u8],
        surroundings: &mut dyn Surroundings,
    ) -> Answer {
        let template = tlv::find(data, 0x7c).ok_or(Status::BAD_DATA)?;
        let held = self.memory.slots.get(&slot).ok_or(Status::REFERENCE_NOT_FOUND)?.clone();
        if held.algorithm.number() != number {
            return Err(Status::BAD_PARAMETERS);
        }
        match held.pin_policy {
            2 if !self.session.pin_verified => return Err(Status::SECURITY),
            3 if !self.session.pin_fresh => return Err(Status::SECURITY),
            _ => {}
        }
        self.touch(slot, held.touch_policy, surroundings)?;
        let key = held.key()?;
        let answer = match (tlv::find(template, 0x81), tlv::find(template, 0x85)) {
            (Some(challenge), None) => key.sign(challenge),
            (None, Some(point)) => key.agree(point),
            _ => None,
        };
        let answer = answer.ok_or(Status::BAD_DATA)?;
        self.session.pin_fresh = false;
        self.private_operations += 1;
        Ok(tlv::encode(0x7c, &tlv::encode(0x82, &answer)))
    }

    /// Waits for a touch where the policy wants one. A touch that does not come looks like a PIN that is missing.
    pub(super) fn touch(
        &mut self,
        slot: u8,
        policy: u8,
        surroundings: &mut dyn Surroundings,
    ) -> Result<(), Status> {
        let recently = |at: &Duration| surroundings.now().saturating_sub(*at) < TOUCH_LASTS;
        if policy < 2 || policy == 3 && self.session.touches.get(&slot).is_some_and(recently) {
            return Ok(());
        }
        if !surroundings.touched() {
            return Err(Status::SECURITY);
        }
        self.session.touches.insert(slot, surroundings.now());
        Ok(())
    }

    fn algorithm(&self, number: u8) -> Result<Algorithm, Status> {
        Algorithm::from_number(number)
            .filter(|algorithm| algorithm.is_known_to(self.profile.firmware))
            .ok_or(Status::BAD_DATA)
    }

    fn store(&mut self, slot: u8, held: Slot) {
        self.memory.slots.insert(slot, held);
        self.session.touches.remove(&slot);
        self.changed = true;
    }
}

fn check_slot(slot: u8) -> Result<(), Status> {
    match slot {
        0x9a | 0x9c | 0x9d | 0x9e | 0x82..=0x95 | 0xf9 => Ok(()),
        _ => Err(Status::WRONG_SLOT),
    }
}

/// The PIN and touch policies asked for, or the slot's own: always for 9C, never for 9E, else once; no touch.
fn policies(data: &[u8], slot: u8) -> Result<(u8, u8), Status> {
    let asked = |tag| match tlv::find(data, tag) {
        None => Ok(0),
        Some(&[policy @ 0..=3]) => Ok(policy),
        Some(_) => Err(Status::BAD_DATA),
    };
    let pin = match (asked(0xaa)?, slot) {
        (0, 0x9c) => 3,
        (0, 0x9e) => 1,
        (0, _) => 2,
        (policy, _) => policy,
    };
    Ok((pin, asked(0xab)?.max(1)))
}
