//! Opening: parse the header, ask the device about its stanzas, check the MAC and decrypt.

use super::ec_tag::{Curve, EcTag, P256, P384};
use super::{Context, MAX_HEADER_BYTES, MAX_SEALED_BYTES, MAX_STANZAS};
use super::{cannot_open, context, file_key, tampered};
use super::{hsm_aes_gcm, rsa_oaep};
use super::{hsm_aes_gcm::HsmAesGcm, rsa_oaep::RsaOaep};
use crate::device::{PrivateOperation, PublicKey};
use crate::error::{Error, Kind, Result};
use crate::secret::{MAX_TOKEN_BYTES, Secret};
use age::{DecryptError, Decryptor, Identity};
use age_core::format::{FileKey, Stanza};
use std::cell::Cell;
use std::io::{self, Read};
use zeroize::Zeroizing;

/// Opens a sealed token with one device's key. `ask` sends a challenge to that device.
///
/// Asks the device only if the file claims to belong to `context`. Returns nothing unless the header MAC, which covers
/// that claim, and the whole payload are verified.
///
/// # Errors
/// `NotFound` when no stanza is for this key; `Tampered` when the file is malformed, belongs elsewhere, does not open
/// or fails its MAC; any error of `ask`, unchanged.
pub fn open(
    sealed: &[u8],
    context: &Context,
    key: &PublicKey,
    ask: &mut PrivateOperationFn<'_>,
) -> Result<Secret> {
    let sealed = Sealed::parse(sealed)?;
    sealed.belongs_to(context)?;
    let file_key = sealed.file_key(key, ask)?;
    sealed.finish(file_key, context)
}

/// Sends a challenge to a device.
pub type PrivateOperationFn<'a> = dyn FnMut(PrivateOperation<'_>) -> Result<Zeroizing<Vec<u8>>> + 'a;

/// A sealed token with a parsed header. Nothing in it is authenticated before [`Sealed::finish`].
pub struct Sealed<'a> {
    bytes: &'a [u8],
    context: Context,
    context_line: String,
    stanzas: Vec<RecipientStanza>,
}

enum RecipientStanza {
    P256Tag(EcTag<P256>),
    P384Tag(EcTag<P384>),
    RsaOaep(RsaOaep),
    HsmAesGcm(HsmAesGcm),
}

