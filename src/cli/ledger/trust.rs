//! `trust` and `repair`: how this machine comes to believe a store, and how it gets over one that was damaged.

use crate::cli::args::names;
use crate::cli::context::Context;
use crate::cli::output::format::pluralize;
use crate::cli::{Execute, confirm};
use clap::Args;
use serde_json::json;
use strongroom::replica::TrustAnchor;
use strongroom::{Error, Kind, Result, Vault};

#[derive(Debug, Args)]
pub struct Trust {
    /// STORE-ID or STORE-ID:N:CHAIN
    line: String,
    /// Forget what is known at this place: another store, or a later state of this one that is lost for good
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
pub struct Repair {
    /// Why; it stands in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
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
                0 => "This rests on the store id alone: that nothing was cut off its end cannot be known.".to_owned(),
                n => format!("This rests on the store id and statement {n}: nothing up to there was cut off or altered."),
            });
        }
        context.print_notices(&mut vault);
        Ok(())
    }
}

fn parse(line: &str) -> Result<TrustAnchor> {
    line.trim().parse().map_err(|why: String| {
        Error::new(Kind::Usage, "trust the store", why)
            .with_hint("give the line that `strongroom head` prints, whole")
    })
}

impl Execute for Repair {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let reason = names::text("--reason", &self.reason)?;
        let setup = context.setup()?;
        let question = format!("Everything in {} that cannot be verified is set aside. Go on?", setup.store);
        confirm::confirm(self.yes, "repair the store", &question)?;
        let (mut vault, dropped) = Vault::repair(setup, &reason)?;
        if context.out.json_wanted() {
            context.out.json(
                &json!({"location": vault.location(), "dropped": dropped, "kept": vault.head().position.n}),
            )?;
        } else {
            context.out.info(&match dropped {
                0 => format!("{}: everything verifies, nothing was set aside", vault.location()),
                n => format!("{}: {} set aside", vault.location(), pluralize(n, "statement", "statements")),
            });
        }
        context.print_notices(&mut vault);
        Ok(())
    }
}
