//! `unlock`, `lock` and `status`: a person and the agent.

use crate::cli::Execute;
use crate::cli::context::Context;
use crate::cli::output::Output;
use clap::Args;
use serde_json::Value;
use strongroom::agent::Client;
use strongroom::prompt::{self, PinRequest, TriesLeft};
use strongroom::{Error, Kind, Result};

#[derive(Debug, Args)]
pub struct Unlock {
    /// The device, as `strongroom status` names it; may be left out where there is only one
    name: Option<String>,
    /// Use the pin-source of the device's URI instead of asking
    #[arg(long)]
    pin_source: bool,
}

#[derive(Debug, Args)]
pub struct Lock {}

#[derive(Debug, Args)]
pub struct Status {}

impl Execute for Unlock {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let mut agent = agent(context)?;
        let pin = if self.pin_source { None } else { Some(pin(self.name.as_deref())?) };
        let done = agent.unlock(self.name.as_deref(), pin.as_ref())?;
        if context.out.json_wanted() {
            return Ok(context.out.json(&done)?);
        }
        context.out.info(&format!("{}: unlocked", text(&done["device"])));
        Ok(())
    }
}

impl Execute for Lock {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let done = agent(context)?.lock()?;
        if context.out.json_wanted() {
            return Ok(context.out.json(&done)?);
        }
        let mut stuck = Vec::new();
        for device in done["devices"].as_array().into_iter().flatten() {
            match device["locked"].as_bool() {
                Some(true) => context.out.info(&format!("{}: locked", text(&device["device"]))),
                _ => stuck.push(text(&device["device"]).to_owned()),
            }
        }
        match stuck.first() {
            Some(name) => {
                Err(Error::new(Kind::Device, "lock", "it does not answer; it is locked as soon as it does")
                    .with_target(name)
                    .with_hint("restart the agent to be sure")
                    .into())
            }
            None => Ok(()),
        }
    }
}

impl Execute for Status {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let health = agent(context)?.health()?;
        if context.out.json_wanted() {
            return Ok(context.out.json(&health)?);
        }
        Ok(print_report(&mut context.out, &health)?)
    }
}

fn print_report(out: &mut Output, health: &Value) -> Result<()> {
    let counts = &health["counts"];
    let number = |key: &str| counts[key].as_u64().map(|n| n.to_string()).unwrap_or_default();
    out.fields(&[
        ("agent", text(&health["status"]).to_owned()),
        ("up", health["uptime_seconds"].as_u64().map(|s| format!("{s} s")).unwrap_or_default()),
        ("opened", number("opened")),
        ("from cache", number("cached")),
        ("failed", number("failed")),
        ("denied", number("denied")),
        ("changes", number("changed")),
    ])?;
    let mut table = out.aligned_table(&["DEVICE", "CONDITION", "WAITING", "WHY"]);
    let devices = health["devices"].as_array();
    if devices.is_some_and(|devices| !devices.is_empty()) {
        out.line("")?;
    }
    for device in devices.into_iter().flatten() {
        let waiting = device["waiting"].as_u64().unwrap_or(0).to_string();
        let cells = [
            text(&device["device"]).into(),
            text(&device["condition"]).into(),
            waiting,
            text(&device["why"]).into(),
        ];
        out.row(&mut table, cells.into())?;
    }
    out.end(table)?;
    for ailment in health["ailments"].as_array().into_iter().flatten() {
        out.warn(text(ailment));
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn agent(context: &Context) -> Result<Client> {
    context.agent_at_all()?.ok_or_else(|| {
        Error::new(Kind::NotFound, "reach the agent", "none is running here")
            .with_hint("start one with `strongroom agent`, or the unit strongroom.service")
    })
}

/// Typed on the terminal, or a line of standard input.
fn pin(device: Option<&str>) -> Result<strongroom::Secret> {
    use std::io::IsTerminal;
    if std::io::stdin().is_terminal() {
        let device = device.unwrap_or("the agent's device");
        return prompt::for_process().pin(&PinRequest { device, source: None, tries: TriesLeft::Unknown });
    }
    let typed = strongroom::Secret::read_from(std::io::stdin().lock(), "read the PIN")?;
    let line = typed.expose().strip_suffix(b"\n").unwrap_or(typed.expose());
    Ok(strongroom::Secret::new(line.to_vec()))
}
