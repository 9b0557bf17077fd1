//! The devices of this machine. Each is connected once, when it is first needed.

use crate::device::{self, Device, DeviceWorker, KeyRef, Purpose};
use crate::error::{Error, Kind, Result};
use crate::ledger::DeviceId;
use crate::ledger::body::EnrolledKey;
use crate::prompt::{Prompter, PurposePrompter};
use crate::replica::{DeviceRow, Replica};
use crate::uri::{DeviceUri, Scheme};
use crate::vault::Vault;

impl Vault {
    /// Adds a device that another part of the program owns.
    pub fn attach_device(&mut self, uri: DeviceUri, id: DeviceId, worker: DeviceWorker) {
        self.devices.attach_device(uri, id, worker);
    }

    /// An enrolled device's opening key; `None` if the device is retired.
    ///
    /// # Errors
    /// The replica's.
    pub fn opener(&self, id: &DeviceId) -> Result<Option<KeyRef>> {
        let row = self.replica.device_row(id)?.filter(|row| row.retired.is_none());
        Ok(row.as_ref().map(opening_key))
    }
}

/// The devices, and the prompter for their PINs.
pub(crate) struct Devices {
    entries: Vec<Entry>,
    pub(crate) prompter: Box<dyn Prompter + Send>,
}

struct Entry {
    uri: DeviceUri,
    id: Option<DeviceId>,
    /// Retired devices that it succeeds: it may still have their keys.
    before: Vec<DeviceId>,
    worker: Option<DeviceWorker>,
    /// Why it is not known which device it is.
    unknown: Option<String>,
}

impl Devices {
    pub(crate) fn new(
        devices: Vec<(DeviceUri, Option<DeviceId>)>,
        connected: Vec<(DeviceUri, Box<dyn Device>)>,
        prompter: Box<dyn Prompter + Send>,
    ) -> Self {
        let reached = connected.into_iter().map(|(uri, device)| Entry {
            worker: Some(DeviceWorker::inline(uri.scheme(), device)),
            uri,
            id: None,
            before: Vec::new(),
            unknown: None,
        });
        let named = |(uri, id)| Entry { uri, id, before: Vec::new(), worker: None, unknown: None };
        let named = devices.into_iter().map(named);
        Self { entries: named.chain(reached).collect(), prompter }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Logs out of all devices, and forgets their PINs and whether one was refused.
    pub(crate) fn lock(&self) {
        self.entries.iter().filter_map(|entry| entry.worker.as_ref()).for_each(DeviceWorker::lock);
    }

    /// Adds a device that is already connected.
    pub(crate) fn attach_device(&mut self, uri: DeviceUri, id: DeviceId, worker: DeviceWorker) {
        self.entries.push(Entry {
            uri,
            id: Some(id),
            before: Vec::new(),
            worker: Some(worker),
            unknown: None,
        });
    }

    /// Notes that a device was renewed and has a new id.
    pub(crate) fn renew(&mut self, old: DeviceId, new: DeviceId) {
        for entry in self.entries.iter_mut().filter(|entry| entry.id == Some(old)) {
            entry.id = Some(new);
            entry.before.push(old);
        }
    }

    /// The enrolled devices of this machine, in the configured order. Asks a device of unknown id for its keys.
    ///
    /// A device that cannot be reached is left out; its error is returned beside the others.
    pub(crate) fn enrolled(&mut self, replica: &Replica) -> Result<(Vec<DeviceRow>, Vec<Error>)> {
        let (mut here, mut failures) = (Vec::new(), Vec::new());
        for entry in &mut self.entries {
            let identified = entry.identify(replica, &mut *self.prompter);
            entry.unknown = identified.as_ref().err().map(|error| error.message().to_owned());
            match identified {
                Ok(Some(id)) => {
                    let mut row = replica.device_row(&id)?;
                    entry.before.clear();
                    while let Some(device) = row {
                        row = replica.predecessor(&device)?;
                        entry.before.extend(row.as_ref().map(|before| before.id));
                        here.push(device);
                    }
                }
                Ok(None) => failures.push(not_enrolled(&entry.uri)),
                Err(error) => failures.push(error),
            }
        }
        Ok((here, failures))
    }

    /// The devices of which it was not learned at the last try which ones they are: their URIs, and why.
    pub(crate) fn unidentified(&self) -> impl Iterator<Item = String> {
        let said = |entry: &Entry| Some(format!("{}: {}", entry.uri.display_name(), entry.unknown.as_ref()?));
        self.entries.iter().filter_map(said)
    }

    /// The ids of these devices, in every form they ever had here; `None` if one is not known yet.
    pub(crate) fn known_ids(&self) -> Option<Vec<DeviceId>> {
        let mut ids = Vec::new();
        for entry in &self.entries {
            ids.push(entry.id?);
            ids.extend(&entry.before);
        }
        (!ids.is_empty()).then_some(ids)
    }

    /// The device with this id, connected, and the prompter.
    pub(crate) fn get(&mut self, id: &DeviceId) -> Result<(&DeviceWorker, &mut dyn Prompter)> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.is(id)) else {
            return Err(Error::new(
                Kind::DeviceGone,
                "reach a device",
                format!("device {id} is not configured here"),
            ));
        };
        Ok((entry.connect()?, &mut *self.prompter))
    }

    /// Asks a person to plug a device in. Returns false if that is not possible, or nobody is there.
    ///
    /// # Errors
    /// `DeviceGone` if nobody does in time.
    pub(crate) fn wait_for(&mut self, id: &DeviceId, purpose: &str) -> Result<bool> {
        let attended = self.prompter.is_attended();
        let pluggable =
            |entry: &&mut Entry| entry.is(id) && entry.worker.is_none() && entry.uri.scheme() == Scheme::Piv;
        let Some(entry) = self.entries.iter_mut().find(pluggable).filter(|_| attended) else {
            return Ok(false);
        };
        let mut prompter = PurposePrompter { inner: &mut *self.prompter, purpose, pin_for: None };
        entry.worker = Some(DeviceWorker::connect_attended(&entry.uri, device::PATIENCE, &mut prompter)?);
        Ok(true)
    }
}

