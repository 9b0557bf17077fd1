//! The devices in config.toml: added, removed and renamed as they are enrolled, retired and renewed.

use crate::cli::context::{Resolved, default_store};
use crate::cli::output::Output;
use strongroom::Result;
use strongroom::config::{Config, ConfiguredDevice};
use strongroom::ledger::DeviceId;
use strongroom::paths::Paths;
use strongroom::uri::DeviceUri;

/// Whether a device is tried before or after those that are configured already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// Before all others.
    First,
    /// After all others.
    Last,
}

/// Adds a device, and its store. Returns the file; `None` if config.toml describes another store.
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
        .retain(|device| !DeviceUri::parse(&device.uri).is_ok_and(|other| other.display_name() == name));
    let at = if place == Precedence::First { 0 } else { config.devices.len() };
    config.devices.insert(at, ConfiguredDevice { uri: uri.to_string(), id: Some(id.to_string()) });
    config.save(&paths.config)?;
    Ok(Some(paths.config.display().to_string()))
}

/// Says how to use a device that config.toml does not name.
pub fn warn_if_not_remembered(out: &mut Output, remembered: &Option<String>) {
    if remembered.is_none() {
        out.info("config.toml describes another store and was not changed: name this device with --device");
    }
}

/// Removes a device.
pub fn forget(resolved: Resolved, id: &DeviceId) -> Result<()> {
    let Some((paths, mut config)) = configuration_of(resolved) else { return Ok(()) };
    let before = config.devices.len();
    config.devices.retain(|device| device.id != Some(id.to_string()));
    if config.devices.len() < before { config.save(&paths.config) } else { Ok(()) }
}

/// Changes a device's id. Returns the file, if the device is in it.
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
