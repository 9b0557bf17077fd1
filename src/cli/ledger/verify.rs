//! Whether the store can be believed: `verify`, and what to do when it cannot.

use crate::cli::Execute;
use crate::cli::context::Context;
use crate::cli::ledger::checkpoint::print_witnesses;
use crate::cli::output::Output;
use clap::Args;
use serde_json::{Value, json};
use strongroom::vault::VerifyReport;
use strongroom::vault::counted;
use strongroom::{Error, Kind, Result, Vault};

#[derive(Debug, Args)]
pub struct Verify {
    /// Rebuild the local replica from the store first
    #[arg(long)]
    rebuild: bool,
}

impl Execute for Verify {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let open = if self.rebuild { Vault::open_rebuilt } else { Vault::open_with_progress };
        context.with_vault_by(open, |vault, out| {
            let mut progress = out.progress();
            let report = vault.verify(&mut |what, done, total| progress(what, done, total))?;
            print_report(out, &report)?;
            if !report.problems.is_empty() {
                let message =
                    format!("{} did not verify", counted(report.problems.len() as u64, "thing", "things"));
                let error = Error::new(Kind::Tampered, "verify the whole store", message)
                    .with_target(vault.location().to_owned());
                return Err(error
                    .with_hint("restore the damaged parts from an intact copy of the store")
                    .into());
            }
            Ok(())
        })
    }
}

fn print_report(out: &mut Output, report: &VerifyReport) -> Result<()> {
    if out.json_wanted() {
        return out.json(&as_json(report));
    }
    print_witnesses(out, &report.witnesses)?;
    for problem in &report.problems {
        out.line(&format!("{}: {}", problem.place, problem.what))?;
    }
    let ineffective = match report.ineffective {
        0 => String::new(),
        n => format!(" ({n} without effect)"),
    };
    let dropped = match report.dropped_accesses {
        0 => String::new(),
        n => format!(" ({n} dropped before)"),
    };
    let word = if report.problems.is_empty() { "verified" } else { "checked" };
    out.info(&format!(
        "{word}: {}{ineffective}, {}, {} of the access log{dropped}",
        counted(report.statements, "statement", "statements"),
        counted(report.sealed, "sealed version", "sealed versions"),
        counted(report.accesses, "line", "lines"),
    ));
    Ok(())
}

fn as_json(report: &VerifyReport) -> Value {
    let problems =
        report.problems.iter().map(|problem| json!({"place": problem.place, "what": problem.what}));
    json!({
        "statements": report.statements,
        "ineffective": report.ineffective,
        "sealed": report.sealed,
        "accesses": report.accesses,
        "dropped_accesses": report.dropped_accesses,
        "witnesses": report.witnesses,
        "problems": problems.collect::<Vec<_>>(),
    })
}
