//! A TPM as a [`Device`].

use super::commands::{Commands, Key};
use super::connection_pool::{Any, PinPrompt, SharedConnection, lock, share};
use super::error::DriverError;
use super::identity::TpmInfo;
use super::key_blob::KeyBlob;
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
        job: impl Fn(&mut dyn Commands, Key, Option<&[u8]>) -> Result<T, DriverError>,
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
            let key = make_ready(connection, &material, purpose, signatures)?;
            let done = job(&mut connection.tpm, key, pin.as_ref().map(|pin| pin.as_slice()));
            lost = done.as_ref().is_err_and(DriverError::is_lost);
            done
        });
        if done.is_ok() {
            shared.prove_parent(&material.parent);
        }
        match done {
            Ok(_) if pin.is_some() => shared.proven(),
            Err(error) if pin.is_some() && lost => return Err(shared.unsure(error, &self.name)),
            _ => {}
        }
        done
    }
}

/// Starts a session, satisfies the key's policy in it and loads the key. In this order, because a resource manager saves and loads
/// a loaded key's context around every command.
fn make_ready(
    connection: &mut Any,
    material: &KeyBlob,
    purpose: Purpose,
    signatures: Option<&Path>,
) -> Result<Key, DriverError> {
    connection.ready_session(material)?;
    let satisfied = material.policy.satisfy(&mut connection.tpm, purpose, signatures);
    let ready = satisfied.and_then(|()| connection.ready_key(material));
    if ready.is_err() {
        // Its policy is incomplete or unused, so the next attempt needs a new session.
        connection.end_session();
    }
    ready
}

impl Device for TpmDevice {
    fn identity(&mut self) -> DeviceIdentity {
        if let Some(identity) = &self.identity {
            return identity.clone();
        }
        let info = lock(&self.shared)
            .work("identify the TPM", &self.name, |connection| TpmInfo::read(&mut connection.tpm));
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
        self.operate(OPEN, (Purpose::Open, key), prompter, |tpm, key, pin| tpm.ecdh_z_gen(key, pin, peer))
    }

    fn sign(&mut self, key: &KeyRef, digest: &[u8], prompter: &mut dyn Prompter) -> Result<Vec<u8>> {
        let digest = digest.try_into().map_err(|_| {
            Error::new(Kind::KeyMissing, SIGN, "its signing key is of another kind").with_target(&self.name)
        })?;
        let signature =
            self.operate(SIGN, (Purpose::Sign, key), prompter, |tpm, key, pin| tpm.sign(key, pin, digest))?;
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
