//! `device`: the enrolled devices, as the ledger has them, and changes of them.

mod add;
pub mod adopt;
mod anchor;
mod changes;
pub mod configured;
pub mod discovery;
pub mod enrolled;
mod pcrs;
mod renew;
pub mod reseal;
mod retire;
mod roles;
pub mod settings;

use crate::cli::Execute;
use crate::cli::args::LazyArgs;
use crate::cli::args::time;
use crate::cli::context::Context;
use crate::cli::output::Output;
use crate::cli::output::format::EMPTY_CELL;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::time::Duration;
use strongroom::config::ConfiguredDevice;
use strongroom::device::DeviceWorker;
use strongroom::ledger::body::{EnrolledKey, Role};
use strongroom::replica::{AnchorRow, DeviceRow};
use strongroom::{Error, Kind, Result, Vault, seal};

#[derive(Debug, Args)]
pub struct Device {
    #[command(subcommand)]
    command: DeviceCommand,
}

#[derive(Debug, Subcommand)]
enum DeviceCommand {
    /// List the devices of the store
    List,
    /// Show a device's keys, roles and evidence
    Show {
        /// Its name or id
        name: String,
    },
    /// Enrol another device
    ///
    /// Finds or creates its two keys, checks the evidence that they cannot leave it, and tests them. An admin device at hand
    /// signs the enrolment. Existing tokens are sealed to it by `strongroom reseal`, which this command offers. Adds the
    /// device to config.toml.
    Add(LazyArgs<add::Add>),
    /// Replace a device's roles
    Roles(LazyArgs<roles::Roles>),
    /// Retire a device: nothing is sealed to it any more
    ///
    /// Reseals its tokens to the remaining devices, and lists the tokens that it could open. Whoever has the device and an
    /// older copy of the store can still open these: have their issuers rotate them. Refuses to retire the last admin, or a
    /// device that alone opens a token.
    Retire(LazyArgs<retire::Retire>),
    /// Tie the store to a counter in a device, to notice when all of it is rolled back
    ///
    /// An admin's changes of devices, states and grants, and every destruction, raise the counter. If a counted change is
    /// missing, the machine with the device refuses the store, even if replica and pin are equally old. Reading does not
    /// raise it.
    Anchor(LazyArgs<anchor::Anchor>),
    /// Make new keys in a device whose keys are bound to what was measured at boot
    ///
    /// Use it after an update. Enrols the device again under its name, and reseals its tokens with the help of another device.
    /// Another admin device must be at hand. Without options for new keys, a TPM's keys are bound as the old ones were
    /// (--pcrs, --pin). With any of them, name all that you want.
    Renew(LazyArgs<renew::Renew>),
    /// List the changes that wait for other admins
    ///
    /// Where `strongroom settings --quorum` asks for several admins, a change of devices, roles or settings is proposed
    /// first. It is made once enough admins have approved it.
    Changes,
    /// Agree to a change that waits
    ///
    /// Look at it first: `strongroom device changes`. Signs with an admin device at hand that has not voted yet. The last
    /// approval that is needed makes the change.
    ApproveChange(LazyArgs<changes::ApproveChange>),
    /// Reject a change that waits
    ///
    /// Its proposer's rejection takes it back.
    RejectChange(LazyArgs<changes::RejectChange>),
    /// Compare what a device's keys are bound to with what is measured now
    ///
    /// For TPM keys made with --pcrs: shows each PCR's value at enrolment and now.
    Pcrs(LazyArgs<pcrs::Pcrs>),
    /// Say whether a device will still open after a reboot or an update
    ///
    /// Takes predicted PCR values in place of the present ones. The exit code is 4 when a device will not open.
    Check(LazyArgs<pcrs::Check>),
}

impl Execute for Device {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        match self.command {
            DeviceCommand::List => {
                let configured = context.resolve()?.devices;
                context.with_vault(|vault, out| Ok(list(vault, out, &configured)?))
            }
            DeviceCommand::Show { name } => context.with_vault(|vault, out| Ok(show(vault, out, &name)?)),
            DeviceCommand::Add(command) => command.execute(context),
            DeviceCommand::Roles(command) => command.execute(context),
            DeviceCommand::Retire(command) => command.execute(context),
            DeviceCommand::Anchor(command) => command.execute(context),
            DeviceCommand::Renew(command) => command.execute(context),
            DeviceCommand::Changes => context.with_vault(|vault, out| Ok(changes::list(vault, out)?)),
            DeviceCommand::ApproveChange(command) => command.execute(context),
            DeviceCommand::RejectChange(command) => command.execute(context),
            DeviceCommand::Pcrs(command) => command.execute(context),
            DeviceCommand::Check(command) => command.execute(context),
        }
    }
}

