//! A TPM as a [`Device`].

use super::connection::{Connection, LoadedKey};
use super::connection_pool::{PinPrompt, SharedConnection, lock, share};
use super::error::{Code, DriverError, WithCommand};
use super::identity::TpmInfo;
use super::key_blob::KeyBlob;
use super::templates;
use super::transport::Transport;
use crate::device::{
    Device, DeviceIdentity, KeyInfo, KeyRef, MonotonicCounter, PcrBinding, PrivateOperation, Provision,
    Purpose,
};
use crate::error::{Error, Kind, Result};
use crate::prompt::Prompter;
use crate::uri::{DeviceUri, Scheme};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tss_esapi::constants::tss::{TPM2_RH_NULL, TPM2_ST_HASHCHECK};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    Auth, Digest, EccParameter, EccPoint, HashcheckTicket, Signature, SignatureScheme,
};
use tss_esapi::tss2_esys::TPMT_TK_HASHCHECK;
use zeroize::Zeroizing;

const OPEN: &str = "open with the key";
const SIGN: &str = "sign";

/// A TPM, sharing this process's connection.
pub struct TpmDevice {
    pub(super) uri: DeviceUri,
    pub(super) name: String,
    pub(super) shared: Arc<Mutex<SharedConnection>>,
    /// The file with signed PCR policies, if the URI names one.
    pub(super) signatures: Option<PathBuf>,
    /// Read on demand, because opening a token does not need it.
    identity: Option<DeviceIdentity>,
}

impl TpmDevice {
    /// Connects to the TPM.
    pub fn connect(uri: &DeviceUri) -> Result<Self> {
        let shared = share(Transport::from_uri(uri)?);
        let name = uri.display_name();
        lock(&shared).connection(&name)?;
        let signatures = uri.attribute("pcr-signature").map(PathBuf::from);
        Ok(Self { uri: uri.clone(), name, shared, signatures, identity: None })
    }

    /// Runs a private-key operation: gets the PIN, loads the key, starts a session and satisfies the policy.
    fn operate<T>(
        &mut self,
        operation: &str,
        (purpose, key): (Purpose, &KeyRef),
        prompter: &mut dyn Prompter,
        job: impl Fn(&mut Connection, &LoadedKey) -> Result<T, DriverError>,
    ) -> Result<T> {
        let named = |e: Error| e.with_target(self.name.clone()).with_operation(operation);
        let material = KeyBlob::from_key_ref(key).map_err(named)?;
        if !material.key.is_for(purpose) {
            return Err(named(Error::new(Kind::KeyMissing, operation, "the key has another purpose")));
        }
        let signatures = self.signatures.as_deref();
        let mut shared = lock(&self.shared);
        let pin = match material.policy.pin {
            true => {
                let source = self.uri.pin_source();
                Some(shared.pin(&mut PinPrompt { device: &self.name, source, prompter })?)
            }
            false => None,
        };
        let mut lost = false;
        let done = shared.work(operation, &self.name, |connection| {
            let ready = make_ready(connection, &material, purpose, pin.as_ref(), signatures)?;
            let done = job(connection, &ready);
            // Any response code of the TPM is a response.
            lost = matches!(&done, Err(fault @ DriverError::Call { .. }) if fault.code().and_then(Code::tpm).is_none());
            done
        });
        match done {
            Ok(_) if pin.is_some() => shared.proven(),
            Err(error) if pin.is_some() && lost => return Err(shared.unsure(error, &self.name)),
            _ => {}
        }
        done
    }
}

/// Loads the key and satisfies its policy in the session.
fn make_ready(
    connection: &mut Connection,
    material: &KeyBlob,
    purpose: Purpose,
    pin: Option<&Zeroizing<Vec<u8>>>,
    signatures: Option<&Path>,
) -> Result<LoadedKey, DriverError> {
    let ready = connection.ready(material)?;
    if let Some(pin) = pin {
        let auth = Auth::try_from(pin.to_vec()).with_command("TPM2_PolicyAuthValue")?;
        connection.context.tr_set_auth(ready.key.into(), auth).with_command("TPM2_PolicyAuthValue")?;
    }
    match material.policy.satisfy(&mut connection.context, ready.session, purpose, signatures) {
        Ok(()) => Ok(ready),
        // The session's policy is incomplete, so the next attempt needs a new session.
        Err(fault) => {
            connection.end_session();
            Err(fault)
        }
    }
}

