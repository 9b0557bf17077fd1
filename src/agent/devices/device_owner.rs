//! The agent's device threads, for the vault that signs and seals.

use crate::agent::devices::DeviceHandle;
use crate::device::{DeviceJob, DeviceOwner};
use crate::error::Result;
use crate::prompt::Prompter;
use std::sync::Arc;
use std::time::Duration;

/// A device that the agent owns. Its own prompter answers the driver, not the caller's.
pub struct AgentDeviceOwner(pub Arc<DeviceHandle>);

impl DeviceOwner for AgentDeviceOwner {
    fn run(
        &self,
        operation: &str,
        patience: Duration,
        _: &mut dyn Prompter,
        mut job: DeviceJob,
    ) -> Result<()> {
        self.0.check(operation)?;
        let what = operation.to_owned();
        let run = move |session: &mut super::DeviceSession| {
            session.run(&what, |device, prompter| job(device, prompter))
        };
        self.0
            .thread()
            .call_blocking(patience, run)
            .map_err(|trouble| trouble.into_error(operation, &self.0.name))?
    }
}
