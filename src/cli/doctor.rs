//! `doctor`: what works, what is missing, and the command that fixes it. Needs no store, and logs in to no device.

mod configuration;
mod machine;
mod piv;
mod tpm;

use crate::cli::Execute;
use crate::cli::context::Context;
use crate::cli::output::Output;
use clap::Args;
use serde::Serialize;
use strongroom::vault::counted;
use strongroom::{Error, Kind, Result};

#[derive(Debug, Args)]
pub struct Doctor {
    /// Fail for notes too, such as a PIN with one try left
    #[arg(long)]
    strict: bool,
}

/// What was found in one place.
#[derive(Debug, Serialize)]
pub struct Finding {
    area: &'static str,
    status: Status,
    what: String,
    /// A command or a sentence.
    fix: Option<String>,
}

/// The status of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Works.
    Ok,
    /// Neither good nor bad.
    Note,
    /// Not there, and only needed by those who want it.
    Missing,
    /// Configured, and does not work; or open to others.
    Broken,
}

impl Finding {
    /// A finding in an area.
    pub fn new(area: &'static str, status: Status, what: impl Into<String>) -> Self {
        Self { area, status, what: what.into(), fix: None }
    }

    /// Adds the fix.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// A failure, with its hint as the fix.
    pub fn from_error(area: &'static str, status: Status, error: &Error) -> Self {
        let on = error.target().map(|on| format!("{on}: ")).unwrap_or_default();
        let finding =
            Self::new(area, status, format!("{on}cannot {}: {}", error.operation(), error.message()));
        match error.hint() {
            Some(hint) => finding.fix(hint),
            None => finding,
        }
    }
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Missing => "missing",
            Self::Broken => "broken",
        }
    }
}

impl Execute for Doctor {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let mut findings = machine::findings();
        findings.extend(tpm::findings(context));
        findings.extend(configuration::findings(context));
        print_report(&mut context.out, &findings)?;
        let count = |status| findings.iter().filter(|finding| finding.status == status).count() as u64;
        let (broken, notes) = (count(Status::Broken), if self.strict { count(Status::Note) } else { 0 });
        if broken + notes == 0 {
            return Ok(());
        }
        let noted =
            if self.strict { format!(", {}", counted(notes, "note", "notes")) } else { String::new() };
        let message = format!("{broken} broken{noted}");
        Err(Error::new(Kind::Degraded, "pass all checks", message).into())
    }
}

fn print_report(out: &mut Output, findings: &[Finding]) -> Result<()> {
    for finding in findings {
        if out.json_wanted() {
            out.json(finding)?;
            continue;
        }
        out.line(&format!("{:7}  {:13}  {}", finding.status.word(), finding.area, finding.what))?;
        if let Some(fix) = &finding.fix {
            out.line(&format!("{:7}  {:13}  {} {fix}", "", "", crate::cli::output::table::arrow()))?;
        }
    }
    Ok(())
}
