//! `completions`: a script for a shell, and the answers to its questions while somebody types.
//!
//! The script calls the program with [`VARIABLE`] set. Commands and options come from their descriptions, names of tokens
//! from the agent or from this machine's replica. No device is asked.

use crate::cli::context::{Context, Globals};
use crate::cli::output::{Output, OutputOptions};
use crate::cli::{Cli, Execute};
use clap::{Args, CommandFactory};
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use strongroom::ledger::Prefix;
use strongroom::replica::ListFilter;
use strongroom::vault::TokenBackend;
use strongroom::{Result, Vault};

/// Set by the script, to its shell's name.
const VARIABLE: &str = "STRONGROOM_COMPLETE";

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Execute for Completions {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let (shell, mut script) = (self.shell.to_string(), Vec::new());
        if let Some(shell) = Shells::builtins().completer(&shell) {
            shell.write_registration(VARIABLE, "strongroom", "strongroom", "strongroom", &mut script)?;
        }
        Ok(context.out.bytes(&script)?)
    }
}

/// Answers a completion script on standard output. False if no script is asking.
///
/// # Errors
/// A shell that is not known.
pub fn answer() -> clap::error::Result<bool> {
    let directory = std::env::current_dir().ok();
    CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), directory.as_deref())
}

/// Names of tokens that begin like this, up to the next `/`.
pub fn names(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    // Whatever fails here shows when the command is run.
    matching(current).unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

/// The same after `VARIABLE=`.
pub fn bindings(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some((variable, name)) = current.to_str().and_then(|text| text.split_once('=')) else {
        return Vec::new();
    };
    let names = matching(name).unwrap_or_default().into_iter();
    names.map(|name| CompletionCandidate::new(format!("{variable}={name}"))).collect()
}

fn matching(current: &str) -> Result<BTreeSet<String>> {
    let globals = Globals { store: std::env::var("STRONGROOM_STORE").ok(), ..Globals::default() };
    let context = Context::new(globals, Output::new(OutputOptions::default()));
    match context.agent()? {
        Some(mut agent) => among(&mut agent, current),
        None => among(&mut Vault::open(context.setup()?)?, current),
    }
}

fn among(tokens: &mut dyn TokenBackend, current: &str) -> Result<BTreeSet<String>> {
    let directory = current.rsplit_once('/').map_or("", |(directory, _)| directory);
    let Ok(prefix) = Prefix::parse(directory) else { return Ok(BTreeSet::new()) };
    let (filter, mut found) = (ListFilter { prefix, ..ListFilter::default() }, BTreeSet::new());
    tokens.list(&filter, &mut |view| {
        if let Some(rest) = view.name.strip_prefix(current) {
            let end = rest.find('/').map_or(view.name.len(), |slash| current.len() + slash + 1);
            found.insert(view.name[..end].to_owned());
        }
        Ok(true)
    })?;
    Ok(found)
}
