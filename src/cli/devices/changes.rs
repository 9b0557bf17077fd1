//! `device changes`, `approve-change`, `reject-change`: changes that wait for other admins.

use crate::cli::Execute;
use crate::cli::args::time;
use crate::cli::context::Context;
use crate::cli::output::Output;
use clap::Args;
use serde_json::{Value, json};
use strongroom::replica::ProposalRow;
use strongroom::vault::VoteReport;
use strongroom::{Result, Vault};

#[derive(Debug, Args)]
pub struct ApproveChange {
    /// Its hash, or the first digits of it
    change: String,
    /// Retire a device even if some tokens are sealed to it alone; they are lost
    #[arg(long)]
    accept_loss: bool,
}

#[derive(Debug, Args)]
pub struct RejectChange {
    /// Its hash, or the first digits of it
    change: String,
    /// Why, for the ledger
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

impl Execute for ApproveChange {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        context.with_vault(|vault, out| {
            let report = vault.approve(&self.change, self.accept_loss)?;
            let outcome = match report.decided {
                true => "made; approved".to_owned(),
                false => format!("{} more must agree; approved", report.missing),
            };
            print(out, &report, &outcome)?;
            if report.decided && report.change == "enrol" {
                out.info("On the machine that has the device, `strongroom adopt URI` takes it into use.");
            }
            if report.decided && vault.count_stale(&Default::default())? > 0 {
                out.info("Run `strongroom reseal` with a device that opens: tokens are not yet sealed to the right devices.");
            }
            Ok(())
        })
    }
}

impl Execute for RejectChange {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        context.with_vault(|vault, out| {
            let report = vault.reject(&self.change, &self.reason)?;
            let outcome = match report.decided {
                true => "will not be made; rejected",
                false => "others can still agree; rejected",
            };
            Ok(print(out, &report, outcome)?)
        })
    }
}

fn print(out: &mut Output, report: &VoteReport, outcome: &str) -> Result<()> {
    let object = json!({
        "change": report.proposal.to_string(), "words": report.words, "decided": report.decided,
        "missing": report.missing, "by": report.by,
    });
    out.done(&object, &format!("{}: {outcome} by {}", report.words, report.by))
}

/// Lists the changes that wait.
pub fn list(vault: &Vault, out: &mut Output) -> Result<()> {
    let mut table = out.table(&["CHANGE", "BY", "APPROVED", "MISSING", "UNTIL", "WHAT"]);
    for row in vault.proposals()? {
        let cells = [
            row.hash.short(),
            vault.device_name(&row.proposal.proposer),
            vault.device_names(&row.proposal.approved).join(","),
            vault.missing_votes(&row.proposal)?.to_string(),
            until(&row),
            vault.change_in_words(&row.proposal.change),
        ];
        out.entry(&mut table, &as_json(vault, &row)?, cells)?;
    }
    out.end(table)
}

fn until(row: &ProposalRow) -> String {
    let until = time::rfc3339_secs(row.proposal.until);
    if is_expired(row) { format!("{until} (expired)") } else { until }
}

fn is_expired(row: &ProposalRow) -> bool {
    row.proposal.until < strongroom::vault::system_clock()
}

fn as_json(vault: &Vault, row: &ProposalRow) -> Result<Value> {
    let proposal = &row.proposal;
    Ok(json!({
        "change": row.hash.to_string(), "n": row.n, "by": vault.device_name(&proposal.proposer),
        "approved": vault.device_names(&proposal.approved), "rejected": vault.device_names(&proposal.rejected),
        "missing": vault.missing_votes(proposal)?, "until": time::rfc3339_secs(proposal.until),
        "expired": is_expired(row), "kind": proposal.change.kind_name(), "words": vault.change_in_words(&proposal.change),
        "body": vault.change_as_json(&proposal.change),
    }))
}
