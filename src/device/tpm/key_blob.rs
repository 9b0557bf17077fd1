//! What a key is enrolled with: docs/reference/format.md, section 8.

use super::cbor::{Read, expect, maybe, wrong};
use super::policy::Policy;
use super::templates;
use crate::device::{KeyRef, PublicKey, Purpose};
use crate::error::{Error, Kind, Result};
use minicbor::{Decoder, Encoder};
use tss_esapi::structures::{Private, Public};
use tss_esapi::traits::{Marshall, UnMarshall};

/// The version that is written, and the only one there is.
const VERSION: u64 = 1;

/// A key as the TPM gave it out: useless without that TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// TPMT_PUBLIC.
    pub public: Public,
    /// TPM2B_PRIVATE: encrypted by the TPM to its storage root key.
    pub private: Private,
}

/// A key's material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBlob {
    /// The key.
    pub key: WrappedKey,
    /// Where the storage root key lies.
    pub parent: u32,
    /// The storage root key's name.
    pub parent_name: [u8; 34],
    /// What has to hold when it is used.
    pub policy: Policy,
    /// Where it is also kept in the TPM.
    pub persistent: Option<u32>,
}

impl KeyBlob {
    /// The material of an enrolled key, which has to be that key's.
    ///
    /// # Errors
    /// `KeyMissing` when it is no TPM's key or another key's; `Unsupported` when it was written by a newer Strongroom.
    pub fn from_key_ref(key: &KeyRef) -> Result<Self> {
        let missing = |answer: &str| Error::new(Kind::KeyMissing, "use the key", answer);
        if key.material.is_empty() {
            return Err(missing("it was not made in a TPM"));
        }
        let material = Self::decode(&key.material)?;
        match templates::point(&material.key.public) {
            Some(point) if PublicKey::P256(point) == key.public => Ok(material),
            _ => Err(missing("what it is enrolled with belongs to another key")),
        }
    }

    /// Canonical CBOR.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut e = Encoder::new(Vec::with_capacity(512));
        self.write(&mut e).map_err(|what| malformed(&what))?;
        Ok(e.into_writer())
    }

    /// Reads [`KeyBlob::encode`]'s form, and no other.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut d = Decoder::new(bytes);
        let material = Self::read(&mut d).map_err(|what| malformed(&what))?;
        let Some(material) = material else {
            let answer = "its material was written by a newer Strongroom";
            return Err(Error::new(Kind::Unsupported, "use the key", answer)
                .with_hint("install the newest strongroom here"));
        };
        // Also finds bytes that follow.
        if material.encode()? != bytes { Err(malformed("it is not canonical")) } else { Ok(material) }
    }

    fn write(&self, e: &mut Encoder<Vec<u8>>) -> Read<()> {
        e.array(6).and_then(|e| e.u64(VERSION)).map_err(wrong)?;
        self.key.write(e)?;
        e.array(2).and_then(|e| e.u32(self.parent)?.bytes(&self.parent_name)).map_err(wrong)?;
        self.policy.write(e)?;
        match self.persistent {
            Some(handle) => e.u32(handle),
            None => e.null(),
        }
        .map(drop)
        .map_err(wrong)
    }

    /// `None` for another version, whatever it holds.
    fn read(d: &mut Decoder<'_>) -> Read<Option<Self>> {
        let length = d.array().map_err(wrong)?;
        if d.u64().map_err(wrong)? != VERSION {
            return Ok(None);
        }
        expect(length, 6)?;
        let key = WrappedKey::read(d)?;
        expect(d.array().map_err(wrong)?, 2)?;
        let parent = d.u32().map_err(wrong)?;
        let parent_name = d.bytes().map_err(wrong)?.try_into().map_err(wrong)?;
        let policy = Policy::read(d)?;
        let persistent = maybe(d, |d| d.u32().map_err(wrong))?;
        Ok(Some(Self { key, parent, parent_name, policy, persistent }))
    }
}

impl WrappedKey {
    /// Whether the key is for this purpose, by its public area.
    pub fn is_for(&self, purpose: Purpose) -> bool {
        let attributes = self.public.object_attributes();
        match purpose {
            Purpose::Open => attributes.decrypt() && !attributes.sign_encrypt(),
            Purpose::Sign => attributes.sign_encrypt() && !attributes.decrypt(),
        }
    }

    fn write(&self, e: &mut Encoder<Vec<u8>>) -> Read<()> {
        let public = self.public.marshall().map_err(wrong)?;
        e.bytes(&public).and_then(|e| e.bytes(self.private.value())).map(drop).map_err(wrong)
    }

    fn read(d: &mut Decoder<'_>) -> Read<Self> {
        let public = Public::unmarshall(d.bytes().map_err(wrong)?).map_err(wrong)?;
        let private = d.bytes().map_err(wrong)?.try_into().map_err(wrong)?;
        Ok(Self { public, private })
    }
}

fn malformed(what: &str) -> Error {
    Error::new(Kind::KeyMissing, "use the key", format!("its material is malformed: {what}"))
}

#[cfg(test)]
mod tests;
