//! Adding a device: an admin device enrols it, with its own roles.

use crate::vault::devices::keys::{KeySpec, Keys, device_name, existing_keys, prepare_keys};
use crate::vault::ledger::submit::{Draft, RequiredRole};
use crate::vault::{Vault, random_id};

use crate::device::{self, Algorithm, CreateOptions, Device, DeviceWorker, EvidenceLevel, KeyInfo};
use crate::error::{Error, Kind, Result};
use crate::ledger::DeviceId;
use crate::ledger::body::{Body, Enrol, EnrolledKey, Role, Roles};
use crate::prompt::Prompter;
use crate::replica::DeviceRow;
use crate::uri::DeviceUri;

const OPERATION: &str = "enrol the device";

/// Options for enrolling a device.
#[derive(Clone, Debug)]
pub struct EnrolOptions {
    /// Its name; its label by default.
    pub device_name: Option<String>,
    /// The opening key's algorithm; the best the device supports by default.
    pub algorithm: Option<Algorithm>,
    /// Further options for its keys.
    pub create: CreateOptions,
    /// What it may do.
    pub roles: Vec<Role>,
}

impl Default for EnrolOptions {
    fn default() -> Self {
        let (device_name, algorithm, create) = (None, None, CreateOptions::default());
        Self { device_name, algorithm, create, roles: vec![Role::Open(String::new())] }
    }
}

/// What was enrolled.
#[derive(Clone, Debug)]
pub struct EnrolReport {
    /// The new device.
    pub device: DeviceId,
    /// What it is called.
    pub device_name: String,
    /// Maker and model.
    pub model: String,
    /// Serial number; empty where it has none.
    pub serial: String,
    /// Its opening and its signing key.
    pub keys: [KeyInfo; 2],
    /// Whether each was created now.
    pub created: [bool; 2],
    /// The weaker of the keys' evidence.
    pub evidence: EvidenceLevel,
    /// What it may do.
    pub roles: Vec<Role>,
}

impl EnrolReport {
    /// Describes a device that is about to be enrolled.
    pub(crate) fn from_device(
        device: &DeviceWorker,
        device_name: String,
        (keys, created): Keys,
        roles: Vec<Role>,
    ) -> Result<Self> {
        let identity = device.identity();
        let (device, model) = (DeviceId(random_id()?), format!("{} {}", identity.maker, identity.model));
        let evidence = keys[0].evidence.level.min(keys[1].evidence.level);
        let roles = crate::ledger::sorted_roles(roles);
        Ok(Self { device, device_name, model, serial: identity.serial, keys, created, evidence, roles })
    }

    /// The statement that enrols it.
    pub(crate) fn statement(&self) -> Enrol {
        let [opening, signing] = self.keys.each_ref().map(|key| EnrolledKey {
            key: key.public.clone(),
            uri: key.uri.clone(),
            evidence: key.evidence.clone(),
            material: key.material.clone(),
        });
        let (name, model, serial) = (self.device_name.clone(), self.model.clone(), self.serial.clone());
        let (device, roles) = (self.device, self.roles.clone());
        Enrol { device, name, model, serial, opening, signing, roles, replaces: None }
    }
}

