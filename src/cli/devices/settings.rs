//! `settings`: what holds for the whole store.

use crate::cli::Execute;
use crate::cli::args::names;
use crate::cli::context::Context;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use strongroom::config::Period;
use strongroom::device::EvidenceLevel;
use strongroom::ledger::body::{Settings as StoreSettings, Witnesses};
use strongroom::timestamp::rounded_duration;
use strongroom::{Error, Kind, Result, Vault};

#[derive(Debug, Default, PartialEq, Eq, Args)]
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
    /// How many devices must open each token under PREFIX together, or every token where no prefix is given; 1 ends that. May be
    /// given several times; the longest prefix decides
    #[arg(long = "threshold", value_name = "[PREFIX=]NUMBER")]
    thresholds: Vec<String>,
    /// How many other machines' witnesses must have signed lately before anything is opened; see `strongroom checkpoint`
    #[arg(long, value_name = "NUMBER", conflicts_with = "no_witnesses")]
    witnesses: Option<u64>,
    /// How old their checkpoints may be, such as 10m
    #[arg(long, value_name = "TIME", conflicts_with = "no_witnesses")]
    max_age: Option<Period>,
    /// Open without witnesses
    #[arg(long)]
    no_witnesses: bool,
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
                if self == Self::default() { before.clone() } else { self.applied_to(&before, vault)? };
            if wanted != before {
                vault.set_settings(&wanted)?;
                out.info("settings changed");
                if wanted.quorum > 1 && wanted.quorum != before.quorum {
                    out.info(
                        "From now on changes of devices, roles and settings wait for other admins: `strongroom device changes` \
                         lists them, `strongroom device approve-change CHANGE` agrees.",
                    );
                }
            }
            if out.json_wanted() {
                return Ok(out.json(&as_json(vault, &wanted))?);
            }
            out.fields(&[
                ("quorum", quorum(wanted.quorum)),
                ("evidence", wanted.evidence.to_string()),
                ("witnesses", wanted.witnesses.map(witnesses).unwrap_or_default()),
                ("recovery", vault.device_names(&wanted.recovery).join(", ")),
                ("thresholds", thresholds(&wanted.thresholds)),
            ])?;
            Ok(())
        })
    }
}

impl Settings {
    /// The settings with what was given in place of what was set.
    fn applied_to(&self, before: &StoreSettings, vault: &Vault) -> Result<StoreSettings> {
        let mut wanted = before.clone();
        wanted.quorum = self.quorum.unwrap_or(before.quorum);
        wanted.evidence = self.evidence.map_or(before.evidence, EvidenceLevel::from);
        wanted.witnesses = self.wanted_witnesses(before)?;
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
        for text in &self.thresholds {
            let (prefix, threshold) = threshold(text)?;
            wanted.thresholds.retain(|(other, _)| *other != prefix);
            wanted.thresholds.extend((threshold > 1).then_some((prefix, threshold)));
        }
        wanted.thresholds.sort();
        Ok(wanted)
    }
}

/// `PREFIX=NUMBER`, or the number alone for the empty prefix.
fn threshold(text: &str) -> Result<(String, u64)> {
    let (prefix, number) = text.rsplit_once('=').unwrap_or(("", text));
    let prefix = names::prefix(prefix)?;
    match number.parse() {
        Ok(number @ 1..=254) => Ok((prefix.as_str().to_owned(), number)),
        _ => Err(Error::new(Kind::Usage, "read --threshold", "a threshold is a number from 1 to 254")
            .with_hint("for example --threshold prod=2")),
    }
}

fn thresholds(thresholds: &[(String, u64)]) -> String {
    let one = |(prefix, threshold): &(String, u64)| match prefix.as_str() {
        "" => format!("{threshold} devices for every token"),
        prefix => format!("{threshold} devices for {prefix}"),
    };
    thresholds.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Settings {
    fn wanted_witnesses(&self, before: &StoreSettings) -> Result<Option<Witnesses>> {
        let usage = |message: &str, hint: &str| {
            Err(Error::new(Kind::Usage, "change the settings", message).with_hint(hint))
        };
        let count = self.witnesses.or(before.witnesses.map(|before| before.count));
        let given = self.max_age.map(|age| u64::try_from(age.0.as_millis()).unwrap_or(u64::MAX));
        match (count, given.or(before.witnesses.map(|before| before.max_age))) {
            _ if self.no_witnesses => Ok(None),
            (Some(0), _) => usage("0 witnesses are none", "say --no-witnesses"),
            (Some(count), Some(max_age)) => Ok(Some(Witnesses { count, max_age })),
            (Some(_), None) => usage("how old may checkpoints be?", "say --max-age, such as --max-age 10m"),
            (None, Some(_)) => usage("no witnesses are asked for", "say how many with --witnesses"),
            (None, None) => Ok(None),
        }
    }
}

fn witnesses(asked: Witnesses) -> String {
    format!("{}, with checkpoints of at most {}", asked.count, rounded_duration(asked.max_age))
}

fn quorum(number: u64) -> String {
    match number {
        1 => "1 (each admin alone)".into(),
        number => format!("{number} admins must agree"),
    }
}

fn as_json(vault: &Vault, settings: &StoreSettings) -> Value {
    json!({
        "quorum": settings.quorum, "witnesses": settings.witnesses.map(|asked| asked.count),
        "max_age_ms": settings.witnesses.map(|asked| asked.max_age), "evidence": settings.evidence.to_string(),
        "recovery": vault.device_names(&settings.recovery),
        "thresholds": settings.thresholds.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
    })
}
