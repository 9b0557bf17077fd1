//! Yubico's GET METADATA: what is known of a PIN or a key without using it.

use super::memory::{FACTORY_PIN, FACTORY_PUK, Origin, Reference};
use super::{Answer, Card};
use crate::apdu::Status;
use crate::tlv;

impl Card {
    pub(super) fn metadata(&self, which: u8) -> Answer {
        match which {
            0x80 => Ok(reference(&self.memory.pin, FACTORY_PIN)),
            0x81 => Ok(reference(&self.memory.puk, FACTORY_PUK)),
            0x9b => Ok(self.memory.management.metadata()),
            _ => {
                let slot = self.memory.slots.get(&which).ok_or(Status::REFERENCE_NOT_FOUND)?;
                let origin = match slot.origin {
                    Origin::Generated => 1,
                    Origin::Imported => 2,
                };
                Ok([
                    tlv::encode(1, &[slot.algorithm.number()]),
                    tlv::encode(2, &[slot.pin_policy, slot.touch_policy]),
                    tlv::encode(3, &[origin]),
                    tlv::encode(4, &slot.key()?.public()),
                ]
                .concat())
            }
        }
    }
}

/// A PIN's: no algorithm (FF), whether it is the factory's, tries in all and left.
fn reference(reference: &Reference, factory: [u8; 8]) -> Vec<u8> {
    [
        tlv::encode(1, &[0xff]),
        tlv::encode(5, &[u8::from(reference.value == factory)]),
        tlv::encode(6, &[reference.total, reference.left]),
    ]
    .concat()
}