impl Vault {
    /// Enrols the device that `uri` names, or that is already `connected`. An admin device of this machine signs.
    ///
    /// # Errors
    /// `Refused` if no device here is an admin; `Conflict` if the name is taken or the keys were enrolled before;
    /// `Evidence` for keys that could leave the device; the devices' and the store's.
    pub fn enrol(
        &mut self,
        uri: DeviceUri,
        connected: Option<Box<dyn Device>>,
        options: &EnrolOptions,
    ) -> Result<EnrolReport> {
        self.sync(&mut |_, _| {})?;
        // Do first what can fail and leaves nothing behind, then create the keys.
        self.author(OPERATION, RequiredRole::Admin)?;
        let worker = reach(&uri, connected, &mut *self.devices.prompter)?;
        let name = device_name(&worker, options.device_name.as_deref())?;
        self.expect_free(&name, &worker)?;
        let prompter = &mut *self.devices.prompter;
        let found = existing_keys(&worker, &options.create, prompter)?;
        expect_new(&found, &self.replica.devices()?, &worker)?;
        let wanted = KeySpec { algorithm: options.algorithm, create: options.create.clone() };
        let keys = prepare_keys(&worker, found, wanted, prompter)?;
        let report = EnrolReport::from_device(&worker, name, keys, options.roles.clone())?;
        self.submit(OPERATION, RequiredRole::Admin, |_| {
            Ok((Draft { bodies: vec![Body::Enrol(Box::new(report.statement()))], ..Draft::default() }, ()))
        })?;
        self.devices.attach_device(uri, report.device, worker);
        Ok(report)
    }

    /// Replaces a device's roles.
    ///
    /// # Errors
    /// `NotFound`; `Refused` without the role `admin`, or if no admin would be left.
    pub fn set_roles(&mut self, name: &str, roles: &[Role]) -> Result<DeviceId> {
        let operation = format!("give the device {} other roles", crate::error::printable(name));
        self.submit(&operation, RequiredRole::Admin, |vault| {
            let device = vault.active_device(name, &operation)?.id;
            let roles = crate::ledger::sorted_roles(roles.to_vec());
            let body = Body::Roles(Roles { device, roles });
            Ok((Draft { bodies: vec![body], ..Draft::default() }, device))
        })
    }

    /// The active device of this name or id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn active_device(&self, name: &str, operation: &str) -> Result<DeviceRow> {
        self.replica.active_device(name)?.ok_or_else(|| {
            Error::new(Kind::NotFound, operation, "no active device has this name or id")
                .with_hint("`strongroom device list` shows them")
        })
    }

    fn expect_free(&self, name: &str, device: &DeviceWorker) -> Result<()> {
        match self.replica.active_device(name)? {
            None => Ok(()),
            Some(_) => {
                Err(Error::new(Kind::Conflict, OPERATION, format!("a device is called {name} already"))
                    .with_target(device.name())
                    .with_hint("choose another name with --name; if it is this very device, `strongroom adopt URI` takes it into use here"))
            }
        }
    }
}

/// Connects to the device to enrol, if it is not connected already.
pub(crate) fn reach(
    uri: &DeviceUri,
    connected: Option<Box<dyn Device>>,
    prompter: &mut dyn Prompter,
) -> Result<DeviceWorker> {
    match connected {
        Some(device) => Ok(DeviceWorker::inline(uri.scheme(), device)),
        None => DeviceWorker::connect_attended(uri, device::PATIENCE, prompter),
    }
}

/// Keys can be enrolled only once.
fn expect_new(found: &[KeyInfo], devices: &[DeviceRow], device: &DeviceWorker) -> Result<()> {
    let has = |row: &&DeviceRow| {
        let own = [&row.enrolment.opening.key, &row.enrolment.signing.key];
        found.iter().any(|key| own.iter().any(|enrolled| key.public.is_same_key(enrolled)))
    };
    let Some(row) = devices.iter().filter(has).max_by_key(|row| row.retired.is_none()) else { return Ok(()) };
    let name = &row.enrolment.name;
    let (message, hint) = match row.retired {
        None => (
            format!("it is enrolled already, as {name}"),
            format!(
                "`strongroom adopt URI` takes it into use on this machine; `strongroom device roles {name} --role …` changes what it may do"
            ),
        ),
        Some(_) => (
            format!("its keys were enrolled before, as {name}, which is retired; keys are enrolled once"),
            "have it make other keys: name them with object= in the device's URI".to_owned(),
        ),
    };
    Err(Error::new(Kind::Conflict, OPERATION, message).with_target(device.name()).with_hint(hint))
}
