//! `suspend`, `resume` and `revoke`: the states of a token and its versions.

use crate::cli::Execute;
use crate::cli::args::names;
use crate::cli::completions;
use crate::cli::context::Context;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::json;
use strongroom::ledger::body::State;
use strongroom::rotation::{hook_of, revoke_at_issuer};

#[derive(Debug, Args)]
pub struct Suspend {
    /// NAME or NAME@VERSION
    #[arg(add = ArgValueCompleter::new(completions::names))]
    name: String,
    /// The reason, recorded in the ledger
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

#[derive(Debug, Args)]
pub struct Resume {
    /// NAME or NAME@VERSION
    #[arg(add = ArgValueCompleter::new(completions::names))]
    name: String,
    /// The reason, recorded in the ledger
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

#[derive(Debug, Args)]
pub struct Revoke {
    /// NAME or NAME@VERSION
    #[arg(add = ArgValueCompleter::new(completions::names))]
    name: String,
    /// The reason, recorded in the ledger and shown in every refusal
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Have its issuer refuse it, with the hook of its rotation policy. It opens no more at once, and is revoked when the
    /// issuer has confirmed; run it again where that failed
    #[arg(long)]
    at_issuer: bool,
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
        if self.at_issuer {
            return self.at_issuer(context);
        }
        change(context, &self.name, State::Revoked, &self.reason)
    }
}

impl Revoke {
    /// It opens no more from the beginning; it is revoked when the issuer has confirmed.
    fn at_issuer(&self, context: &mut Context) -> anyhow::Result<()> {
        let (wanted, reason) = (names::versioned(&self.name)?, names::text("--reason", &self.reason)?);
        let config = context.resolve()?.config;
        context.with_vault(|vault, out| {
            let hook = hook_of(vault, &config, &wanted.name)?;
            let confirmed = revoke_at_issuer(vault, &*hook, &wanted.name, wanted.version, &reason)?;
            let object = json!({
                "name": wanted.name.as_str(), "version": wanted.version, "state": "revoked", "at_issuer": confirmed,
            });
            Ok(out.done(&object, &format!("{}: revoked, at its issuer too", self.name))?)
        })
    }
}

fn change(context: &mut Context, name: &str, state: State, reason: &str) -> anyhow::Result<()> {
    let (wanted, reason) = (names::versioned(name)?, names::text("--reason", reason)?);
    context.with_tokens(|tokens, out| {
        tokens.set_state(&wanted.name, wanted.version, state, &reason)?;
        let object =
            json!({"name": wanted.name.as_str(), "version": wanted.version, "state": state.to_string()});
        Ok(out.done(&object, &format!("{name}: {state}"))?)
    })
}
