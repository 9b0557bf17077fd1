//! `grant`, `ungrant` and `grants`: which application may do what with which tokens.

use crate::cli::Execute;
use crate::cli::args::{names, time, unusable_value};
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::output::Output;
use crate::cli::output::format::{EMPTY_CELL, time_cell};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use nix::unistd::{Group, User};
use strongroom::ledger::GrantId;
use strongroom::vault::{GrantOn, GrantOptions, GrantView, Grantee, Op, Revoked, check_alias};
use strongroom::{Error, Kind, Result};

#[derive(Debug, Args)]
pub struct Grant {
    /// NAME, or PREFIX/ for all tokens under it, also those to come; / for everything
    #[arg(add = ArgValueCompleter::new(completions::names))]
    on: String,
    /// To whom: unit:web.service, unit:USER/sync.service, user:deploy, group:ops, exe:/usr/bin/x or exe:sha256:DIGEST. Several, joined by +, all have to hold
    #[arg(long, value_name = "GRANTEE")]
    to: String,
    /// What they may do: get, get-confirmed, list, put, state
    #[arg(long, value_name = "OP,…", value_delimiter = ',', default_value = "get")]
    ops: Vec<String>,
    /// Ask a person each time before the agent hands it out: get-confirmed in place of get
    #[arg(long)]
    confirm: bool,
    /// Until then: 30d, 12h, 2027-01-31, RFC 3339
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The id under which a systemd unit asks for it: LoadCredential=ID:…
    #[arg(long = "as", value_name = "ID")]
    alias: Option<String>,
    /// Grant it even if this machine does not know the user or group
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub struct Ungrant {
    /// The grant's id; or NAME or PREFIX/ together with --to
    what: String,
    /// Whose grants
    #[arg(long, value_name = "GRANTEE")]
    to: Option<String>,
}

#[derive(Debug, Args)]
pub struct Grants {
    /// NAME: those that reach this token; PREFIX/: those on it and below
    #[arg(add = ArgValueCompleter::new(completions::names))]
    on: Option<String>,
}

impl Execute for Grant {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let (on, to) = (names::token_or_prefix(&self.on)?, grantee(&self.to)?);
        if !self.force {
            expect_known(&to)?;
        }
        let options = GrantOptions {
            ops: self.ops()?,
            until: self.until.as_deref().map(|at| time::future("--until", at)).transpose()?,
            alias: self.alias.as_deref().map(|id| alias(id, &on, &to)).transpose()?,
        };
        context.with_tokens(|tokens, out| {
            let granted = tokens.grant(&on, &to, &options)?;
            let words = format!("{on}: granted {} to {to} ({})", granted.ops.join(","), granted.id);
            Ok(out.done(&granted, &words)?)
        })
    }
}

impl Grant {
    fn ops(&self) -> Result<Vec<Op>> {
        let mut ops = self.ops.iter().map(|text| op(text)).collect::<Result<Vec<_>>>()?;
        if self.confirm {
            let get = ops.iter_mut().find(|op| matches!(op, Op::Get | Op::GetConfirmed));
            let none = || unusable_value("--confirm", "only `get` is confirmed; add it to --ops");
            *get.ok_or_else(none)? = Op::GetConfirmed;
        }
        Ok(ops)
    }
}

impl Execute for Ungrant {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let which = match (&self.to, self.what.parse::<GrantId>()) {
            (Some(to), _) => Revoked::Of(names::token_or_prefix(&self.what)?, grantee(to)?),
            (None, Ok(id)) => Revoked::Id(id),
            (None, Err(why)) => {
                let error = Error::new(Kind::Usage, "use it as a grant's id", why);
                return Err(error
                    .with_hint("give the id that `strongroom grants` shows, or say --to whom")
                    .into());
            }
        };
        context.with_tokens(|tokens, out| {
            for grant in tokens.ungrant(&which)? {
                out.done(&grant, &format!("{}: no longer granted to {}", grant.on, grant.to))?;
            }
            Ok(())
        })
    }
}

impl Execute for Grants {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let on = self.on.as_deref().map(names::token_or_prefix).transpose()?;
        context.with_tokens(|tokens, out| {
            let grants = tokens.grants(on.as_ref())?;
            if grants.is_empty() {
                out.info("there are no grants: the agent serves only its owner");
            }
            Ok(list(out, &grants)?)
        })
    }
}

fn list(out: &mut Output, grants: &[GrantView]) -> Result<()> {
    let mut table = out.table(&["ON", "TO", "OPERATIONS", "UNTIL", "AS", "ID"]);
    for grant in grants {
        let cells = [
            grant.on.clone(),
            grant.to.clone(),
            grant.ops.join(","),
            time_cell(grant.until),
            grant.alias.clone().unwrap_or_else(|| EMPTY_CELL.into()),
            grant.id.clone(),
        ];
        out.entry(&mut table, grant, cells)?;
    }
    out.end(table)
}

fn grantee(text: &str) -> Result<Grantee> {
    text.parse().map_err(|why: String| unusable_value("--to", why))
}

/// Refuses users and groups that do not exist here: a misspelt name could be given to somebody else later.
fn expect_known(to: &Grantee) -> Result<()> {
    let unknown = |what: &str, name: &str| {
        let message = format!("this machine knows no {what} `{name}`");
        Error::new(Kind::NotFound, "use the value of --to", message)
            .with_hint("check the spelling; --force grants it all the same, for another machine")
    };
    let is_number = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
    let user_exists = |name: &str| !matches!(User::from_name(name), Ok(None));
    match to {
        Grantee::User(user) | Grantee::UserUnit { user, .. } if !is_number(user) && !user_exists(user) => {
            Err(unknown("user", user))
        }
        Grantee::Group(group) if !is_number(group) && matches!(Group::from_name(group), Ok(None)) => {
            Err(unknown("group", group))
        }
        Grantee::All(all) => all.iter().try_for_each(expect_known),
        _ => Ok(()),
    }
}

fn op(text: &str) -> Result<Op> {
    text.parse().map_err(|why: String| unusable_value("--ops", why))
}

fn alias(id: &str, on: &GrantOn, to: &Grantee) -> Result<String> {
    check_alias(id, on, to).map_err(|why| unusable_value("--as", why))?;
    Ok(id.into())
}
