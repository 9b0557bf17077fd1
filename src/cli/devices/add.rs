//! `device add`: another device, signed by one that is an admin.

use super::configured::{self, Precedence};
use super::reseal::{self, Resealing};
use super::{discovery, enrolled};
use crate::cli::Execute;
use crate::cli::args::new_keys::KeyOptions;
use crate::cli::context::Context;
use crate::cli::output::Output;
use clap::Args;
use serde_json::Value;
use strongroom::ledger::Prefix;
use strongroom::ledger::body::Role;
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
    /// What it may do: open, write or grant, each also with :PREFIX, admin or witness; may be given several times [default: open]
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
            let uri = discovery::named_or_only(self.uri.as_deref(), OPERATION, self.yes)?;
            let report = vault.enrol(uri.clone(), None, &options)?;
            let remembered = configured::remember(resolved, &uri, &report.device, Precedence::Last)?;
            print_report(out, &report, &remembered)?;
            let closed = vault.count_closed_to(&report.device)?;
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
    out.fields(&enrolled::fields(report, remembered))?;
    configured::warn_if_not_remembered(out, remembered);
    Ok(())
}

/// The new device as JSON.
pub fn as_json(report: &EnrolReport, remembered: &Option<String>, closed: u64, resealed: u64) -> Value {
    let mut object = enrolled::as_json(report, remembered);
    object["closed"] = closed.saturating_sub(resealed).into();
    object["resealed"] = resealed.into();
    object
}
