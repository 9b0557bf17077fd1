//! `device add`: another device, signed by one that is an admin.

use super::reseal::{self, Resealing};
use crate::cli::args::new_keys::KeyOptions;
use crate::cli::context::Context;
use crate::cli::output::Output;
use crate::cli::{Execute, init};
use clap::Args;
use serde_json::{Value, json};
use strongroom::ledger::Prefix;
use strongroom::ledger::body::Role;
use strongroom::uri::DeviceUri;
use strongroom::vault::{EnrolOptions, EnrolReport};
use strongroom::{Error, Kind, Result};

const OPERATION: &str = "enrol the device";

#[derive(Debug, Args)]
pub struct Add {
    /// The device's URI [default: the only device found]
    uri: Option<String>,
    /// Its name in this store [default: its own label]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What it may do: open, write, write:PREFIX or admin; may be given several times [default: open]
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Use the only device found without asking
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    resealing: Resealing,
    #[command(flatten)]
    keys: KeyOptions,
}

impl Execute for Add {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let roles = if self.roles.is_empty() { vec![Role::Open(String::new())] } else { roles(&self.roles)? };
        let (algorithm, create) = (self.keys.algorithm()?, self.keys.create()?);
        let options = EnrolOptions { device_name: self.name, algorithm, create, roles };
        let resolved = context.resolve()?;
        context.with_vault(|vault, out| {
            let uri = match &self.uri {
                Some(uri) => DeviceUri::parse(uri)?,
                None => init::propose(OPERATION, self.yes)?,
            };
            let uri = init::with_module(uri)?;
            let report = vault.enrol(uri.clone(), None, &options)?;
            let remembered = init::remember(resolved, &uri, &report.device, init::Precedence::Last)?;
            print_report(out, &report, &remembered)?;
            let closed = match report.roles.iter().any(|role| matches!(role, Role::Open(_))) {
                true => vault.count_closed_to(&report.device)?,
                false => 0,
            };
            let resealed =
                reseal::offer(vault, out, &self.resealing, &Prefix::default(), closed, &report.device_name)?;
            if out.json_wanted() {
                out.json(&as_json(&report, &remembered, closed, resealed))?;
            }
            Ok(())
        })
    }
}

/// Parses roles.
pub fn roles(texts: &[String]) -> Result<Vec<Role>> {
    let role = |text: &String| {
        text.parse().map_err(|rule| {
            let operation = format!("use `{}` as a role", strongroom::error::printable(text));
            Error::new(Kind::Usage, operation, rule)
        })
    };
    texts.iter().map(role).collect()
}

/// Prints the new device.
pub fn print_report(out: &mut Output, report: &EnrolReport, remembered: &Option<String>) -> Result<()> {
    if out.json_wanted() {
        return Ok(());
    }
    let [opening, signing] = &report.keys;
    out.fields(&[
        ("device", format!("{} ({})", report.device_name, report.model)),
        ("id", report.device.to_string()),
        ("roles", report.roles.iter().map(Role::to_string).collect::<Vec<_>>().join(",")),
        ("opening key", init::key(opening, report.created[0])),
        ("signing key", init::key(signing, report.created[1])),
        ("evidence", init::evidence(report.evidence).to_owned()),
        ("configuration", remembered.clone().unwrap_or_default()),
    ])?;
    if remembered.is_none() {
        out.info("config.toml describes another store and was not changed: name this device with --device");
    }
    Ok(())
}

/// The new device as JSON.
pub fn as_json(report: &EnrolReport, remembered: &Option<String>, closed: u64, resealed: u64) -> Value {
    json!({
        "device": report.device_name,
        "device_id": report.device.to_string(),
        "model": report.model,
        "roles": report.roles.iter().map(Role::to_string).collect::<Vec<_>>(),
        "opening": init::key_json(&report.keys[0], report.created[0]),
        "signing": init::key_json(&report.keys[1], report.created[1]),
        "evidence": report.evidence.to_string(),
        "configuration": remembered,
        "closed": closed.saturating_sub(resealed),
        "resealed": resealed,
    })
}
