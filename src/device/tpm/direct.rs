//! The commands of opening and signing, sent to the TPM without tpm2-tss, which takes most of an opening's time for itself.
//!
//! Public areas and signatures are marshalled by tpm2-tss. From the bottom up:
//!
//! - `wire` connects to a device file or to swtpm and carries bytes;
//! - `marshal` writes and reads the standard's structures;
//! - `session` is the cryptography of a session, composed of RustCrypto's;
//! - `frame` is a command or a response as a whole, `messages` are those of more than a line.
//!
//! tests/tpm runs most of its tests through tpm2-tss, too, and the unit tests here compare every byte with what it sends.

use super::commands::{Commands, Key};
use super::error::{Code, DriverError, Failure, WithCommand};
use super::key_blob::WrappedKey;
use super::pcr::{self, Bank};
use super::policy::command_code;
use super::signed_policy::Signer;
use super::templates::{self, NO_NAME, Name};
use crate::device::Purpose;
use crate::error::{Error, Kind};
use frame::{Command, Response};
use marshal::{Reader, Writer};
use messages::{ecdh_z_gen, ecdsa, list, pcr_values, sign, start};
use session::{CONTINUE, DECRYPT, ENCRYPT, Salt, Session};
use std::time::Duration;
use tss_esapi::structures::{Public, Signature};
use tss_esapi::traits::{Marshall, UnMarshall};
use wire::Wire;
use zeroize::Zeroizing;

mod frame;
mod fuzz;
mod marshal;
mod messages;
mod session;
#[cfg(test)]
mod tests;
mod wire;

pub use fuzz::fuzz_responses;
pub use wire::Address;

/// The pauses between attempts at a busy TPM, in milliseconds, as in tpm2-tss. What lasts longer is the caller's.
const PAUSES: [u64; 4] = [1, 2, 4, 8];

/// TPM_RH_OWNER (part 2 §7.4).
const OWNER: u32 = 0x4000_0001;
/// A connection of our own.
pub struct Direct {
    wire: Box<dyn Wire>,
    session: Option<Session>,
    /// The keys read or made or loaded here: their handles, names and public areas.
    keys: Vec<(u32, Name, Public)>,
}

impl Direct {
    /// Nothing is loaded yet.
    pub fn new(wire: Box<dyn Wire>) -> Self {
        Self { wire, session: None, keys: Vec::new() }
    }

    /// Sends a command's bytes; a response of success, repeated while the TPM is busy.
    fn exchange(&mut self, title: &'static str, bytes: &[u8]) -> Result<Vec<u8>, DriverError> {
        let failed = |failure| DriverError::Direct { command: title, failure };
        let mut pauses = PAUSES.iter();
        loop {
            let response = self.wire.exchange(bytes).map_err(|error| match error.kind() {
                std::io::ErrorKind::InvalidData => failed(Failure::Unsound),
                _ => failed(Failure::Connection(error)),
            })?;
            let code = frame::response_code(&response).ok_or_else(|| failed(Failure::Unsound))?;
            match (code, pauses.next()) {
                (0, _) => return Ok(response),
                // TPM_RC_YIELDED, TPM_RC_TESTING, TPM_RC_RETRY
                (0x908 | 0x90a | 0x922, Some(pause)) => {
                    std::thread::sleep(Duration::from_millis(*pause));
                }
                _ => return Err(failed(Failure::Response(Code(code)))),
            }
        }
    }

    /// A command without sessions, whose response gives no handle: the response's parameters.
    fn plain(&mut self, command: Command) -> Result<Vec<u8>, DriverError> {
        let mut response = self.exchange(command.title, &command.plain())?;
        Response::parse(&response, false, false).ok_or_else(|| unsound(command.title))?;
        Ok(response.split_off(10))
    }

