//! Whether the store can be believed: `verify`, and what to do when it cannot.

use super::Act;
use super::context::Context;
use super::output::Output;
use clap::Args;
use serde_json::{Value, json};
use strongroom::vault::VerifyReport;
use strongroom::{Error, Kind, Result};

/// Verify everything, from the first statement on
///
/// Signatures, roles and order of all statements; the replica against the store; the bytes of every sealed token; the
/// chain of the access log. Every problem is listed with its place, and the exit code is 7 if there is one.
#[derive(Debug, Args)]
pub struct Verify {
    /// Replace the local replica by the one made on the way
    #[arg(long)]
    rebuild: bool,
}

impl Act for Verify {
    fn act(self, context: &mut Context) -> anyhow::Result<()> {
        context.with_vault(|vault, out| {
            let mut progress = out.progress();
            let report = vault.verify(self.rebuild, &mut |what, done, total| progress(what, done, total))?;
            tell(out, &report)?;
            if !report.problems.is_empty() {
                let answer =
                    format!("{} did not verify", counted(report.problems.len() as u64, "thing", "things"));
                let error = Error::new(Kind::Tampered, "believe the whole store", answer)
                    .on(vault.location().to_owned());
                return Err(error.advice("restore what is damaged from a sound copy of the store").into());
            }
            Ok(())
        })
    }
}

fn tell(out: &mut Output, report: &VerifyReport) -> Result<()> {
    if out.json_wanted() {
        return out.json(&as_json(report));
    }
    for problem in &report.problems {
        out.line(&format!("{}: {}", problem.place, problem.what))?;
    }
    let ineffective = match report.ineffective {
        0 => String::new(),
        n => format!(" ({n} without effect)"),
    };
    out.say(&format!(
        "verified: {}{ineffective}, {}, {} of the access log",
        counted(report.statements, "statement", "statements"),
        counted(report.sealed, "sealed version", "sealed versions"),
        counted(report.accesses, "line", "lines"),
    ));
    Ok(())
}

fn as_json(report: &VerifyReport) -> Value {
    let problems =
        report.problems.iter().map(|problem| json!({"place": problem.place, "what": problem.what}));
    json!({
        "statements": report.statements,
        "ineffective": report.ineffective,
        "sealed": report.sealed,
        "accesses": report.accesses,
        "problems": problems.collect::<Vec<_>>(),
    })
}

fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
