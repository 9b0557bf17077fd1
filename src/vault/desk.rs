//! The vault for somebody who serves others: looking up, opening and recording apart, so that each can wait by itself.

use crate::vault::devices::connections::opening_key;
use crate::vault::tokens::lookup::SealedToken;
use crate::vault::{TokenRef, Vault};

use crate::device::{Device, KeyRef};
use crate::error::Result;
use crate::ledger::verify::Chain;
use crate::ledger::{DeviceId, LogPosition};
use crate::prompt::Prompter;
use crate::replica::DeviceRow;
use crate::secret::Secret;
use crate::uri::DeviceUri;
use std::time::Duration;

impl Vault {
    /// Verifies what is new in the store; answers where it stands then.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub(crate) fn refresh(&mut self) -> Result<LogPosition> {
        self.sync(&mut |_, _| {})?;
        Ok(self.replica.position())
    }

    /// A token that the ledger lets open now, with everything that takes. No device is asked.
    ///
    /// # Errors
    /// As [`Vault::get`], but for the device's.
    pub(crate) fn ready(&mut self, wanted: &TokenRef) -> Result<SealedToken> {
        self.prepare(wanted)
    }

    /// Refuses a store that the counters at hand know to be set back.
    ///
    /// # Errors
    /// `RolledBack`; the store's and the devices'.
    pub(crate) fn check_counters(&mut self, tried: &str) -> Result<()> {
        self.sync(&mut |_, _| {})?;
        self.check_anchors(tried)
    }

    /// Uses a device that somebody else owns.
    pub(crate) fn attach_device(&mut self, uri: DeviceUri, id: DeviceId, device: Box<dyn Device>) {
        self.devices.attach_device(uri, id, device);
    }

    /// The key that an enrolled device opens with; `None` when it was retired.
    ///
    /// # Errors
    /// The replica's.
    pub(crate) fn opener(&self, id: &DeviceId) -> Result<Option<KeyRef>> {
        let row = self.replica.device_row(id)?.filter(|row| row.retired.is_none());
        Ok(row.as_ref().map(opening_key))
    }
}

/// Most tokens are smaller; each more device takes a hundred bytes or two.
const SMALL: usize = 16 << 10;

impl SealedToken {
    /// The devices that it is sealed to.
    pub(crate) fn recipients(&self) -> &[DeviceId] {
        &self.recipients
    }

    /// Its version.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// How long it may be kept opened, where it is signed that it may.
    pub(crate) fn keep(&self) -> Option<Duration> {
        self.keep
    }

    /// Whether it is small, and opens until the ledger says otherwise, whatever the time: worth being remembered.
    pub(crate) fn lasts(&self) -> bool {
        self.timeless && self.sealed.len() <= SMALL
    }

    /// Which version of which token it is, whatever its name.
    pub(crate) fn identity(&self) -> ([u8; 16], u64) {
        (self.context.token, self.version)
    }

    /// Opens it.
    ///
    /// # Errors
    /// The device's; `Tampered`.
    pub(crate) fn open_on(
        &self,
        device: &mut dyn Device,
        prompter: &mut dyn Prompter,
        key: &KeyRef,
    ) -> Result<Secret> {
        crate::vault::tokens::open::open_one(device, prompter, key, self)
    }
}

/// Whether a connected device is the one in this row.
///
/// # Errors
/// The device's.
pub(crate) fn is_enrolled_as(
    device: &mut dyn Device,
    row: &DeviceRow,
    prompter: &mut dyn Prompter,
) -> Result<bool> {
    device.holds(&opening_key(row), prompter)
}