fn list(vault: &Vault, out: &mut Output, configured: &[ConfiguredDevice]) -> Result<()> {
    let mut table = out.table(&["NAME", "STATE", "ROLES", "EVIDENCE", "HERE", "MODEL", "ID"]);
    for row in vault.replica().devices()? {
        let id = row.id.to_string();
        let here = configured.iter().find(|device| device.id.as_ref() == Some(&id)).map(answers);
        let cells = [
            row.enrolment.name.clone(),
            state(&row).into(),
            roles(&row),
            evidence(&row).to_string(),
            here.map_or_else(|| EMPTY_CELL.into(), |answers| if answers { "yes" } else { "no" }.into()),
            row.enrolment.model.clone(),
            id,
        ];
        out.entry(&mut table, &as_json(vault, &row), cells)?;
    }
    out.end(table)
}

/// Whether a configured device is plugged in and answers. Does not log in.
fn answers(device: &ConfiguredDevice) -> bool {
    let connected = device.parsed().and_then(|(uri, _)| DeviceWorker::connect(&uri, Duration::from_secs(5)));
    connected.inspect_err(|error| log::debug!("{error}")).is_ok()
}

fn show(vault: &Vault, out: &mut Output, name: &str) -> Result<()> {
    let devices = vault.replica().devices()?;
    // An active device's name is its own; a retired one may have had it before.
    let called = |row: &&DeviceRow| row.enrolment.name == name || row.id.to_string() == name;
    let found = devices.iter().filter(called).max_by_key(|row| (row.retired.is_none(), row.n));
    let row = found.ok_or_else(|| {
        let operation = format!("show the device {}", strongroom::error::printable(name));
        Error::new(Kind::NotFound, operation, "no device has this name or id")
            .with_hint("`strongroom device list` shows them")
    })?;
    if out.json_wanted() {
        return out.json(&as_json(vault, row));
    }
    let enrolment = &row.enrolment;
    let retired = row.retired.as_ref().map(|(_, reason)| reason.clone()).unwrap_or_default();
    out.fields(&[
        ("name", enrolment.name.clone()),
        ("id", row.id.to_string()),
        ("state", state(row).into()),
        ("retired because", retired),
        ("roles", roles(row)),
        ("model", enrolment.model.clone()),
        ("serial", enrolment.serial.clone()),
        (
            "enrolled",
            format!(
                "{} by {} (statement {})",
                time::rfc3339_secs(row.time),
                vault.device_name(&row.author),
                row.n
            ),
        ),
        ("evidence", enrolled::evidence(evidence(row)).into()),
        ("anchor", row.anchor.map(|anchor| anchored(vault, &anchor)).unwrap_or_default()),
        ("opening key", key(&enrolment.opening)),
        ("  claims", claims(&enrolment.opening)),
        ("  recipient", seal::recipient_string(&enrolment.opening.key).unwrap_or_default()),
        ("signing key", key(&enrolment.signing)),
        ("  claims", claims(&enrolment.signing)),
    ])
}

fn anchored(vault: &Vault, anchor: &AnchorRow) -> String {
    format!("counter 0x{:08x}, due to stand at {}", anchor.index, vault.replica().expected_count(anchor))
}

fn state(row: &DeviceRow) -> &'static str {
    match row.retired {
        None => "active",
        Some((false, _)) => "retired",
        Some((true, _)) => "compromised",
    }
}

fn roles(row: &DeviceRow) -> String {
    let roles: Vec<String> = row.roles.iter().map(Role::to_string).collect();
    if roles.is_empty() { EMPTY_CELL.into() } else { roles.join(",") }
}

/// The weaker of the two keys' evidence.
fn evidence(row: &DeviceRow) -> strongroom::device::EvidenceLevel {
    row.enrolment.opening.evidence.level.min(row.enrolment.signing.evidence.level)
}

fn key(slot: &EnrolledKey) -> String {
    format!("{}: {}", slot.key.algorithm(), slot.uri)
}

fn claims(slot: &EnrolledKey) -> String {
    let claims: Vec<_> = slot.evidence.claims.iter().map(|(name, is)| format!("{name}={is}")).collect();
    claims.join(" ")
}

fn as_json(vault: &Vault, row: &DeviceRow) -> Value {
    let slot = |slot: &EnrolledKey| {
        json!({
            "algorithm": slot.key.algorithm().to_string(),
            "uri": slot.uri,
            "evidence": slot.evidence.level.to_string(),
            "claims": slot.evidence.claims.iter().map(|(name, is)| (name.clone(), Value::from(*is))).collect::<Value>(),
        })
    };
    json!({
        "name": row.enrolment.name,
        "id": row.id.to_string(),
        "state": state(row),
        "roles": row.roles.iter().map(Role::to_string).collect::<Vec<_>>(),
        "model": row.enrolment.model,
        "serial": row.enrolment.serial,
        "enrolled": time::rfc3339_millis(row.time),
        "by": vault.device_name(&row.author),
        "evidence": evidence(row).to_string(),
        "anchor": row.anchor.map(|anchor| anchor.index),
        "opening": slot(&row.enrolment.opening),
        "signing": slot(&row.enrolment.signing),
        "recipient": seal::recipient_string(&row.enrolment.opening.key),
    })
}
