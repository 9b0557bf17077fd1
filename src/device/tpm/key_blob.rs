//! A key's stored form in its enrolment: docs/reference/format.md, section 8.

use super::cbor::{Read, expect, maybe, wrong};
use super::policy::Policy;
use super::templates::{self, Name};
use crate::device::{KeyRef, PublicKey, Purpose};
use crate::error::{Error, Kind, Result};
use minicbor::{Decoder, Encoder};
use tss_esapi::structures::{Private, Public};
use tss_esapi::traits::{Marshall, UnMarshall};

/// The only version so far.
const VERSION: u64 = 1;

/// A key as exported by the TPM. Useless without that TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// TPMT_PUBLIC.
    pub public: Public,
    /// TPM2B_PRIVATE, encrypted to the TPM's storage root key.
    pub private: Private,
}

/// The storage root key that a key was made under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentKey {
    /// Its persistent handle.
    pub handle: u32,
    /// Its name.
    pub name: Name,
}

/// A key's material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBlob {
    /// The key.
    pub key: WrappedKey,
    /// The storage root key.
    pub parent: ParentKey,
    /// The conditions on its use.
    pub policy: Policy,
    /// The handle of a persistent copy in the TPM, if any.
    pub persistent: Option<u32>,
}

impl KeyBlob {
    /// Reads the material of an enrolled key and checks that it belongs to that key.
    ///
    /// # Errors
    /// `KeyMissing` when it belongs to no TPM key or to another key; `Unsupported` when a newer Strongroom wrote it.
    pub fn from_key_ref(key: &KeyRef) -> Result<Self> {
        let missing = |message: &str| Error::new(Kind::KeyMissing, "use the key", message);
        if key.material.is_empty() {
            return Err(missing("it was not made in a TPM"));
        }
        let material = Self::decode(&key.material)?;
        match templates::point(&material.key.public) {
            Some(point) if PublicKey::P256(point) == key.public => Ok(material),
            _ => Err(missing("its material belongs to another key")),
        }
    }

    /// Canonical CBOR.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut e = Encoder::new(Vec::with_capacity(512));
        self.write(&mut e).map_err(|what| malformed(&what))?;
        Ok(e.into_writer())
    }

    /// Reads the output of [`KeyBlob::encode`], and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut d = Decoder::new(bytes);
        let material = Self::read(&mut d).map_err(|what| malformed(&what))?;
        let Some(material) = material else {
            let message = "a newer Strongroom wrote its material";
            return Err(Error::new(Kind::Unsupported, "use the key", message)
                .with_hint("install a newer strongroom on this machine"));
        };
        // Also rejects trailing bytes.
        if material.encode()? != bytes { Err(malformed("it is not canonical")) } else { Ok(material) }
    }

    fn write(&self, e: &mut Encoder<Vec<u8>>) -> Read<()> {
        e.array(6).and_then(|e| e.u64(VERSION)).map_err(wrong)?;
        self.key.write(e)?;
        e.array(2).and_then(|e| e.u32(self.parent.handle)?.bytes(&self.parent.name)).map_err(wrong)?;
        self.policy.write(e)?;
        match self.persistent {
            Some(handle) => e.u32(handle),
            None => e.null(),
        }
        .map(drop)
        .map_err(wrong)
    }

    /// `None` for any other version.
    fn read(d: &mut Decoder<'_>) -> Read<Option<Self>> {
        let length = d.array().map_err(wrong)?;
        if d.u64().map_err(wrong)? != VERSION {
            return Ok(None);
        }
        expect(length, 6)?;
        let key = WrappedKey::read(d)?;
        expect(d.array().map_err(wrong)?, 2)?;
        let handle = d.u32().map_err(wrong)?;
        let parent = ParentKey { handle, name: d.bytes().map_err(wrong)?.try_into().map_err(wrong)? };
        let policy = Policy::read(d)?;
        let persistent = maybe(d, |d| d.u32().map_err(wrong))?;
        Ok(Some(Self { key, parent, policy, persistent }))
    }
}

impl WrappedKey {
    /// Whether the public area makes the key one for this purpose.
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
