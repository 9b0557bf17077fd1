//! Opening: parse the header, ask the device about its stanzas, check the MAC and decrypt.

use super::recipient_stanza::StanzaChallenge;
use super::share::{self, Share};
use super::stanzas::{Stanzas, Unsealed};
use super::tampered;
use super::{Context, MAX_HEADER_BYTES, MAX_SEALED_BYTES, MAX_STANZAS};
use crate::device::{PrivateOperation, PublicKey};
use crate::error::Result;
use crate::secret::{MAX_TOKEN_BYTES, Secret};
use age::{DecryptError, Decryptor, Identity};
use age_core::format::{FileKey, Stanza};
use std::cell::Cell;
use std::io::{self, Read};
use zeroize::Zeroizing;

/// What one device makes of a sealed token.
#[derive(Debug)]
pub enum Opened {
    /// The token: any device opens it.
    Token(Secret),
    /// A share of it: several devices open it together, and [`combine`] puts their shares together.
    Share(Share),
}

/// The columns of a full line of a stanza's body.
const BODY_COLUMNS: usize = 64;

/// Opens a sealed token with shares of different devices, in the order in which they came: at least as many as its threshold.
/// One of them may be wrong, so every choice that has the newest is tried.
///
/// # Errors
/// `Tampered`, as [`Sealed::open`]; for too few shares too.
pub fn combine(sealed: &[u8], context: &Context, shares: &[Share]) -> Result<Secret> {
    let sealed = Sealed::parse(sealed)?;
    let threshold = usize::try_from(sealed.threshold()).unwrap_or(usize::MAX);
    let mut failure = None;
    for choice in share::choices(shares, threshold) {
        match share::combine(&choice).and_then(|file_key| sealed.finish(file_key, context)) {
            Ok(token) => return Ok(token),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| tampered("these are fewer shares than its threshold")))
}

/// Sends a challenge to a device.
pub type PrivateOperationFn<'a> = dyn FnMut(PrivateOperation<'_>) -> Result<Zeroizing<Vec<u8>>> + 'a;

/// A sealed token with a parsed header. Nothing in it is authenticated before [`Sealed::finish`].
pub struct Sealed<'a> {
    bytes: &'a [u8],
    context: Context,
    stanzas: Stanzas,
}

impl<'a> Sealed<'a> {
    /// Parses the header, with bounded work on any input: [`MAX_SEALED_BYTES`], [`MAX_HEADER_BYTES`], [`MAX_STANZAS`].
    ///
    /// # Errors
    /// `Tampered` unless the file is age v1 with exactly one context stanza; as [`Stanzas::read`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        check_bounds(bytes)?;
        let stanzas = Stanzas::read(&age_stanzas(bytes)?)?;
        let context = *stanzas.context().ok_or_else(|| tampered("it has no context stanza"))?;
        Ok(Self { bytes, context, stanzas })
    }

    /// What the file claims to belong to.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// As [`Stanzas::locks`].
    pub fn locks<'s>(&'s self, key: &'s PublicKey) -> impl Iterator<Item = Result<StanzaChallenge<'s>>> {
        self.stanzas.locks(key)
    }

    /// As [`Stanzas::threshold`].
    pub fn threshold(&self) -> u64 {
        self.stanzas.threshold()
    }

    /// Opens it with one device's key, or that device's share of it. `ask` sends a challenge to the device. `context` and
    /// `threshold` are what the ledger says of the file.
    ///
    /// Asks the device only if the file claims the same. Tries the next stanza only if the device refused this one: after any
    /// other error, such as a wrong PIN, it does not ask again. Returns no token unless the header MAC, which covers those
    /// claims, and the whole payload are verified.
    ///
    /// # Errors
    /// `SealedElsewhere` when no stanza is for this key; `Tampered` when the file belongs elsewhere, does not open or fails its MAC, and
    /// for a share that belongs elsewhere; any error of `ask`, unchanged.
    pub fn open(
        &self,
        context: &Context,
        threshold: u64,
        key: &PublicKey,
        ask: &mut PrivateOperationFn<'_>,
    ) -> Result<Opened> {
        self.is_what_was_stated(context, threshold)?;
        let unsealed = self.stanzas.unseal(key, ask)?;
        self.opened(unsealed, context)
    }

    /// What unsealing a stanza of [`Sealed::stanzas`] gave: the token, once all is verified, or the share.
    ///
    /// # Errors
    /// As [`Sealed::finish`].
    pub(crate) fn opened(&self, unsealed: Unsealed, context: &Context) -> Result<Opened> {
        match unsealed {
            Unsealed::FileKey(file_key) => self.finish(file_key, context).map(Opened::Token),
            Unsealed::Share(share) => Ok(Opened::Share(share)),
        }
    }

    /// Its stanzas for devices.
    pub(crate) fn stanzas(&self) -> &Stanzas {
        &self.stanzas
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

    /// Compares the file with what the ledger says of it.
    ///
    /// # Errors
    /// `Tampered`.
    pub fn is_what_was_stated(&self, context: &Context, threshold: u64) -> Result<()> {
        self.belongs_to(context)?;
        match self.threshold() {
            own if own == threshold => Ok(()),
            own => Err(tampered(format!(
                "{own} devices open these sealed bytes, and the ledger says {threshold}"
            ))),
        }
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

/// Refuses what `age` would parse slowly: for every line, it reads the header from its start. And what it would parse although
/// age v1 does not allow it: a stanza without a last line of fewer than 64 columns, as files of age's first betas have.
pub(super) fn check_bounds(bytes: &[u8]) -> Result<()> {
    if bytes.len() > MAX_SEALED_BYTES {
        return Err(tampered("it is larger than a sealed token can be"));
    }
    let start = &bytes[..bytes.len().min(MAX_HEADER_BYTES)];
    let (mut stanzas, mut ended) = (0, true);
    for line in start.split_inclusive(|byte| *byte == b'\n') {
        let (begins, last) = (line.starts_with(b"-> "), line.starts_with(b"--- ") && line.ends_with(b"\n"));
        if !ended && (begins || last) {
            return Err(tampered("a stanza of its header has no end"));
        }
        if last {
            return Ok(());
        }
        stanzas += usize::from(begins);
        ended = !begins && line.len() <= BODY_COLUMNS;
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
