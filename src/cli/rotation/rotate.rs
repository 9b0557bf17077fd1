//! `rotate`: new values for tokens.

use crate::cli::Execute;
use crate::cli::args::{names, time};
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::exit::{self, ExitWith};
use crate::cli::output::Output;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::json;
use strongroom::config::Config;
use strongroom::ledger::{Name, Prefix};
use strongroom::rotation::{Options, Outcome, hook_of, rotate};
use strongroom::vault::{GrantOn, RotationNeed, RotationView};
use strongroom::{Error, Kind, Result, Vault};

#[derive(Debug, Args)]
pub struct Rotate {
    /// NAME, or PREFIX/ for all tokens under it that are due
    #[arg(add = ArgValueCompleter::new(completions::names), required_unless_present = "due")]
    on: Option<String>,
    /// All tokens that are due
    #[arg(long, conflicts_with = "on")]
    due: bool,
    /// Also if no new version is due; it cuts the overlap short
    #[arg(long, conflicts_with_all = ["due", "resume", "abort"])]
    now: bool,
    /// Only finish what was begun, and see to it that the issuer accepts the version in use
    #[arg(long, conflicts_with = "abort")]
    resume: bool,
    /// Undo what was begun: the issuer accepts the version in use, and the staged one is revoked
    #[arg(long)]
    abort: bool,
    /// Go on though another machine says that it is rotating the token
    #[arg(long)]
    take_over: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Execute for Rotate {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let on = self.on.as_deref().map(names::token_or_prefix).transpose()?;
        let config = context.resolve()?.config;
        context.with_vault(|vault, out| {
            let names = self.chosen(vault, on.as_ref())?;
            if self.dry_run {
                return Ok(dry_run(vault, out, &config, &names, self.now)?);
            }
            if names.is_empty() {
                out.info("nothing is due");
            }
            let mut failed = None;
            for name in &names {
                match self.rotate(vault, out, &config, name) {
                    Ok(()) => {}
                    Err(error) if names.len() == 1 => return Err(error.into()),
                    // One that fails does not keep the next from being rotated.
                    Err(error) => {
                        out.error(&error);
                        failed = failed.or(Some(exit::code_of(error.kind())));
                    }
                }
            }
            failed.map_or(Ok(()), |code| Err(ExitWith(code).into()))
        })
    }
}

impl Rotate {
    /// The named token, or those under a prefix that are due.
    fn chosen(&self, vault: &mut Vault, on: Option<&GrantOn>) -> Result<Vec<Name>> {
        let prefix = match on {
            Some(GrantOn::Token(name)) => return Ok(vec![name.clone()]),
            Some(GrantOn::Prefix(prefix)) => prefix.clone(),
            None => Prefix::default(),
        };
        let until = if self.now { u64::MAX } else { vault.latest_time() };
        let mut views = vault.due(&prefix, until)?;
        views.retain(|view| match view.need {
            RotationNeed::Rotate => !self.resume && !self.abort,
            RotationNeed::Retire => !self.abort,
            RotationNeed::Finish => true,
        });
        views.iter().map(|view| names::name(&view.name)).collect()
    }

    fn rotate(&self, vault: &mut Vault, out: &mut Output, config: &Config, name: &Name) -> Result<()> {
        let hook = hook_of(vault, config, name)?;
        let options =
            Options { now: self.now, resume: self.resume, abort: self.abort, take_over: self.take_over };
        let outcome = rotate(vault, &*hook, name, options, &mut |words| out.info(words))?;
        let (word, version, words) = match outcome {
            Outcome::Rotated(version) => ("rotated", Some(version), format!("{name}: rotated")),
            Outcome::Undone(version) => {
                ("undone", Some(version), format!("{name}: version {version} is in use as before"))
            }
            Outcome::Retired => ("retired", None, format!("{name}: no older version is left")),
            Outcome::NotDue(due) => {
                let at = time::rfc3339_secs(due);
                ("not-due", None, format!("{name}: nothing to do; due {at} (--now rotates it at once)"))
            }
        };
        out.done(&json!({"name": name.as_str(), "outcome": word, "version": version}), &words)
    }
}

fn dry_run(vault: &mut Vault, out: &mut Output, config: &Config, names: &[Name], now: bool) -> Result<()> {
    for name in names {
        let state = vault.rotation_state(name, &format!("rotate {name}"))?;
        let hook = state.policy.policy.hook;
        let prefix = Prefix::parse(name.as_str()).map_err(|why| Error::new(Kind::Usage, "rotate", why))?;
        let until = if now { u64::MAX } else { vault.latest_time() };
        let due = vault.due(&prefix, until)?;
        let view: Option<&RotationView> = due.iter().find(|view| view.name == name.as_str());
        let todo = match view.map(|view| view.need) {
            None => "nothing".to_owned(),
            Some(RotationNeed::Finish) => "finish what was begun".into(),
            Some(RotationNeed::Retire) if !now => "revoke what is older than the version in use".into(),
            Some(_) => "make a new version".into(),
        };
        let here = if config.hooks.contains_key(&hook) { "" } else { ", which this machine does not have" };
        let object = json!({"name": name.as_str(), "would": todo, "hook": hook});
        out.done(&object, &format!("{name}: would do: {todo}, with the hook {hook}{here}"))?;
    }
    Ok(())
}
