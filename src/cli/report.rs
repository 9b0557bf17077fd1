//! `report`: the state of a store on one page, for auditors.

mod chart;
mod data;
mod page;

use crate::cli::Execute;
use crate::cli::context::Context;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use strongroom::Error;
use strongroom::partial_file::PartialFile;
use strongroom::vault::counted;

const OPERATION: &str = "write the report";

#[derive(Debug, Args)]
pub struct Report {
    /// The page: a file of its own, without scripts and without anything from elsewhere
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
    /// How many days of the access log are shown
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

impl Execute for Report {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        context.with_vault(|vault, out| {
            let partial = PartialFile::beside(&self.html, OPERATION)?;
            let mut progress = out.progress();
            let data = data::gather(vault, self.days, &mut |what, done, total| progress(what, done, total))?;
            let page = page::render(&data);
            std::fs::write(partial.path(), page).map_err(|e| Error::io(OPERATION, &self.html, e))?;
            partial.put_in_place(self.force).map_err(|error| match error.kind() {
                strongroom::Kind::Conflict => {
                    error.with_hint("name another file, or replace it with --force")
                }
                _ => error,
            })?;
            let (file, problems) = (self.html.display().to_string(), data.findings.len() as u64);
            let object = json!({"file": file, "tokens": data.tokens.len(), "findings": problems});
            let words = format!(
                "{file}: {}, {}",
                counted(data.tokens.len() as u64, "token", "tokens"),
                counted(problems, "finding", "findings")
            );
            Ok(out.done(&object, &words)?)
        })
    }
}
