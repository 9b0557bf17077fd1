//! The commands of opening and signing through tpm2-tss, and what the other uses of tpm2-tss share.

use super::commands::{Commands, Key};
use super::connection::Connection;
use super::error::{DriverError, WithCommand};
use super::key_blob::WrappedKey;
use super::pcr::{self, Bank};
use super::policy_digest::digest;
use super::signed_policy::Signer;
use super::templates::{self, NO_NAME, Name};
use crate::device::Purpose;
use crate::error::{Error, Kind};
use tss_esapi::Context;
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::tss::{TPM2_RH_NULL, TPM2_ST_HASHCHECK};
use tss_esapi::constants::{CapabilityType, CommandCode, PropertyTag, SessionType};
use tss_esapi::handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, SessionHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Auth, CapabilityData, EccParameter, EccPoint, HashcheckTicket, Nonce, Public, Signature, SignatureScheme,
    SymmetricDefinition,
};
use tss_esapi::tss2_esys::{TPM2_HANDLE, TPMT_TK_HASHCHECK};
use zeroize::Zeroizing;

/// A connection of tpm2-tss's ESYS. Dropping it flushes what is loaded over it.
pub struct Esys {
    /// The connection.
    pub context: Context,
    session: Option<AuthSession>,
}

impl From<Key> for KeyHandle {
    fn from(key: Key) -> Self {
        Self::from(key.0)
    }
}

impl From<KeyHandle> for Key {
    fn from(handle: KeyHandle) -> Self {
        Self(handle.into())
    }
}

impl Esys {
    /// Nothing is loaded yet.
    pub fn new(context: Context) -> Self {
        Self { context, session: None }
    }

    fn policy_session(&self) -> Result<PolicySession, DriverError> {
        policy(self.session.ok_or_else(none)?)
    }

