//! The management key: GENERAL AUTHENTICATE with 9B (NIST SP 800-73-5 part 2 §3.2.4) and Yubico's SET MANAGEMENT KEY.

use super::{Answer, Card, Surroundings};
use crate::apdu::Status;
use crate::tlv;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// The factory's, whatever the cipher.
const FACTORY: [u8; 24] = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8];

/// The ciphers, by their PIV numbers.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cipher {
    /// 03.
    TripleDes,
    /// 08.
    Aes128,
    /// 0A.
    Aes192,
    /// 0C.
    Aes256,
}

impl Cipher {
    fn from_number(number: u8) -> Option<Self> {
        // 0 is an old name of 3DES.
        Some(match number {
            0 | 3 => Self::TripleDes,
            8 => Self::Aes128,
            10 => Self::Aes192,
            12 => Self::Aes256,
            _ => return None,
        })
    }

    fn number(self) -> u8 {
        match self {
            Self::TripleDes => 3,
            Self::Aes128 => 8,
            Self::Aes192 => 10,
            Self::Aes256 => 12,
        }
    }

    fn key_length(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::TripleDes | Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    fn block_length(self) -> usize {
        if self == Self::TripleDes { 8 } else { 16 }
    }
}

/// The key, its cipher, and whether it wants a touch.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ManagementKey {
    cipher: Cipher,
    key: Vec<u8>,
    touch_policy: u8,
}

impl ManagementKey {
    /// Firmware 5.7 changed the cipher.
    pub(super) fn of_the_factory(firmware: [u8; 3]) -> Self {
        let cipher = if firmware >= [5, 7, 0] { Cipher::Aes192 } else { Cipher::TripleDes };
        Self { cipher, key: FACTORY.to_vec(), touch_policy: 1 }
    }

    /// The contents of its metadata: cipher, policies, whether it is the factory's.
    pub(super) fn metadata(&self) -> Vec<u8> {
        [
            tlv::encode(1, &[self.cipher.number()]),
            tlv::encode(2, &[0, self.touch_policy]),
            tlv::encode(5, &[u8::from(self.key == FACTORY)]),
        ]
        .concat()
    }

    /// One block; `None` when it has another length.
    fn encrypt(&self, block: &[u8]) -> Option<Vec<u8>> {
        match self.cipher {
            Cipher::TripleDes => encrypt::<des::TdesEde3>(&self.key, block),
            Cipher::Aes128 => encrypt::<aes::Aes128>(&self.key, block),
            Cipher::Aes192 => encrypt::<aes::Aes192>(&self.key, block),
            Cipher::Aes256 => encrypt::<aes::Aes256>(&self.key, block),
        }
    }
}

fn encrypt<C: KeyInit + BlockCipherEncrypt>(key: &[u8], block: &[u8]) -> Option<Vec<u8>> {
    let mut block = Block::<C>::try_from(block).ok()?;
    C::new_from_slice(key).ok()?.encrypt_block(&mut block);
    Some(block.to_vec())
}

/// What the card waits for after the first half of an authentication.
pub(super) enum Expected {
    /// Its witness, decrypted: mutual authentication.
    Witness(Vec<u8>),
    /// Its challenge, encrypted: authentication of the host alone.
    Response(Vec<u8>),
}

impl Card {
    /// GENERAL AUTHENTICATE with the management key: the host alone (81, then 82), or both (80, then 80 and 81).
    pub(super) fn authenticate_management(
        &mut self,
        p1: u8,
        data: &[u8],
        surroundings: &mut dyn Surroundings,
    ) -> Answer {
        let cipher = self.memory.management.cipher;
        if Cipher::from_number(p1) != Some(cipher) {
            return Err(Status::BAD_PARAMETERS);
        }
        let template = tlv::find(data, 0x7c).ok_or(Status::BAD_DATA)?;
        let expected = self.session.challenge.take();
        match [0x80, 0x81, 0x82].map(|tag| tlv::find(template, tag)) {
            [Some([]), _, _] => {
                let witness = self.random(cipher.block_length());
                let answer = self.management_block(&witness)?;
                self.session.challenge = Some(Expected::Witness(witness));
                Ok(tlv::encode(0x7c, &tlv::encode(0x80, &answer)))
            }
            [Some(witness), Some(challenge), _] => {
                let Some(Expected::Witness(expected)) = expected else { return Err(Status::CONDITIONS) };
                let answer = self.management_block(challenge)?;
                self.accept(witness == expected, surroundings)?;
                Ok(tlv::encode(0x7c, &tlv::encode(0x82, &answer)))
            }
            [None, Some([]), _] => {
                let challenge = self.random(cipher.block_length());
                self.session.challenge = Some(Expected::Response(self.management_block(&challenge)?));
                Ok(tlv::encode(0x7c, &tlv::encode(0x81, &challenge)))
            }
            [None, None, Some(response)] => {
                let Some(Expected::Response(expected)) = expected else { return Err(Status::CONDITIONS) };
                self.accept(response == expected, surroundings)?;
                Ok(Vec::new())
            }
            _ => Err(Status::BAD_DATA),
        }
    }

    fn accept(&mut self, right: bool, surroundings: &mut dyn Surroundings) -> Result<(), Status> {
        self.session.management_verified = false;
        if !right {
            return Err(Status::SECURITY);
        }
        self.touch(0x9b, self.memory.management.touch_policy, surroundings)?;
        self.session.management_verified = true;
        Ok(())
    }

    fn management_block(&self, block: &[u8]) -> Result<Vec<u8>, Status> {
        self.memory.management.encrypt(block).ok_or(Status::BAD_DATA)
    }

    fn random(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// SET MANAGEMENT KEY: cipher, 9B, length, key. P2 says whether it will want a touch.
    pub(super) fn set_management_key(&mut self, p2: u8, data: &[u8]) -> Answer {
        self.needs_management()?;
        let [cipher, 0x9b, length, key @ ..] = data else { return Err(Status::BAD_DATA) };
        let cipher = Cipher::from_number(*cipher).filter(|_| *cipher != 0).ok_or(Status::BAD_DATA)?;
        if usize::from(*length) != key.len() || key.len() != cipher.key_length() {
            return Err(Status::BAD_DATA);
        }
        let touch_policy = match p2 {
            0xff => 1,
            0xfe => 2,
            0xfd => 3,
            _ => return Err(Status::BAD_PARAMETERS),
        };
        self.memory.management = ManagementKey { cipher, key: key.to_vec(), touch_policy };
        self.changed = true;
        Ok(Vec::new())
    }
}
