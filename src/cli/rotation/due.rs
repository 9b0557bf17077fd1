//! `due`: the tokens that need to be rotated.

use crate::cli::Execute;
use crate::cli::args::{names, time};
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::exit::{self, ExitWith};
use crate::cli::output::format::time_cell;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use strongroom::Kind;

#[derive(Debug, Args)]
pub struct Due {
    /// Only this name and what lies below it
    #[arg(add = ArgValueCompleter::new(completions::names))]
    prefix: Option<String>,
    /// Also what is due within this time: 7d, 12h, 2027-01-31
    #[arg(long, value_name = "TIME")]
    within: Option<String>,
}

impl Execute for Due {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let prefix = self.prefix.as_deref().map(names::prefix).transpose()?.unwrap_or_default();
        let within = self.within.as_deref().map(|at| time::timestamp("--within", at)).transpose()?;
        context.with_vault(|vault, out| {
            let until = within.unwrap_or(0).max(vault.latest_time());
            let due = vault.due(&prefix, until)?;
            let mut table = out.table(&["NAME", "VERSION", "NEEDS", "DUE", "HOOK"]);
            for view in &due {
                let (version, need) = (view.version.to_string(), view.need.word().to_owned());
                let cells = [view.name.clone(), version, need, time_cell(view.due), view.hook.clone()];
                out.entry(&mut table, view, cells)?;
            }
            out.end(table)?;
            match due.is_empty() {
                true => {
                    out.info("nothing is due");
                    Ok(())
                }
                false => Err(ExitWith(exit::code_of(Kind::Degraded)).into()),
            }
        })
    }
}
