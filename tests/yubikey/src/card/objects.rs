//! Data objects: GET DATA and PUT DATA (NIST SP 800-73-5 part 2 §3.1.2, §3.3.1).

use super::{Answer, Card};
use crate::apdu::Status;
use crate::tlv;

/// Printed information: readable with the PIN, and where `ykman` keeps a management key that the PIN protects.
const PRINTED: u32 = 0x5f_c109;
/// The discovery object; it has a one-byte name, and is not inside a 53.
const DISCOVERY: u32 = 0x7e;
/// The largest value: the buffer, less the tags around it.
const LARGEST: usize = 3063;

/// A certificate as it lies in an object: 70 certificate, 71 not compressed, FE no error detection.
pub(super) fn certificate(der: &[u8]) -> Vec<u8> {
    [tlv::encode(0x70, der), tlv::encode(0x71, &[0]), tlv::encode(0xfe, &[])].concat()
}

impl Card {
    /// GET DATA: 5C name.
    pub(super) fn get_data(&self, data: &[u8]) -> Answer {
        match name(data)? {
            DISCOVERY => {
                let aid = [0xa0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0];
                Ok(tlv::encode(0x7e, &[tlv::encode(0x4f, &aid), tlv::encode(0x5f2f, &[0x40, 0])].concat()))
            }
            PRINTED if !self.session.pin_verified => Err(Status::SECURITY),
            name => {
                self.memory.objects.get(&name).map(|value| tlv::encode(0x53, value)).ok_or(Status::NOT_FOUND)
            }
        }
    }

    /// PUT DATA: 5C name, 53 value. An empty value removes the object.
    pub(super) fn put_data(&mut self, data: &[u8]) -> Answer {
        self.needs_management()?;
        let name = name(data)?;
        let value = tlv::find(data, 0x53).ok_or(Status::BAD_DATA)?;
        if value.len() > LARGEST {
            return Err(Status::NO_MEMORY);
        }
        if value.is_empty() {
            self.memory.objects.remove(&name);
        } else {
            self.memory.objects.insert(name, value.to_vec());
        }
        self.changed = true;
        Ok(Vec::new())
    }
}

fn name(data: &[u8]) -> Result<u32, Status> {
    match *tlv::find(data, 0x5c).ok_or(Status::BAD_DATA)? {
        [name] => Ok(name.into()),
        [a, b, c] => Ok(u32::from_be_bytes([0, a, b, c])),
        _ => Err(Status::BAD_DATA),
    }
}
