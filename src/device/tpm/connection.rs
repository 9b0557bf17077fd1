//! A connection to a TPM with what is loaded over it: the storage root key, keys, a session.
//!
//! A TPM without a resource manager has three slots for objects and three for sessions, so a connection holds two keys and one
//! session at most, and gives back what it no longer needs on every path; dropping the context gives back the rest.
//!
//! # What the session is salted to
//!
//! Whoever sits between program and TPM sees nothing if the session's salt is encrypted to a key of that very TPM: its storage root
//! key. The way to it is TPM2_ReadPublic, whose answer nobody signs, and tpm2-tss keeps what it is told there. So the name
//! that counts here is not the one in that answer but the one that tpm2-tss computes from the public area it would salt to
//! (Esys_TR_GetName); it has to be the name that the key was enrolled with. An answer with the right name and another public key
//! is therefore refused.
//!
//! TPM2_Load goes without the session: it is authorised by the empty password, which is no secret, and carries what the ledger
//! shows to everybody. Its answer is compared by tpm2-tss with the public area that we gave, and the command that uses
//! the key binds its name.

use super::error::{Code, Command, DriverError, Remedy};
use super::key_blob::KeyBlob;
use super::templates;
use crate::error::{Error, Kind};
use tss_esapi::Context;
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::{CapabilityType, SessionType};
use tss_esapi::handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, SessionHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{CapabilityData, SymmetricDefinition};

/// Keys that stay loaded: one that opens and one that signs.
const KEPT: usize = 2;

/// A connection and what is loaded over it.
pub struct Connection {
    /// The connection.
    pub context: Context,
    parent: Option<Parent>,
    keys: Vec<(Name, KeyHandle)>,
    session: Option<Session>,
    /// Sessions of others' that could not be given back.
    strays: Vec<AuthSession>,
    /// The keys that were ever to be loaded over this connection.
    tried: Vec<Name>,
    /// What could not be flushed when it should have been.
    left: Vec<ObjectHandle>,
}

/// HR_TRANSIENT, part 2 §7.2.
const FIRST_TRANSIENT: u32 = 0x8000_0000;

type Name = [u8; 34];

/// The storage root key.
struct Parent {
    name: Name,
    handle: KeyHandle,
    /// Made for this connection, because it no longer lies at its handle.
    transient: bool,
}

/// A session, and the name of the storage root key that it is salted to.
struct Session {
    salt: Name,
    session: AuthSession,
}

/// A key that is ready for a command.
pub struct LoadedKey {
    /// The key.
    pub key: KeyHandle,
    /// Salted, with its policy not yet satisfied.
    pub session: PolicySession,
}

/// What a connection leaves in the TPM when tpm2-tss gives it up.
pub struct Leftovers {
    keys: Vec<Name>,
    sessions: Vec<u32>,
}

impl Connection {
    /// Nothing is loaded yet.
    pub fn new(context: Context) -> Self {
        let (keys, strays, tried, left) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { context, parent: None, keys, session: None, strays, tried, left }
    }

    /// Loads an enrolled key, and opens a session for it, as far as they are not there already.
    pub fn ready(&mut self, material: &KeyBlob) -> Result<LoadedKey, DriverError> {
        for handle in std::mem::take(&mut self.left) {
            self.flush(handle);
        }
        let session = self.session(material);
        let key = session.and_then(|session| Ok((session, self.load(material)?)));
        self.give_up_transient_parent();
        let (session, key) = key?;
        Ok(LoadedKey { key, session: policy(session)? })
    }

    /// The storage root key that was compared with an enrolment, if there was one.
    pub fn pinned_parent(&self) -> Option<KeyHandle> {
        self.parent.as_ref().map(|parent| parent.handle)
    }

    fn session(&mut self, material: &KeyBlob) -> Result<AuthSession, DriverError> {
        match &self.session {
            Some(session) if session.salt == material.parent_name => return Ok(session.session),
            _ => self.end_session(),
        }
        let parent = self.parent(material)?;
        let session = start_session(&mut self.context, parent, SessionType::Policy)?;
        self.session = Some(Session { salt: material.parent_name, session });
        Ok(session)
    }

