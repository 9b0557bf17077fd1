//! `reseal`: what was put before devices came or went, sealed to those that should open it now.

use crate::cli::args::names;
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::output::Output;
use crate::cli::{Execute, confirm};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Value, json};
use strongroom::ledger::Prefix;
use strongroom::vault::ResealReport;
use strongroom::vault::counted;
use strongroom::{Error, Result, Vault};

/// How many versions are named that could not be resealed.
const NAMED: usize = 10;

#[derive(Debug, Args)]
pub struct Reseal {
    /// Only this name and what lies below it
    #[arg(add = ArgValueCompleter::new(completions::names))]
    prefix: Option<String>,
}

/// Whether to reseal right away.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Resealing {
    /// Seal existing tokens to it too, without asking
    #[arg(long, conflicts_with = "no_reseal")]
    reseal: bool,
    /// Leave existing tokens as they are, without asking
    #[arg(long)]
    no_reseal: bool,
}

impl Execute for Reseal {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let prefix = self.prefix.as_deref().map(names::prefix).transpose()?.unwrap_or_default();
        context.with_vault(|vault, out| {
            let report = run(vault, out, &prefix)?;
            if out.json_wanted() {
                let (resealed, batches) = (report.resealed, report.batches);
                out.json(&json!({"resealed": resealed, "batches": batches, "left": left_json(&report)}))?;
            } else if report.resealed == 0 && report.left.is_empty() {
                out.info("every token is sealed to the devices that should open it");
            } else {
                print_report(out, &report);
            }
            expect_all(out, &report)
        })
    }
}

fn run(vault: &mut Vault, out: &mut Output, prefix: &Prefix) -> Result<ResealReport> {
    let (mut progress, mut so_far) = (out.progress(), 0);
    let resealed = vault.reseal(prefix, &mut |done, total| {
        so_far = done;
        progress("resealing", done, total);
    });
    resealed.inspect_err(|_| {
        if so_far > 0 {
            out.warn(&format!(
                "{} done before this; run it again for the rest",
                counted(so_far, "version was", "versions were")
            ));
        }
    })
}

/// After a device was added: reseals if the options say so, or asks. Returns how many versions were resealed.
pub fn offer(
    vault: &mut Vault,
    out: &mut Output,
    wanted: &Resealing,
    prefix: &Prefix,
    closed: u64,
    device: &str,
) -> anyhow::Result<u64> {
    if closed == 0 {
        return Ok(0);
    }
    let question =
        format!("{device} cannot open {} yet. Reseal now?", counted(closed, "version", "versions"));
    let now = match (wanted.reseal, wanted.no_reseal) {
        (true, _) => true,
        (_, true) => false,
        _ => confirm::ask_yes_no(&question)?.unwrap_or(false),
    };
    if !now {
        hint(out, closed, device);
        return Ok(0);
    }
    let report = run(vault, out, prefix)?;
    print_report(out, &report);
    expect_all(out, &report)?;
    Ok(report.resealed)
}

/// Says how to reseal for a device that was added.
pub fn hint(out: &mut Output, closed: u64, device: &str) {
    if closed > 0 {
        let versions = counted(closed, "version", "versions");
        out.info(&format!("{device} cannot open {versions} yet: run `strongroom reseal`."));
    }
}

/// Prints how much was resealed.
pub fn print_report(out: &mut Output, report: &ResealReport) {
    if report.resealed > 0 && !out.json_wanted() {
        let (versions, signatures) = (
            counted(report.resealed, "version", "versions"),
            counted(report.batches, "signature", "signatures"),
        );
        out.info(&format!("resealed {versions} with {signatures}"));
    }
}

/// An error if something is left, after a warning for each.
pub fn expect_all(out: &mut Output, report: &ResealReport) -> anyhow::Result<()> {
    let Some(first) = report.left.first() else { return Ok(()) };
    for left in report.left.iter().take(NAMED) {
        out.warn(&format!("{}@{} stays as it was: {}", left.name, left.version, left.error.message()));
    }
    let message =
        format!("{} left as before", counted(report.left.len() as u64, "version is", "versions are"));
    let hint = first.error.hint().unwrap_or("run it again on a machine with a device that opens them");
    Err(Error::new(first.error.kind(), "reseal everything", message).with_hint(hint).into())
}

/// What is left, as JSON.
pub fn left_json(report: &ResealReport) -> Vec<Value> {
    let left = report.left.iter();
    left.map(|left| json!({"name": left.name, "version": left.version, "why": left.error.message()}))
        .collect()
}
