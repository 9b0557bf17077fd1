//! A connection to a TPM and the objects loaded over it: the storage root key, keys, a session.
//!
//! A TPM without a resource manager has three slots for objects and three for sessions. So a connection holds at most two keys and
//! one session, and flushes what it no longer needs on every path. Dropping it flushes the rest.
//!
//! # The key that the session is salted to
//!
//! An interposer between program and TPM learns nothing if the session's salt is encrypted to a key of this very TPM: its storage
//! root key. TPM2_ReadPublic returns that key, but the response is not signed. So we do not compare the name in the response. We
//! compare the name of the public area that the salt would be encrypted to, as computed here, with the name recorded at enrolment.
//! This refuses a response with the right name and a different public key.
//!
//! TPM2_Load does not use the session. It is authorised by the empty password, which is not secret, and its parameters are
//! public in the ledger. Its response is compared with the public area that we gave, and the command that uses the key binds the
//! key's name.

use super::commands::{Commands, Key};
use super::crash_record::{self, CrashRecord, Leftovers};
use super::error::{DriverError, Remedy, WithCommand};
use super::key_blob::{KeyBlob, ParentKey};
use super::templates::{self, NO_NAME, Name};
use crate::error::{Error, Kind};

/// The number of keys that stay loaded: an opening and a signing key.
const KEPT: usize = 2;

/// HR_HMAC_SESSION, part 2 §7.2: TPM2_GetCapability lists all loaded sessions from there.
const FIRST_SESSION: u32 = 0x0200_0000;

/// HR_TRANSIENT, part 2 §7.2.
const FIRST_TRANSIENT: u32 = 0x8000_0000;

/// A connection and the objects loaded over it.
pub struct Connection<C: Commands + ?Sized> {
    parent: Option<Parent>,
    keys: Vec<LoadedKey>,
    session: Option<Session>,
    /// Other sessions, which are still to be flushed over another connection.
    strays: Vec<u32>,
    /// All keys ever loaded over this connection.
    remembered: Vec<Name>,
    /// Objects that could not be flushed in time.
    left: Vec<Key>,
    /// For a bare TPM: what is loaded, in case that this process is killed.
    record: Option<CrashRecord>,
    /// What sends the commands.
    pub tpm: C,
}

/// The storage root key.
struct Parent {
    name: Name,
    key: Key,
    /// Made for this connection, because its persistent handle is empty.
    transient: bool,
}

/// A key that is ready for use.
struct LoadedKey {
    name: Name,
    key: Key,
    /// In one of the slots, and not at a persistent handle.
    transient: bool,
}

/// The client's session.
struct Session {
    handle: u32,
    /// The storage root key that it is salted to. No key's once it is to be flushed.
    salt: Name,
}

impl<C: Commands> Connection<C> {
    /// Nothing is loaded yet.
    pub fn new(tpm: C) -> Self {
        let (keys, strays, remembered, left) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { parent: None, keys, session: None, strays, remembered, left, record: None, tpm }
    }
}

