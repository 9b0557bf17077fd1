//! The agent's device threads, for the vault that signs and seals.

use crate::agent::devices::DeviceHandle;
use crate::device::{DeviceJob, DeviceOwner};
use crate::error::Result;
use crate::prompt::Prompter;
use std::sync::Arc;
use std::time::Duration;

/// A device that the agent owns. Its own prompter answers the driver, not the caller's.
pub struct AgentDeviceOwner {
    /// The device.
    pub device: Arc<DeviceHandle>,
    /// Whether a person may be asked for a PIN or a touch.
    pub attended: bool,
}

impl DeviceOwner for AgentDeviceOwner {
    fn run(
        &self,
        operation: &str,
        patience: Duration,
        _: &mut dyn Prompter,
        mut job: DeviceJob,
    ) -> Result<()> {
        self.device.check(operation)?;
        let (what, attended) = (operation.to_owned(), self.attended);
        let run = move |session: &mut super::DeviceSession| {
            session.run_for(&what, attended, |device, prompter| job(device, prompter))
        };
        self.device
            .thread()
            .call_blocking(patience, run)
            .map_err(|trouble| trouble.into_error(operation, &self.device.name))?
    }
}
