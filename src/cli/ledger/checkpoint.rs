//! `checkpoint`: a witness signs what this machine has verified. Also the lines of other commands about witnesses.

use crate::cli::Execute;
use crate::cli::context::Context;
use crate::cli::output::Output;
use crate::cli::output::format::{EMPTY_CELL, time_cell};
use clap::Args;
use serde_json::json;
use strongroom::Result;
use strongroom::timestamp::{rfc3339_millis, rounded_duration};
use strongroom::vault::WitnessView;

#[derive(Debug, Args)]
pub struct Checkpoint {
    /// Print the text of a C2SP tlog-checkpoint, without a signature, for logs and witnesses of others
    #[arg(long)]
    tlog: bool,
    /// Take back what this device witnessed before: this history is the right one, though it is another or ends earlier
    #[arg(long)]
    replace: bool,
}

impl Execute for Checkpoint {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        context.with_vault(|vault, out| {
            let signed = if self.replace { vault.checkpoint_anew() } else { vault.checkpoint() }?;
            let (device, at) = (vault.device_name(&signed.witness), signed.position);
            if self.tlog && !out.json_wanted() {
                return Ok(out.bytes(signed.tlog_text().as_bytes())?);
            }
            let object = json!({
                "device": device, "device_id": signed.witness.to_string(), "n": at.n, "chain": at.chain.to_string(),
                "root": signed.root.to_string(), "time": rfc3339_millis(signed.time),
                "accesses": signed.accesses.count, "tlog": signed.tlog_text(),
            });
            let words = format!("{device} witnessed statement {} at {}", at.n, time_cell(Some(signed.time)));
            Ok(out.done(&object, &words)?)
        })
    }
}

/// A table of witnesses; nothing where there are none.
pub fn print_witnesses(out: &mut Output, witnesses: &[WitnessView]) -> Result<()> {
    if witnesses.is_empty() {
        return Ok(());
    }
    let mut table = out.aligned_table(&["WITNESS", "CHECKPOINT", "N", "TIME", "AGE"]);
    for witness in witnesses {
        let cells = [
            witness.device.clone(),
            witness.status.clone(),
            witness.n.map_or_else(|| EMPTY_CELL.into(), |n| n.to_string()),
            time_cell(witness.time),
            witness.age_seconds.map_or_else(|| EMPTY_CELL.into(), |age| rounded_duration(age * 1000)),
        ];
        out.row(&mut table, cells.into())?;
    }
    out.end(table)
}