/// TPM2_ECDH_ZGen: the x-coordinate.
fn ecdh(
    connection: &mut Connection,
    ready: &LoadedKey,
    peer: &[u8; 65],
) -> Result<Zeroizing<Vec<u8>>, DriverError> {
    const COMMAND: &str = "TPM2_ECDH_ZGen";
    let half = |bytes: &[u8]| EccParameter::try_from(bytes).with_command(COMMAND);
    let point = EccPoint::new(half(&peer[1..33])?, half(&peer[33..])?);
    let session = Some(AuthSession::PolicySession(ready.session));
    let shared =
        connection.context.execute_with_session(session, |context| context.ecdh_z_gen(ready.key, point));
    let shared = shared.with_command(COMMAND)?;
    match templates::coordinate(shared.x()) {
        Some(x) => Ok(Zeroizing::new(x.to_vec())),
        None => Err(Error::new(Kind::Device, OPEN, "the TPM's point is not of P-256").into()),
    }
}

/// TPM2_Sign: r ‖ s.
fn sign(connection: &mut Connection, ready: &LoadedKey, digest: &[u8; 32]) -> Result<[u8; 64], DriverError> {
    const COMMAND: &str = "TPM2_Sign";
    // A null ticket: unrestricted keys also sign digests that the TPM did not compute (part 3 §20.2).
    let ticket = HashcheckTicket::try_from(TPMT_TK_HASHCHECK {
        tag: TPM2_ST_HASHCHECK,
        hierarchy: TPM2_RH_NULL,
        digest: Default::default(),
    });
    let (ticket, digest) =
        (ticket.with_command(COMMAND)?, Digest::try_from(digest.to_vec()).with_command(COMMAND)?);
    let session = Some(AuthSession::PolicySession(ready.session));
    let signed = connection.context.execute_with_session(session, |context| {
        context.sign(ready.key, digest, SignatureScheme::Null, ticket)
    });
    let halves = match signed.with_command(COMMAND)? {
        Signature::EcDsa(signature) => {
            templates::coordinate(signature.signature_r()).zip(templates::coordinate(signature.signature_s()))
        }
        _ => None,
    };
    let (r, s) =
        halves.ok_or_else(|| Error::new(Kind::Device, SIGN, "the TPM's signature is not ECDSA on P-256"))?;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s);
    Ok(signature)
}

impl Device for TpmDevice {
    fn identity(&mut self) -> DeviceIdentity {
        if let Some(identity) = &self.identity {
            return identity.clone();
        }
        let info = lock(&self.shared)
            .work("identify the TPM", &self.name, |connection| TpmInfo::read(&mut connection.context));
        match info {
            Ok(info) => self.identity.insert(info.identity()).clone(),
            // Not kept, because the next attempt may succeed.
            Err(error) => {
                log::warn!("{error}");
                DeviceIdentity::unknown(Scheme::Tpm)
            }
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    /// None: the keys lie in their enrolments. [`Device::has_key`] says which of them are this TPM's.
    fn keys(&mut self, _prompter: &mut dyn Prompter) -> Result<Vec<KeyInfo>> {
        Ok(Vec::new())
    }

    fn has_key(&mut self, key: &KeyRef, _prompter: &mut dyn Prompter) -> Result<bool> {
        let Ok(material) = KeyBlob::from_key_ref(key) else { return Ok(false) };
        lock(&self.shared).work("look for the key", &self.name, |connection| connection.is_home_of(&material))
    }

    fn open_key(
        &mut self,
        key: &KeyRef,
        challenge: PrivateOperation<'_>,
        prompter: &mut dyn Prompter,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let other = || {
            Error::new(Kind::KeyMissing, OPEN, "its opening key is of another kind").with_target(&self.name)
        };
        let PrivateOperation::Ecdh { peer } = challenge else { return Err(other()) };
        let peer = peer.try_into().map_err(|_| other())?;
        self.operate(OPEN, (Purpose::Open, key), prompter, |connection, ready| ecdh(connection, ready, peer))
    }

    fn sign(&mut self, key: &KeyRef, digest: &[u8], prompter: &mut dyn Prompter) -> Result<Vec<u8>> {
        let digest = digest.try_into().map_err(|_| {
            Error::new(Kind::KeyMissing, SIGN, "its signing key is of another kind").with_target(&self.name)
        })?;
        let signature = self.operate(SIGN, (Purpose::Sign, key), prompter, |connection, ready| {
            sign(connection, ready, digest)
        })?;
        Ok(signature.to_vec())
    }

    fn lock(&mut self) {
        lock(&self.shared).forget();
    }

    fn provisioning(&mut self) -> Option<&mut dyn Provision> {
        Some(self)
    }

    fn monotonic_counter(&mut self) -> Option<&mut dyn MonotonicCounter> {
        Some(self)
    }

    fn pcr_binding(&mut self) -> Option<&mut dyn PcrBinding> {
        Some(self)
    }
}
