//! Making keys.

use super::connection::Connection;
use super::connection_pool::{PinPrompt, lock};
use super::device::TpmDevice;
use super::error::{DriverError, WithCommand};
use super::esys::{self, Esys};
use super::evidence;
use super::identity::TpmInfo;
use super::key_blob::{KeyBlob, ParentKey, WrappedKey};
use super::pcr::{self, Pcrs};
use super::policy::Policy;
use super::signed_policy::Signer;
use super::templates;
use crate::device::certificates::roots_from;
use crate::device::{
    Algorithm, CreateOptions, Evidence, EvidenceLevel, KeyInfo, KeyRef, Provision, PublicKey, Purpose,
};
use crate::error::{Error, Kind, Result};
use crate::prompt::Prompter;
use crate::uri::Scheme;
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{KeyHandle, PersistentTpmHandle};
use tss_esapi::interface_types::dynamic_handles::Persistent;
use tss_esapi::interface_types::resource_handles::Provision as Owner;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::Auth;
use zeroize::Zeroizing;

/// The key to make.
struct Wanted {
    purpose: Purpose,
    policy: Policy,
    pin: Option<Zeroizing<Vec<u8>>>,
    parent: u32,
    persistent: Option<u32>,
    /// The trusted roots for the maker's certificates.
    roots: Option<Vec<Vec<u8>>>,
}

impl Provision for TpmDevice {
    fn create(
        &mut self,
        purpose: Purpose,
        algorithm: Algorithm,
        options: &CreateOptions,
        prompter: &mut dyn Prompter,
    ) -> Result<KeyInfo> {
        let operation = format!("create the {purpose} key");
        options.only_for(Scheme::Tpm, self)?;
        if algorithm != Algorithm::P256 {
            let message = format!("Strongroom makes only p256 keys in a TPM, not {algorithm}");
            return Err(Error::new(Kind::Unsupported, operation, message).with_target(&self.name));
        }
        let wanted = self.wanted(&operation, purpose, options, prompter)?;
        let mut shared = lock(&self.shared);
        let (material, evidence) = shared.work_by_tss(&operation, &self.name, |connection| {
            let simulator = TpmInfo::read(&mut connection.tpm)?.simulator();
            let otherwise = if simulator { EvidenceLevel::Simulator } else { EvidenceLevel::Reported };
            let material = make(connection, &wanted)?;
            let proof = evidence::gather(
                connection,
                &material,
                wanted.pin.as_ref(),
                wanted.roots.as_deref(),
                otherwise,
            );
            if let (Err(_), Some(handle)) = (&proof, material.persistent) {
                // Remove a refused key.
                let _ = evict(connection, &material, handle);
            }
            proof.map(|evidence| (material, evidence))
        })?;
        drop(shared);
        self.key_info(purpose, &material, evidence)
    }

    fn algorithms(&mut self, _: Purpose) -> Result<Vec<Algorithm>> {
        Ok(vec![Algorithm::P256])
    }

    /// Removes the copy at a persistent handle. The key itself is stored in its enrolment, which cannot be withdrawn.
    fn destroy(&mut self, key: &KeyInfo, _prompter: &mut dyn Prompter) -> Result<()> {
        const OPERATION: &str = "destroy the key";
        let material =
            KeyBlob::from_key_ref(&KeyRef::from(key)).map_err(|e| e.with_target(self.name.clone()))?;
        let Some(handle) = material.persistent else {
            let message = "it is stored in its enrolment, encrypted to the TPM, not in the TPM";
            return Err(Error::new(Kind::Unsupported, OPERATION, message).with_target(&self.name).with_hint(
                "retire the device with `strongroom device retire`; `tpm2_clear` makes all keys of this TPM useless, \
                 including those of other programs",
            ));
        };
        lock(&self.shared)
            .work_by_tss(OPERATION, &self.name, |connection| evict(connection, &material, handle))
    }
}

