//! The card: a state machine over APDUs.
//!
//! It does no input or output. Time and fingers are its [`Surroundings`]; what survives a loss of power is its [`Memory`],
//! which whoever drives the card stores when [`Card::take_changes`] says so. Two cards with the same seed give the same
//! answers to the same commands.

mod attestation;
mod keys;
mod management;
mod memory;
mod metadata;
mod objects;
mod pins;

pub use attestation::{Authority, simulator_root};
pub use memory::{Memory, PIN_POLICIES, Reference, Slot, TOUCH_POLICIES};

use crate::apdu::{Command, Status};
use crate::tlv;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::time::Duration;

/// The answer to reset: that of a YubiKey 5 over USB, which names itself in the historical bytes.
pub const ATR: &[u8] = b"\x3b\xfd\x13\x00\x00\x81\x31\xfe\x15\x80\x73\xc0\x21\xc0WYubiKey\x40";

/// The longest command data that chaining may gather, and so the longest object: as on firmware 5.
const LONGEST: usize = 3072;

/// What the card is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Serial number.
    pub serial: u32,
    /// Firmware: `[5, 4, 3]` has a 3DES management key, `[5, 7, 1]` one of AES-192.
    pub firmware: [u8; 3],
}

/// The world around a card.
pub trait Surroundings {
    /// The card blinks: whether a finger came before its time was up. May block.
    fn touched(&mut self) -> bool;
    /// A clock that only goes forward.
    fn now(&self) -> Duration;
}

/// What a command comes to: the answer's bytes, or why there are none.
type Answer = Result<Vec<u8>, Status>;

/// A card.
pub struct Card {
    profile: Profile,
    memory: Memory,
    session: Session,
    rng: StdRng,
    changed: bool,
    rsa_keys_made: usize,
    private_operations: u64,
}

/// What is gone when the power is.
#[derive(Default)]
struct Session {
    applet: Applet,
    pin_verified: bool,
    /// Verified, and no private operation since: what a key whose PIN policy is "always" asks for.
    pin_fresh: bool,
    management_verified: bool,
    challenge: Option<management::Expected>,
    /// A command that comes in pieces: its instruction and parameters, and what came so far.
    chain: Option<([u8; 3], Vec<u8>)>,
    /// What GET RESPONSE will fetch.
    rest: Vec<u8>,
    /// When each slot's key was last touched for.
    touches: std::collections::BTreeMap<u8, Duration>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Applet {
    #[default]
    None,
    Piv,
    Management,
    Otp,
}

impl Card {
    /// A card as it leaves the factory, whose attestation key is certified by `authority`.
    pub fn new(profile: Profile, authority: &Authority, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let memory = Memory::of_the_factory(profile.firmware, authority, &mut rng);
        Self::with_memory(profile, memory, rng)
    }

    /// A card that was without power for a while.
    pub fn restore(profile: Profile, memory: Memory, seed: u64) -> Self {
        Self::with_memory(profile, memory, StdRng::seed_from_u64(seed))
    }

    fn with_memory(profile: Profile, memory: Memory, rng: StdRng) -> Self {
        Self {
            profile,
            memory,
            session: Session::default(),
            rng,
            changed: true,
            rsa_keys_made: 0,
            private_operations: 0,
        }
    }

    /// What the card is.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What survives a loss of power.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What survives a loss of power, where it changed since this was last asked.
    pub fn take_changes(&mut self) -> Option<&Memory> {
        std::mem::take(&mut self.changed).then_some(&self.memory)
    }

    /// How many signatures, agreements and decryptions the card has carried out.
    pub fn private_operations(&self) -> u64 {
        self.private_operations
    }

    /// The power goes off and on, or the card is reset.
    pub fn power_cycle(&mut self) {
        self.session = Session::default();
    }

    /// Answers one APDU: the data, and the status word at its end.
    pub fn transmit(&mut self, apdu: &[u8], surroundings: &mut dyn Surroundings) -> Vec<u8> {
        let answer = Command::parse(apdu).and_then(|command| self.gather(&command, surroundings));
        match answer {
            Ok(expected) => self.respond(expected),
            Err(status) => status.bytes().to_vec(),
        }
    }

    /// Joins chained commands and carries out whole ones; the answer then lies in the session. Says how much of it is wanted.
    fn gather(
        &mut self,
        command: &Command<'_>,
        surroundings: &mut dyn Surroundings,
    ) -> Result<usize, Status> {
        if command.instruction == 0xc0 {
            return Ok(command.expected);
        }
        self.session.rest.clear();
        let which = [command.instruction, command.p1, command.p2];
        let (_, mut data) = self.session.chain.take().filter(|chain| chain.0 == which).unwrap_or_default();
        if data.len() + command.data.len() > LONGEST {
            return Err(Status::WRONG_LENGTH);
        }
        data.extend_from_slice(command.data);
        if command.is_chained() {
            self.session.chain = Some((which, data));
            return Ok(0);
        }
        self.session.rest = self.dispatch(which, &data, surroundings)?;
        Ok(command.expected)
    }

