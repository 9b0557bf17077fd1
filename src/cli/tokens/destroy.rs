//! `destroy`: deletes sealed bytes for good.

use crate::cli::args::names;
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::{Execute, confirm};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::json;
use strongroom::vault::counted;

#[derive(Debug, Args)]
pub struct Destroy {
    /// NAME or NAME@VERSION
    #[arg(add = ArgValueCompleter::new(completions::names))]
    name: String,
    /// The reason, recorded in the ledger
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Execute for Destroy {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let (wanted, reason) = (names::versioned(&self.name)?, names::text("--reason", &self.reason)?);
        let operation = format!("destroy {}", self.name);
        context.with_tokens(|tokens, out| {
            // A name that does not exist is told before anybody is asked.
            tokens.expect(&wanted.name, &operation)?;
            let question =
                format!("This deletes the sealed bytes of {}. Nobody can bring them back.", self.name);
            confirm::confirm_typed(self.yes, &operation, &question, &self.name)?;
            let count = tokens.destroy(&wanted.name, wanted.version, &reason)?;
            let object = json!({"name": wanted.name.as_str(), "version": wanted.version, "destroyed": count});
            let versions = counted(count, "version", "versions");
            Ok(out.done(&object, &format!("{}: destroyed, {versions}", self.name))?)
        })
    }
}
