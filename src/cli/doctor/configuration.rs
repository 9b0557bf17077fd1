//! The configuration: files and their permissions, devices, the store and its pin.

use super::{Finding, Status};
use crate::cli::context::{Context, Resolved};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use strongroom::config::ConfiguredDevice;
use strongroom::device::{DeviceWorker, PATIENCE};
use strongroom::error::printable;
use strongroom::replica::StorePin;
use strongroom::timestamp::rounded_duration;
use strongroom::uri::{DeviceUri, PinSource};
use strongroom::vault::{Standing, Witness, counted};
use strongroom::{Kind, Result, Vault, store};

/// Others may not read it.
const PRIVATE: u32 = 0o077;

/// Others may not write it.
const OURS: u32 = 0o022;

/// All of it.
pub fn findings(context: &Context) -> Vec<Finding> {
    let resolved = match context.resolve() {
        Ok(resolved) => resolved,
        Err(error) => return vec![Finding::from_error("configuration", Status::Broken, &error)],
    };
    let mut findings = configuration(&resolved);
    findings.extend(resolved.devices.iter().flat_map(device));
    findings.extend(mode("state", &resolved.paths.state, PRIVATE));
    findings.extend(store(context, &resolved));
    findings
}

fn configuration(resolved: &Resolved) -> Vec<Finding> {
    let path = &resolved.paths.config;
    let shown = printable(&path.display().to_string());
    if !path.exists() {
        let what = format!("{shown} does not exist");
        return vec![
            Finding::new("configuration", Status::Missing, what).fix("strongroom init --device URI"),
        ];
    }
    let what = format!("{shown}: {}", counted(resolved.config.devices.len() as u64, "device", "devices"));
    std::iter::once(Finding::new("configuration", Status::Ok, what))
        .chain(mode("configuration", path, OURS))
        .collect()
}

fn device(configured: &ConfiguredDevice) -> Vec<Finding> {
    let uri = match DeviceUri::parse(&configured.uri) {
        Ok(uri) => uri,
        Err(error) => return vec![Finding::from_error("device", Status::Broken, &error)],
    };
    let connected = match DeviceWorker::connect(&uri, PATIENCE) {
        Err(error) => Finding::from_error("device", Status::Broken, &error),
        Ok(device) => {
            let identity = device.identity();
            let simulator = if identity.simulator { ", a simulator: protects nothing" } else { "" };
            // A TPM has none.
            let serial = match identity.serial.as_str() {
                "" => String::new(),
                serial => format!(", serial {serial}"),
            };
            let what = format!("{}: {} {}{serial}{simulator}", device.name(), identity.maker, identity.model);
            Finding::new("device", Status::Ok, what)
        }
    };
    std::iter::once(connected).chain(uri.pin_source().and_then(pin_source)).collect()
}

/// Checks who may read a pin-source. Does not read the PIN.
fn pin_source(source: &PinSource) -> Option<Finding> {
    let missing = |what: String, fix: String| Some(Finding::new("pin-source", Status::Broken, what).fix(fix));
    match source {
        PinSource::File(path) if !path.exists() => {
            let fix = format!(
                "install -m 600 /dev/stdin {}, and type the PIN",
                printable(&path.display().to_string())
            );
            missing(format!("{source} does not exist"), fix)
        }
        PinSource::File(path) => mode("pin-source", path, PRIVATE),
        PinSource::Env(name) if std::env::var_os(name).is_none() => missing(
            format!("{source} is not set"),
            format!("set ${name}, or take pin-source out of the device's URI"),
        ),
        _ => None,
    }
}

/// A finding if others have forbidden permissions on a file.
fn mode(area: &'static str, path: &Path, forbidden: u32) -> Option<Finding> {
    let metadata = std::fs::metadata(path).ok()?;
    let shown = printable(&path.display().to_string());
    let (mode, owner) = (metadata.permissions().mode() & 0o777, metadata.uid());
    if owner != rustix::process::geteuid().as_raw() && owner != 0 {
        let what = format!("{shown} belongs to another user (uid {owner})");
        return Some(Finding::new(area, Status::Broken, what).fix(format!("sudo chown \"$USER\" {shown}")));
    }
    (mode & forbidden != 0).then(|| {
        let what = format!(
            "{shown} has the mode {mode:o}: others may {}",
            if forbidden == OURS { "change it" } else { "look" }
        );
        let take = if forbidden == OURS { "go-w" } else { "go-rwx" };
        Finding::new(area, Status::Broken, what).fix(format!("chmod {take} {shown}"))
    })
}