    fn respond(&mut self, expected: usize) -> Vec<u8> {
        let rest = &mut self.session.rest;
        // A short Le below 256 does not cut the answer on a YubiKey.
        let mut answer: Vec<u8> = rest.drain(..rest.len().min(expected.max(256))).collect();
        let status = if rest.is_empty() { Status::OK } else { Status::more(rest.len()) };
        answer.extend(status.bytes());
        answer
    }

    fn dispatch(
        &mut self,
        [ins, p1, p2]: [u8; 3],
        data: &[u8],
        surroundings: &mut dyn Surroundings,
    ) -> Answer {
        if ins == 0xa4 {
            return self.select(p1, data);
        }
        match (self.session.applet, ins) {
            (Applet::Piv, _) => self.piv(ins, p1, p2, data, surroundings),
            (Applet::Otp, 0x01) if p1 == 0x10 => Ok(self.profile.serial.to_be_bytes().to_vec()),
            (Applet::Management, 0x1d) => Ok(self.device_information()),
            _ => Err(Status::BAD_INSTRUCTION),
        }
    }

    /// SELECT by name. Names may be cut short, as on the device.
    fn select(&mut self, p1: u8, name: &[u8]) -> Answer {
        const PIV: &[u8] = &[0xa0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0];
        const MANAGEMENT: &[u8] = &[0xa0, 0, 0, 5, 0x27, 0x47, 0x11, 0x17];
        const OTP: &[u8] = &[0xa0, 0, 0, 5, 0x27, 0x20, 1];
        if p1 != 4 {
            return Err(Status::BAD_PARAMETERS);
        }
        let [major, minor, patch] = self.profile.firmware;
        let is = |full: &[u8]| name.len() >= 5 && full.starts_with(name);
        let (applet, answer) = if is(PIV) {
            let inner = [tlv::encode(0x4f, &PIV[5..]), tlv::encode(0x79, &tlv::encode(0x4f, &PIV[..5]))];
            (Applet::Piv, tlv::encode(0x61, &inner.concat()))
        } else if is(MANAGEMENT) {
            (Applet::Management, format!("Virtual mgr - FW version {major}.{minor}.{patch}").into_bytes())
        } else if is(OTP) {
            (Applet::Otp, vec![major, minor, patch, 0, 0, 0])
        } else {
            return Err(Status::NOT_FOUND);
        };
        self.session =
            Session { applet, touches: std::mem::take(&mut self.session.touches), ..Session::default() };
        Ok(answer)
    }

    /// READ CONFIG of the management applet: PIV is the only application, over USB.
    fn device_information(&self) -> Vec<u8> {
        let fields = [
            tlv::encode(1, &[0, 0x10]),
            tlv::encode(2, &self.profile.serial.to_be_bytes()),
            tlv::encode(3, &[0, 0x10]),
            tlv::encode(4, &[1]),
            tlv::encode(5, &self.profile.firmware),
            tlv::encode(0x0a, &[0]),
        ]
        .concat();
        [&[fields.len() as u8], &fields[..]].concat()
    }

    fn piv(&mut self, ins: u8, p1: u8, p2: u8, data: &[u8], surroundings: &mut dyn Surroundings) -> Answer {
        let firmware = self.profile.firmware;
        match ins {
            0x20 => self.verify(p1, p2, data),
            0x24 => self.change_reference(p2, data),
            0x2c => self.reset_retry_counter(p2, data),
            0x47 => self.generate(p2, data),
            0x87 if p2 == 0x9b => self.authenticate_management(p1, data, surroundings),
            0x87 => self.private_operation(p1, p2, data, surroundings),
            0xcb => self.get_data(data),
            0xdb => self.put_data(data),
            0xf6 if firmware >= [5, 7, 0] => self.move_key(p1, p2),
            0xf7 if firmware >= [5, 3, 0] => self.metadata(p2),
            0xf8 => Ok(self.profile.serial.to_be_bytes().to_vec()),
            0xf9 => self.attest(p1),
            0xfa => self.set_retries(p1, p2),
            0xfb => self.reset(),
            0xfd => Ok(firmware.to_vec()),
            0xfe => self.import(p1, p2, data),
            0xff => self.set_management_key(p2, data),
            _ => Err(Status::BAD_INSTRUCTION),
        }
    }

    /// RESET: only when neither PIN nor PUK has a try left. The attestation key stays.
    fn reset(&mut self) -> Answer {
        if self.memory.pin.left > 0 || self.memory.puk.left > 0 {
            return Err(Status::CONDITIONS);
        }
        self.memory.wipe(self.profile.firmware);
        self.changed = true;
        self.session = Session { applet: Applet::Piv, ..Session::default() };
        Ok(Vec::new())
    }

    fn needs_management(&self) -> Result<(), Status> {
        if self.session.management_verified { Ok(()) } else { Err(Status::SECURITY) }
    }
}

#[cfg(test)]
mod tests;
