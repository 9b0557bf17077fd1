//! `settings`: what holds for the whole store.

use crate::cli::Execute;
use crate::cli::context::Context;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use strongroom::device::EvidenceLevel;
use strongroom::ledger::body::Settings as StoreSettings;
use strongroom::{Result, Vault};

#[derive(Debug, Args)]
pub struct Settings {
    /// How many admins must agree to a change of devices, roles or settings; 1 for none but its author
    #[arg(long, value_name = "NUMBER")]
    quorum: Option<u64>,
    /// The weakest evidence with which a device is enrolled
    #[arg(long, value_enum, value_name = "LEVEL")]
    evidence: Option<Level>,
    /// A device that everything is sealed to, whatever `put --only` says; may be given several times, and replaces those
    /// before
    #[arg(long, value_name = "DEVICE", conflicts_with = "no_recovery")]
    recovery: Vec<String>,
    /// No recovery devices
    #[arg(long)]
    no_recovery: bool,
}

/// Evidence that a key cannot leave its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Level {
    /// Any, also simulators
    Simulator,
    /// The device says so
    Reported,
    /// A vendor's certificate says so
    Attested,
}

impl From<Level> for EvidenceLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Simulator => Self::Simulator,
            Level::Reported => Self::Reported,
            Level::Attested => Self::Attested,
        }
    }
}

impl Execute for Settings {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        context.with_vault(|vault, out| {
            let before = vault.settings()?;
            let wanted =
                if self.changes_nothing() { before.clone() } else { self.applied_to(&before, vault)? };
            if wanted != before {
                vault.set_settings(&wanted)?;
                out.info("settings changed");
            }
            if out.json_wanted() {
                return Ok(out.json(&as_json(vault, &wanted))?);
            }
            out.fields(&[
                ("quorum", quorum(wanted.quorum)),
                ("evidence", wanted.evidence.to_string()),
                ("recovery", vault.device_names(&wanted.recovery).join(", ")),
            ])?;
            Ok(())
        })
    }
}

impl Settings {
    fn changes_nothing(&self) -> bool {
        self.quorum.is_none() && self.evidence.is_none() && self.recovery.is_empty() && !self.no_recovery
    }

    /// The settings with what was given in place of what was set.
    fn applied_to(&self, before: &StoreSettings, vault: &Vault) -> Result<StoreSettings> {
        let mut wanted = before.clone();
        wanted.quorum = self.quorum.unwrap_or(before.quorum);
        wanted.evidence = self.evidence.map_or(before.evidence, EvidenceLevel::from);
        // One that was retired or opens no more is none.
        let mut valid = Vec::new();
        for id in &before.recovery {
            valid.extend(vault.replica().device_row(id)?.filter(|row| row.opens("")).map(|row| row.id));
        }
        wanted.recovery = valid;
        if self.no_recovery {
            wanted.recovery.clear();
        }
        if !self.recovery.is_empty() {
            let devices = self.recovery.iter();
            let ids = devices.map(|name| Ok(vault.active_device(name, "change the settings")?.id));
            wanted.recovery = ids.collect::<Result<_>>()?;
            wanted.recovery.sort();
            wanted.recovery.dedup();
        }
        Ok(wanted)
    }
}

fn quorum(number: u64) -> String {
    match number {
        1 => "1 (each admin alone)".into(),
        number => format!("{number} admins must agree"),
    }
}

fn as_json(vault: &Vault, settings: &StoreSettings) -> Value {
    json!({
        "quorum": settings.quorum, "evidence": settings.evidence.to_string(),
        "recovery": vault.device_names(&settings.recovery),
    })
}
