//! `unlock` and `lock`: the PINs of the agent's devices.

use super::status::agent;
use crate::cli::Execute;
use crate::cli::context::Context;
use clap::Args;
use strongroom::prompt::{self, PinRequest, TriesLeft};
use strongroom::{Error, Kind, Result};

#[derive(Debug, Args)]
pub struct Unlock {
    /// The device, as `strongroom status` names it; not needed if there is only one
    name: Option<String>,
    /// Use the pin-source of the device's URI instead of asking
    #[arg(long)]
    pin_source: bool,
}

#[derive(Debug, Args)]
pub struct Lock {}

impl Execute for Unlock {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let mut agent = agent(context)?;
        let pin = if self.pin_source { None } else { Some(pin(self.name.as_deref())?) };
        let done = agent.unlock(self.name.as_deref(), pin.as_ref())?;
        Ok(context.out.done(&done, &format!("{}: unlocked", done.device))?)
    }
}

impl Execute for Lock {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let done = agent(context)?.lock()?;
        if context.out.json_wanted() {
            return Ok(context.out.json(&done)?);
        }
        let (locked, stuck): (Vec<_>, Vec<_>) = done.devices.iter().partition(|device| device.locked);
        locked.iter().for_each(|device| context.out.info(&format!("{}: locked", device.device)));
        match stuck.first() {
            Some(stuck) => Err(Error::new(
                Kind::Device,
                "lock",
                "it does not answer; it is logged out as soon as it does",
            )
            .with_target(&stuck.device)
            .with_hint("nothing is opened on it any more; restart the agent to let go of it at once")
            .into()),
            None => Ok(()),
        }
    }
}

/// Typed on the terminal, or a line of standard input.
fn pin(device: Option<&str>) -> Result<strongroom::Secret> {
    use std::io::IsTerminal;
    if std::io::stdin().is_terminal() {
        let device = device.unwrap_or("the agent's device");
        return prompt::for_process().pin(&PinRequest {
            device,
            source: None,
            tries: TriesLeft::Unknown,
            what_for: None,
        });
    }
    let typed = strongroom::Secret::read_from(std::io::stdin().lock(), "read the PIN")?;
    let line = typed.expose().strip_suffix(b"\n").unwrap_or(typed.expose());
    Ok(strongroom::Secret::new(line.to_vec()))
}
