//! `status`: how the agent and its devices are.

use crate::cli::Execute;
use crate::cli::context::Context;
use crate::cli::exit::{self, ExitWith};
use crate::cli::output::Output;
use clap::Args;
use serde_json::Value;
use strongroom::client::Client;
use strongroom::{Error, Kind, Result};

#[derive(Debug, Args)]
pub struct Status {}

impl Execute for Status {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let health = agent(context)?.health()?;
        match context.out.json_wanted() {
            true => context.out.json(&health)?,
            false => print_report(&mut context.out, &health)?,
        }
        // The warnings above say what is wrong.
        if health["status"] == "ok" { Ok(()) } else { Err(ExitWith(exit::code_of(Kind::Degraded)).into()) }
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
    for problem in health["problems"].as_array().into_iter().flatten() {
        out.warn(text(problem));
    }
    Ok(())
}

/// A field of the agent's JSON.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The running agent, or an error that says how to start one.
pub fn agent(context: &Context) -> Result<Client> {
    context.connect_agent()?.ok_or_else(|| {
        Error::new(Kind::NoAgent, "reach the agent", "none is running here")
            .with_hint("start one with `strongroom agent`, or the unit strongroom.service")
    })
}
