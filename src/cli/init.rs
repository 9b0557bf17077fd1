//! `init`: a new store, with one of this machine's devices as its first.

use crate::cli::args::new_keys::KeyOptions;
use crate::cli::context::{Context, Resolved, default_store};
use crate::cli::devices::discovery;
use crate::cli::output::Output;
use crate::cli::{Execute, confirm};
use clap::Args;
use serde_json::json;
use strongroom::config::{Config, ConfiguredDevice};
use strongroom::device::{EvidenceLevel, KeyInfo};
use strongroom::ledger::DeviceId;
use strongroom::paths::Paths;
use strongroom::prompt::{self, Terminal};
use strongroom::uri::DeviceUri;
use strongroom::vault::{InitOptions, InitReport, Setup};
use strongroom::{Error, Kind, Result, Vault};

const OPERATION: &str = "create the store";

#[derive(Debug, Args)]
pub struct Init {
    /// The device's name in this store [default: its own label]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Use the only device found without asking
    #[arg(long, short)]
    yes: bool,
    /// Succeed if there is a store already, and do nothing but verify it
    #[arg(long)]
    if_missing: bool,
    /// Tie the store to a counter in the device, to notice when all of it is rolled back (TPM)
    #[arg(long)]
    anti_rollback: bool,
    #[command(flatten)]
    keys: KeyOptions,
}

impl Execute for Init {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let resolved = context.resolve()?;
        if self.if_missing && Vault::exists(&resolved.store)? {
            return verify_existing(context);
        }
        let (algorithm, create) = (self.keys.algorithm()?, self.keys.create()?);
        let uri = match context.globals.devices.as_slice() {
            [] => propose(OPERATION, self.yes)?,
            [uri] => DeviceUri::parse(uri)?,
            _ => {
                return Err(Error::new(
                    Kind::Usage,
                    OPERATION,
                    "a store begins with one device; enrol more later with `strongroom device add`",
                )
                .into());
            }
        };
        let uri = with_module(uri)?;
        let prompter = prompt::for_process_with(&resolved.config.prompt);
        let devices = vec![(uri.clone(), None)];
        let setup =
            Setup { prompter, ..Setup::new(resolved.store.clone(), devices, resolved.paths.state.clone()) };
        let options =
            InitOptions { device_name: self.name, algorithm, create, anti_rollback: self.anti_rollback };
        let (mut vault, report) = Vault::init(setup, &options)?;
        let remembered = remember(resolved, &uri, &report.first.device, Precedence::First)?;
        print_report(&mut context.out, &vault, &report, &remembered)?;
        context.print_notices(&mut vault);
        Ok(())
    }
}

/// `--if-missing`, and nothing is missing.
fn verify_existing(context: &mut Context) -> anyhow::Result<()> {
    context.with_vault(|vault, out| {
        let (location, store) = (vault.location(), vault.head().store.to_string());
        let object = json!({"created": false, "location": location, "store": store});
        Ok(out.done(&object, &format!("{location}: the store exists and verifies; nothing was changed"))?)
    })
}

/// The only device found, if the user agrees.
pub fn propose(operation: &'static str, yes: bool) -> Result<DeviceUri> {
    let (tokens, errors) = discovery::tokens(discovery::modules());
    let others = discovery::yubikeys().into_iter().chain(discovery::tpms());
    let ready: Vec<_> = tokens.into_iter().chain(others).filter(|token| token.ready).collect();
    let usage = |message: String, hint: String| Error::new(Kind::Usage, operation, message).with_hint(hint);
    match ready.as_slice() {
        // A broken module is only one possible reason, and it may not be needed at all.
        [] => Err(usage(
            format!("no device was named, and none that is ready was found{}", failed_modules(&errors)),
            "name one with --device; `strongroom doctor` says what is missing".into(),
        )),
        [only] if yes || Terminal::open().is_some() => {
            let identity = &only.identity;
            let serial = if identity.serial.is_empty() {
                String::new()
            } else {
                format!(", serial {}", identity.serial)
            };
            let what = format!("{} {}{serial}", identity.maker, identity.model);
            confirm::confirm(yes, operation, &format!("Found {}: {what}. Use it?", only.uri))?;
            DeviceUri::parse(&only.uri)
        }
        [only] => Err(usage(
            "no device was named, and there is no terminal to ask on".into(),
            format!("give --yes to use the only one found, or name it: --device '{}'", only.uri),
        )),
        several => {
            let uris: Vec<_> = several.iter().map(|token| format!("--device '{}'", token.uri)).collect();
            Err(usage(
                "no device was named, and there are several".into(),
                format!("name one: {}", uris.join("  or  ")),
            ))
        }
    }
}

fn failed_modules(errors: &[Error]) -> String {
    let each = |error: &Error| format!("; {}: {}", error.target().unwrap_or("a module"), error.message());
    errors.iter().map(each).collect()
}

/// The URI with its module pinned, so that later commands neither search for it nor take another.
pub fn with_module(uri: DeviceUri) -> Result<DeviceUri> {
    #[cfg(feature = "pkcs11")]
    if uri.scheme() == strongroom::uri::Scheme::Pkcs11 && uri.module_path().is_none() {
        let module = strongroom::device::pkcs11::module_of(&uri)?;
        return uri.with("module-path", &module.display().to_string());
    }
    Ok(uri)
}

