//! A session on a token, and the operations on it.

use super::error::{DriverError, decode};
use super::login::OperationLogin;
use super::module::{InitializedModule, Module};
use super::objects::{self, Located, PrivateKey};
use super::operations::{self, Operation};
use super::slots;
use super::token_info::TokenInfo;
use crate::device::{KeyInfo, KeyRef, PublicKey, Purpose};
use crate::error::{Error, Kind, Result};
use crate::uri::DeviceUri;
use cryptoki::session::Session;
use cryptoki::slot::Slot;
use std::time::Duration;

/// Pauses before restarting the module when another process was writing to the token, in ms.
pub const BACKOFF_MS: [u64; 5] = [4, 12, 30, 70, 150];

/// A session, valid in one generation of the module. Its key handles are valid during one login.
pub struct TokenSession {
    pub raw: Session,
    pub slot: Slot,
    pub generation: u64,
    epoch: u64,
    keys: Vec<(KeyRef, PrivateKey)>,
    /// A key was found.
    pub found: bool,
    /// The token's information was read a moment ago.
    pub fresh: bool,
}

/// An operation's context: the module, which cannot be finalised meanwhile, and the token's information.
pub struct OperationContext<'a> {
    pub live: InitializedModule<'a>,
    pub uri: &'a DeviceUri,
    pub name: &'a str,
    pub info: &'a TokenInfo,
    pub login: OperationLogin,
}

impl TokenSession {
    /// Starts the module if necessary, finds the token, and opens a session.
    pub fn take(module: &Module, uri: &DeviceUri, name: &str) -> Result<(Self, TokenInfo)> {
        let mut pauses = BACKOFF_MS.iter().take(3);
        loop {
            let turn = module.start_lock();
            let live = module.start()?;
            let generation = live.generation();
            let error = match slots::find(&live, uri, name) {
                Ok((slot, info)) => return Ok((Self::open(&live, slot, name)?, info)),
                Err(error) => error,
            };
            let perhaps_busy = module.is_softhsm() && error.kind() != Kind::Usage;
            let Some(pause) = pauses.next().filter(|_| perhaps_busy) else { return Err(error) };
            drop((live, turn));
            std::thread::sleep(Duration::from_millis(*pause));
            let _turn = module.start_lock();
            module.restart(generation)?;
        }
    }

    /// Another session on a token that is already found. Read-only if the module has such sessions: they work beside a security
    /// officer's, and on write-protected tokens.
    pub fn open(live: &InitializedModule<'_>, slot: Slot, name: &str) -> Result<Self> {
        // Not closed on drop: a stale handle may name another session by then.
        let raw = live
            .open_ro_session_no_drop(slot)
            .or_else(|error| live.open_rw_session_no_drop(slot).map_err(|_| error))
            .map_err(|e| decode(e, "open a session", name))?;
        Ok(Self {
            raw,
            slot,
            generation: live.generation(),
            epoch: 0,
            keys: Vec::new(),
            found: false,
            fresh: true,
        })
    }

    /// Closes the session if it is still valid.
    pub fn close(self, module: &Module) {
        if let Ok(_live) = module.live(self.generation) {
            let _ = self.raw.close();
        }
    }

    /// Forgets handles of an earlier login, which are invalid.
    pub fn enter(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.keys.clear();
        }
    }

    /// Forgets the handles.
    pub fn forget_keys(&mut self) {
        self.keys.clear();
    }

    /// Whether all keys that were found before are still there.
    pub fn has_its_keys(&self, uri: &DeviceUri) -> bool {
        self.keys.iter().all(|(key, _)| {
            let label = objects::label(uri, key.purpose);
            objects::search(&self.raw, uri, &label).is_ok_and(|(private, _)| !private.is_empty())
                || objects::locate_by_public(&self.raw, &key.public).is_ok_and(|key| key.is_some())
        })
    }
}

impl OperationContext<'_> {
    /// An enrolled key: cached, or found by its label and compared with the enrolment, or found by its public key.
    pub fn private_key(&self, session: &mut TokenSession, key: &KeyRef) -> Result<PrivateKey, DriverError> {
        if let Some((_, private)) = session.keys.iter().find(|(known, _)| known == key) {
            return Ok(*private);
        }
        let label = objects::label(self.uri, key.purpose);
        let located = match objects::locate(&session.raw, self.uri, &label) {
            Err(DriverError::Missing { label }) => {
                let located = objects::locate_by_public(&session.raw, &key.public)?;
                let private = located.ok_or(DriverError::Missing { label })?.private;
                session.keys.push((key.clone(), private));
                return Ok(private);
            }
            located => located?,
        };
        if objects::is_another(&session.raw, &located, &key.public)? {
            return Err(self.replaced_key(key.purpose).into());
        }
        session.found = true;
        session.keys.push((key.clone(), located.private));
        Ok(located.private)
    }

    /// The public information on one key.
    pub fn key_info(
        &self,
        session: &mut TokenSession,
        located: &Located,
        purpose: Purpose,
    ) -> Result<KeyInfo, DriverError> {
        session.found = true;
        let session = &session.raw;
        let public = objects::public_key(session, located, |n, e| match purpose {
            Purpose::Open => {
                let oaep = operations::prove_oaep(&self.operation(session, located.private), &n, &e)?;
                Ok(PublicKey::Rsa { n, e, oaep })
            }
            Purpose::Sign => Ok(PublicKey::RsaPss { n, e }),
        })?;
        if purpose == Purpose::Sign && matches!(public, PublicKey::Aes256 { .. }) {
            let message = format!("{} keys cannot sign", public.algorithm());
            return Err(Error::new(Kind::Unsupported, "use the key", message).with_target(self.name).into());
        }
        if purpose == Purpose::Open && located.private.asks_always && public.point().is_some() {
            return Err(operations::cannot_agree());
        }
        let evidence = objects::evidence(session, located.private.handle, self.info.identity.simulator)?;
        Ok(KeyInfo { uri: self.key_uri(purpose)?, purpose, public, evidence, material: Vec::new() })
    }

    /// What an operation with a private key needs.
    pub fn operation<'b>(&'b self, session: &'b Session, key: PrivateKey) -> Operation<'b> {
        Operation { session, key, login: &self.login }
    }

    fn key_uri(&self, purpose: Purpose) -> Result<String> {
        let uri = DeviceUri::parse("pkcs11:")?;
        let uri = match self.info.described {
            true => uri.with("token", &self.info.identity.label)?,
            false => uri.with("slot-id", &self.info.slot_id.to_string())?,
        };
        Ok(uri.with("object", &objects::label(self.uri, purpose))?.to_string())
    }

    fn replaced_key(&self, purpose: Purpose) -> Error {
        let message = format!("its {purpose} key is not the one that was enrolled");
        Error::new(Kind::KeyMissing, "find the key", message).with_target(self.name).with_hint(
            "the key was replaced, or this is another token of the same name: connect the enrolled one, \
             or enrol this one as a device of its own",
        )
    }
}
