//! `device roles`: other roles for a device, in place of those it has.

use super::{add, reseal};
use crate::cli::Execute;
use crate::cli::context::Context;
use clap::Args;
use serde_json::json;
use strongroom::ledger::body::Role;

#[derive(Debug, Args)]
pub struct Roles {
    /// Its name or id
    name: String,
    /// What it may do: open, write or grant, each also with :PREFIX, admin or witness; may be given several times
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<String>,
}

impl Execute for Roles {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let roles = add::roles(&self.roles)?;
        context.with_vault(|vault, out| {
            let device = vault.set_roles(&self.name, &roles)?;
            let closed = vault.count_closed_to(&device)?;
            if out.json_wanted() {
                let roles: Vec<String> = roles.iter().map(Role::to_string).collect();
                return Ok(
                    out.json(&json!({"device": vault.device_name(&device), "device_id": device.to_string(), "roles": roles, "closed": closed}))?
                );
            }
            out.info(&format!("{}: roles changed", self.name));
            reseal::hint(out, closed, &self.name);
            if vault.count_stale(&Default::default())? > closed {
                out.info("Run `strongroom reseal` to take away what it should no longer open.");
            }
            Ok(())
        })
    }
}
