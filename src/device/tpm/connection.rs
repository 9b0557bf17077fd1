//! A connection to a TPM and the objects loaded over it: the storage root key, keys, a session.
//!
//! A TPM without a resource manager has three slots for objects and three for sessions. So a connection holds at most two keys and
//! one session, and flushes what it no longer needs on every path. Dropping the context flushes the rest.
//!
//! # The key that the session is salted to
//!
//! An interposer between program and TPM learns nothing if the session's salt is encrypted to a key of this very TPM: its storage
//! root key. TPM2_ReadPublic returns that key, but the response is not signed, and tpm2-tss trusts it. So we do not compare the
//! name in the response. We compare the name that tpm2-tss computes from the public area it would salt to (Esys_TR_GetName) with
//! the name recorded at enrolment. This refuses a response with the right name and a different public key.
//!
//! TPM2_Load does not use the session. It is authorised by the empty password, which is not secret, and its parameters are
//! public in the ledger. tpm2-tss compares its response with the public area that we gave, and the command that uses the key
//! binds the key's name.

use super::crash_record::{self, CrashRecord};
use super::error::{Code, DriverError, Remedy, WithCommand};
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
use tss_esapi::structures::{CapabilityData, Public, SymmetricDefinition};
use tss_esapi::tss2_esys::TPM2_HANDLE;

/// The number of keys that stay loaded: an opening and a signing key.
const KEPT: usize = 2;

/// A connection and the objects loaded over it.
pub struct Connection {
    /// The connection.
    pub context: Context,
    parent: Option<Parent>,
    keys: Vec<(Name, KeyHandle)>,
    session: Option<Session>,
    /// Sessions of other connections that are still to be flushed.
    strays: Vec<AuthSession>,
    /// All keys ever loaded over this connection.
    remembered: Vec<Name>,
    /// Objects that could not be flushed in time.
    left: Vec<ObjectHandle>,
    /// For a bare TPM: what is loaded, in case that this process is killed. Declared last: dropping the context flushes it.
    record: Option<CrashRecord>,
}

/// HR_HMAC_SESSION, part 2 §7.2: TPM2_GetCapability lists all loaded sessions from there.
const FIRST_SESSION: u32 = 0x0200_0000;

/// HR_TRANSIENT, part 2 §7.2.
const FIRST_TRANSIENT: u32 = 0x8000_0000;

/// An object's name: the algorithm and a SHA-256 digest (part 1 §16).
pub type Name = [u8; 34];

/// The storage root key.
struct Parent {
    name: Name,
    handle: KeyHandle,
    /// Made for this connection, because its persistent handle is empty.
    transient: bool,
}

/// A session, and the name of the storage root key it is salted to.
struct Session {
    salt: Name,
    session: AuthSession,
}

/// A key that is ready for a command.
pub struct LoadedKey {
    /// The key.
    pub key: KeyHandle,
    /// Salted. Its policy is not satisfied yet.
    pub session: PolicySession,
}

/// What a connection leaves in the TPM when tpm2-tss can no longer use it.
#[derive(Default)]
pub struct Leftovers {
    /// The names of the keys.
    pub keys: Vec<Name>,
    /// The handles of the sessions.
    pub sessions: Vec<u32>,
    /// The handles of other sessions, which were there before.
    pub others: Vec<u32>,
    /// One more session may have been started, whose handle is not known.
    pub starting: bool,
}

impl Connection {
    /// Nothing is loaded yet.
    pub fn new(context: Context) -> Self {
        let (keys, strays, remembered, left) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { context, parent: None, keys, session: None, strays, remembered, left, record: None }
    }

