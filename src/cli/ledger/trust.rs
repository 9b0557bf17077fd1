//! `trust`: how this machine comes to believe a store.

use crate::cli::Execute;
use crate::cli::context::Context;
use clap::Args;
use serde_json::json;
use strongroom::replica::TrustAnchor;
use strongroom::{Error, Kind, Result, Vault};

#[derive(Debug, Args)]
pub struct Trust {
    /// STORE-ID or STORE-ID:N:CHAIN
    line: String,
    /// Forget what this machine has verified at this location: another store, or a later state that is lost
    #[arg(long)]
    replace: bool,
}

impl Execute for Trust {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let anchor = parse(&self.line)?;
        let setup = context.setup()?;
        let mut progress = context.out.progress();
        let mut report = |done, total| progress("verifying the ledger", done, total);
        let mut vault = Vault::trust(setup, &anchor, self.replace, &mut report)?;
        let (head, rests_on) = (vault.head(), anchor.position.n);
        if context.out.json_wanted() {
            let (store, location) = (head.store.to_string(), vault.location());
            let all =
                json!({"location": location, "store": store, "n": head.position.n, "rests_on": rests_on});
            context.out.json(&all)?;
        } else {
            context.out.info(&format!(
                "{}: trusted, {} statements verified",
                vault.location(),
                head.position.n
            ));
            context.out.info(&match rests_on {
                0 => "This rests on the store id alone: Strongroom cannot tell whether statements were cut off the end.".to_owned(),
                n => format!("This rests on the store id and statement {n}: nothing up to it was cut off or altered."),
            });
        }
        context.print_notices(&mut vault);
        Ok(())
    }
}

/// The line that `strongroom head` prints.
///
/// # Errors
/// `Usage`.
pub fn parse(line: &str) -> Result<TrustAnchor> {
    line.trim().parse().map_err(|why: String| {
        Error::new(Kind::Usage, "trust the store", why)
            .with_hint("give the whole line that `strongroom head` prints")
    })
}