    /// A step of the session's policy.
    fn step(
        &mut self,
        title: &'static str,
        code: u32,
        write: impl FnOnce(Writer) -> Writer,
    ) -> Result<(), DriverError> {
        let session = self.session.as_ref().ok_or_else(none)?.handle;
        self.plain(Command::new(title, code, Some(session)).with(write)).map(drop)
    }

    /// A command that the session authorises: the response's parameters, authentic. The first may still be encrypted.
    fn by_session(
        &mut self,
        command: Command,
        (key, pin): (Key, Option<&[u8]>),
        attributes: u8,
    ) -> Result<Zeroizing<Vec<u8>>, DriverError> {
        let (title, code) = (command.title, command.code);
        let mut session = self.session.take().ok_or_else(none)?;
        let (_, name, _) = self.keys.iter().find(|(handle, ..)| *handle == key.0).ok_or_else(none)?;
        let by = session.begin(pin, session::nonce(), attributes);
        let bytes = command.by_session(&session, &by, name).ok_or_else(none);
        let response = bytes.and_then(|bytes| self.exchange(title, &bytes));
        let authentic = response.and_then(|response| {
            let response = Response::parse(&response, false, true).ok_or_else(|| unsound(title))?;
            let parameters = response.parameters;
            session.verify(&by, code, parameters, response.authorization).ok_or_else(|| unsound(title))?;
            match attributes & ENCRYPT {
                0 => Ok(Zeroizing::new(parameters.to_vec())),
                _ => session.decrypt(&by, parameters).ok_or_else(|| unsound(title)),
            }
        });
        self.session = Some(session);
        authentic
    }

    /// Remembers a key at a handle, and tells its name.
    fn keep(&mut self, title: &'static str, handle: u32, public: &[u8]) -> Result<(Key, Name), DriverError> {
        let name = name_of(public);
        let public = Public::unmarshall(public).with_command(title)?;
        self.keys.retain(|(other, ..)| *other != handle);
        self.keys.push((handle, name, public));
        Ok((Key(handle), name))
    }

    fn load_external(&mut self, public: &[u8]) -> Result<u32, DriverError> {
        const TITLE: &str = "TPM2_LoadExternal";
        let command = Command::new(TITLE, 0x167, None).with(|w| w.sized(&[]).sized(public).u32(OWNER));
        let response = self.exchange(TITLE, &command.plain())?;
        let response = Response::parse(&response, true, false);
        response.and_then(|response| response.handle).ok_or_else(|| unsound(TITLE))
    }

    /// TPMT_TK_VERIFIED (part 2 §10.6.4).
    fn verify(&mut self, key: u32, hash: [u8; 32], signature: &Signature) -> Result<Vec<u8>, DriverError> {
        const TITLE: &str = "TPM2_VerifySignature";
        let signature = signature.marshall().with_command(TITLE)?;
        self.plain(Command::new(TITLE, 0x177, Some(key)).with(|w| w.sized(&hash).bytes(&signature)))
    }

    fn capability(&mut self, what: u32, first: u32, count: u32) -> Result<Vec<u8>, DriverError> {
        const TITLE: &str = "TPM2_GetCapability";
        let command = Command::new(TITLE, 0x17a, None).with(|w| w.u32(what).u32(first).u32(count));
        self.plain(command)
    }
}