    /// Flushes what killed processes have left in a bare TPM, and keeps a record of what this one loads. `label` tells TPMs apart.
    pub fn keep_record(&mut self, label: &str) {
        // The TPM serves one connection at a time: after its first response, this is the one.
        let mut loaded = self.loaded(FIRST_SESSION);
        let dead = crash_record::take_dead(label);
        dead.iter().for_each(|dead| self.give_back(&dead.left));
        for dead in dead {
            loaded = self.loaded(FIRST_SESSION);
            let is_new = |session: &&u32| !dead.left.others.contains(session);
            let new: Vec<u32> = loaded.iter().filter(is_new).copied().collect();
            if let ([session], true) = (&new[..], dead.left.starting) {
                self.give_back(&Leftovers { sessions: vec![*session], ..Leftovers::default() });
                loaded.retain(|other| other != session);
            }
            dead.remove();
        }
        self.record = CrashRecord::begin(label, loaded);
    }

    /// The handles from this one on that are in use.
    fn loaded(&mut self, first: u32) -> Vec<u32> {
        let asked = self
            .context
            .execute_without_session(|context| context.get_capability(CapabilityType::Handles, first, 254));
        let Ok((CapabilityData::Handles(handles), _)) = asked else { return Vec::new() };
        handles.iter().map(|handle| TPM2_HANDLE::from(*handle)).collect()
    }

    /// Notes that a session is about to be started.
    pub fn note_starting(&mut self) {
        if let Some(record) = &mut self.record {
            record.begin_session();
        }
    }

    /// Notes a session that was started, in case that this process is killed.
    pub fn note_started(&mut self, session: AuthSession) {
        if let (Some(handle), Some(record)) = (session_handle(&mut self.context, session), &mut self.record) {
            record.add_session(handle);
        }
    }

    /// Flushes a session.
    pub fn flush_session(&mut self, session: AuthSession) -> tss_esapi::Result<()> {
        let handle = session_handle(&mut self.context, session);
        self.context.flush_context(SessionHandle::from(session).into())?;
        if let (Some(handle), Some(record)) = (handle, &mut self.record) {
            record.remove_session(handle);
        }
        Ok(())
    }

    /// Loads an enrolled key and starts a session for it, unless they exist already.
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

    /// The storage root key that was compared with an enrolment, if any.
    pub fn pinned_parent(&self) -> Option<KeyHandle> {
        self.parent.as_ref().map(|parent| parent.handle)
    }

    fn session(&mut self, material: &KeyBlob) -> Result<AuthSession, DriverError> {
        match &self.session {
            Some(session) if session.salt == material.parent_name => return Ok(session.session),
            _ => self.end_session(),
        }
        let parent = self.parent(material)?;
        self.note_starting();
        let session = start_session(&mut self.context, parent, SessionType::Policy)?;
        self.note_started(session);
        self.session = Some(Session { salt: material.parent_name, session });
        Ok(session)
    }

    fn load(&mut self, material: &KeyBlob) -> Result<KeyHandle, DriverError> {
        let wanted = templates::name(&material.key.public).with_command("TPM2_Load")?;
        if let Some((_, handle)) = self.keys.iter().find(|(name, _)| *name == wanted) {
            return Ok(*handle);
        }
        while self.keys.len() >= KEPT {
            let (_, oldest) = self.keys.remove(0);
            self.flush(oldest.into());
        }
        self.remember(wanted);
        // Not the storage root key, which another program may have made as well.
        if let Some(record) = &mut self.record {
            record.add_key(wanted);
        }
        let parent = self.parent(material)?;
        let (private, public) = (material.key.private.clone(), material.key.public.clone());
        let loaded = self.context.execute_with_session(Some(AuthSession::Password), |context| {
            context.load(parent, private, public)
        });
        let handle = loaded.with_command("TPM2_Load")?;
        self.keys.push((wanted, handle));
        Ok(handle)
    }

    /// The storage root key, if it is the one that the key was enrolled under.
    fn parent(&mut self, material: &KeyBlob) -> Result<KeyHandle, DriverError> {
        if let Some(parent) = self.parent.as_ref().filter(|parent| parent.name == material.parent_name) {
            return Ok(parent.handle);
        }
        self.give_up_transient_parent();
        let (handle, transient) = storage_root_key(&mut self.context, material)?;
        self.parent = Some(Parent { name: material.parent_name, handle, transient });
        Ok(handle)
    }