    /// Runs a command without a session's HMAC: a step of a policy.
    fn plainly<T>(
        &mut self,
        command: &'static str,
        job: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, DriverError> {
        self.context.execute_without_session(job).with_command(command)
    }

    /// Runs a command that the session authorises.
    fn by_session<T>(
        &mut self,
        command: &'static str,
        (key, pin): (Key, Option<&[u8]>),
        job: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, DriverError> {
        if let Some(pin) = pin {
            let auth = Auth::try_from(pin).with_command(command)?;
            self.context.tr_set_auth(KeyHandle::from(key).into(), auth).with_command(command)?;
        }
        let session = AuthSession::PolicySession(self.policy_session()?);
        self.context.execute_with_session(Some(session), job).with_command(command)
    }
}

impl Commands for Esys {
    fn persistent(&mut self, handle: u32) -> Result<Option<(Key, Name)>, DriverError> {
        Ok(persistent(&mut self.context, handle)?.map(|(key, name)| (key.into(), name)))
    }

    fn create_primary(&mut self, template: &Public) -> Result<(Key, Name), DriverError> {
        let made = primary(&mut self.context, template.clone())?;
        match name_of(&mut self.context, made.into()) {
            Ok(name) => Ok((made.into(), name)),
            Err(fault) => {
                let _ = self.context.flush_context(made.into());
                Err(fault)
            }
        }
    }

    fn load(&mut self, parent: Key, key: &WrappedKey) -> Result<Key, DriverError> {
        load(&mut self.context, parent.into(), key).map(Key::from)
    }

    fn flush(&mut self, key: Key) -> Result<(), DriverError> {
        self.context.flush_context(KeyHandle::from(key).into()).with_command("TPM2_FlushContext")
    }

    fn start_session(&mut self, salt: Key) -> Result<u32, DriverError> {
        let session = start_session(&mut self.context, salt.into(), SessionType::Policy)?;
        self.session = Some(session);
        session_handle(&mut self.context, session)
    }

    fn flush_session(&mut self) -> Result<(), DriverError> {
        let Some(session) = self.session else { return Ok(()) };
        self.context.flush_context(SessionHandle::from(session).into()).with_command("TPM2_FlushContext")
    }

    fn pcr_read(&mut self, bank: Bank, indices: &[u8]) -> Result<Vec<Vec<u8>>, DriverError> {
        let selection = pcr::selection(bank, indices)?;
        let (_, _, digests) = self.plainly("TPM2_PCR_Read", |context| context.pcr_read(selection))?;
        Ok(digests.value().iter().map(|value| value.value().into()).collect())
    }

    fn policy_pcr(&mut self, expected: [u8; 32], bank: Bank, indices: &[u8]) -> Result<(), DriverError> {
        let (session, expected) = (self.policy_session()?, digest(expected)?);
        let selection = pcr::selection(bank, indices)?;
        self.plainly("TPM2_PolicyPCR", |context| context.policy_pcr(session, expected, selection))
    }

    fn policy_authorize(
        &mut self,
        approved: [u8; 32],
        signer: &Signer,
        signatures: &[Vec<u8>],
    ) -> Result<bool, DriverError> {
        const COMMAND: &str = "TPM2_PolicyAuthorize";
        let (session, public) = (self.policy_session()?, signer.public.clone());
        let load = |context: &mut Context| context.load_external_public(public, Hierarchy::Owner);
        let key = self.plainly("TPM2_LoadExternal", load)?;
        let ticket = signer.first_verified(&approved, signatures, |hash, signature| {
            let hash = digest(hash)?;
            self.plainly("TPM2_VerifySignature", |context| context.verify_signature(key, hash, signature))
        });
        self.flush(key.into())?;
        let Some(ticket) = ticket? else { return Ok(false) };
        let name = templates::name(&signer.public).with_command(COMMAND)?.to_vec();
        let name = tss_esapi::structures::Name::try_from(name).with_command(COMMAND)?;
        let reference = Nonce::try_from(signer.reference.clone()).with_command(COMMAND)?;
        let approved = digest(approved)?;
        self.plainly(COMMAND, |context| {
            context.policy_authorize(session, approved, reference, &name, ticket)
        })?;
        Ok(true)
    }

    fn policy_auth_value(&mut self) -> Result<(), DriverError> {
        let session = self.policy_session()?;
        self.plainly("TPM2_PolicyAuthValue", |context| context.policy_auth_value(session))
    }

    fn policy_command_code(&mut self, purpose: Purpose) -> Result<(), DriverError> {
        let session = self.policy_session()?;
        let code = if purpose == Purpose::Open { CommandCode::EcdhZGen } else { CommandCode::Sign };
        self.plainly("TPM2_PolicyCommandCode", |context| context.policy_command_code(session, code))
    }

    fn ecdh_z_gen(
        &mut self,
        key: Key,
        pin: Option<&[u8]>,
        peer: &[u8; 65],
    ) -> Result<Zeroizing<Vec<u8>>, DriverError> {
        const COMMAND: &str = "TPM2_ECDH_ZGen";
        let half = |bytes: &[u8]| EccParameter::try_from(bytes).with_command(COMMAND);
        let point = EccPoint::new(half(&peer[1..33])?, half(&peer[33..])?);
        let shared = self.by_session(COMMAND, (key, pin), |context| context.ecdh_z_gen(key.into(), point))?;
        match templates::coordinate(shared.x().value()) {
            Some(x) => Ok(Zeroizing::new(x.to_vec())),
            None => {
                Err(Error::new(Kind::Device, "open with the key", "the TPM's point is not of P-256").into())
            }
        }
    }

    fn sign(&mut self, key: Key, pin: Option<&[u8]>, hash: &[u8; 32]) -> Result<[u8; 64], DriverError> {
        const COMMAND: &str = "TPM2_Sign";
        // A null ticket: unrestricted keys also sign digests that the TPM did not compute (part 3 §20.2).
        let ticket = HashcheckTicket::try_from(TPMT_TK_HASHCHECK {
            tag: TPM2_ST_HASHCHECK,
            hierarchy: TPM2_RH_NULL,
            digest: Default::default(),
        });
        let (ticket, hash) = (ticket.with_command(COMMAND)?, digest(*hash)?);
        let signed = self.by_session(COMMAND, (key, pin), |context| {
            context.sign(key.into(), hash, SignatureScheme::Null, ticket)
        })?;
        let halves = match &signed {
            Signature::EcDsa(signature) => {
                let halves = (signature.signature_r().value(), signature.signature_s().value());
                templates::coordinate(halves.0).zip(templates::coordinate(halves.1))
            }
            _ => None,
        };
        match halves.map(|(r, s)| [r, s].concat().try_into()) {
            Some(Ok(signature)) => Ok(signature),
            _ => Err(Error::new(Kind::Device, "sign", "the TPM's signature is not ECDSA on P-256").into()),
        }
    }

    fn handles(&mut self, first: u32) -> Result<Vec<u32>, DriverError> {
        let ask = |context: &mut Context| context.get_capability(CapabilityType::Handles, first, 254);
        match self.plainly("TPM2_GetCapability", ask)?.0 {
            CapabilityData::Handles(handles) => {
                Ok(handles.iter().map(|handle| TPM2_HANDLE::from(*handle)).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn properties(&mut self, first: u32, count: u32) -> Result<Vec<(u32, u32)>, DriverError> {
        let ask = |context: &mut Context| context.get_capability(CapabilityType::TpmProperties, first, count);
        match self.plainly("TPM2_GetCapability", ask)?.0 {
            CapabilityData::TpmProperties(properties) => {
                let pair = |found: &tss_esapi::structures::TaggedProperty| {
                    (<PropertyTag as Into<u32>>::into(found.property()), found.value())
                };
                Ok(properties.iter().map(pair).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn name_at(&mut self, handle: u32) -> Result<Option<Name>, DriverError> {
        let mut found = find(&mut self.context, handle)?;
        let name = name_of(&mut self.context, found);
        // Otherwise dropping the context would flush it.
        let _ = self.context.tr_close(&mut found);
        Ok(Some(name?).filter(|name| *name != NO_NAME))
    }

    fn flush_at(&mut self, handle: u32) -> Result<(), DriverError> {
        let found = find(&mut self.context, handle)?;
        self.context.flush_context(found).with_command("TPM2_FlushContext")
    }
}

/// Somebody's object or session at a handle of the TPM.
fn find(context: &mut Context, handle: u32) -> Result<ObjectHandle, DriverError> {
    let handle = TpmHandle::try_from(handle).with_command("TPM2_ReadPublic")?;
    let found = context.execute_without_session(|context| context.tr_from_tpm_public(handle));
    found.with_command("TPM2_ReadPublic")
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

/// Runs a job with a salted session of its own.
pub fn with_session<T>(
    connection: &mut Connection<Esys>,
    salt: KeyHandle,
    kind: SessionType,
    job: impl FnOnce(&mut Connection<Esys>, AuthSession) -> Result<T, DriverError>,
) -> Result<T, DriverError> {
    connection.note_starting();
    let session = start_session(&mut connection.tpm.context, salt, kind)?;
    let handle = session_handle(&mut connection.tpm.context, session)?;
    connection.note_started(handle);
    let done = job(connection, session);
    let flushed = connection.tpm.context.flush_context(SessionHandle::from(session).into());
    match &flushed {
        Ok(()) => connection.note_flushed(handle),
        Err(_) => connection.leave(handle),
    }
    done.and_then(|done| flushed.with_command("TPM2_FlushContext").map(|()| done))
}

/// TPM2_Load. It is authorised by the empty password, which is no secret, and its parameters are public in the ledger. tpm2-tss
/// compares the response with the public area that we gave.
pub fn load(context: &mut Context, parent: KeyHandle, key: &WrappedKey) -> Result<KeyHandle, DriverError> {
    let (private, public) = (key.private.clone(), key.public.clone());
    let loaded = context
        .execute_with_session(Some(AuthSession::Password), |context| context.load(parent, private, public));
    loaded.with_command("TPM2_Load")
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

/// The object at a persistent handle, and the name of the public area that the TPM returned, as tpm2-tss computes it; `None` when
/// the handle is empty.
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
    Ok(name.value().try_into().unwrap_or(NO_NAME))
}

/// A session's handle, which is its name (part 1 §16).
pub fn session_handle(context: &mut Context, session: AuthSession) -> Result<u32, DriverError> {
    let name = context.tr_get_name(SessionHandle::from(session).into());
    let name = name.with_command("TPM2_StartAuthSession")?;
    name.value().try_into().map(u32::from_be_bytes).map_err(|_| none())
}

/// The session as a policy session.
pub fn policy(session: AuthSession) -> Result<PolicySession, DriverError> {
    PolicySession::try_from(session).with_command("TPM2_StartAuthSession")
}

fn none() -> DriverError {
    Error::new(Kind::Device, "open a session", "the TPM gave none").into()
}
