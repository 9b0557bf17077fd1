//! `status`: how the agent and its devices are.

use crate::cli::Execute;
use crate::cli::context::Context;
use crate::cli::exit::{self, ExitWith};
use crate::cli::ledger::checkpoint::print_witnesses;
use crate::cli::output::Output;
use clap::Args;
use strongroom::client::Client;
use strongroom::client::api::Health;
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
        if health.status == "ok" { Ok(()) } else { Err(ExitWith(exit::code_of(Kind::Degraded)).into()) }
    }
}

fn print_report(out: &mut Output, health: &Health) -> Result<()> {
    let Some(details) = &health.details else {
        return out.fields(&[("agent", health.status.clone())]);
    };
    let counts = &details.counts;
    out.fields(&[
        ("agent", health.status.clone()),
        ("up", format!("{} s", details.uptime_seconds)),
        ("opened", counts.opened.to_string()),
        ("from cache", counts.cached.to_string()),
        ("failed", counts.failed.to_string()),
        ("denied", counts.denied.to_string()),
        ("changes", counts.changed.to_string()),
    ])?;
    let mut table = out.aligned_table(&["DEVICE", "STATUS", "WAITING", "WHY"]);
    if !details.devices.is_empty() {
        out.line("")?;
    }
    for device in &details.devices {
        let cells =
            [device.device.clone(), device.status.clone(), device.waiting.to_string(), device.why.clone()];
        out.row(&mut table, cells.into())?;
    }
    out.end(table)?;
    if !details.witnesses.is_empty() {
        out.line("")?;
    }
    print_witnesses(out, &details.witnesses)?;
    details.problems.iter().for_each(|problem| out.warn(problem));
    Ok(())
}

/// The running agent, or an error that says how to start one.
pub fn agent(context: &Context) -> Result<Client> {
    context.connect_agent()?.ok_or_else(|| {
        Error::new(Kind::NoAgent, "reach the agent", "none is running here")
            .with_hint("start one with `strongroom agent`, or the unit strongroom.service")
    })
}