    fn give_up_transient_parent(&mut self) {
        if let Some(parent) = self.parent.take_if(|parent| parent.transient) {
            self.flush(parent.handle.into());
        }
    }

    /// Whether the key was made under this TPM's storage root key.
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

    /// Flushes the session, because after a failure the state of its policy is unknown.
    pub fn end_session(&mut self) {
        if let Some(Session { session, .. }) = self.session.take() {
            let flushed = self.flush_session(session);
            self.keep_if_busy(flushed, SessionHandle::from(session).into());
        }
    }

    /// Flushes all keys.
    pub fn unload(&mut self) {
        for (_, key) in std::mem::take(&mut self.keys) {
            self.flush(key.into());
        }
        self.give_up_transient_parent();
    }

    /// Remembers a key's name, so that it can be flushed if this connection leaves it behind.
    pub fn remember(&mut self, key: Name) {
        if !self.remembered.contains(&key) {
            self.remembered.push(key);
        }
    }

    /// Remembers a session that must be flushed over another connection, because this one failed to.
    pub fn leave(&mut self, session: AuthSession) {
        self.strays.push(session);
    }

    /// What must be flushed over another connection, because tpm2-tss accepts no more commands on this one.
    pub fn leftovers(&mut self) -> Leftovers {
        let own = self.session.take().map(|session| session.session);
        let sessions: Vec<_> = own.into_iter().chain(std::mem::take(&mut self.strays)).collect();
        let sessions = sessions.into_iter().filter_map(|session| session_handle(&mut self.context, session));
        let sessions = sessions.collect();
        Leftovers { keys: std::mem::take(&mut self.remembered), sessions, ..Leftovers::default() }
    }

    /// Flushes what another connection left behind. Recognises keys by their names, because other loaded objects belong to other programs.
    /// Another process that has the same key loaded in a bare TPM will load it again.
    pub fn give_back(&mut self, leftovers: &Leftovers) {
        for handle in leftovers.sessions.iter().filter_map(|session| TpmHandle::try_from(*session).ok()) {
            self.flush_handle(handle, |_| true);
        }
        if leftovers.keys.is_empty() {
            return;
        }
        let loaded = self.loaded(FIRST_TRANSIENT).into_iter();
        for handle in loaded.filter_map(|handle| TpmHandle::try_from(handle).ok()) {
            self.flush_handle(handle, |name| leftovers.keys.contains(&name));
        }
    }

    /// Flushes the object at a handle, if its name is one of ours.
    fn flush_handle(&mut self, handle: TpmHandle, is_ours: impl FnOnce(Name) -> bool) {
        let found = self.context.execute_without_session(|context| context.tr_from_tpm_public(handle));
        let Ok(mut found) = found else { return };
        match name_of(&mut self.context, found) {
            Ok(name) if is_ours(name) => self.flush(found),
            // Otherwise dropping the context would flush it.
            _ => drop(self.context.tr_close(&mut found)),
        }
    }

    fn flush(&mut self, handle: ObjectHandle) {
        let flushed = self.context.flush_context(handle);
        self.keep_if_busy(flushed, handle);
    }

    /// A busy TPM keeps an object for now. Any other failure means that a reset or the end of its connection has removed it.
    fn keep_if_busy(&mut self, flushed: tss_esapi::Result<()>, handle: ObjectHandle) {
        if let Err(error) = flushed
            && Code::from_error(&error).is_some_and(|code| code.remedy() == Remedy::Wait)
        {
            self.left.push(handle);
        }
    }
}

/// A salted session that encrypts the first parameter in both directions: AES-128-CFB, part 1 §21.3.
pub fn start_session(
    context: &mut Context,
    salt: KeyHandle,
    kind: SessionType,
) -> Result<AuthSession, DriverError> {
    let started = context.execute_without_session(|context| {
        let (symmetric, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
        context.start_auth_session(Some(salt), None, None, kind, symmetric, hash)
    });
    let session = started.with_command("TPM2_StartAuthSession")?.ok_or_else(none)?;
    let (attributes, mask) = SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).build();
    match context.tr_sess_set_attributes(session, attributes, mask) {
        Ok(()) => Ok(session),
        Err(error) => {
            let _ = context.flush_context(SessionHandle::from(session).into());
            Err(error).with_command("TPM2_StartAuthSession")
        }
    }
}

