//! The devices of this machine: connected when first needed, each once.

use crate::device::{self, Device, KeyRef, Purpose};
use crate::error::{Error, Kind, Result};
use crate::ledger::DeviceId;
use crate::ledger::body::EnrolledKey;
use crate::prompt::{Prompter, PurposePrompter};
use crate::replica::{DeviceRow, Replica};
use crate::uri::{DeviceUri, Scheme};
use crate::vault::Vault;

impl Vault {
    /// Uses a device that somebody else owns.
    pub fn attach_device(&mut self, uri: DeviceUri, id: DeviceId, device: Box<dyn Device>) {
        self.devices.attach_device(uri, id, device);
    }

    /// The key that an enrolled device opens with; `None` when it was retired.
    ///
    /// # Errors
    /// The replica's.
    pub fn opener(&self, id: &DeviceId) -> Result<Option<KeyRef>> {
        let row = self.replica.device_row(id)?.filter(|row| row.retired.is_none());
        Ok(row.as_ref().map(opening_key))
    }
}

/// Whether a connected device is the one in this row.
///
/// # Errors
/// The device's.
pub fn is_enrolled_as(device: &mut dyn Device, row: &DeviceRow, prompter: &mut dyn Prompter) -> Result<bool> {
    device.holds(&opening_key(row), prompter)
}

/// Devices and who is asked for their PINs.
pub(crate) struct Devices {
    entries: Vec<Entry>,
    pub(crate) prompter: Box<dyn Prompter + Send>,
}

struct Entry {
    uri: DeviceUri,
    id: Option<DeviceId>,
    /// Retired devices whose place it took: it may still have their keys.
    before: Vec<DeviceId>,
    device: Option<Box<dyn Device>>,
}

impl Devices {
    pub(crate) fn new(
        devices: Vec<(DeviceUri, Option<DeviceId>)>,
        connected: Vec<(DeviceUri, Box<dyn Device>)>,
        prompter: Box<dyn Prompter + Send>,
    ) -> Self {
        let reached = connected.into_iter().map(|(uri, device)| Entry {
            uri,
            id: None,
            before: Vec::new(),
            device: Some(device),
        });
        let named = devices.into_iter().map(|(uri, id)| Entry { uri, id, before: Vec::new(), device: None });
        Self { entries: named.chain(reached).collect(), prompter }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes over a device that is connected already.
    pub(crate) fn attach_device(&mut self, uri: DeviceUri, id: DeviceId, device: Box<dyn Device>) {
        self.entries.push(Entry { uri, id: Some(id), before: Vec::new(), device: Some(device) });
    }

    /// Says that a device is enrolled anew, under another id.
    pub(crate) fn renew(&mut self, old: DeviceId, new: DeviceId) {
        for entry in self.entries.iter_mut().filter(|entry| entry.id == Some(old)) {
            entry.id = Some(new);
            entry.before.push(old);
        }
    }

    /// The enrolled devices that are here, in the configured order. Asks a device whose id is unknown for its keys.
    ///
    /// A device that cannot be reached is left out; its error comes with the others.
    pub(crate) fn enrolled(&mut self, replica: &Replica) -> Result<(Vec<DeviceRow>, Vec<Error>)> {
        let (mut here, mut failures) = (Vec::new(), Vec::new());
        for entry in &mut self.entries {
            match entry.identify(replica, &mut *self.prompter) {
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

    /// The connected device with this id, and the prompter it asks.
    pub(crate) fn get(&mut self, id: &DeviceId) -> Result<(&mut dyn Device, &mut dyn Prompter)> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.is(id)) else {
            return Err(Error::new(
                Kind::DeviceGone,
                "reach a device",
                format!("device {id} is not configured here"),
            ));
        };
        let prompter: &mut dyn Prompter = &mut *self.prompter;
        let device: &mut dyn Device = entry.connect()?;
        Ok((device, prompter))
    }

    /// Has a person plug in a device that can be plugged in; false where it cannot, or nobody is there.
    ///
    /// # Errors
    /// `DeviceGone` when nobody did in time.
    pub(crate) fn wait_for(&mut self, id: &DeviceId, purpose: &str) -> Result<bool> {
        let attended = self.prompter.is_attended();
        let pluggable =
            |entry: &&mut Entry| entry.is(id) && entry.device.is_none() && entry.uri.scheme() == Scheme::Piv;
        let Some(entry) = self.entries.iter_mut().find(pluggable).filter(|_| attended) else {
            return Ok(false);
        };
        let mut prompter = PurposePrompter { inner: &mut *self.prompter, purpose };
        entry.device = Some(device::connect_attended(&entry.uri, &mut prompter)?);
        Ok(true)
    }
}

impl Entry {
    fn is(&self, id: &DeviceId) -> bool {
        self.id.as_ref() == Some(id) || self.before.contains(id)
    }

    fn connect(&mut self) -> Result<&mut dyn Device> {
        if self.device.is_none() {
            self.device = Some(device::connect(&self.uri)?);
        }
        match &mut self.device {
            Some(device) => Ok(&mut **device),
            None => Err(Error::new(Kind::DeviceGone, "connect to the device", "it is gone")),
        }
    }

    fn identify(&mut self, replica: &Replica, prompter: &mut dyn Prompter) -> Result<Option<DeviceId>> {
        // The configured id may be one of a store that was here before.
        let known = self.id.map_or(Ok(None), |id| replica.device_row(&id))?;
        if let Some(known) = known {
            // It may have been enrolled anew from another machine, or before this one could note so.
            self.id = Some(replica.latest_successor(known)?.id);
        } else {
            // A device that was enrolled anew has the keys of before as well.
            let mut rows = replica.devices()?;
            rows.sort_by_key(|row| (row.retired.is_some(), std::cmp::Reverse(row.n)));
            self.id = self.recognise(&rows, prompter)?;
        }
        Ok(self.id)
    }

    /// Which of the enrolled devices this is.
    fn recognise(&mut self, rows: &[DeviceRow], prompter: &mut dyn Prompter) -> Result<Option<DeviceId>> {
        let device = self.connect()?;
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
                if device.holds(key, prompter)? {
                    return Ok(Some(row.id));
                }
            }
        }
        Ok(None)
    }
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
