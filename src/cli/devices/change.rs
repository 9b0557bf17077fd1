//! `device roles`, `device anchor` and `device repin`: changes of a device that stays.

use super::add;
use super::reseal;
use crate::cli::args::new_keys::KeyOptions;
use crate::cli::context::Context;
use crate::cli::{Execute, init};
use clap::Args;
use serde_json::json;
use strongroom::ledger::body::Role;
use strongroom::vault::EnrolOptions;

#[derive(Debug, Args)]
pub struct Roles {
    /// Its name or id
    name: String,
    /// What it may do: open, write, write:PREFIX or admin; may be given several times
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Anchor {
    /// The device's name or id: a TPM
    name: String,
    /// No longer
    #[arg(long, conflicts_with = "accept_older")]
    remove: bool,
    /// Go on from a store that was set back: what it lacks is lost for good
    #[arg(long)]
    accept_older: bool,
}

#[derive(Debug, Args)]
pub struct Repin {
    /// Its name or id
    name: String,
    /// Also when a token is sealed to this device alone and does not open now: it is then lost
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    keys: KeyOptions,
}

impl Execute for Roles {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let roles = add::roles(&self.roles)?;
        context.with_vault(|vault, out| {
            let device = vault.set_roles(&self.name, &roles)?;
            let closed = match roles.contains(&Role::Open) {
                true => vault.count_closed_to(&device)?,
                false => 0,
            };
            if out.json_wanted() {
                let roles: Vec<String> = roles.iter().map(Role::to_string).collect();
                return Ok(
                    out.json(&json!({"device": device.to_string(), "roles": roles, "closed": closed}))?
                );
            }
            out.info(&format!("{}: its roles are changed", self.name));
            reseal::hint(out, closed, &self.name);
            if vault.count_stale(&Default::default())? > closed {
                out.info("`strongroom reseal` takes what it should not open any more away from it.");
            }
            Ok(())
        })
    }
}

impl Execute for Anchor {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        context.with_vault(|vault, out| {
            if self.remove {
                let removed = vault.unanchor(&self.name)?;
                if out.json_wanted() {
                    return Ok(out.json(&json!({"device": self.name, "index": null, "removed": removed}))?);
                }
                out.info(&format!("the store is no longer anchored to {}", self.name));
                if !removed {
                    out.warn("its counter is still in the device, which could not be reached");
                }
                return Ok(());
            }
            let counter = vault.anchor(&self.name, self.accept_older)?;
            if out.json_wanted() {
                let (index, start) = (counter.index, counter.start);
                return Ok(out.json(&json!({"device": self.name, "index": index, "start": start}))?);
            }
            out.info(&format!(
                "the store is anchored to {}: counter 0x{:08x}, from {}",
                self.name, counter.index, counter.start
            ));
            Ok(())
        })
    }
}

impl Execute for Repin {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let (algorithm, create) = (self.keys.algorithm()?, self.keys.create()?);
        let options = EnrolOptions { algorithm, create, ..EnrolOptions::default() };
        let resolved = context.resolve()?;
        context.with_vault(|vault, out| {
            let old = vault.active_device(&self.name, "renew the keys of the device")?.id;
            let mut progress = out.progress();
            let (report, resealed) =
                vault.repin(&self.name, &options, self.accept_loss, &mut |done, total| {
                    progress("resealing", done, total)
                })?;
            let remembered = init::rename(resolved, &old, &report.device)?;
            add::print_report(out, &report, &remembered)?;
            reseal::print_report(out, &resealed);
            if out.json_wanted() {
                let left = resealed.left.len() as u64;
                out.json(&add::as_json(&report, &remembered, left + resealed.resealed, resealed.resealed))?;
            }
            reseal::expect_all(out, &resealed)
        })
    }
}
