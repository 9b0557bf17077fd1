//! `log` and `history`: what was stated, and by whom.

use crate::cli::Execute;
use crate::cli::args::names;
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::output::Output;
use crate::cli::output::format::{EMPTY_CELL, time_cell};
use crate::cli::output::table::Table;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use strongroom::Result;
use strongroom::vault::{AccessView, EntryView, LogOrder, TokenBackend};

/// How many lines of the access log are read at once.
const PAGE: u32 = 500;

/// The columns of a ledger listing.
const COLUMNS: &[&str] = &["N", "TIME", "BY", "STATEMENT"];

#[derive(Debug, Args)]
pub struct Log {
    /// At most this many lines
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<u64>,
    /// Oldest first
    #[arg(long)]
    reverse: bool,
    /// The access log instead of the ledger
    #[arg(long, conflicts_with = "reverse")]
    access: bool,
}

#[derive(Debug, Args)]
pub struct History {
    /// The token's name; tokens that had it before are shown too
    #[arg(add = ArgValueCompleter::new(completions::names))]
    name: String,
}

impl Execute for Log {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let limit = self.limit.unwrap_or(u64::MAX);
        context.with_tokens(|tokens, out| match self.access {
            true => Ok(accesses(tokens, out, limit)?),
            false => {
                let order = if self.reverse { LogOrder::OldestFirst } else { LogOrder::NewestFirst };
                Ok(ledger(tokens, out, order, limit)?)
            }
        })
    }
}

fn ledger(tokens: &mut dyn TokenBackend, out: &mut Output, order: LogOrder, limit: u64) -> Result<()> {
    let (mut table, mut left) = (out.table(COLUMNS), limit);
    tokens.log(order, &mut |entry| {
        if left == 0 {
            return Ok(false);
        }
        left -= 1;
        print(out, &mut table, &entry)?;
        Ok(left > 0)
    })?;
    out.end(table)
}

impl Execute for History {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let name = names::name(&self.name)?;
        context.with_tokens(|tokens, out| {
            let mut table = out.table(COLUMNS);
            for entry in tokens.history(&name)? {
                print(out, &mut table, &entry)?;
            }
            Ok(out.end(table)?)
        })
    }
}

fn print(out: &mut Output, table: &mut Table, entry: &EntryView) -> Result<()> {
    let cells = [entry.n.to_string(), time_cell(entry.time), entry.by.clone(), entry.line()];
    out.entry(table, entry, cells)
}

fn accesses(tokens: &mut dyn TokenBackend, out: &mut Output, limit: u64) -> Result<()> {
    let mut table = out.table(&["N", "TIME", "TOKEN", "OUTCOME", "UID", "PID", "PROGRAM", "DEVICE"]);
    let (mut before, mut left) = (0, limit);
    while left > 0 {
        let page = tokens.accesses(before, PAGE.min(u32::try_from(left).unwrap_or(PAGE)))?;
        let Some(last) = page.last() else { break };
        before = last.n;
        left -= page.len() as u64;
        for line in &page {
            print_access(out, &mut table, line)?;
        }
        // Before row 1 there is nothing, and 0 would mean the newest.
        if before <= 1 {
            break;
        }
    }
    out.end(table)
}

fn print_access(out: &mut Output, table: &mut Table, line: &AccessView) -> Result<()> {
    let cells = [
        line.n.to_string(),
        time_cell(line.time),
        line.version.map_or_else(|| line.name.clone(), |version| format!("{}@{version}", line.name)),
        line.outcome.clone(),
        line.uid.to_string(),
        line.pid.to_string(),
        line.exe.clone(),
        if line.device.is_empty() { EMPTY_CELL.into() } else { line.device.clone() },
    ];
    out.entry(table, line, cells)
}