/// Whether a device is tried before or after those that are configured already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// Before all others.
    First,
    /// After all others.
    Last,
}

/// Where the device and the store are remembered; `None` when config.toml describes another store.
pub fn remember(
    resolved: Resolved,
    uri: &DeviceUri,
    id: &DeviceId,
    place: Precedence,
) -> Result<Option<String>> {
    let Some((paths, mut config)) = configuration_of(resolved) else { return Ok(None) };
    let name = uri.display_name();
    config
        .devices
        .retain(|device| DeviceUri::parse(&device.uri).is_ok_and(|other| other.display_name() != name));
    let at = if place == Precedence::First { 0 } else { config.devices.len() };
    config.devices.insert(at, ConfiguredDevice { uri: uri.to_string(), id: Some(id.to_string()) });
    config.save(&paths.config)?;
    Ok(Some(paths.config.display().to_string()))
}

/// Takes a device that left out of config.toml.
pub fn forget(resolved: Resolved, id: &DeviceId) -> Result<()> {
    let Some((paths, mut config)) = configuration_of(resolved) else { return Ok(()) };
    let before = config.devices.len();
    config.devices.retain(|device| device.id != Some(id.to_string()));
    if config.devices.len() < before { config.save(&paths.config) } else { Ok(()) }
}

/// Gives a device in config.toml the id that it has now. Answers where, if it is there.
pub fn rename(resolved: Resolved, old: &DeviceId, new: &DeviceId) -> Result<Option<String>> {
    let Some((paths, mut config)) = configuration_of(resolved) else { return Ok(None) };
    let known = config.devices.iter_mut().find(|device| device.id == Some(old.to_string()));
    let Some(device) = known else { return Ok(None) };
    device.id = Some(new.to_string());
    config.save(&paths.config)?;
    Ok(Some(paths.config.display().to_string()))
}

/// config.toml, if it is about this store or about none yet.
fn configuration_of(resolved: Resolved) -> Option<(Paths, Config)> {
    let Resolved { paths, mut config, store, .. } = resolved;
    let default = default_store(&paths);
    let configured = config.store.clone().unwrap_or_else(|| default.clone());
    if configured != store && (config.store.is_some() || !config.devices.is_empty()) {
        return None;
    }
    config.store = (store != default).then_some(store);
    Some((paths, config))
}

fn print_report(
    out: &mut Output,
    vault: &Vault,
    report: &InitReport,
    remembered: &Option<String>,
) -> Result<()> {
    if out.json_wanted() {
        return out.json(&as_json(vault, report, remembered));
    }
    let first = &report.first;
    let [opening, signing] = &first.keys;
    out.fields(&[
        ("store", vault.location().to_owned()),
        ("store id", report.store.to_string()),
        ("device", format!("{} ({})", first.device_name, first.model)),
        ("opening key", key(opening, first.created[0])),
        ("signing key", key(signing, first.created[1])),
        ("evidence", evidence(first.evidence).to_owned()),
        ("configuration", remembered.clone().unwrap_or_default()),
    ])?;
    if remembered.is_none() {
        out.info(
            "config.toml describes another store and was not changed: name this store with --store and --device",
        );
    }
    out.info("Keep the store id where an attacker cannot change it. Other machines need it for `strongroom trust`.");
    out.info("Next: `strongroom put NAME` stores a token, `strongroom get NAME` opens it.");
    Ok(())
}

/// A key as text, with its PIN and touch policies if known.
pub fn key(key: &KeyInfo, created: bool) -> String {
    let how = if created { "created" } else { "found" };
    let claims = key
        .evidence
        .claims
        .iter()
        .filter(|(claim, is)| *is && (claim.starts_with("pin-") || claim.starts_with("touch-")));
    let guards: Vec<_> = claims.map(|(claim, _)| claim.as_str()).collect();
    let guards = if guards.is_empty() { String::new() } else { format!(" ({})", guards.join(", ")) };
    format!("{}, {how}: {}{guards}", key.public.algorithm(), key.uri)
}

/// A key as JSON.
pub fn key_json(key: &KeyInfo, created: bool) -> serde_json::Value {
    json!({"algorithm": key.public.algorithm().to_string(), "uri": key.uri, "created": created})
}

/// A level and what it is worth.
pub fn evidence(level: EvidenceLevel) -> &'static str {
    match level {
        EvidenceLevel::Simulator => "simulator: fine for tests, protects nothing",
        EvidenceLevel::Reported => "reported: the device reports that its keys cannot leave it",
        EvidenceLevel::Attested => "attested: the vendor's certificates prove that its keys cannot leave it",
    }
}

fn as_json(vault: &Vault, report: &InitReport, remembered: &Option<String>) -> serde_json::Value {
    let first = &report.first;
    json!({
        "created": true,
        "location": vault.location(),
        "store": report.store.to_string(),
        "device": first.device_name,
        "device_id": first.device.to_string(),
        "model": first.model,
        "opening": key_json(&first.keys[0], first.created[0]),
        "signing": key_json(&first.keys[1], first.created[1]),
        "evidence": first.evidence.to_string(),
        "configuration": remembered,
    })
}
