//! `backup` and `restore`: a verified copy of the store, and a store from one.

use crate::cli::Execute;
use crate::cli::args::time::rfc3339_secs;
use crate::cli::context::Context;
use crate::cli::ledger::trust;
use crate::cli::output::Output;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use strongroom::vault::{
    BackupCheck, CheckedCopy, RestoreOptions, RestoreReport, check_backup, counted, line_file, restore,
};
use strongroom::{Error, Kind, Result};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Backup {
    #[command(subcommand)]
    command: Option<BackupCommand>,
    /// A file, or a directory, which gets a file named by the time
    #[arg(required = true, value_name = "FILE|DIR")]
    to: Option<PathBuf>,
    /// Replace an older backup
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Verify a backup, and compare it with its line and with what this machine has verified
    Check(Check),
}

#[derive(Debug, Args)]
pub struct Check {
    /// The backup
    file: PathBuf,
    /// What `strongroom head` printed, in place of the line in FILE.head
    #[arg(long)]
    line: Option<String>,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// The backup
    file: PathBuf,
    /// What `strongroom head` printed, in place of the line in FILE.head
    #[arg(long)]
    line: Option<String>,
    /// Also if this machine has verified more, which is then lost
    #[arg(long)]
    older: bool,
}

impl Execute for Backup {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        match (self.command, self.to) {
            (Some(BackupCommand::Check(check)), _) => check.execute(context),
            (None, Some(to)) => context.with_vault(|vault, out| {
                let file = file_for(&to, Timestamp::now())?;
                let mut progress = out.progress();
                let copy =
                    vault.backup(&file, self.force, &mut |what, done, total| progress(what, done, total))?;
                print_backup(out, &copy)?;
                let single = vault.count_single_device()?;
                if single > 0 {
                    out.warn(&format!(
                        "{} would be lost with one device, and no backup brings {} back: `strongroom list \
                         --single-device` lists them; enrol another device: `strongroom device add URI --role open`",
                        counted(single, "token", "tokens"),
                        if single == 1 { "it" } else { "them" }
                    ));
                }
                Ok(())
            }),
            (None, None) => Err(Error::new(Kind::Usage, "back the store up", "no file is named").into()),
        }
    }
}

/// The file itself, or one in the directory.
fn file_for(to: &Path, now: Timestamp) -> Result<PathBuf> {
    if to.is_dir() {
        return Ok(to.join(now.strftime("strongroom-%Y%m%dT%H%M%SZ.sqlite").to_string()));
    }
    match to.file_name() {
        Some(_) => Ok(to.into()),
        None => Err(Error::new(Kind::Usage, "back the store up", "that is neither a file nor a directory")),
    }
}

fn print_backup(out: &mut Output, copy: &CheckedCopy) -> Result<()> {
    if out.json_wanted() {
        return out.json(&copy_json(copy));
    }
    let line = line_file(&copy.file);
    out.info(&format!("{}: {}", copy.file.display(), what_it_holds(copy)));
    out.info(&format!(
        "The line that another machine trusts it by is in {}; keep it also where nobody who can write the backup can change it.",
        line.display()
    ));
    Ok(())
}

fn what_it_holds(copy: &CheckedCopy) -> String {
    let report = &copy.report;
    format!(
        "verified: {}, {}, {}, {} of the access log; the newest change is of {}",
        counted(report.statements, "statement", "statements"),
        counted(copy.tokens, "token", "tokens"),
        counted(report.sealed, "sealed version", "sealed versions"),
        counted(report.accesses, "line", "lines"),
        rfc3339_secs(copy.newest),
    )
}

impl Execute for Check {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let line = self.line.as_deref().map(trust::parse).transpose()?;
        let setup = context.setup()?;
        let mut progress = context.out.progress();
        let checked =
            check_backup(&setup, &self.file, line, &mut |what, done, total| progress(what, done, total))?;
        let out = &mut context.out;
        if out.json_wanted() {
            let mut object = copy_json(&checked.copy);
            object["rests_on"] = checked.line.as_ref().map(|line| line.position.n).into();
            object["verified_here"] = checked.verified_here.into();
            return Ok(out.json(&object)?);
        }
        out.info(&format!("{}: {}", self.file.display(), what_it_holds(&checked.copy)));
        out.info(&rests_on(&checked));
        out.info(&compared(&checked));
        Ok(())
    }
}

fn rests_on(checked: &BackupCheck) -> String {
    match &checked.line {
        Some(line) if line.position.n > 0 => {
            format!("It leads to statement {} of its line.", line.position.n)
        }
        Some(_) => "It has the id of its line.".into(),
        None => "There is no line beside it: Strongroom cannot tell whose store it is. Give one with --line."
            .into(),
    }
}

fn compared(checked: &BackupCheck) -> String {
    let theirs = checked.copy.head.position.n;
    match checked.verified_here {
        None => "This machine does not use this store.".into(),
        Some(ours) if ours > theirs => {
            format!("This machine has verified {} more.", counted(ours - theirs, "statement", "statements"))
        }
        Some(_) => "It holds all that this machine has verified.".into(),
    }
}

impl Execute for Restore {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let line = self.line.as_deref().map(trust::parse).transpose()?;
        let setup = context.setup()?;
        let options = RestoreOptions { line, older: self.older };
        let mut progress = context.out.progress();
        let report =
            restore(&setup, &self.file, &options, &mut |what, done, total| progress(what, done, total))?;
        let out = &mut context.out;
        if out.json_wanted() {
            let mut object = copy_json(&report.copy);
            object["location"] = report.location.clone().into();
            object["verified_here"] = report.known.verified_here.into();
            object["behind"] = report.known.behind.into();
            object["lacks"] = report.known.lacks.clone().into();
            return Ok(out.json(&object)?);
        }
        out.info(&format!("{}: {}", report.location, what_it_holds(&report.copy)));
        say_what_is_next(out, &report);
        Ok(())
    }
}

fn say_what_is_next(out: &mut Output, report: &RestoreReport) {
    let known = &report.known;
    if known.behind > 0 {
        let named =
            if known.lacks.is_empty() { String::new() } else { format!(": {}", known.lacks.join(", ")) };
        let count = counted(known.behind, "statement is", "statements are");
        out.warn(&format!("{count} lost{named}"));
        out.info("Make these changes again, revocations first. Each machine that knows the store has to be told with: strongroom trust LINE --replace");
        return;
    }
    out.info(match known.verified_here {
        Some(_) => "It holds all that this machine has verified.",
        None => "This machine has never verified it. Next: `strongroom trust LINE`, with the line of your own copy, then `strongroom adopt`",
    });
}

fn copy_json(copy: &CheckedCopy) -> Value {
    json!({
        "file": copy.file.display().to_string(), "line": copy.head.to_string(), "store": copy.head.store.to_string(),
        "statements": copy.report.statements, "tokens": copy.tokens, "sealed": copy.report.sealed,
        "accesses": copy.report.accesses, "newest": rfc3339_secs(copy.newest),
    })
}
