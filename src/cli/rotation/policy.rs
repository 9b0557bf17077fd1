//! `policy`: how tokens are rotated.

use crate::cli::Execute;
use crate::cli::args::{LazyArgs, names, time};
use crate::cli::completions;
use crate::cli::context::Context;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use strongroom::ledger::body::RotationPolicy;
use strongroom::vault::{GrantOn, PolicyView};

#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Policy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set how a token, or all tokens under a prefix, are rotated
    ///
    /// A token's own policy goes before its prefixes', a longer prefix before a shorter one. The policy names a hook; what the
    /// hook is, says the configuration of the machine that rotates. Needs the role `admin`, or `write` and `open`.
    Set(LazyArgs<Set>),
    /// Show the policies: all, the one that a token follows, or those on a prefix and below it
    Show(LazyArgs<Show>),
    /// End a policy
    Unset(LazyArgs<Unset>),
}

#[derive(Debug, Args)]
pub struct Set {
    /// NAME, or PREFIX/ for all tokens under it, also those to come; / for everything
    #[arg(add = ArgValueCompleter::new(completions::names))]
    on: String,
    /// A new version is due this long after the last one came into use: 30d, 12h, 2w
    #[arg(long, value_name = "TIME")]
    every: String,
    /// The version before stays open for this long beside the new one; 0 for not at all
    #[arg(long, value_name = "TIME", default_value = "1h")]
    overlap: String,
    /// The hook that sets new values at their issuer: [hooks.NAME] in config.toml
    #[arg(long, value_name = "NAME")]
    hook: String,
    /// A text for the hook; may be given several times. Everybody who reads the ledger sees it
    #[arg(long = "param", value_name = "KEY=VALUE")]
    params: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Show {
    /// NAME, or PREFIX/
    #[arg(add = ArgValueCompleter::new(completions::names))]
    on: Option<String>,
}

#[derive(Debug, Args)]
pub struct Unset {
    /// NAME, or PREFIX/
    #[arg(add = ArgValueCompleter::new(completions::names))]
    on: String,
}

impl Execute for Policy {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        match self.command {
            Command::Set(command) => command.execute(context),
            Command::Show(command) => command.execute(context),
            Command::Unset(command) => command.execute(context),
        }
    }
}

impl Execute for Set {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let on = names::token_or_prefix(&self.on)?;
        let policy = RotationPolicy {
            period: time::period("--every", &self.every)?,
            overlap: if self.overlap == "0" { 0 } else { time::period("--overlap", &self.overlap)? },
            hook: self.hook,
            params: names::labels(&self.params)?,
        };
        context.with_vault(|vault, out| {
            vault.set_policy(&on, Some(&policy))?;
            let words = format!(
                "{on}: rotated every {} with the hook {}, overlap {}",
                self.every, policy.hook, self.overlap
            );
            Ok(out.done(&vault.policy_of(&on)?, &words)?)
        })
    }
}

impl Execute for Unset {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let on = names::token_or_prefix(&self.on)?;
        context.with_vault(|vault, out| {
            let before = vault.policy_of(&on)?;
            vault.set_policy(&on, None)?;
            Ok(out.done(&before, &format!("{on}: no policy of its own any more"))?)
        })
    }
}

impl Execute for Show {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let on: Option<GrantOn> = self.on.as_deref().map(names::token_or_prefix).transpose()?;
        context.with_vault(|vault, out| {
            let policies = vault.policies(on.as_ref())?;
            if policies.is_empty() {
                out.info("no policy: `strongroom policy set` makes one");
            }
            let mut table = out.table(&["ON", "EVERY", "OVERLAP", "HOOK", "PARAMETERS"]);
            for policy in &policies {
                out.entry(&mut table, policy, cells(policy))?;
            }
            Ok(out.end(table)?)
        })
    }
}

fn cells(policy: &PolicyView) -> [String; 5] {
    let params: Vec<String> = policy.params.iter().map(|(key, value)| format!("{key}={value}")).collect();
    [
        policy.on.clone(),
        time::span(policy.every_seconds),
        time::span(policy.overlap_seconds),
        policy.hook.clone(),
        params.join(","),
    ]
}
