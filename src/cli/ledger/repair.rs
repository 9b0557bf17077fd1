//! `repair`: sets aside the end of a store that cannot be verified.

use crate::cli::args::names;
use crate::cli::context::Context;
use crate::cli::{Execute, confirm};
use clap::Args;
use serde_json::json;
use strongroom::Vault;
use strongroom::vault::counted;

#[derive(Debug, Args)]
pub struct Repair {
    /// The reason, recorded in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Execute for Repair {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let reason = names::text("--reason", &self.reason)?;
        let setup = context.setup()?;
        let question =
            format!("This sets aside everything in {} that cannot be verified. Continue?", setup.store);
        confirm::confirm(self.yes, "repair the store", &question)?;
        let (mut vault, dropped) = Vault::repair(setup, &reason)?;
        let location = vault.location();
        let words = match dropped {
            0 => format!("{location}: everything verifies; nothing was set aside"),
            n => format!("{location}: {} set aside", counted(n, "statement", "statements")),
        };
        let object = json!({"location": location, "dropped": dropped, "kept": vault.head().position.n});
        context.out.done(&object, &words)?;
        context.print_notices(&mut vault);
        Ok(())
    }
}
