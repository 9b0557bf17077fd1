//! `store`: what the store's database is told.

use crate::cli::Execute;
use crate::cli::context::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use strongroom::Result;
use strongroom::store::postgres::{DatabaseRole, grant_sql};

#[derive(Debug, Args)]
pub struct Store {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Print the SQL that gives a user of a PostgreSQL store's database its rights
    ///
    /// A reader reads, and adds lines to the access log and a checkpoint for its own devices, and can change and withhold
    /// nothing. A writer also appends to the ledger, and leases tokens for rotation. An owner also repairs. The user has to
    /// exist. Run the SQL as the user who created the store: `strongroom store grant-sql reader web1 | psql DATABASE`.
    GrantSql {
        /// What the user may do
        role: Role,
        /// The user of the database
        user: String,
        /// A device, by its name or id, that this user's machine has. May be given several times
        #[arg(long = "for", value_name = "DEVICE")]
        devices: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Reader,
    Writer,
    Owner,
}

impl Execute for Store {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let StoreCommand::GrantSql { role, user, devices } = self.command;
        let role = match role {
            Role::Reader => DatabaseRole::Reader,
            Role::Writer => DatabaseRole::Writer,
            Role::Owner => DatabaseRole::Owner,
        };
        context.with_vault(|vault, out| {
            let ids = devices
                .iter()
                .map(|name| Ok(vault.active_device(name, "print the rights")?.id))
                .collect::<Result<Vec<_>>>()?;
            let sql = grant_sql(role, &user, &ids);
            match out.json_wanted() {
                true => out.json(&json!({"sql": sql}))?,
                false => out.line(&sql)?,
            }
            Ok(())
        })
    }
}