impl<C: Commands + ?Sized> Connection<C> {
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
        self.tpm.handles(first).unwrap_or_default()
    }

    /// Notes that a session is about to be started.
    pub fn note_starting(&mut self) {
        if let Some(record) = &mut self.record {
            record.begin_session();
        }
    }

    /// Notes a session that was started, in case that this process is killed.
    pub fn note_started(&mut self, session: u32) {
        if let Some(record) = &mut self.record {
            record.add_session(session);
        }
    }

    /// Notes a session that was flushed.
    pub fn note_flushed(&mut self, session: u32) {
        if let Some(record) = &mut self.record {
            record.remove_session(session);
        }
    }

    /// Starts a session for an enrolled key, unless there is one.
    pub fn ready_session(&mut self, material: &KeyBlob) -> Result<(), DriverError> {
        for key in std::mem::take(&mut self.left) {
            self.flush(key);
        }
        let started = self.start_session(&material.parent);
        if started.is_err() {
            self.give_up_transient_parent();
        }
        started
    }

    /// Loads an enrolled key, unless it is loaded.
    pub fn ready_key(&mut self, material: &KeyBlob) -> Result<Key, DriverError> {
        let key = self.load(material);
        self.give_up_transient_parent();
        key
    }

    fn start_session(&mut self, parent: &ParentKey) -> Result<(), DriverError> {
        match &self.session {
            Some(session) if session.salt == parent.name => return Ok(()),
            _ => self.end_session(),
        }
        let salt = self.parent(parent)?;
        self.note_starting();
        let handle = self.tpm.start_session(salt)?;
        self.note_started(handle);
        self.session = Some(Session { handle, salt: parent.name });
        Ok(())
    }

    fn load(&mut self, material: &KeyBlob) -> Result<Key, DriverError> {
        let wanted = templates::name(&material.key.public).with_command("TPM2_Load")?;
        if let Some(loaded) = self.keys.iter().find(|loaded| loaded.name == wanted) {
            return Ok(loaded.key);
        }
        if let Some(handle) = material.persistent
            && let Some((key, name)) = self.tpm.persistent(handle)?
            && name == wanted
        {
            self.keys.push(LoadedKey { name, key, transient: false });
            return Ok(key);
        }
        while self.keys.iter().filter(|loaded| loaded.transient).count() >= KEPT {
            self.unload_oldest();
        }
        self.remember(wanted);
        // Not the storage root key, which another program may have made as well.
        if let Some(record) = &mut self.record {
            record.add_key(wanted);
        }
        let parent = self.parent(&material.parent)?;
        let key = self.tpm.load(parent, &material.key)?;
        self.keys.push(LoadedKey { name: wanted, key, transient: true });
        Ok(key)
    }

    fn unload_oldest(&mut self) {
        let oldest = self.keys.remove(0);
        if oldest.transient {
            self.flush(oldest.key);
        }
    }

    /// The storage root key, if it is the one that the key was enrolled under.
    fn parent(&mut self, wanted: &ParentKey) -> Result<Key, DriverError> {
        if let Some(parent) = self.parent.as_ref().filter(|parent| parent.name == wanted.name) {
            return Ok(parent.key);
        }
        self.give_up_transient_parent();
        let (key, transient) = storage_root_key(&mut self.tpm, wanted)?;
        self.parent = Some(Parent { name: wanted.name, key, transient });
        Ok(key)
    }

    fn give_up_transient_parent(&mut self) {
        if let Some(parent) = self.parent.take_if(|parent| parent.transient) {
            self.flush(parent.key);
        }
    }

    /// Whether the key was made under this TPM's storage root key.
    pub fn is_home_of(&mut self, material: &KeyBlob) -> Result<bool, DriverError> {
        match self.parent(&material.parent) {
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
        let Some(session) = self.session.take() else { return };
        match self.tpm.flush_session() {
            Ok(()) => self.note_flushed(session.handle),
            Err(fault) if fault.remedy() == Remedy::Wait => {
                self.session = Some(Session { salt: NO_NAME, ..session });
            }
            Err(fault) if fault.is_lost() => self.leave(session.handle),
            Err(_) => {}
        }
    }

    /// Flushes all keys.
    pub fn unload(&mut self) {
        while !self.keys.is_empty() {
            self.unload_oldest();
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
    pub fn leave(&mut self, session: u32) {
        self.strays.push(session);
    }

    /// What must be flushed over another connection, because this one cannot be used any more.
    pub fn leftovers(&mut self) -> Leftovers {
        let own = self.session.take().map(|session| session.handle);
        let sessions = own.into_iter().chain(std::mem::take(&mut self.strays)).collect();
        let keys = std::mem::take(&mut self.remembered);
        self.forget();
        Leftovers { keys, sessions, ..Leftovers::default() }
    }

    /// Forgets what is loaded: it is gone, and its handles may name other objects.
    pub fn forget(&mut self) {
        self.session = None;
        self.parent = None;
        self.keys.clear();
        self.left.clear();
    }

    /// Flushes what another connection left behind. Recognises keys by their names, because other loaded objects belong to other programs.
    /// Another process that has the same key loaded in a bare TPM will load it again.
    pub fn give_back(&mut self, leftovers: &Leftovers) {
        for session in &leftovers.sessions {
            let _ = self.tpm.flush_at(*session);
        }
        if leftovers.keys.is_empty() {
            return;
        }
        for handle in self.loaded(FIRST_TRANSIENT) {
            let name = self.tpm.name_at(handle).ok().flatten();
            if name.is_some_and(|name| leftovers.keys.contains(&name)) {
                let _ = self.tpm.flush_at(handle);
            }
        }
    }

    /// A busy TPM keeps an object for now. Any other failure means that a reset or the end of its connection has removed it.
    fn flush(&mut self, key: Key) {
        if let Err(fault) = self.tpm.flush(key)
            && fault.remedy() == Remedy::Wait
        {
            self.left.push(key);
        }
    }
}

impl<C: Commands + ?Sized> Drop for Connection<C> {
    /// Before the record goes.
    fn drop(&mut self) {
        self.end_session();
        self.unload();
        for key in std::mem::take(&mut self.left) {
            self.flush(key);
        }
    }
}

/// The storage root key that a key was enrolled under, and whether it is a transient object that must be flushed.
///
/// # Errors
/// `KeyMissing` when this TPM does not have it.
pub fn storage_root_key<C: Commands + ?Sized>(
    tpm: &mut C,
    wanted: &ParentKey,
) -> Result<(Key, bool), DriverError> {
    match tpm.persistent(wanted.handle)? {
        Some((key, name)) if name == wanted.name => return Ok((key, false)),
        _ => {}
    }
    // It was evicted or replaced. The hierarchy's seed yields the same key again.
    for template in templates::storage_root_keys().with_command("TPM2_CreatePrimary")? {
        match tpm.create_primary(&template)? {
            (key, name) if name == wanted.name => return Ok((key, true)),
            (key, _) => tpm.flush(key)?,
        }
    }
    Err(gone().into())
}

fn gone() -> Error {
    Error::new(
        Kind::KeyMissing,
        "load the key",
        "its storage root key is not this TPM's: this is another TPM, or it was cleared and its keys are lost",
    )
    .with_hint(
        "open with another enrolled device (`strongroom device list`); with an admin device at hand, `strongroom device renew \
         NAME` makes new keys in this TPM and seals the tokens to it",
    )
}