impl<'a> Sealed<'a> {
    /// Parses the header, with bounded work on any input: [`MAX_SEALED_BYTES`], [`MAX_HEADER_BYTES`], [`MAX_STANZAS`].
    ///
    /// # Errors
    /// `Tampered` unless the file is age v1 with exactly one context stanza and well-formed stanzas of the types known
    /// here. Stanzas of other types are ignored.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        check_bounds(bytes)?;
        let mut belongs = None;
        let mut stanzas = Vec::new();
        for stanza in age_stanzas(bytes)? {
            if stanza.tag != context::TYPE {
                stanzas.extend(RecipientStanza::from_stanza(&stanza)?);
            } else if belongs
                .replace(Context::from_stanza(&stanza).ok_or_else(|| malformed(&stanza))?)
                .is_some()
            {
                return Err(tampered("it has more than one context stanza"));
            }
        }
        let context = belongs.ok_or_else(|| tampered("it has no context stanza"))?;
        Ok(Self { bytes, context, context_line: context.to_string(), stanzas })
    }

    /// What the file claims to belong to.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The challenges for the stanzas with the tag of `key`, in the file's order. Tags have four bytes, so several may
    /// match. A stanza that no device should be asked about yields an error.
    pub fn locks<'s>(&'s self, key: &'s PublicKey) -> impl Iterator<Item = Result<StanzaChallenge<'s>>> {
        self.stanzas.iter().filter_map(|stanza| stanza.lock(key, &self.context_line).transpose())
    }

    /// Tries the challenges for `key` in turn until one opens.
    ///
    /// Tries the next stanza only if the device refused this one. After any other error, such as a wrong PIN, it does
    /// not ask the device again.
    ///
    /// # Errors
    /// As [`open`].
    pub fn file_key(&self, key: &PublicKey, ask: &mut PrivateOperationFn<'_>) -> Result<FileKey> {
        let mut failure: Option<Error> = None;
        for lock in self.locks(key) {
            match lock.and_then(|lock| lock.unlock(&ask(lock.challenge())?)) {
                Ok(file_key) => return Ok(file_key),
                Err(e) if !matches!(e.kind(), Kind::Device | Kind::Tampered) => return Err(e),
                // A device's error matters more than a stanza that merely shares the tag.
                Err(e) if failure.is_none() || e.kind() == Kind::Device => failure = Some(e),
                Err(_) => {}
            }
        }
        Err(failure.unwrap_or_else(|| {
            cannot_open(Kind::NotFound, "it is not sealed to this device")
                .with_hint("open it with another device, or have it sealed again to this one")
        }))
    }

    /// Verifies the header MAC, decrypts the payload and verifies that the file belongs to `context`.
    ///
    /// # Errors
    /// `Tampered` when any of the three fails.
    pub fn finish(&self, file_key: FileKey, context: &Context) -> Result<Secret> {
        let known = Known(Cell::new(Some(file_key)));
        let reader = Decryptor::new_buffered(self.bytes)
            .and_then(|decryptor| decryptor.decrypt(std::iter::once(&known as _)))
            .map_err(|e| tampered("its header was altered: the MAC does not fit").caused_by(e))?;
        let plaintext = read_payload(reader, self.bytes.len())
            .map_err(|e| tampered("its payload was altered or cut short").caused_by(e))?;
        self.belongs_to(context)?;
        if plaintext.is_empty() || plaintext.len() > MAX_TOKEN_BYTES {
            return Err(tampered("its payload is empty or larger than 1 MiB"));
        }
        Ok(plaintext)
    }

    fn belongs_to(&self, context: &Context) -> Result<()> {
        let whose = match &self.context {
            own if own == context => return Ok(()),
            own if own.store != context.store => "another store",
            own if own.token != context.token => "another token",
            _ => "another version of the token",
        };
        Err(tampered(format!("these sealed bytes belong to {whose}")))
    }
}

impl RecipientStanza {
    /// `None` for unknown types, such as age's random stanza.
    fn from_stanza(stanza: &Stanza) -> Result<Option<Self>> {
        let parsed = match stanza.tag.as_str() {
            P256::TYPE => EcTag::from_stanza(stanza).map(Self::P256Tag),
            P384::TYPE => EcTag::from_stanza(stanza).map(Self::P384Tag),
            rsa_oaep::TYPE => RsaOaep::from_stanza(stanza).map(Self::RsaOaep),
            hsm_aes_gcm::TYPE => HsmAesGcm::from_stanza(stanza).map(Self::HsmAesGcm),
            _ => return Ok(None),
        };
        parsed.map(Some).ok_or_else(|| malformed(stanza))
    }

    /// `None` unless the stanza is of the key's type and carries its tag.
    fn lock<'s>(&'s self, key: &'s PublicKey, aad: &'s str) -> Result<Option<StanzaChallenge<'s>>> {
        let (challenge, exchange) = match (self, key) {
            (Self::P256Tag(stanza), PublicKey::P256(point)) if stanza.is_for(point) => {
                (stanza.challenge()?, Exchange::P256(stanza, point))
            }
            (Self::P384Tag(stanza), PublicKey::P384(point)) if stanza.is_for(point) => {
                (stanza.challenge()?, Exchange::P384(stanza, point))
            }
            (Self::RsaOaep(stanza), PublicKey::Rsa { n, e, oaep }) if stanza.is_for(n, e) => {
                (stanza.challenge(n, *oaep)?, Exchange::None)
            }
            (Self::HsmAesGcm(stanza), PublicKey::Aes256 { id }) if stanza.is_for(id) => {
                (stanza.challenge(aad), Exchange::None)
            }
            _ => return Ok(None),
        };
        Ok(Some(StanzaChallenge { challenge, exchange }))
    }
}

