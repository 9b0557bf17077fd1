//! `device anchor`: ties the store to a counter in a device.

use crate::cli::Execute;
use crate::cli::context::Context;
use clap::Args;
use serde_json::json;

#[derive(Debug, Args)]
pub struct Anchor {
    /// The device's name or id: a TPM
    name: String,
    /// Remove the anchor
    #[arg(long, conflicts_with = "accept_older")]
    remove: bool,
    /// Continue from a store that was rolled back; the missing changes are lost
    #[arg(long)]
    accept_older: bool,
}

impl Execute for Anchor {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        context.with_vault(|vault, out| {
            let name = vault.active_device(&self.name, "anchor the store")?.enrolment.name;
            if self.remove {
                let removed = vault.unanchor(&self.name)?;
                let object = json!({"device": name, "index": null, "removed": removed});
                out.done(&object, &format!("the store is no longer anchored to {name}"))?;
                if !removed && !out.json_wanted() {
                    out.warn("its counter is still in the device, which does not answer");
                }
                return Ok(());
            }
            let counter = vault.anchor(&self.name, self.accept_older)?;
            let (index, start) = (counter.index, counter.start);
            let words = format!("the store is anchored to {name}: counter 0x{index:08x}, from {start}");
            Ok(out.done(&json!({"device": name, "index": index, "start": start}), &words)?)
        })
    }
}
