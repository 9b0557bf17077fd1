//! `log` and `history`: what was stated, and by whom.

use crate::cli::Execute;
use crate::cli::args::names;
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::ledger::cef;
use crate::cli::ledger::log_filter::{Filter, FilterArgs};
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
    /// How to print: text, json (as --json), or cef, the Common Event Format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", conflicts_with = "json")]
    format: LogFormat,
    #[command(flatten)]
    filter: FilterArgs,
}

/// How lines are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    /// A table.
    #[default]
    Text,
    /// An object a line.
    Json,
    /// The Common Event Format.
    Cef,
}

/// What a listing prints, and how.
struct Listing {
    format: LogFormat,
    filter: Filter,
    limit: u64,
}

#[derive(Debug, Args)]
pub struct History {
    /// The token's name; tokens that had it before are shown too
    #[arg(add = ArgValueCompleter::new(completions::names))]
    name: String,
}

impl Execute for Log {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let filter = self.filter.filter(self.access)?;
        let listing = Listing { format: self.format, filter, limit: self.limit.unwrap_or(u64::MAX) };
        context.with_tokens(|tokens, out| match self.access {
            true => Ok(accesses(tokens, out, &listing)?),
            false => {
                let order = if self.reverse { LogOrder::OldestFirst } else { LogOrder::NewestFirst };
                Ok(ledger(tokens, out, order, &listing)?)
            }
        })
    }
}

fn ledger(tokens: &mut dyn TokenBackend, out: &mut Output, order: LogOrder, listing: &Listing) -> Result<()> {
    let (mut table, mut left, mut known) = (out.table(COLUMNS), listing.limit, listing.limit == 0);
    tokens.log(order, &mut |entry| {
        known = known || listing.filter.knows_author(&entry);
        if left > 0 && listing.filter.admits(&entry) {
            left -= 1;
            match listing.format {
                LogFormat::Text => print(out, &mut table, &entry)?,
                LogFormat::Json => out.json(&entry)?,
                LogFormat::Cef => out.line(&cef::statement(&entry))?,
            }
        }
        Ok(left > 0)
    })?;
    if !known {
        return Err(listing.filter.unknown_author());
    }
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

fn accesses(tokens: &mut dyn TokenBackend, out: &mut Output, listing: &Listing) -> Result<()> {
    let mut table = out.table(&["N", "TIME", "TOKEN", "OUTCOME", "UID", "PID", "PROGRAM", "DEVICE"]);
    let (mut before, mut left) = (0, listing.limit);
    while left > 0 {
        let page = tokens.accesses(before, PAGE)?;
        let Some(last) = page.last() else { break };
        before = last.n;
        for line in page.iter().filter(|line| listing.filter.admits_access(line)) {
            if left == 0 {
                break;
            }
            left -= 1;
            match listing.format {
                LogFormat::Text => print_access(out, &mut table, line)?,
                LogFormat::Json => out.json(line)?,
                LogFormat::Cef => out.line(&cef::access(line))?,
            }
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
