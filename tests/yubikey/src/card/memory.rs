//! What survives a loss of power.

use super::Authority;
use super::management::ManagementKey;
use crate::apdu::Status;
use crate::key::{Algorithm, Key};
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The factory's PIN, padded (NIST SP 800-73-5 part 2 §2.4.3).
pub(super) const FACTORY_PIN: [u8; 8] = *b"123456\xff\xff";
/// The factory's PUK.
pub(super) const FACTORY_PUK: [u8; 8] = *b"12345678";
/// The attestation key's slot.
pub(super) const ATTESTATION_SLOT: u8 = 0xf9;
/// The object with the attestation key's certificate.
pub(super) const ATTESTATION_OBJECT: u32 = 0x5f_ff01;

/// The PIN policies' names, by number less one.
pub const PIN_POLICIES: [&str; 3] = ["never", "once", "always"];
/// The touch policies' names, by number less one.
pub const TOUCH_POLICIES: [&str; 3] = ["never", "always", "cached"];

/// What survives a loss of power: PINs and their counters, the management key, keys and objects.
#[derive(Clone, Serialize, Deserialize)]
pub struct Memory {
    /// The PIN.
    pub pin: Reference,
    /// The PIN's unblocking key.
    pub puk: Reference,
    pub(super) management: ManagementKey,
    pub(super) slots: BTreeMap<u8, Slot>,
    pub(super) objects: BTreeMap<u32, Vec<u8>>,
}

impl Memory {
    pub(super) fn of_the_factory(firmware: [u8; 3], authority: &Authority, rng: &mut StdRng) -> Self {
        let mut memory = Self {
            pin: Reference::new(FACTORY_PIN, 3),
            puk: Reference::new(FACTORY_PUK, 3),
            management: ManagementKey::of_the_factory(firmware),
            slots: BTreeMap::new(),
            objects: BTreeMap::new(),
        };
        let key = Key::generate(Algorithm::P256, rng, 0).expect("every card can make P-256 keys");
        memory.objects.insert(ATTESTATION_OBJECT, super::objects::certificate(&authority.certify(&key, rng)));
        let slot = Slot::new(Algorithm::P256, &key, 1, 1, Origin::Generated);
        memory.slots.insert(ATTESTATION_SLOT, slot);
        memory
    }

    /// As the factory made it, but for the attestation key.
    pub(super) fn wipe(&mut self, firmware: [u8; 3]) {
        self.pin = Reference::new(FACTORY_PIN, 3);
        self.puk = Reference::new(FACTORY_PUK, 3);
        self.management = ManagementKey::of_the_factory(firmware);
        self.slots.retain(|slot, _| *slot == ATTESTATION_SLOT);
        self.objects.retain(|object, _| *object == ATTESTATION_OBJECT);
    }

    /// The key in a slot.
    pub fn slot(&self, slot: u8) -> Option<&Slot> {
        self.slots.get(&slot)
    }
}

/// A PIN or PUK and its counter.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub(super) value: [u8; 8],
    /// Tries after each success.
    pub total: u8,
    /// Tries left.
    pub left: u8,
}

impl Reference {
    pub(super) fn new(value: [u8; 8], total: u8) -> Self {
        Self { value, total, left: total }
    }

    /// Compares, and counts.
    pub(super) fn check(&mut self, value: &[u8]) -> Result<(), Status> {
        if self.left == 0 {
            return Err(Status::BLOCKED);
        }
        if value == self.value {
            self.left = self.total;
            return Ok(());
        }
        self.left -= 1;
        Err(if self.left == 0 { Status::BLOCKED } else { Status::tries_left(self.left) })
    }

    /// Sets a new value, and gives all tries back.
    pub(super) fn set(&mut self, value: [u8; 8]) {
        *self = Self::new(value, self.total);
    }
}

/// A new PIN or PUK: six to eight bytes, padded with FF. Looked at before the old one is, which keeps its tries (SP 800-73-4
/// part 2, §3.2.2).
pub(super) fn well_formed(value: &[u8]) -> Result<[u8; 8], Status> {
    let value: [u8; 8] = value.try_into().map_err(|_| Status::BAD_DATA)?;
    let length = value.iter().position(|byte| *byte == 0xff).unwrap_or(8);
    match length < 6 || value[length..].iter().any(|byte| *byte != 0xff) {
        true => Err(Status::BAD_DATA),
        false => Ok(value),
    }
}

/// Where a key was born.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Origin {
    Generated,
    Imported,
}

/// A key and how it may be used.
#[derive(Clone, Serialize, Deserialize)]
pub struct Slot {
    /// The key's algorithm.
    pub algorithm: Algorithm,
    /// When it wants the PIN: [`PIN_POLICIES`].
    pub pin_policy: u8,
    /// When it wants a touch: [`TOUCH_POLICIES`].
    pub touch_policy: u8,
    pub(super) origin: Origin,
    key: Vec<u8>,
}

impl Slot {
    pub(super) fn new(
        algorithm: Algorithm,
        key: &Key,
        pin_policy: u8,
        touch_policy: u8,
        origin: Origin,
    ) -> Self {
        Self { algorithm, pin_policy, touch_policy, origin, key: key.export() }
    }

    /// The key itself.
    ///
    /// # Errors
    /// `BAD_DATA` when the state file was written by somebody else.
    pub fn key(&self) -> Result<Key, Status> {
        Key::import(self.algorithm, &self.key).ok_or(Status::BAD_DATA)
    }
}

impl Memory {
    /// Reads it from a file, where there is one.
    ///
    /// # Errors
    /// When it cannot be read, or was not written by [`Memory::store`].
    pub fn load(file: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(file) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it to a file, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store(&self, file: &Path) -> io::Result<()> {
        let beside = file.with_extension("new");
        std::fs::write(&beside, serde_json::to_vec(self)?)?;
        std::fs::rename(beside, file)
    }
}