/// The storage root key that a key was enrolled under, and whether it is a transient object that must be flushed.
///
/// # Errors
/// `KeyMissing` when this TPM does not have it.
pub fn storage_root_key(context: &mut Context, material: &KeyBlob) -> Result<(KeyHandle, bool), DriverError> {
    match persistent(context, material.parent)? {
        Some((handle, name)) if name == material.parent_name => return Ok((handle, false)),
        _ => {}
    }
    // It was evicted or replaced. The hierarchy's seed yields the same key again.
    for template in templates::storage_root_keys().with_command("TPM2_CreatePrimary")? {
        let made = primary(context, template)?;
        match name_of(context, made.into()) {
            Ok(name) if name == material.parent_name => return Ok((made, true)),
            other => {
                context.flush_context(made.into()).with_command("TPM2_FlushContext")?;
                other?;
            }
        }
    }
    Err(gone().into())
}

/// Makes Strongroom's storage root key as a transient object.
pub fn own_storage_root_key(context: &mut Context) -> Result<KeyHandle, DriverError> {
    let [template, _] = templates::storage_root_keys().with_command("TPM2_CreatePrimary")?;
    primary(context, template)
}

/// Makes a primary key of the owner hierarchy. tpm2-tss checks its name against its public area.
fn primary(context: &mut Context, template: Public) -> Result<KeyHandle, DriverError> {
    let made = context.execute_with_session(Some(AuthSession::Password), |context| {
        context.create_primary(Hierarchy::Owner, template, None, None, None, None)
    });
    Ok(made.with_command("TPM2_CreatePrimary")?.key_handle)
}

/// The object at a persistent handle, and the name of the public area that the TPM returned; `None` when the handle is empty.
pub fn persistent(context: &mut Context, handle: u32) -> Result<Option<(KeyHandle, Name)>, DriverError> {
    let handle = TpmHandle::Persistent(PersistentTpmHandle::new(handle).with_command("TPM2_ReadPublic")?);
    let found = context.execute_without_session(|context| context.tr_from_tpm_public(handle));
    match found.with_command("TPM2_ReadPublic") {
        Ok(found) => Ok(Some((found.into(), name_of(context, found)?))),
        // TPM_RC_HANDLE
        Err(fault) if fault.is(0x8b) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// An object's name; all zeroes if its name algorithm is not SHA-256.
pub fn name_of(context: &mut Context, handle: ObjectHandle) -> Result<Name, DriverError> {
    let name = context.tr_get_name(handle).with_command("TPM2_ReadPublic")?;
    Ok(name.value().try_into().unwrap_or([0; 34]))
}

/// A session's handle, which is its name (part 1 §16).
fn session_handle(context: &mut Context, session: AuthSession) -> Option<u32> {
    let name = context.tr_get_name(SessionHandle::from(session).into()).ok()?;
    Some(u32::from_be_bytes(name.value().try_into().ok()?))
}

/// The session as a policy session, which all sessions here are.
pub fn policy(session: AuthSession) -> Result<PolicySession, DriverError> {
    PolicySession::try_from(session).with_command("TPM2_StartAuthSession")
}

fn none() -> DriverError {
    Error::new(Kind::Device, "open a session", "the TPM gave none").into()
}

fn gone() -> Error {
    Error::new(
        Kind::KeyMissing,
        "load the key",
        "its storage root key is not this TPM's: this is another TPM, or it was cleared and its keys are lost",
    )
    .with_hint(
        "open with another enrolled device (`strongroom device list`), enrol this TPM again with `strongroom device add`, and \
         seal the tokens to it with `strongroom reseal`",
    )
}
