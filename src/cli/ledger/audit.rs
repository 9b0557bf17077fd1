//! `who-can` and `what-could`: who opens a token, and what somebody opens or could have opened.

use crate::cli::Execute;
use crate::cli::args::names;
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::output::format::{EMPTY_CELL, time_cell};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use strongroom::{Error, Kind};

#[derive(Debug, Args)]
pub struct WhoCan {
    /// The token's name
    #[arg(add = ArgValueCompleter::new(completions::names))]
    name: String,
}

#[derive(Debug, Args)]
pub struct WhatCould {
    /// A device's name or id, a user's name, or a grantee: unit:web.service, group:ops, exe:/usr/bin/x
    who: String,
    /// Also what is over: revoked versions, what is no longer sealed to the device, grants that ended
    #[arg(long)]
    ever: bool,
}

impl Execute for WhoCan {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let name = names::name(&self.name)?;
        context.with_vault(|vault, out| {
            let mut table = out.table(&["WHO", "KIND", "MAY", "THROUGH", "UNTIL"]);
            for holder in vault.who_can(&name)? {
                let cell = |text: String| if text.is_empty() { EMPTY_CELL.into() } else { text };
                let (may, through) = (cell(holder.may.join(",")), cell(holder.through.clone()));
                let cells =
                    [holder.who.clone(), holder.kind.to_owned(), may, through, time_cell(holder.until)];
                out.entry(&mut table, &holder, cells)?;
            }
            Ok(out.end(table)?)
        })
    }
}

impl Execute for WhatCould {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        context.with_vault(|vault, out| {
            let mut table = out.table(&["NAME", "VERSION", "STATE", "THROUGH"]);
            let mut found = 0_u64;
            let mut each = |reached: strongroom::vault::Reached| {
                found += 1;
                let cells = [
                    reached.name.clone(),
                    reached.version.to_string(),
                    reached.state.word().to_owned(),
                    reached.through.clone(),
                ];
                out.entry(&mut table, &reached, cells)
            };
            match vault.device_ever_named(&self.who)? {
                Some(device) => vault.reached_by(&device.id, self.ever, &mut each)?,
                None => {
                    let grantee = grantee(&self.who);
                    if !vault.replica().grants_ever()?.iter().any(|(grant, _)| {
                        grant.to.split('+').any(|part| part == grantee) || grant.to == grantee
                    }) {
                        let message = "no device has this name, and nothing was ever granted to it";
                        return Err(Error::new(Kind::NotFound, "tell what it could open", message)
                            .with_target(strongroom::error::printable(&self.who))
                            .with_hint("`strongroom device list` and `strongroom grants` show the names")
                            .into());
                    }
                    vault.granted_to(&grantee, self.ever, &mut each)?;
                }
            }
            out.end(table)?;
            if found == 0 {
                out.info("nothing");
            }
            Ok(())
        })
    }
}

/// A name alone is a user's.
fn grantee(who: &str) -> String {
    if who.contains(':') { who.to_owned() } else { format!("user:{who}") }
}