fn store(context: &Context, resolved: &Resolved) -> Vec<Finding> {
    let opened = match store::open(&resolved.store) {
        Ok(opened) => opened,
        Err(error) => return vec![no_store(resolved, &error)],
    };
    let location = opened.location().to_owned();
    let known = StorePin::load(&resolved.paths.state, &location);
    drop(opened);
    let file = store::sqlite_path(&resolved.store).ok();
    let mut findings: Vec<_> = file.and_then(|file| mode("store", &file, PRIVATE)).into_iter().collect();
    match known {
        Ok(Some(pin)) => findings.extend(vault(context, &location, &pin)),
        Ok(None) => findings.push(
            Finding::new(
                "store",
                Status::Broken,
                format!("{location}: this machine has never verified this store"),
            )
            .fix(
                "strongroom trust LINE, with the line that `strongroom head` prints on a machine that knows the store",
            ),
        ),
        Err(error) => findings.push(Finding::from_error("store", Status::Broken, &error)),
    }
    findings
}

/// A store that cannot be opened: broken if one was configured or used before, else just missing.
fn no_store(resolved: &Resolved, error: &strongroom::Error) -> Finding {
    let path = store::sqlite_path(&resolved.store).ok();
    let not_created = path.is_some_and(|path| !path.exists()) && resolved.config.devices.is_empty();
    match not_created && error.kind() == Kind::Store {
        true => {
            Finding::new("store", Status::Missing, format!("{} does not exist", printable(&resolved.store)))
                .fix("strongroom init --device URI")
        }
        false => Finding::from_error("store", Status::Broken, error),
    }
}

fn vault(context: &Context, location: &str, pin: &StorePin) -> Vec<Finding> {
    let opened = context.setup().and_then(Vault::open).and_then(|mut vault| {
        let seen = (vault.replica().count()?, vault.head(), vault.count_single_device()?);
        Ok((seen, witnesses(&mut vault)?))
    });
    match opened {
        Ok(((tokens, head, single), witnesses)) => {
            let (tokens, statements) =
                (counted(tokens, "token", "tokens"), counted(head.position.n, "statement", "statements"));
            let what = format!("{location}: {tokens}, {statements} verified, store {}", pin.store);
            let store = std::iter::once(Finding::new("store", Status::Ok, what));
            store.chain(single_device(single)).chain(witnesses).collect()
        }
        Err(error) => vec![Finding::from_error("store", Status::Broken, &error)],
    }
}

/// How old the witnesses' checkpoints are, and whether tokens open.
fn witnesses(vault: &mut Vault) -> Result<Vec<Finding>> {
    let asked = vault.settings()?.witnesses.is_some();
    let mut findings: Vec<_> = vault.witnesses()?.iter().map(|witness| one_witness(witness, asked)).collect();
    if let Err(error) = vault.check_witnesses("open tokens") {
        findings.push(Finding::from_error("witness", Status::Broken, &error));
    }
    Ok(findings)
}

fn one_witness(witness: &Witness, asked: bool) -> Finding {
    let name = &witness.name;
    let at = match (witness.n, witness.age) {
        (Some(n), Some(age)) => format!("{name}: statement {n}, {} ago", rounded_duration(age)),
        _ => name.clone(),
    };
    let (status, what) = match witness.standing {
        Standing::Fresh | Standing::Own => (Status::Ok, at),
        Standing::Missing(why) => {
            (if asked { Status::Note } else { Status::Missing }, format!("{name}: {why}"))
        }
        Standing::Old | Standing::Ahead => (Status::Note, format!("{at}: {}", witness.standing.word())),
        Standing::Forked | Standing::Withheld => {
            (Status::Broken, format!("{at}: {}", witness.standing.word()))
        }
    };
    match witness.standing {
        Standing::Missing(_) | Standing::Old => {
            Finding::new("witness", status, what).fix("strongroom checkpoint, on the machine of the witness")
        }
        Standing::Ahead => Finding::new("witness", status, what).fix("compare `date -u` on both machines"),
        _ => Finding::new("witness", status, what),
    }
}

/// A finding if the loss of one device would be the loss of tokens.
fn single_device(count: u64) -> Option<Finding> {
    (count > 0).then(|| {
        let what =
            format!("{} would be lost with one device", counted(count, "token", "tokens"));
        Finding::new("store", Status::Note, what)
            .fix("`strongroom list --single-device` lists them; enrol another device: `strongroom device add URI --role open`")
    })
}
