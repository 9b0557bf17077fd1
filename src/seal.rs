//! Sealing: a token's bytes to an age v1 file that only the recipients' devices open, and back.
//!
//! A sealed token is a binary age file (<https://age-encryption.org/v1>). Its payload is the token's bytes and nothing
//! else. Its header carries one `strongroom/context` stanza, which says what the file belongs to, then one stanza for each
//! recipient, by the kind of its key:
//!
//! | key in the device | stanza | operation in the device |
//! |---|---|---|
//! | EC P-256 | `p256tag` | ECDH |
//! | EC P-384 | `strongroom/p384tag` | ECDH |
//! | RSA | `strongroom/rsa-oaep` | OAEP decryption |
//! | AES-256 | `strongroom/hsm-aes-gcm` | AES-GCM encryption and decryption |
//!
//! With a threshold of two devices or more, each of these stanzas seals a share of the file key and is inside a
//! `strongroom/share` stanza.
//!
//! This module contacts no device. [`seal()`] and [`Sealed::open`] call a closure for the device's part; [`Sealed`] offers the
//! same in steps. A device's error is returned unchanged.
//!
//! The `age` crate makes and checks the header MAC and the payload.

mod age_recipient;
mod context;
mod ec_tag;
mod hsm_aes_gcm;
mod recipient_stanza;
mod rsa_oaep;
mod sealed;
mod share;
mod stanzas;

pub use age_core::format::{FileKey, Stanza};
pub use age_recipient::{PLUGIN, PluginRecipient};
pub use context::Context;
pub use ec_tag::recipient_string;
pub use recipient_stanza::StanzaChallenge;
pub use sealed::{Opened, Sealed, combine};
pub use share::Share;
pub use stanzas::{Stanzas, Unsealed};

use crate::device::PublicKey;
use crate::error::{Error, Kind, Result};
use crate::secret::{MAX_TOKEN_BYTES, Secret};
use age::{EncryptError, Encryptor};
use age_core::format::FILE_KEY_BYTES;
use age_core::secrecy::ExposeSecret;
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use ec_tag::{Curve as _, P256, P384};
use hsm_aes_gcm::HsmAesGcm;
use rand_core::{OsRng, RngCore};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::Write;

/// The longest header: every stanza and the MAC.
pub const MAX_HEADER_BYTES: usize = 64 << 10;

/// The longest sealed token that is accepted.
pub const MAX_SEALED_BYTES: usize = MAX_TOKEN_BYTES + MAX_HEADER_BYTES;

/// The most stanzas in a header, including age's random one and the context.
pub const MAX_STANZAS: usize = 256;

/// The authentication tag of ChaCha20Poly1305 and of AES-GCM.
const TAG_BYTES: usize = 16;

/// The most recipients of one token.
pub const MAX_RECIPIENTS: usize = MAX_STANZAS - 2;

/// A device that a token is sealed to.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// The opening key.
    pub public: &'a PublicKey,
    /// The device's name, for errors.
    pub name: &'a str,
}

/// The request to an AES-256 recipient's device during sealing: [`crate::device::KeyWrap::wrap`].
pub struct WrapRequest<'a> {
    /// Whose device.
    pub recipient: Recipient<'a>,
    /// 96-bit nonce, random.
    pub iv: &'a [u8; 12],
    /// Additional authenticated data.
    pub aad: &'a [u8],
    /// What to encrypt: the file key, or a share of it and what binds it to its place.
    pub secret: &'a [u8],
}

/// Encrypts in a device: the ciphertext, as long as the secret, and the 128-bit tag.
pub type Wrapper<'a> = dyn FnMut(WrapRequest<'_>) -> Result<Vec<u8>> + 'a;

