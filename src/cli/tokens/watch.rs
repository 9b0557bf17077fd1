//! `watch`: tells of tokens that are other ones than they were.

use crate::cli::Execute;
use crate::cli::args::names;
use crate::cli::completions;
use crate::cli::context::Context;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use std::collections::BTreeMap;
use std::time::Duration;
use strongroom::error::printable;
use strongroom::vault::{GrantOn, Setup, Watched, WatchedToken, watched};
use strongroom::{Kind, Result, Vault};

/// How often the store is looked at, and how soon an agent that has gone is asked again.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct Watch {
    /// NAME, or PREFIX/ for all tokens under it; / for everything
    #[arg(required = true, add = ArgValueCompleter::new(completions::names))]
    on: Vec<String>,
}

/// What is told of tokens.
pub enum News {
    /// A token is as it was not before.
    Token(WatchedToken),
    /// That was all at first.
    All,
}

impl Execute for Watch {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let on = self.on.iter().map(|on| names::token_or_prefix(on)).collect::<Result<Vec<_>>>()?;
        let quiet = context.quiet_output();
        let mut out = std::mem::replace(&mut context.out, quiet);
        let mut print = |news| {
            let News::Token(token) = news else { return Ok(true) };
            let (version, state) = (token.version.map(|version| version.to_string()), token.state);
            match out.json_wanted() {
                true => out.json(&token)?,
                false => {
                    let state = state.map_or("gone", |state| state.word());
                    let (name, version) = (printable(&token.name), version.unwrap_or_default());
                    out.bytes(format!("{name}\t{version}\t{state}\n").as_bytes())?;
                }
            }
            // Whoever reads it wants it now.
            out.flush().map(|()| true)
        };
        follow(context, &on, &mut print)
    }
}

/// Tells `each` of these tokens until it says `false`: through an agent as the agent tells, else by looking at the store.
///
/// # Errors
/// The agent's or the store's, unless it may be back in a moment; those of `each`.
pub fn follow(
    context: &Context,
    on: &[GrantOn],
    each: &mut dyn FnMut(News) -> Result<bool>,
) -> anyhow::Result<()> {
    match context.agent()? {
        Some(_) => Ok(follow_agent(context, on, each)?),
        None => Ok(follow_store(context, on, each)?),
    }
}

fn follow_agent(context: &Context, on: &[GrantOn], each: &mut dyn FnMut(News) -> Result<bool>) -> Result<()> {
    // Each stream begins with how things are: what is known by then is no news.
    let (mut known, mut now): (BTreeMap<String, WatchedToken>, Vec<String>) = Default::default();
    let (mut first, mut goes_on) = (true, true);
    while goes_on {
        let mut all = false;
        let mut hear = |token: Option<WatchedToken>| {
            let Some(token) = token else {
                all = true;
                // What is there no more was not told of.
                let gone = known.keys().filter(|name| !now.contains(name)).cloned().collect::<Vec<_>>();
                for name in gone {
                    known.remove(&name);
                    goes_on &= each(News::Token(WatchedToken { name, version: None, state: None }))?;
                }
                if std::mem::take(&mut first) {
                    goes_on &= each(News::All)?;
                }
                return Ok(goes_on);
            };
            if !all {
                now.push(token.name.clone());
            }
            let new = match token.version {
                Some(_) => known.insert(token.name.clone(), token.clone()).as_ref() != Some(&token),
                None => known.remove(&token.name).is_some(),
            };
            goes_on &= !new || each(News::Token(token))?;
            Ok(goes_on)
        };
        match context.agent().and_then(|agent| agent.map_or(Ok(()), |mut agent| agent.watch(on, &mut hear))) {
            Err(error) if first || !matches!(error.kind(), Kind::Io | Kind::NoAgent | Kind::Store) => {
                return Err(error);
            }
            _ => {}
        }
        now.clear();
        if goes_on {
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}

fn follow_store(context: &Context, on: &[GrantOn], each: &mut dyn FnMut(News) -> Result<bool>) -> Result<()> {
    // No device: nothing is opened, and nobody is asked.
    let mut vault = Vault::open(Setup { devices: Vec::new(), ..context.setup()? })?;
    let (mut seen, mut first) = (Watched::default(), true);
    loop {
        match watched(&mut vault, on) {
            Ok(views) => {
                for token in seen.news(&views) {
                    if !each(News::Token(token))? {
                        return Ok(());
                    }
                }
                if std::mem::take(&mut first) && !each(News::All)? {
                    return Ok(());
                }
            }
            Err(error) if !first && matches!(error.kind(), Kind::Io | Kind::Store) => {}
            Err(error) => return Err(error),
        }
        std::thread::sleep(LOOK);
    }
}