impl Commands for Direct {
    fn persistent(&mut self, handle: u32) -> Result<Option<(Key, Name)>, DriverError> {
        const TITLE: &str = "TPM2_ReadPublic";
        match self.plain(Command::new(TITLE, 0x173, Some(handle))) {
            Ok(read) => {
                let public = Reader(&read).sized().ok_or_else(|| unsound(TITLE))?;
                self.keep(TITLE, handle, public).map(Some)
            }
            // TPM_RC_HANDLE
            Err(fault) if fault.is(0x8b) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    fn create_primary(&mut self, template: &Public) -> Result<(Key, Name), DriverError> {
        const TITLE: &str = "TPM2_CreatePrimary";
        let template = template.marshall().with_command(TITLE)?;
        // An empty TPMS_SENSITIVE_CREATE, no outsideInfo, no PCRs.
        let command = Command::new(TITLE, 0x131, Some(OWNER))
            .with(|w| w.sized(&[0; 4]).sized(&template).sized(&[]).u32(0));
        let response = self.exchange(TITLE, &command.by_empty_password())?;
        let response = Response::parse(&response, true, true).ok_or_else(|| unsound(TITLE))?;
        let made = response.handle.zip(Reader(response.parameters).sized());
        let (handle, public) = made.ok_or_else(|| unsound(TITLE))?;
        let kept = self.keep(TITLE, handle, public);
        if kept.is_err() {
            let _ = self.flush_at(handle);
        }
        kept
    }

    fn load(&mut self, parent: Key, key: &WrappedKey) -> Result<Key, DriverError> {
        const TITLE: &str = "TPM2_Load";
        let public = key.public.marshall().with_command(TITLE)?;
        let command =
            Command::new(TITLE, 0x157, Some(parent.0)).with(|w| w.sized(key.private.value()).sized(&public));
        let response = self.exchange(TITLE, &command.by_empty_password())?;
        let response = Response::parse(&response, true, true).ok_or_else(|| unsound(TITLE))?;
        let handle = response.handle.ok_or_else(|| unsound(TITLE))?;
        if Reader(response.parameters).sized() != Some(&name_of(&public)[..]) {
            return Err(unsound(TITLE));
        }
        Ok(self.keep(TITLE, handle, &public)?.0)
    }

    fn flush(&mut self, key: Key) -> Result<(), DriverError> {
        self.flush_at(key.0)?;
        self.keys.retain(|(handle, ..)| *handle != key.0);
        Ok(())
    }

    fn start_session(&mut self, salt: Key) -> Result<u32, DriverError> {
        const TITLE: &str = "TPM2_StartAuthSession";
        let (_, _, public) = self.keys.iter().find(|(handle, ..)| *handle == salt.0).ok_or_else(none)?;
        let secret = Salt::to(public).ok_or_else(unfit)?;
        let nonce = session::nonce();
        let bytes = start(salt.0, &nonce, &secret.encrypted).plain();
        let response = self.exchange(TITLE, &bytes)?;
        let response = Response::parse(&response, true, false).ok_or_else(|| unsound(TITLE))?;
        let started = response.handle.zip(Reader(response.parameters).sized());
        let session = started.map(|(handle, theirs)| Session::new(handle, &secret, &nonce, theirs));
        Ok(self.session.insert(session.ok_or_else(|| unsound(TITLE))?).handle)
    }

    fn flush_session(&mut self) -> Result<(), DriverError> {
        match &self.session {
            Some(session) => self.flush_at(session.handle),
            None => Ok(()),
        }
    }

    fn pcr_read(&mut self, bank: Bank, indices: &[u8]) -> Result<Vec<Vec<u8>>, DriverError> {
        const TITLE: &str = "TPM2_PCR_Read";
        let selection = pcr::marshalled(bank, indices);
        let read = self.plain(Command::new(TITLE, 0x17e, None).with(|w| w.bytes(&selection)))?;
        pcr_values(&read).ok_or_else(|| unsound(TITLE))
    }

    fn policy_pcr(&mut self, digest: [u8; 32], bank: Bank, indices: &[u8]) -> Result<(), DriverError> {
        let selection = pcr::marshalled(bank, indices);
        self.step("TPM2_PolicyPCR", 0x17f, |w| w.sized(&digest).bytes(&selection))
    }

    fn policy_authorize(
        &mut self,
        approved: [u8; 32],
        signer: &Signer,
        signatures: &[Vec<u8>],
    ) -> Result<bool, DriverError> {
        const TITLE: &str = "TPM2_PolicyAuthorize";
        let public = signer.public.marshall().with_command(TITLE)?;
        let key = self.load_external(&public)?;
        let ticket = signer
            .first_verified(&approved, signatures, |hash, signature| self.verify(key, hash, &signature));
        self.flush_at(key)?;
        let Some(ticket) = ticket? else { return Ok(false) };
        let name = name_of(&public);
        self.step(TITLE, 0x16a, |w| w.sized(&approved).sized(&signer.reference).sized(&name).bytes(&ticket))?;
        Ok(true)
    }

    fn policy_auth_value(&mut self) -> Result<(), DriverError> {
        self.step("TPM2_PolicyAuthValue", 0x16b, |w| w)
    }

    fn policy_command_code(&mut self, purpose: Purpose) -> Result<(), DriverError> {
        self.step("TPM2_PolicyCommandCode", 0x16c, |w| w.u32(command_code(purpose)))
    }

    fn ecdh_z_gen(
        &mut self,
        key: Key,
        pin: Option<&[u8]>,
        peer: &[u8; 65],
    ) -> Result<Zeroizing<Vec<u8>>, DriverError> {
        let command = ecdh_z_gen(key.0, peer);
        let point = self.by_session(command, (key, pin), CONTINUE | DECRYPT | ENCRYPT)?;
        match Reader(&point).sized().and_then(templates::coordinate) {
            Some(x) => Ok(Zeroizing::new(x.to_vec())),
            None => {
                Err(Error::new(Kind::Device, "open with the key", "the TPM's point is not of P-256").into())
            }
        }
    }

    fn sign(&mut self, key: Key, pin: Option<&[u8]>, digest: &[u8; 32]) -> Result<[u8; 64], DriverError> {
        // The signature is no TPM2B, and no secret.
        let signature = self.by_session(sign(key.0, digest), (key, pin), CONTINUE | DECRYPT)?;
        ecdsa(&signature).ok_or_else(|| {
            Error::new(Kind::Device, "sign", "the TPM's signature is not ECDSA on P-256").into()
        })
    }

    fn handles(&mut self, first: u32) -> Result<Vec<u32>, DriverError> {
        let response = self.capability(1, first, 254)?;
        list(&response, 1, |reader| reader.u32()).ok_or_else(|| unsound("TPM2_GetCapability"))
    }

    fn properties(&mut self, first: u32, count: u32) -> Result<Vec<(u32, u32)>, DriverError> {
        let response = self.capability(6, first, count)?;
        list(&response, 6, |reader| reader.u32().zip(reader.u32()))
            .ok_or_else(|| unsound("TPM2_GetCapability"))
    }

    fn name_at(&mut self, handle: u32) -> Result<Option<Name>, DriverError> {
        const TITLE: &str = "TPM2_ReadPublic";
        let read = self.plain(Command::new(TITLE, 0x173, Some(handle)))?;
        let public = Reader(&read).sized().ok_or_else(|| unsound(TITLE))?;
        Ok(Some(name_of(public)).filter(|name| *name != NO_NAME))
    }

    fn flush_at(&mut self, handle: u32) -> Result<(), DriverError> {
        self.plain(Command::new("TPM2_FlushContext", 0x165, None).with(|w| w.u32(handle))).map(drop)
    }
}

/// The name of a TPMT_PUBLIC; [`NO_NAME`] if its nameAlg is not SHA-256.
fn name_of(public: &[u8]) -> Name {
    match public.get(2..4) {
        Some([0, 0x0b]) => templates::name_of(public),
        _ => NO_NAME,
    }
}

fn unsound(command: &'static str) -> DriverError {
    DriverError::Direct { command, failure: Failure::Unsound }
}

fn none() -> DriverError {
    Error::new(Kind::Device, "use the session", "there is none, or not the key").into()
}

fn unfit() -> DriverError {
    let message = "the storage root key is neither P-256 nor P-384 nor RSA";
    Error::new(Kind::Unsupported, "start a session", message).into()
}