/// Seals a token to every recipient, in the given order, so that any `threshold` of them open it together. Calls `wrap` for
/// AES-256 recipients only.
///
/// # Errors
/// `Usage` for a token that is empty or over 1 MiB, for no recipients, too many, or the same key twice; `Conflict` for a threshold
/// of more than there are;
/// `Unsupported` for a key that cannot be sealed to; any error of `wrap`, unchanged.
pub fn seal(
    plaintext: &Secret,
    context: &Context,
    recipients: &[Recipient<'_>],
    threshold: u64,
    wrap: &mut Wrapper<'_>,
) -> Result<Vec<u8>> {
    check_plaintext(plaintext)?;
    check_recipients(recipients)?;
    check_threshold(threshold, recipients.len())?;
    let header =
        Header { context, recipients, threshold, wrap: RefCell::new(wrap), failure: Cell::new(None) };
    let encryptor = Encryptor::with_recipients(std::iter::once(&header as _))
        .map_err(|e| header.failure.take().unwrap_or_else(|| cannot_seal(Kind::Io, e.to_string())))?;
    let mut sealed = Vec::with_capacity(plaintext.len() + MAX_HEADER_BYTES / 16);
    encryptor
        .wrap_output(&mut sealed)
        .and_then(|mut writer| writer.write_all(plaintext.expose()).and_then(|()| writer.finish()))
        .map_err(|e| cannot_seal(Kind::Io, e.to_string()).caused_by(e))?;
    sealed::check_bounds(&sealed)
        .map_err(|_| cannot_seal(Kind::Usage, "the recipients' keys do not fit into one header"))?;
    Ok(sealed)
}

/// An upper bound for the bytes of a key's stanza.
pub fn stanza_bytes(public: &PublicKey) -> usize {
    match public {
        PublicKey::P256(_) => 192,
        PublicKey::P384(_) => 256,
        PublicKey::Aes256 { .. } => 128,
        // Base64, a line feed for each 64 columns, and the stanza's first line.
        PublicKey::Rsa { n, .. } | PublicKey::RsaPss { n, .. } => n.len() * 3 / 2 + 128,
    }
}

/// A wrapper for callers without a device.
///
/// # Errors
/// Always `Unsupported`.
pub fn without_device(request: WrapRequest<'_>) -> Result<Vec<u8>> {
    Err(cannot_seal(
        Kind::Unsupported,
        "its AES key has no public half: sealing to it needs the device itself",
    )
    .with_target(request.recipient.name)
    .with_hint("seal where the device is, or give the device an EC or RSA opening key"))
}

/// Writes all stanzas of the header as the single recipient that `age` sees. This keeps their order ours, and `failure`
/// holds our errors, which age's error type cannot.
struct Header<'a, 'w> {
    context: &'a Context,
    recipients: &'a [Recipient<'a>],
    threshold: u64,
    wrap: RefCell<&'a mut Wrapper<'w>>,
    failure: Cell<Option<Error>>,
}

impl Header<'_, '_> {
    fn stanzas(&self, file_key: &FileKey) -> Result<Vec<Stanza>> {
        let mut stanzas = vec![self.context.to_stanza()];
        if self.threshold == 1 {
            for recipient in self.recipients {
                stanzas.push(self.stanza(*recipient, file_key.expose_secret())?);
            }
            return Ok(stanzas);
        }
        let line = self.context.to_string();
        let shares = share::split(file_key.expose_secret(), self.threshold, self.recipients.len())?;
        for (recipient, share) in self.recipients.iter().zip(shares) {
            stanzas.push(share.number().to_stanza(self.stanza(*recipient, &share.to_seal(&line))?));
        }
        Ok(stanzas)
    }

    fn stanza(&self, recipient: Recipient<'_>, secret: &[u8]) -> Result<Stanza> {
        match recipient.public {
            PublicKey::Aes256 { id } => self.wrap_in_device(recipient, id, secret),
            public => wrap(public, secret)
                .map_err(|why| cannot_seal(Kind::Unsupported, why).with_target(recipient.name)),
        }
    }

    fn wrap_in_device(&self, recipient: Recipient<'_>, id: &[u8; 16], secret: &[u8]) -> Result<Stanza> {
        let mut iv = [0; 12];
        OsRng.try_fill_bytes(&mut iv).map_err(|e| cannot_seal(Kind::Io, e.to_string()))?;
        let aad = self.context.to_string();
        let request = WrapRequest { recipient, iv: &iv, aad: aad.as_bytes(), secret };
        let wrapped = (self.wrap.borrow_mut())(request)?;
        let wanted = secret.len() + TAG_BYTES;
        if wrapped.len() != wanted {
            let message = format!("AES-GCM answered with {} bytes instead of {wanted}", wrapped.len());
            return Err(cannot_seal(Kind::Device, message).with_target(recipient.name));
        }
        Ok(HsmAesGcm::new(id, iv, wrapped).to_stanza())
    }
}

