//! A connection to a TPM with what is loaded over it: the storage root key, keys, sessions.
//!
//! A TPM without a resource manager has three slots for objects and three for sessions, so a seat holds two of each at
//! most, and gives back what it no longer needs on every path; dropping the context gives back the rest.
//!
//! # Why sessions are salted to the keys themselves
//!
//! A session is safe from whoever sits between program and TPM if its salt is encrypted to a key of that very TPM. The storage
//! root key would do, but the only way to it is TPM2_ReadPublic, whose answer nobody signs: tpm2-tss (up to 4.1) takes the
//! public area *and* the name from it, and does not compare them, so an answer with the pinned name and another public key
//! is believed. TPM2_Load is another matter: there tpm2-tss keeps the public area that *we* gave, and compares the name that the TPM
//! answers with it. What we give is from the enrolment, which is signed. So the salt is encrypted to the opening key, or, for
//! a signing key, which decrypts nothing, to a storage key beside it. TPM 2.0 part 1 §19.6.8 asks for "a loaded decryption
//! key", no more. The storage root key's name is pinned all the same: it tells another TPM from this one.

use super::error::{Code, Command, Fault, Remedy};
use super::material::{Blob, Material};
use super::templates;
use crate::device::Purpose;
use crate::error::{Error, Kind};
use tss_esapi::Context;
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::{CapabilityType, SessionType};
use tss_esapi::handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, SessionHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{CapabilityData, SymmetricDefinition};

/// Keys that stay loaded, and sessions that stay open: one for opening, one for signing.
const KEPT: usize = 2;

/// A connection and what is loaded over it.
pub struct Seat {
    /// The connection.
    pub context: Context,
    parent: Option<Parent>,
    keys: Vec<Loaded>,
    /// By the name of the key that they are salted to.
    sessions: Vec<(Name, AuthSession)>,
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
    /// Made for this seat, because it no longer lies at its handle.
    transient: bool,
}

/// A key in one of the TPM's slots.
struct Loaded {
    name: Name,
    handle: KeyHandle,
    decrypts: bool,
}

/// A key that is ready for a command.
pub struct Ready {
    /// The key.
    pub key: KeyHandle,
    /// Salted, with its policy not yet satisfied.
    pub session: PolicySession,
}

