//! `log`, `history` and `head`: what was stated, by whom, and how far it goes.

use super::context::Context;
use super::describe::{self, NOTHING};
use super::output::Output;
use super::statement;
use super::table::Table;
use super::{Act, names, time};
use clap::Args;
use serde_json::json;
use strongroom::ledger::DeviceId;
use strongroom::store::RecordedAccess;
use strongroom::vault::{LogEntry, LogOrder};
use strongroom::{Result, Vault};

/// How many lines of the access log are read at once.
const PAGE: u32 = 500;

/// The columns of a ledger listing.
const COLUMNS: &[&str] = &["N", "TIME", "BY", "STATEMENT"];

#[derive(Debug, Args)]
pub struct Log {
    /// So many lines at most
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
    name: String,
}

#[derive(Debug, Args)]
pub struct Head {}

impl Act for Log {
    fn act(self, context: &mut Context) -> anyhow::Result<()> {
        let limit = self.limit.unwrap_or(u64::MAX);
        context.with_vault(|vault, out| match self.access {
            true => Ok(accesses(vault, out, limit)?),
            false => {
                let order = if self.reverse { LogOrder::OldestFirst } else { LogOrder::NewestFirst };
                Ok(ledger(vault, out, order, limit)?)
            }
        })
    }
}

fn ledger(vault: &mut Vault, out: &mut Output, order: LogOrder, limit: u64) -> Result<()> {
    let (mut table, mut left) = (out.table(COLUMNS), limit);
    vault.log(order, |vault, entry| {
        if left == 0 {
            return Ok(false);
        }
        left -= 1;
        print(vault, out, &mut table, &entry)?;
        Ok(left > 0)
    })?;
    out.end(table)
}

impl Act for History {
    fn act(self, context: &mut Context) -> anyhow::Result<()> {
        let name = names::name(&self.name)?;
        context.with_vault(|vault, out| {
            let mut table = out.table(COLUMNS);
            for entry in vault.history(&name)? {
                print(vault, out, &mut table, &entry)?;
            }
            Ok(out.end(table)?)
        })
    }
}

fn print(vault: &Vault, out: &mut Output, table: &mut Table, entry: &LogEntry) -> Result<()> {
    if out.json_wanted() {
        return out.json(&statement::EntryJson::of(vault, entry));
    }
    let cells = [
        entry.n.to_string(),
        time::person(entry.statement.time),
        describe::device(vault, &entry.statement.author),
        statement::words(vault, entry),
    ];
    out.row(table, cells.into())
}

fn accesses(vault: &mut Vault, out: &mut Output, limit: u64) -> Result<()> {
    let mut table = out.table(&["N", "TIME", "TOKEN", "OUTCOME", "UID", "PID", "PROGRAM", "DEVICE"]);
    let (mut before, mut left) = (0, limit);
    while left > 0 {
        let page = vault.accesses(before, PAGE.min(u32::try_from(left).unwrap_or(PAGE)))?;
        let Some(last) = page.last() else { break };
        before = last.n;
        left -= page.len() as u64;
        for line in &page {
            print_access(vault, out, &mut table, line)?;
        }
        // Before row 1 there is nothing, and 0 would mean the newest.
        if before <= 1 {
            break;
        }
    }
    out.end(table)
}

fn print_access(vault: &Vault, out: &mut Output, table: &mut Table, line: &RecordedAccess) -> Result<()> {
    let access = &line.access;
    let device = access.device.parse::<DeviceId>().map(|id| describe::device(vault, &id));
    let device = device.unwrap_or_else(|_| access.device.clone());
    if out.json_wanted() {
        return out.json(&json!({
            "n": line.n,
            "time": time::program(access.time),
            "name": access.name,
            "version": (access.version > 0).then_some(access.version),
            "outcome": access.outcome,
            "uid": access.uid,
            "pid": access.pid,
            "exe": access.exe,
            "device": device,
        }));
    }
    let cells = [
        line.n.to_string(),
        time::person(access.time),
        if access.version > 0 { format!("{}@{}", access.name, access.version) } else { access.name.clone() },
        access.outcome.clone(),
        access.uid.to_string(),
        access.pid.to_string(),
        access.exe.clone(),
        if device.is_empty() { NOTHING.into() } else { device },
    ];
    out.row(table, cells.into())
}

impl Act for Head {
    fn act(self, context: &mut Context) -> anyhow::Result<()> {
        context.with_vault(|vault, out| {
            let head = vault.head();
            if out.json_wanted() {
                let (store, chain) = (head.store.to_string(), head.position.chain.to_string());
                let all =
                    json!({"store": store, "n": head.position.n, "chain": chain, "line": head.to_string()});
                return Ok(out.json(&all)?);
            }
            Ok(out.line(&head.to_string())?)
        })
    }
}