/// Encrypts to a key that has a public half. The error says why it cannot be sealed to.
fn wrap(public: &PublicKey, secret: &[u8]) -> Result<Stanza, String> {
    match public {
        PublicKey::P256(point) => {
            P256::wrap(point, secret).ok_or_else(|| "its public key is no point of the curve P-256".into())
        }
        PublicKey::P384(point) => {
            P384::wrap(point, secret).ok_or_else(|| "its public key is no point of the curve P-384".into())
        }
        PublicKey::Rsa { n, e, oaep } => rsa_oaep::wrap(n, e, *oaep, secret),
        PublicKey::RsaPss { .. } => Err("its key is for signing".into()),
        PublicKey::Aes256 { .. } => Err("its AES key has no public half".into()),
    }
}

impl age::Recipient for Header<'_, '_> {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        self.stanzas(file_key).map(|stanzas| (stanzas, HashSet::new())).map_err(|e| {
            self.failure.set(Some(e));
            EncryptError::Io(std::io::ErrorKind::Other.into())
        })
    }
}

fn check_plaintext(plaintext: &Secret) -> Result<()> {
    if plaintext.is_empty() {
        return Err(cannot_seal(Kind::Usage, "it is empty"));
    }
    if plaintext.len() > MAX_TOKEN_BYTES {
        return Err(cannot_seal(Kind::Usage, "it is larger than 1 MiB"));
    }
    Ok(())
}

fn check_recipients(recipients: &[Recipient<'_>]) -> Result<()> {
    if recipients.is_empty() {
        return Err(cannot_seal(Kind::Usage, "there is no device to seal it to")
            .with_hint("enrol a device with the role `open`"));
    }
    if recipients.len() > MAX_RECIPIENTS {
        let message = format!("{} recipients are more than {MAX_RECIPIENTS}", recipients.len());
        return Err(cannot_seal(Kind::Usage, message).with_hint("name fewer devices"));
    }
    let mut seen = HashSet::new();
    match recipients.iter().find(|recipient| !seen.insert(key_material(recipient.public))) {
        Some(twice) => {
            Err(cannot_seal(Kind::Usage, "its key is among the recipients twice").with_target(twice.name))
        }
        None => Ok(()),
    }
}

fn check_threshold(threshold: u64, recipients: usize) -> Result<()> {
    if (1..=recipients as u64).contains(&threshold) {
        return Ok(());
    }
    let message = format!("{threshold} devices should open it together, and it is for {recipients}");
    Err(cannot_seal(Kind::Conflict, message).with_hint("seal it to more devices, or give a lower threshold"))
}

/// What identifies a key. An RSA key is the same with any hash.
fn key_material(public: &PublicKey) -> (&[u8], &[u8]) {
    match public {
        PublicKey::P256(point) => (point, &[]),
        PublicKey::P384(point) => (point, &[]),
        PublicKey::Rsa { n, e, .. } | PublicKey::RsaPss { n, e } => (n, e),
        PublicKey::Aes256 { id } => (id, &[]),
    }
}

fn cannot_seal(kind: Kind, message: impl Into<String>) -> Error {
    Error::new(kind, "seal the token", message)
}

fn cannot_open(kind: Kind, message: impl Into<String>) -> Error {
    Error::new(kind, "open the sealed token", message)
}

/// The file was altered, or sealed wrongly.
fn tampered(message: impl Into<String>) -> Error {
    cannot_open(Kind::Tampered, message).with_hint("run `strongroom verify` to see what else was altered")
}

/// The file key from an opened stanza.
fn file_key(bytes: &[u8]) -> Result<FileKey> {
    if bytes.len() != FILE_KEY_BYTES {
        return Err(tampered("a stanza holds no file key: it opens to another length than 16 bytes"));
    }
    Ok(FileKey::init_with_mut(|key| key.copy_from_slice(bytes)))
}

/// Canonical base64 without padding (RFC 4648 §4) of exactly `N` bytes.
fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64.decode(text).ok()?.try_into().ok()
}

fn encoded(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

fn first_four(hash: &[u8]) -> [u8; 4] {
    [hash[0], hash[1], hash[2], hash[3]]
}