    fn load(&mut self, material: &KeyBlob) -> Result<KeyHandle, DriverError> {
        let wanted = templates::name(&material.key.public).of("TPM2_Load")?;
        if let Some((_, handle)) = self.keys.iter().find(|(name, _)| *name == wanted) {
            return Ok(*handle);
        }
        while self.keys.len() >= KEPT {
            let (_, oldest) = self.keys.remove(0);
            self.flush(oldest.into());
        }
        self.remember(wanted);
        let parent = self.parent(material)?;
        let (private, public) = (material.key.private.clone(), material.key.public.clone());
        let loaded = self.context.execute_with_session(Some(AuthSession::Password), |context| {
            context.load(parent, private, public)
        });
        let handle = loaded.of("TPM2_Load")?;
        self.keys.push((wanted, handle));
        Ok(handle)
    }

    /// The storage root key, if it is the one that the key was enrolled under.
    fn parent(&mut self, material: &KeyBlob) -> Result<KeyHandle, DriverError> {
        if let Some(parent) = self.parent.as_ref().filter(|parent| parent.name == material.parent_name) {
            return Ok(parent.handle);
        }
        self.give_up_transient_parent();
        let found = persistent(&mut self.context, material.parent)?;
        let (handle, transient) = match found {
            Some((handle, name)) if name == material.parent_name => (handle, false),
            // Somebody evicted it, or put another in its place: with the same seed it is made again.
            _ => (primary(&mut self.context)?, true),
        };
        let is = name_of(&mut self.context, handle.into())?;
        if is != material.parent_name {
            self.flush(handle.into());
            return Err(gone().into());
        }
        self.parent = Some(Parent { name: is, handle, transient });
        Ok(handle)
    }

    fn give_up_transient_parent(&mut self) {
        if let Some(parent) = self.parent.take_if(|parent| parent.transient) {
            self.flush(parent.handle.into());
        }
    }

