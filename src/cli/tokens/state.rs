//! Changes that need no new bytes: states, destruction, names.

use crate::cli::args::names;
use crate::cli::context::Context;
use crate::cli::output::format::pluralize;
use crate::cli::{Execute, confirm};
use clap::Args;
use serde_json::json;
use strongroom::ledger::body::State;

#[derive(Debug, Args)]
pub struct Suspend {
    /// NAME or NAME@VERSION
    name: String,
    /// Why; it stands in the ledger
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

#[derive(Debug, Args)]
pub struct Resume {
    /// NAME or NAME@VERSION
    name: String,
    /// Why; it stands in the ledger
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

#[derive(Debug, Args)]
pub struct Revoke {
    /// NAME or NAME@VERSION
    name: String,
    /// Why; it stands in the ledger and in every refusal
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Debug, Args)]
pub struct Destroy {
    /// NAME or NAME@VERSION
    name: String,
    /// Why; it stands in the ledger
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Args)]
pub struct Rename {
    /// The name it has
    from: String,
    /// The name it gets
    to: String,
}

impl Execute for Suspend {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        change(context, &self.name, State::Suspended, &self.reason)
    }
}

impl Execute for Resume {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        change(context, &self.name, State::Active, &self.reason)
    }
}

impl Execute for Revoke {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        change(context, &self.name, State::Revoked, &self.reason)
    }
}

fn change(context: &mut Context, name: &str, state: State, reason: &str) -> anyhow::Result<()> {
    let (wanted, reason) = (names::versioned(name)?, names::text("--reason", reason)?);
    context.with_tokens(|tokens, out| {
        tokens.set_state(&wanted.name, wanted.version, state, &reason)?;
        if out.json_wanted() {
            let (name, state) = (wanted.name.as_str(), state.to_string());
            return Ok(out.json(&json!({"name": name, "version": wanted.version, "state": state}))?);
        }
        out.info(&format!("{name}: {state}"));
        Ok(())
    })
}

impl Execute for Destroy {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let (wanted, reason) = (names::versioned(&self.name)?, names::text("--reason", &self.reason)?);
        let tried = format!("destroy {}", self.name);
        context.with_tokens(|tokens, out| {
            // A name that does not exist is told before anybody is asked.
            tokens.expect(&wanted.name, &tried)?;
            let question =
                format!("The sealed bytes of {} are deleted, and nobody can bring them back.", self.name);
            confirm::confirm_typed(self.yes, &tried, &question, &self.name)?;
            let count = tokens.destroy(&wanted.name, wanted.version, &reason)?;
            if out.json_wanted() {
                let name = wanted.name.as_str();
                return Ok(out.json(&json!({"name": name, "version": wanted.version, "destroyed": count}))?);
            }
            out.info(&format!("{}: destroyed, {}", self.name, pluralize(count, "version", "versions")));
            Ok(())
        })
    }
}

impl Execute for Rename {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let (from, to) = (names::name(&self.from)?, names::name(&self.to)?);
        context.with_tokens(|tokens, out| {
            tokens.rename(&from, &to)?;
            if out.json_wanted() {
                return Ok(out.json(&json!({"from": from.as_str(), "to": to.as_str()}))?);
            }
            out.info(&format!("{from}: renamed to {to}"));
            Ok(())
        })
    }
}