impl TpmDevice {
    fn wanted(
        &mut self,
        operation: &str,
        purpose: Purpose,
        options: &CreateOptions,
        prompter: &mut dyn Prompter,
    ) -> Result<Wanted> {
        let usage = |message: &str| Error::new(Kind::Usage, operation, message).with_target(&self.name);
        let roots = options.roots.as_deref().map(roots_from).transpose()?;
        let options = &options.tpm;
        let signer = options.pcr_policy_key.as_deref().map(Signer::from_pem).transpose()?;
        if signer.is_some() && options.pcrs.is_none() {
            return Err(usage("a PCR policy key needs PCRs, and none are named")
                .with_hint("name them, for example --pcrs sha256:7"));
        }
        let parent = self.uri.attribute("srk").map_or(Some(templates::SRK), handle);
        let parent = parent
            .ok_or_else(|| usage("the URI's srk= is not a persistent handle (0x81000000 to 0x81ffffff)"))?;
        let persistent = options.persistent.map(|first| first + u32::from(purpose == Purpose::Sign));
        if persistent.is_some_and(|handle| !is_persistent(handle)) {
            return Err(usage("--persistent needs a handle from 0x81000000 to 0x81fffffe"));
        }
        let mut shared = lock(&self.shared);
        let pcrs = match options.pcrs.as_deref().map(pcr::parse_selection).transpose()? {
            Some((bank, indices)) => Some(shared.work("read the PCRs", &self.name, |connection| {
                Pcrs::read_from(&mut connection.tpm, bank, &indices)
            })?),
            None => None,
        };
        let pin = match options.pin {
            true => {
                let source = self.uri.pin_source();
                Some(shared.new_pin(&mut PinPrompt { device: &self.name, source, prompter })?)
            }
            false => None,
        };
        Ok(Wanted {
            purpose,
            policy: Policy { pcrs, signer, pin: pin.is_some() },
            pin,
            parent,
            persistent,
            roots,
        })
    }

    fn key_info(&self, purpose: Purpose, material: &KeyBlob, evidence: Evidence) -> Result<KeyInfo> {
        let point = templates::point(&material.key.public).ok_or_else(|| unlike().with_target(&self.name))?;
        let suffix = if purpose == Purpose::Open { "open" } else { "sign" };
        let mut uri = format!("tpm:object={}-{suffix}", self.uri.object());
        if let Some(handle) = material.persistent {
            uri += &format!(";handle={handle:#x}");
        }
        let info =
            KeyInfo { uri, purpose, public: PublicKey::P256(point), evidence, material: material.encode()? };
        info.evidence.check(&info)?;
        Ok(info)
    }
}

/// Makes a key under the storage root key.
fn make(connection: &mut Connection<Esys>, wanted: &Wanted) -> Result<KeyBlob, DriverError> {
    // Free the TPM's three slots. The keys can be loaded again.
    connection.end_session();
    connection.unload();
    let (parent, transient) = parent(connection, wanted.parent)?;
    let made = make_under(connection, parent, wanted);
    if !transient {
        return made;
    }
    let flushed = connection.tpm.context.flush_context(parent.into()).with_command("TPM2_FlushContext");
    made.and_then(|made| flushed.map(|()| made))
}

/// The storage root key, and whether it is a transient object. One that another program has made persistent is used as it is; where
/// there is none, ours is made persistent.
fn parent(connection: &mut Connection<Esys>, handle: u32) -> Result<(KeyHandle, bool), DriverError> {
    if let Some((found, _)) = esys::persistent(&mut connection.tpm.context, handle)? {
        let read = connection.tpm.context.execute_without_session(|context| context.read_public(found));
        let (public, ..) = read.with_command("TPM2_ReadPublic")?;
        return match templates::is_storage_key(&public) {
            true => Ok((found, false)),
            false => Err(no_storage_key(handle).into()),
        };
    }
    let made = esys::own_storage_root_key(&mut connection.tpm.context)?;
    let name = esys::name_of(&mut connection.tpm.context, made.into())?;
    connection.remember(name);
    match evict_control(connection, made, handle) {
        Ok(()) => Ok((made, true)),
        Err(fault) => {
            let _ = connection.tpm.context.flush_context(made.into());
            Err(fault)
        }
    }
}

fn no_storage_key(handle: u32) -> Error {
    let message = format!(
        "the key at {handle:#x} cannot be the parent of other keys: it is not a restricted decryption key of this TPM"
    );
    Error::new(Kind::Conflict, "use the storage root key", message).with_hint(
        "it may belong to another program. Name a free handle, for example tpm:srk=0x81000002 \
         (`tpm2_getcap handles-persistent` lists those in use)",
    )
}