    /// Whether the key's storage root key is this TPM's.
    pub fn is_home_of(&mut self, material: &KeyBlob) -> Result<bool, DriverError> {
        match self.parent(material) {
            Ok(_) => {
                self.give_up_transient_parent();
                Ok(true)
            }
            Err(DriverError::Final(error)) if error.kind() == Kind::KeyMissing => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Gives the session back: after a failure nobody knows how far its policy is.
    pub fn end_session(&mut self) {
        if let Some(Session { session, .. }) = self.session.take() {
            self.flush(SessionHandle::from(session).into());
        }
    }

    /// Gives every key back.
    pub fn unload(&mut self) {
        for (_, key) in std::mem::take(&mut self.keys) {
            self.flush(key.into());
        }
        self.give_up_transient_parent();
    }

    /// Has a key flushed by its name, should the connection leave it behind.
    pub fn remember(&mut self, key: Name) {
        if !self.tried.contains(&key) {
            self.tried.push(key);
        }
    }

    /// Has a session ended over another connection, because it could not be ended over this one.
    pub fn leave(&mut self, session: AuthSession) {
        self.strays.push(session);
    }

    /// What has to be given back over another connection, because tpm2-tss takes no more commands on this one.
    pub fn leftovers(&mut self) -> Leftovers {
        let own = self.session.take().map(|session| session.session);
        let sessions: Vec<_> = own.into_iter().chain(std::mem::take(&mut self.strays)).collect();
        let sessions = sessions.into_iter().filter_map(|session| {
            // The name of a session is its handle (part 1 §16).
            let name = self.context.tr_get_name(SessionHandle::from(session).into()).ok()?;
            Some(u32::from_be_bytes(name.value().try_into().ok()?))
        });
        let sessions = sessions.collect();
        Leftovers { keys: std::mem::take(&mut self.tried), sessions }
    }

    /// Gives back what another connection left. Keys are known by their names: whatever else is loaded is somebody else's.
    /// Another process that has the same key loaded in a bare TPM loads it again.
    pub fn give_back(&mut self, leftovers: &Leftovers) {
        for handle in leftovers.sessions.iter().filter_map(|session| TpmHandle::try_from(*session).ok()) {
            self.flush_handle(handle, |_| true);
        }
        let asked = self.context.execute_without_session(|context| {
            context.get_capability(CapabilityType::Handles, FIRST_TRANSIENT, 254)
        });
        let Ok((CapabilityData::Handles(handles), _)) = asked else { return };
        for handle in handles.iter() {
            self.flush_handle(*handle, |name| leftovers.keys.contains(&name));
        }
    }

    /// Flushes what lies at a handle, if its name says so.
    fn flush_handle(&mut self, handle: TpmHandle, is_ours: impl FnOnce(Name) -> bool) {
        let found = self.context.execute_without_session(|context| context.tr_from_tpm_public(handle));
        let Ok(mut found) = found else { return };
        match name_of(&mut self.context, found) {
            Ok(name) if is_ours(name) => self.flush(found),
            // What is dropped with the context would be flushed.
            _ => drop(self.context.tr_close(&mut found)),
        }
    }

    fn flush(&mut self, handle: ObjectHandle) {
        // A TPM that is busy keeps it for now; what cannot be flushed otherwise is gone already, with a reset or its connection.
        if let Err(error) = self.context.flush_context(handle)
            && Code::from_error(&error).is_some_and(|code| code.remedy() == Remedy::Wait)
        {
            self.left.push(handle);
        }
    }
}

/// Salted, and encrypting the first parameter both ways: AES-128-CFB, part 1 §21.3.
pub fn start_session(
    context: &mut Context,
    salt: KeyHandle,
    kind: SessionType,
) -> Result<AuthSession, DriverError> {
    let started = context.execute_without_session(|context| {
        let (symmetric, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
        context.start_auth_session(Some(salt), None, None, kind, symmetric, hash)
    });
    let session = started.of("TPM2_StartAuthSession")?.ok_or_else(none)?;
    let (attributes, mask) = SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).build();
    match context.tr_sess_set_attributes(session, attributes, mask) {
        Ok(()) => Ok(session),
        Err(error) => {
            let _ = context.flush_context(SessionHandle::from(session).into());
            Err(error).of("TPM2_StartAuthSession")
        }
    }
}

/// Makes the storage root key, as a transient object. Its name is checked against its public area by tpm2-tss.
pub fn primary(context: &mut Context) -> Result<KeyHandle, DriverError> {
    let template = templates::srk().of("TPM2_CreatePrimary")?;
    let made = context.execute_with_session(Some(AuthSession::Password), |context| {
        context.create_primary(Hierarchy::Owner, template, None, None, None, None)
    });
    Ok(made.of("TPM2_CreatePrimary")?.key_handle)
}

/// What lies at a persistent handle, and the name of the public area that the TPM told; `None` when nothing does.
pub fn persistent(context: &mut Context, handle: u32) -> Result<Option<(KeyHandle, Name)>, DriverError> {
    let handle = TpmHandle::Persistent(PersistentTpmHandle::new(handle).of("TPM2_ReadPublic")?);
    let found = context.execute_without_session(|context| context.tr_from_tpm_public(handle));
    match found.of("TPM2_ReadPublic") {
        Ok(found) => Ok(Some((found.into(), name_of(context, found)?))),
        // TPM_RC_HANDLE
        Err(fault) if fault.is(0x8b) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// An object's name; all zeroes for one that is not of SHA-256.
pub fn name_of(context: &mut Context, handle: ObjectHandle) -> Result<Name, DriverError> {
    let name = context.tr_get_name(handle).of("TPM2_ReadPublic")?;
    Ok(name.value().try_into().unwrap_or([0; 34]))
}

/// The policy session that every session here is.
pub fn policy(session: AuthSession) -> Result<PolicySession, DriverError> {
    PolicySession::try_from(session).of("TPM2_StartAuthSession")
}

fn none() -> DriverError {
    Error::new(Kind::Device, "open a session", "the TPM gave none").into()
}

fn gone() -> Error {
    Error::new(
        Kind::KeyMissing,
        "load the key",
        "its storage root key is not this TPM's: this is another TPM, or it was cleared, and its keys are gone for good",
    )
    .with_hint(
        "open with another enrolled device (`strongroom device list`), enrol this TPM anew with `strongroom device add`, and \
         seal the tokens to it with `strongroom reseal`",
    )
}
