//! `device anchor`: ties the store to a counter in a device.

use crate::cli::Execute;
use crate::cli::context::Context;
use clap::Args;
use serde_json::json;

#[derive(Debug, Args)]
pub struct Anchor {
    /// The device's name or id: a TPM
    name: String,
    /// No longer
    #[arg(long, conflicts_with = "accept_older")]
    remove: bool,
    /// Go on from a store that was set back: what it lacks is lost for good
    #[arg(long)]
    accept_older: bool,
}

impl Execute for Anchor {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        context.with_vault(|vault, out| {
            if self.remove {
                let removed = vault.unanchor(&self.name)?;
                if out.json_wanted() {
                    return Ok(out.json(&json!({"device": self.name, "index": null, "removed": removed}))?);
                }
                out.info(&format!("the store is no longer anchored to {}", self.name));
                if !removed {
                    out.warn("its counter is still in the device, which could not be reached");
                }
                return Ok(());
            }
            let counter = vault.anchor(&self.name, self.accept_older)?;
            if out.json_wanted() {
                let (index, start) = (counter.index, counter.start);
                return Ok(out.json(&json!({"device": self.name, "index": index, "start": start}))?);
            }
            out.info(&format!(
                "the store is anchored to {}: counter 0x{:08x}, from {}",
                self.name, counter.index, counter.start
            ));
            Ok(())
        })
    }
}
