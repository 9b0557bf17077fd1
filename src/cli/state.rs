//! Changes that need no new bytes: states, destruction, names.

use super::context::Context;
use super::describe::counted;
use super::{Act, ask, names};
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

impl Act for Suspend {
    fn act(self, context: &mut Context) -> anyhow::Result<()> {
        change(context, &self.name, State::Suspended, &self.reason)
    }
}

impl Act for Resume {
    fn act(self, context: &mut Context) -> anyhow::Result<()> {
        change(context, &self.name, State::Active, &self.reason)
    }
}

impl Act for Revoke {
    fn act(self, context: &mut Context) -> anyhow::Result<()> {
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
        out.say(&format!("{name}: {state}"));
        Ok(())
    })
}

impl Act for Destroy {
    fn act(self, context: &mut Context) -> anyhow::Result<()> {
        let (wanted, reason) = (names::versioned(&self.name)?, names::text("--reason", &self.reason)?);
        let tried = format!("destroy {}", self.name);
        context.with_tokens(|tokens, out| {
            // A name that does not exist is told before anybody is asked.
            tokens.expect(&wanted.name, &tried)?;
            let question =
                format!("The sealed bytes of {} are deleted, and nobody can bring them back.", self.name);
            ask::typed_agreement(self.yes, &tried, &question, &self.name)?;
            let count = tokens.destroy(&wanted.name, wanted.version, &reason)?;
            if out.json_wanted() {
                let name = wanted.name.as_str();
                return Ok(out.json(&json!({"name": name, "version": wanted.version, "destroyed": count}))?);
            }
            out.say(&format!("{}: destroyed, {}", self.name, counted(count, "version", "versions")));
            Ok(())
        })
    }
}

impl Act for Rename {
    fn act(self, context: &mut Context) -> anyhow::Result<()> {
        let (from, to) = (names::name(&self.from)?, names::name(&self.to)?);
        context.with_tokens(|tokens, out| {
            tokens.rename(&from, &to)?;
            if out.json_wanted() {
                return Ok(out.json(&json!({"from": from.as_str(), "to": to.as_str()}))?);
            }
            out.say(&format!("{from}: renamed to {to}"));
            Ok(())
        })
    }
}
