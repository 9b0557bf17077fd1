//! `device retire`: a device that leaves, and the tokens that it could open.

use super::reseal;
use crate::cli::args::{names, time};
use crate::cli::context::Context;
use crate::cli::output::Output;
use crate::cli::{Execute, init};
use clap::Args;
use serde_json::json;
use strongroom::ledger::DeviceId;
use strongroom::replica::SealedRow;
use strongroom::vault::{EffectiveState, RetireOptions, RetireReport};
use strongroom::{Result, Vault};

#[derive(Debug, Args)]
pub struct Retire {
    /// Its name or id
    name: String,
    /// Record that others may have its keys
    #[arg(long)]
    compromised: bool,
    /// The reason, recorded in the ledger
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Retire it even if some tokens open with no other device and are lost
    #[arg(long)]
    force: bool,
}

impl Execute for Retire {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let reason = names::text("--reason", &self.reason)?;
        let options = RetireOptions { compromised: self.compromised, reason, force: self.force };
        let resolved = context.resolve()?;
        context.with_vault(|vault, out| {
            let mut progress = out.progress();
            let report =
                vault.retire(&self.name, &options, &mut |done, total| progress("resealing", done, total))?;
            let could_open = could_open(vault, &report.device)?;
            match out.json_wanted() {
                true => out.json(&as_json(vault, &report, &could_open)?)?,
                false => print_report(vault, out, &report, &could_open, self.compromised)?,
            }
            if report.reseal.left.is_empty() {
                init::forget(resolved, &report.device)?;
            }
            reseal::expect_all(out, &report.reseal)
        })
    }
}

fn could_open(vault: &Vault, device: &DeviceId) -> Result<Vec<SealedRow>> {
    let mut rows = Vec::new();
    vault.opened_by(device, |row| {
        rows.push(row);
        Ok(true)
    })?;
    rows.sort_by(|a, b| (&a.name, a.version.version).cmp(&(&b.name, b.version.version)));
    Ok(rows)
}

fn print_report(
    vault: &Vault,
    out: &mut Output,
    report: &RetireReport,
    could_open: &[SealedRow],
    compromised: bool,
) -> Result<()> {
    let name = &report.name;
    out.info(&format!("{name}: retired"));
    reseal::print_report(out, &report.reseal);
    let mut table = out.table(&["TOKEN", "STATE", "PUT"]);
    for row in could_open {
        let cells = [at(row), state(vault, row)?.into(), time::rfc3339_secs(row.version.time)];
        out.row(&mut table, cells.into())?;
    }
    out.end(table)?;
    out.flush()?;
    out.info(&match (could_open.is_empty(), compromised) {
        (true, _) => format!("{name} could open no token."),
        (_, true) => format!(
            "{name} could open every token above. Have each of them rotated at its issuer now: resealing does not take back what \
             may have been read."
        ),
        (_, false) => format!(
            "{name} could open the tokens above. Whoever has it and an older copy of the store still can: have their issuers \
             rotate them, unless the device is destroyed."
        ),
    });
    Ok(())
}

fn at(row: &SealedRow) -> String {
    format!("{}@{}", row.name, row.version.version)
}

fn state(vault: &Vault, row: &SealedRow) -> Result<&'static str> {
    let token = vault.replica().find(&row.name)?;
    Ok(token.map_or("", |token| EffectiveState::from_row(vault, &token, &row.version).word()))
}

fn as_json(vault: &Vault, report: &RetireReport, could_open: &[SealedRow]) -> Result<serde_json::Value> {
    let row = |row: &SealedRow| {
        let state = state(vault, row)?;
        Ok(json!({"name": row.name, "version": row.version.version, "state": state}))
    };
    Ok(json!({
        "device": report.name,
        "device_id": report.device.to_string(),
        "resealed": report.reseal.resealed,
        "left": reseal::left_json(&report.reseal),
        "could_open": could_open.iter().map(row).collect::<Result<Vec<_>>>()?,
    }))
}