fn make_under(
    connection: &mut Connection<Esys>,
    parent: KeyHandle,
    wanted: &Wanted,
) -> Result<KeyBlob, DriverError> {
    let parent_name = esys::name_of(&mut connection.tpm.context, parent.into())?;
    let key = esys::with_session(connection, parent, SessionType::Policy, |connection, session| {
        make_blob(connection, parent, session, wanted)
    })?;
    let (policy, persistent) = (wanted.policy.clone(), wanted.persistent);
    let material_parent = ParentKey { handle: wanted.parent, name: parent_name };
    let material = KeyBlob { key, parent: material_parent, policy, persistent };
    if let Some(handle) = persistent {
        persist(connection, parent, &material.key, handle)?;
    }
    Ok(material)
}

/// TPM2_Create. Checks that the result matches the template in everything but the point.
fn make_blob(
    connection: &mut Connection<Esys>,
    parent: KeyHandle,
    session: AuthSession,
    wanted: &Wanted,
) -> Result<WrappedKey, DriverError> {
    const COMMAND: &str = "TPM2_Create";
    let policy = wanted.policy.digest(wanted.purpose).with_command(COMMAND)?;
    let template = templates::key(wanted.purpose, policy, wanted.policy.pin).with_command(COMMAND)?;
    let auth =
        wanted.pin.as_ref().map(|pin| Auth::try_from(pin.to_vec())).transpose().with_command(COMMAND)?;
    // The storage root key's authorisation is the empty password. The session adds integrity and encryption.
    let sessions = (Some(AuthSession::Password), Some(session), None);
    let asked = template.clone();
    let made = connection
        .tpm
        .context
        .execute_with_sessions(sessions, |context| context.create(parent, asked, auth, None, None, None));
    let made = made.with_command(COMMAND)?;
    if templates::pointless(&made.out_public) != templates::pointless(&template)
        || templates::point(&made.out_public).is_none()
    {
        return Err(unlike().into());
    }
    Ok(WrappedKey { public: made.out_public, private: made.out_private })
}

fn persist(
    connection: &mut Connection<Esys>,
    parent: KeyHandle,
    key: &WrappedKey,
    handle: u32,
) -> Result<(), DriverError> {
    let loaded = esys::load(&mut connection.tpm.context, parent, key)?;
    let kept = evict_control(connection, loaded, handle);
    connection.tpm.context.flush_context(loaded.into()).with_command("TPM2_FlushContext")?;
    kept
}

/// TPM2_EvictControl: gives a transient object a persistent handle, or removes the persistent object there.
fn evict_control(connection: &mut Connection<Esys>, key: KeyHandle, handle: u32) -> Result<(), DriverError> {
    const COMMAND: &str = "TPM2_EvictControl";
    let handle = Persistent::Persistent(PersistentTpmHandle::new(handle).with_command(COMMAND)?);
    let kept = connection.tpm.context.execute_with_session(Some(AuthSession::Password), |context| {
        context.evict_control(Owner::Owner, key.into(), handle)
    });
    kept.with_command(COMMAND).map(drop)
}

/// Removes a persistent copy, if it is of this key.
fn evict(connection: &mut Connection<Esys>, material: &KeyBlob, handle: u32) -> Result<(), DriverError> {
    let name = templates::name(&material.key.public).with_command("TPM2_EvictControl")?;
    match esys::persistent(&mut connection.tpm.context, handle)? {
        Some((found, is)) if is == name => evict_control(connection, found, handle),
        _ => {
            let message = format!("the object at {handle:#x} is not this key");
            Err(Error::new(Kind::KeyMissing, "destroy the key", message).into())
        }
    }
}

/// `0x81000002`, or in decimal.
pub fn handle(text: &str) -> Option<u32> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.ok().filter(|handle| is_persistent(*handle))
}

fn is_persistent(handle: u32) -> bool {
    (0x8100_0000..=0x81ff_ffff).contains(&handle)
}

fn unlike() -> Error {
    Error::new(Kind::Evidence, "make the key", "the TPM did not make the requested key")
}