impl Seat {
    /// Nothing is loaded yet.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            parent: None,
            keys: Vec::new(),
            sessions: Vec::new(),
            tried: Vec::new(),
            left: Vec::new(),
        }
    }

    /// Loads an enrolled key, and opens a session that is salted for it, as far as they are not there already.
    pub fn ready(&mut self, material: &Material) -> Result<Ready, Fault> {
        self.sweep();
        let salt = material.salt.as_ref().unwrap_or(&material.key);
        let session = match self.session(&name(salt)?) {
            Some(session) => session,
            None => self.start(material, salt)?,
        };
        let key = self.load(material, &material.key)?;
        Ok(Ready { key, session: policy(session)? })
    }

    /// A key that sessions can be salted to, if one is loaded.
    pub fn salting_key(&self) -> Option<KeyHandle> {
        self.keys.iter().find(|key| key.decrypts).map(|key| key.handle)
    }

    fn session(&self, salt: &Name) -> Option<AuthSession> {
        self.sessions.iter().find(|(name, _)| name == salt).map(|(_, session)| *session)
    }

    fn start(&mut self, material: &Material, salt: &Blob) -> Result<AuthSession, Fault> {
        while self.sessions.len() >= KEPT {
            let (_, oldest) = self.sessions.remove(0);
            self.flush(SessionHandle::from(oldest).into());
        }
        let handle = self.load(material, salt)?;
        let session = start_session(&mut self.context, handle, SessionType::Policy);
        if material.salt.is_some() {
            // It has served: a slot is worth more than another load.
            self.keys.retain(|kept| kept.handle != handle);
            self.flush(handle.into());
        }
        let session = session?;
        self.sessions.push((name(salt)?, session));
        Ok(session)
    }

    fn load(&mut self, material: &Material, blob: &Blob) -> Result<KeyHandle, Fault> {
        let wanted = name(blob)?;
        if let Some(key) = self.keys.iter().find(|key| key.name == wanted) {
            return Ok(key.handle);
        }
        while self.keys.len() >= KEPT {
            let oldest = self.keys.remove(0);
            self.flush(oldest.handle.into());
        }
        if !self.tried.contains(&wanted) {
            self.tried.push(wanted);
        }
        let parent = self.parent(material)?;
        let (private, public) = (blob.private.clone(), blob.public.clone());
        let loaded = self.context.execute_with_session(Some(AuthSession::Password), |context| {
            context.load(parent, private, public)
        });
        self.give_up_transient_parent();
        let handle = loaded.of("TPM2_Load")?;
        let decrypts = blob.public.object_attributes().decrypt();
        self.keys.push(Loaded { name: wanted, handle, decrypts });
        Ok(handle)
    }

    /// The storage root key, if it is the one that the key was enrolled under.
    fn parent(&mut self, material: &Material) -> Result<KeyHandle, Fault> {
        if let Some(parent) = self.parent.as_ref().filter(|parent| parent.name == material.parent_name) {
            return Ok(parent.handle);
        }
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
    pub fn is_home_of(&mut self, material: &Material) -> Result<bool, Fault> {
        match self.parent(material) {
            Ok(_) => {
                self.give_up_transient_parent();
                Ok(true)
            }
            Err(Fault::Final(error)) if error.kind() == Kind::KeyMissing => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Gives every session back: after a failure nobody knows how far its policy is.
    pub fn end_sessions(&mut self) {
        for (_, session) in std::mem::take(&mut self.sessions) {
            self.flush(SessionHandle::from(session).into());
        }
    }

    /// Gives every key back.
    pub fn unload(&mut self) {
        for key in std::mem::take(&mut self.keys) {
            self.flush(key.handle.into());
        }
        self.give_up_transient_parent();
    }

    /// Gives back what is loaded without tpm2-tss knowing: where it does not believe the answer to TPM2_Load, it forgets the
    /// handle, and the key stays. Known by its name; whatever else is loaded is somebody else's.
    pub fn flush_strays(&mut self) {
        let asked = self.context.execute_without_session(|context| {
            context.get_capability(CapabilityType::Handles, FIRST_TRANSIENT, 254)
        });
        let Ok((CapabilityData::Handles(handles), _)) = asked else { return };
        for handle in handles.iter() {
            let found = self.context.execute_without_session(|context| context.tr_from_tpm_public(*handle));
            let Ok(mut found) = found else { continue };
            match name_of(&mut self.context, found) {
                Ok(name) if self.tried.contains(&name) => self.flush(found),
                // What is dropped with the context would be flushed.
                _ => drop(self.context.tr_close(&mut found)),
            }
        }
    }

    fn flush(&mut self, handle: ObjectHandle) {
        // A TPM that is busy keeps it for now; what cannot be flushed otherwise is gone already, with a reset or its connection.
        if let Err(error) = self.context.flush_context(handle)
            && Code::of(&error).is_some_and(|code| code.remedy() == Remedy::Wait)
        {
            self.left.push(handle);
        }
    }

    /// Gives back what a busy TPM kept.
    fn sweep(&mut self) {
        for handle in std::mem::take(&mut self.left) {
            self.flush(handle);
        }
    }
}

/// Salted, and encrypting the first parameter both ways: AES-128-CFB, part 1 §21.3.
pub fn start_session(
    context: &mut Context,
    salt: KeyHandle,
    kind: SessionType,
) -> Result<AuthSession, Fault> {
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
pub fn primary(context: &mut Context) -> Result<KeyHandle, Fault> {
    let template = templates::srk().of("TPM2_CreatePrimary")?;
    let made = context.execute_with_session(Some(AuthSession::Password), |context| {
        context.create_primary(Hierarchy::Owner, template, None, None, None, None)
    });
    Ok(made.of("TPM2_CreatePrimary")?.key_handle)
}

/// What lies at a persistent handle, and its name by the TPM's word alone; `None` when nothing does.
pub fn persistent(context: &mut Context, handle: u32) -> Result<Option<(KeyHandle, Name)>, Fault> {
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
pub fn name_of(context: &mut Context, handle: ObjectHandle) -> Result<Name, Fault> {
    let name = context.tr_get_name(handle).of("TPM2_ReadPublic")?;
    Ok(name.value().try_into().unwrap_or([0; 34]))
}

/// The policy session that every session here is.
pub fn policy(session: AuthSession) -> Result<PolicySession, Fault> {
    PolicySession::try_from(session).of("TPM2_StartAuthSession")
}

/// What a key is for, by its public area.
pub fn is_for(blob: &Blob, purpose: Purpose) -> bool {
    let attributes = blob.public.object_attributes();
    match purpose {
        Purpose::Open => attributes.decrypt() && !attributes.sign_encrypt(),
        Purpose::Sign => attributes.sign_encrypt() && !attributes.decrypt(),
    }
}

fn name(blob: &Blob) -> Result<Name, Fault> {
    templates::name(&blob.public).of("TPM2_Load")
}

fn none() -> Fault {
    Error::new(Kind::Device, "open a session", "the TPM gave none").into()
}

fn gone() -> Error {
    Error::new(
        Kind::KeyMissing,
        "load the key",
        "its storage root key is not this TPM's: this is another TPM, or it was cleared, and its keys are gone for good",
    )
    .advice(
        "open with another enrolled device (`strongroom device list`), enrol this TPM anew with `strongroom device add`, and \
         seal the tokens to it with `strongroom reseal`",
    )
}
