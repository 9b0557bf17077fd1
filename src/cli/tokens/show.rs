//! `show`: all there is to know about one token, but the token.

use crate::cli::Execute;
use crate::cli::args::{names, time};
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::output::Output;
use crate::cli::output::format::{labels, time_cell};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use strongroom::vault::{PolicyView, TokenBackend, TokenRef, TokenView, recipients_in_words};
use strongroom::{Error, Kind, Result};

#[derive(Debug, Args)]
pub struct Show {
    /// NAME or NAME@VERSION
    #[arg(add = ArgValueCompleter::new(completions::names))]
    name: String,
    /// Write the age file of the version, by default of the newest
    #[arg(long, conflicts_with = "json")]
    sealed: bool,
}

impl Execute for Show {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let wanted = names::versioned(&self.name)?;
        let operation = format!("show {}", self.name);
        context.with_tokens(|tokens, out| {
            if self.sealed {
                return Ok(sealed(tokens, out, &wanted, &operation)?);
            }
            let token = tokens.show(&wanted.name, wanted.version, &operation)?;
            match out.json_wanted() {
                true => out.json(&token)?,
                false => print_report(out, &token)?,
            }
            Ok(())
        })
    }
}

fn sealed(tokens: &mut dyn TokenBackend, out: &mut Output, wanted: &TokenRef, operation: &str) -> Result<()> {
    if out.to_terminal() {
        let message = "an age file is binary, and would garble the terminal";
        return Err(Error::new(Kind::Usage, operation, message).with_hint("redirect it to a file"));
    }
    out.bytes(&tokens.sealed(wanted, operation)?)
}

/// `every 30d with the hook pg (policy of prod/), due 2027-01-31T00:00:00Z`
fn rotation(policy: &PolicyView, due: Option<u64>) -> String {
    let due = due.map(|at| format!(", due {}", time::rfc3339_secs(at))).unwrap_or_default();
    let every = time::span(policy.every_seconds);
    format!("every {every} with the hook {} (policy of {}){due}", policy.hook, policy.on)
}

fn print_report(out: &mut Output, token: &TokenView) -> Result<()> {
    let Some(version) = token.current_version().or(token.versions.last()) else { return Ok(()) };
    out.fields(&[
        ("name", token.name.clone()),
        ("token id", token.token_id.clone()),
        ("state", version.state.word().into()),
        ("closed", token.closed.clone().unwrap_or_default()),
        ("description", version.description.clone()),
        ("labels", if version.labels.is_empty() { String::new() } else { labels(&version.labels) }),
        (
            "rotation",
            token.rotation.as_ref().map(|policy| rotation(policy, token.rotation_due)).unwrap_or_default(),
        ),
        ("keep", version.keep.map(|keep| format!("{keep} versions")).unwrap_or_default()),
    ])?;
    let mut table =
        out.aligned_table(&["VERSION", "STATE", "PUT", "BY", "NOT BEFORE", "EXPIRES", "SEALED TO", "REASON"]);
    out.line("")?;
    for view in &token.versions {
        let cells = [
            view.version.to_string(),
            view.state.word().into(),
            time_cell(view.put),
            view.by.clone(),
            time_cell(view.not_before),
            time_cell(view.expires),
            recipients_in_words(&view.recipients, view.threshold, ","),
            view.reason.clone(),
        ];
        out.row(&mut table, cells.into())?;
    }
    out.end(table)?;
    if token.grants.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table = out.aligned_table(&["GRANTED TO", "OPERATIONS", "ON", "UNTIL", "STATEMENT"]);
    for grant in &token.grants {
        let until = time_cell(grant.until);
        let cells = [grant.to.clone(), grant.ops.join(","), grant.on.clone(), until, grant.n.to_string()];
        out.row(&mut table, cells.into())?;
    }
    out.end(table)
}
