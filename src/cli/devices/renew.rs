//! `device renew`: new keys in a device that stays.

use super::{add, configured, reseal};
use crate::cli::Execute;
use crate::cli::args::new_keys::KeyOptions;
use crate::cli::context::Context;
use clap::Args;
use strongroom::vault::EnrolOptions;

#[derive(Debug, Args)]
pub struct Renew {
    /// Its name or id
    name: String,
    /// Renew even if a token that is sealed to this device alone does not open now and is lost
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    keys: KeyOptions,
}

impl Execute for Renew {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let (algorithm, create) = (self.keys.algorithm()?, self.keys.create()?);
        let options = EnrolOptions { algorithm, create, ..EnrolOptions::default() };
        let resolved = context.resolve()?;
        context.with_vault(|vault, out| {
            let old = vault.active_device(&self.name, "renew the keys of the device")?.id;
            let mut progress = out.progress();
            let (report, resealed) =
                vault.renew(&self.name, &options, self.accept_loss, &mut |done, total| {
                    progress("resealing", done, total)
                })?;
            let remembered = configured::rename(resolved, &old, &report.device)?;
            add::print_report(out, &report, &remembered)?;
            reseal::print_report(out, &resealed);
            if out.json_wanted() {
                let left = resealed.left.len() as u64;
                out.json(&add::as_json(&report, &remembered, left + resealed.resealed, resealed.resealed))?;
            }
            reseal::expect_all(out, &resealed)
        })
    }
}
