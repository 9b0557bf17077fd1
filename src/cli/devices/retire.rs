//! `device retire`: a device that leaves, and the tokens that it could open.

use super::{configured, reseal};
use crate::cli::Execute;
use crate::cli::args::{names, time};
use crate::cli::confirm;
use crate::cli::context::Context;
use crate::cli::output::Output;
use clap::Args;
use serde_json::json;
use strongroom::error::printable;
use strongroom::ledger::DeviceId;
use strongroom::prompt::Terminal;
use strongroom::replica::{GrantRow, SealedRow};
use strongroom::vault::{EffectiveState, RetireOptions, RetireReport, counted};
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
    /// Do not ask before tokens are lost
    #[arg(long, requires = "force")]
    yes: bool,
}

impl Execute for Retire {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let reason = names::text("--reason", &self.reason)?;
        let options = RetireOptions { compromised: self.compromised, reason, force: self.force };
        let resolved = context.resolve()?;
        context.with_vault(|vault, out| {
            if self.force {
                agree_to_loss(vault, out, &self.name, self.yes)?;
            }
            let mut progress = out.progress();
            let report =
                vault.retire(&self.name, &options, &mut |done, total| progress("resealing", done, total))?;
            let exposure = Exposure::of(vault, &report.device)?;
            match out.json_wanted() {
                true => out.json(&as_json(vault, &report, &exposure)?)?,
                false => print_report(vault, out, &report, &exposure, self.compromised)?,
            }
            if report.reseal.left.is_empty() {
                configured::forget(resolved, &report.device)?;
            }
            reseal::expect_all(out, &report.reseal)
        })
    }
}

/// Says which tokens are lost with a device before it is retired, and asks where there is somebody to ask.
fn agree_to_loss(vault: &mut Vault, out: &mut Output, name: &str, yes: bool) -> Result<()> {
    vault.refresh()?;
    let operation = format!("retire the device {}", printable(name));
    let lost = vault.lost_with(&vault.active_device(name, &operation)?)?;
    if lost.is_empty() {
        return Ok(());
    }
    let names = lost.iter().map(at).collect::<Vec<_>>().join(", ");
    let count = counted(lost.len() as u64, "version", "versions");
    out.warn(&format!(
        "{count} opened by no other devices: {names}. What is not resealed now, with this device at hand and for others that \
         may open it, is lost"
    ));
    match !yes && Terminal::open().is_some() {
        true => confirm::confirm(false, &operation, "Retire it all the same?"),
        false => Ok(()),
    }
}

/// What a device could open, and what it did: whoever has its keys may have done it.
struct Exposure {
    could_open: Vec<SealedRow>,
    puts: Vec<SealedRow>,
    grants: Vec<GrantRow>,
}

impl Exposure {
    fn of(vault: &mut Vault, device: &DeviceId) -> Result<Self> {
        let mut could_open = Vec::new();
        vault.opened_by(device, |row| {
            could_open.push(row);
            Ok(true)
        })?;
        let (mut puts, grants) = vault.authored_by(device)?;
        for rows in [&mut could_open, &mut puts] {
            rows.sort_by(|a, b| (&a.name, a.version.version).cmp(&(&b.name, b.version.version)));
        }
        Ok(Self { could_open, puts, grants })
    }
}

fn print_report(
    vault: &Vault,
    out: &mut Output,
    report: &RetireReport,
    exposure: &Exposure,
    compromised: bool,
) -> Result<()> {
    let name = &report.name;
    out.info(&format!("{name}: retired"));
    reseal::print_report(out, &report.reseal);
    print_versions(vault, out, &["TOKEN", "STATE", "PUT"], &exposure.could_open)?;
    out.info(&match (exposure.could_open.is_empty(), compromised) {
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
    if compromised { print_authored(vault, out, name, exposure) } else { Ok(()) }
}

fn print_versions(
    vault: &Vault,
    out: &mut Output,
    columns: &'static [&'static str],
    rows: &[SealedRow],
) -> Result<()> {
    let mut table = out.table(columns);
    for row in rows {
        let cells = [at(row), state(vault, row)?.into(), time::rfc3339_secs(row.version.time)];
        out.row(&mut table, cells.into())?;
    }
    out.end(table)?;
    out.flush()
}

/// What a compromised device has put and granted still holds.
fn print_authored(vault: &Vault, out: &mut Output, name: &str, exposure: &Exposure) -> Result<()> {
    if !exposure.puts.is_empty() {
        print_versions(vault, out, &["PUT BY IT", "STATE", "PUT"], &exposure.puts)?;
        out.info(&format!("{name} put the versions above. Put anew what you did not put yourself."));
    }
    if !exposure.grants.is_empty() {
        let mut table = out.table(&["GRANTED BY IT", "ON", "TO"]);
        for grant in &exposure.grants {
            out.row(&mut table, [grant.id.to_string(), grant.on(), grant.to.clone()].into())?;
        }
        out.end(table)?;
        out.flush()?;
        out.info(&format!("{name} made the grants above. `strongroom ungrant ID` takes one back."));
    }
    Ok(())
}

fn at(row: &SealedRow) -> String {
    format!("{}@{}", row.name, row.version.version)
}

fn state(vault: &Vault, row: &SealedRow) -> Result<&'static str> {
    let token = vault.replica().find(&row.name)?;
    Ok(token.map_or("", |token| EffectiveState::from_row(vault, &token, &row.version).word()))
}

fn as_json(vault: &Vault, report: &RetireReport, exposure: &Exposure) -> Result<serde_json::Value> {
    let rows = |rows: &[SealedRow]| {
        let row = |row: &SealedRow| {
            let state = state(vault, row)?;
            Ok(json!({"name": row.name, "version": row.version.version, "state": state}))
        };
        rows.iter().map(row).collect::<Result<Vec<_>>>()
    };
    let grant = |grant: &GrantRow| json!({"id": grant.id.to_string(), "on": grant.on(), "to": grant.to});
    Ok(json!({
        "device": report.name,
        "device_id": report.device.to_string(),
        "resealed": report.reseal.resealed,
        "left": reseal::left_json(&report.reseal),
        "could_open": rows(&exposure.could_open)?,
        "put": rows(&exposure.puts)?,
        "granted": exposure.grants.iter().map(grant).collect::<Vec<_>>(),
    }))
}