/// A stanza that may hold the file key, as a challenge for the device.
pub struct StanzaChallenge<'s> {
    challenge: PrivateOperation<'s>,
    exchange: Exchange<'s>,
}

/// How to turn the device's answer into the file key.
enum Exchange<'s> {
    /// Nothing: it is the file key.
    None,
    /// The rest of HPKE, for this point.
    P256(&'s EcTag<P256>, &'s [u8]),
    /// The rest of HPKE, for this point.
    P384(&'s EcTag<P384>, &'s [u8]),
}

impl<'s> StanzaChallenge<'s> {
    /// What to ask the device.
    pub fn challenge(&self) -> PrivateOperation<'s> {
        self.challenge
    }

    /// The file key, from the device's answer.
    ///
    /// # Errors
    /// `Tampered` when the stanza does not open with it; `Device` when the answer has the wrong length for the operation.
    pub fn unlock(&self, answer: &[u8]) -> Result<FileKey> {
        match self.exchange {
            Exchange::P256(stanza, public) => stanza.unlock(public, answer),
            Exchange::P384(stanza, public) => stanza.unlock(public, answer),
            Exchange::None => file_key(answer),
        }
    }
}

/// Refuses what `age` would parse slowly: for every line, it reads the header from its start.
pub(super) fn check_bounds(bytes: &[u8]) -> Result<()> {
    if bytes.len() > MAX_SEALED_BYTES {
        return Err(tampered("it is larger than a sealed token can be"));
    }
    let start = &bytes[..bytes.len().min(MAX_HEADER_BYTES)];
    let mut stanzas = 0;
    for line in start.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"--- ") && line.ends_with(b"\n") {
            return Ok(());
        }
        stanzas += usize::from(line.starts_with(b"-> "));
        if stanzas > MAX_STANZAS {
            return Err(tampered(format!("it has more than {MAX_STANZAS} stanzas")));
        }
    }
    Err(tampered("it has no age header, or a longer one than 64 KiB"))
}

/// The header's stanzas from age's own parser, so that we judge what the MAC covers.
fn age_stanzas(bytes: &[u8]) -> Result<Vec<Stanza>> {
    let captured = Captured(Cell::default());
    let outcome = Decryptor::new_buffered(bytes)
        .and_then(|decryptor| decryptor.decrypt(std::iter::once(&captured as _)));
    match outcome {
        Err(DecryptError::NoMatchingKeys) => Ok(captured.0.take()),
        Err(e) => Err(tampered("it is no age v1 file").caused_by(e)),
        Ok(_) => Err(tampered("it opens without a key")),
    }
}

/// Keeps the stanzas and opens none.
struct Captured(Cell<Vec<Stanza>>);

impl Identity for Captured {
    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, DecryptError>> {
        let copied =
            stanzas.iter().map(|s| Stanza { tag: s.tag.clone(), args: s.args.clone(), body: s.body.clone() });
        self.0.set(copied.collect());
        None
    }

    fn unwrap_stanza(&self, _: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        None
    }
}

/// Gives age the file key from the device.
struct Known(Cell<Option<FileKey>>);

impl Identity for Known {
    fn unwrap_stanza(&self, _: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        self.0.take().map(Ok)
    }
}

/// Reads to the end into a buffer of full size: a growing buffer would leave copies of the token behind.
fn read_payload(mut reader: impl Read, room: usize) -> io::Result<Secret> {
    let mut plaintext = Zeroizing::new(vec![0; room]);
    let mut filled = 0;
    loop {
        match reader.read(&mut plaintext[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    plaintext.truncate(filled);
    Ok(plaintext.into())
}

fn malformed(stanza: &Stanza) -> Error {
    tampered(format!("its {} stanza is malformed", stanza.tag))
}