impl Entry {
    fn is(&self, id: &DeviceId) -> bool {
        self.id.as_ref() == Some(id) || self.before.contains(id)
    }

    fn connect(&mut self) -> Result<&DeviceWorker> {
        match &mut self.worker {
            Some(worker) => Ok(worker),
            none => Ok(none.insert(DeviceWorker::connect(&self.uri, device::PATIENCE)?)),
        }
    }

    fn identify(&mut self, replica: &Replica, prompter: &mut dyn Prompter) -> Result<Option<DeviceId>> {
        // The configured id may belong to an earlier store.
        let known = self.id.map_or(Ok(None), |id| replica.device_row(&id))?;
        if let Some(known) = known {
            // It may have been renewed from another machine, or before this one noted it.
            self.id = Some(replica.latest_successor(known)?.id);
        } else {
            // A renewed device still has its old keys.
            let mut rows = replica.devices()?;
            rows.sort_by_key(|row| (row.retired.is_some(), std::cmp::Reverse(row.n)));
            let which = move |device: &mut dyn Device, prompter: &mut dyn Prompter| {
                recognize(device, &rows, prompter)
            };
            self.id = self.connect()?.call("learn which device it is", prompter, which)?;
        }
        Ok(self.id)
    }
}

/// Recognizes an enrolled device: the first in `rows` that shares a key with it. A device that keeps its keys outside
/// itself is asked whether it can load them.
///
/// # Errors
/// The device's.
pub fn recognize(
    device: &mut dyn Device,
    rows: &[DeviceRow],
    prompter: &mut dyn Prompter,
) -> Result<Option<DeviceId>> {
    let keys = device.keys(prompter)?;
    for row in rows {
        let own = [opening_key(row), signing_key(row)];
        let (outside, inside): (Vec<_>, Vec<_>) = own.iter().partition(|key| !key.material.is_empty());
        let found =
            |key: &&KeyRef| keys.iter().any(|is| (is.purpose, &is.public) == (key.purpose, &key.public));
        if inside.iter().any(found) {
            return Ok(Some(row.id));
        }
        for key in outside {
            if device.has_key(key, prompter)? {
                return Ok(Some(row.id));
            }
        }
    }
    Ok(None)
}

fn not_enrolled(uri: &DeviceUri) -> Error {
    Error::new(Kind::Refused, "use the device", "none of its keys is enrolled in this store")
        .with_target(uri.display_name())
        .with_hint("`strongroom device list` shows the enrolled ones")
}

/// The opening key of an enrolled device.
pub(crate) fn opening_key(row: &DeviceRow) -> KeyRef {
    key_ref(Purpose::Open, &row.enrolment.opening)
}

/// The signing key of an enrolled device.
pub(crate) fn signing_key(row: &DeviceRow) -> KeyRef {
    key_ref(Purpose::Sign, &row.enrolment.signing)
}

fn key_ref(purpose: Purpose, slot: &EnrolledKey) -> KeyRef {
    KeyRef { purpose, public: slot.key.clone(), material: slot.material.clone() }
}
