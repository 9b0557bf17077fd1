//! `adopt`: an enrolled device, taken into use on this machine.

use super::configured::{self, Precedence};
use super::{discovery, reseal};
use crate::cli::Execute;
use crate::cli::context::Context;
use clap::Args;
use serde_json::json;
use strongroom::ledger::body::Role;

const OPERATION: &str = "take the device into use";

#[derive(Debug, Args)]
pub struct Adopt {
    /// The device's URI [default: the only device found]
    uri: Option<String>,
    /// Use the only device found without asking
    #[arg(long, short)]
    yes: bool,
}

impl Execute for Adopt {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let resolved = context.resolve()?;
        context.with_vault(|vault, out| {
            let uri = discovery::named_or_only(self.uri.as_deref(), OPERATION, self.yes)?;
            let device = vault.adopt(&uri)?;
            let configuration = configured::remember(resolved, &uri, &device.id, Precedence::Last)?;
            let closed = vault.count_closed_to(&device.id)?;
            let roles: Vec<String> = device.roles.iter().map(Role::to_string).collect();
            if out.json_wanted() {
                return Ok(out.json(&json!({
                    "device": device.enrolment.name, "device_id": device.id.to_string(), "roles": roles,
                    "configuration": configuration, "closed": closed,
                }))?);
            }
            out.fields(&[
                ("device", format!("{} ({})", device.enrolment.name, device.enrolment.model)),
                ("id", device.id.to_string()),
                ("roles", roles.join(",")),
                ("configuration", configuration.clone().unwrap_or_default()),
            ])?;
            configured::warn_if_not_remembered(out, &configuration);
            reseal::hint(out, closed, &device.enrolment.name);
            Ok(())
        })
    }
}
