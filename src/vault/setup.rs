//! What a vault needs to open.

use crate::config::{Config, ConfiguredDevice};
use crate::device::Device;
use crate::error::Result;
use crate::ledger::DeviceId;
use crate::paths::Paths;
use crate::prompt::{self, Prompter};
use crate::uri::DeviceUri;
use crate::vault::ledger::access_log::Accessor;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// The store, the devices, and the prompter.
pub struct Setup {
    /// The store's URL: `sqlite:///path`.
    pub store: String,
    /// The devices of this machine in the order to try them, with their ids if known.
    pub devices: Vec<(DeviceUri, Option<DeviceId>)>,
    /// Devices that are already connected, tried last: for programs with their own driver. The URI is used in errors.
    pub connected: Vec<(DeviceUri, Box<dyn Device>)>,
    /// The directory for replicas and pins.
    pub state: PathBuf,
    /// Asks for PINs.
    pub prompter: Box<dyn Prompter + Send>,
    /// Milliseconds since 1970.
    pub clock: fn() -> u64,
    /// Who reads, for the access log.
    pub reader: Accessor,
}

impl Setup {
    /// From the configuration of the user who runs this process, or the machine's for root.
    ///
    /// # Errors
    /// `Usage` for a configuration that does not parse; `Io`.
    pub fn of_this_machine() -> Result<Self> {
        let paths = Paths::discover()?;
        let config = Config::load(&paths.config)?;
        let devices = config.devices.iter().map(ConfiguredDevice::parsed).collect::<Result<_>>()?;
        let store = config.store.unwrap_or_else(|| format!("sqlite://{}", paths.store.display()));
        let prompter = prompt::for_process_with(&config.prompt);
        Ok(Self { prompter, ..Self::new(store, devices, paths.state) })
    }

    /// Uses the system's clock, this process as the reader, and the terminal, if any, for questions.
    pub fn new(store: String, devices: Vec<(DeviceUri, Option<DeviceId>)>, state: PathBuf) -> Self {
        let (prompter, reader) = (prompt::for_process(), Accessor::this_process());
        Self { store, devices, connected: Vec::new(), state, prompter, clock: system_clock, reader }
    }
}

/// The system's clock in milliseconds; a clock before 1970 counts as 1970.
pub fn system_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
