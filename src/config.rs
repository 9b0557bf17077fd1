//! `config.toml`: the store, this machine's devices, and how the agent runs. docs/reference/config.md has every key.

mod hooks;
mod rotation;

pub use hooks::{HookKind, HookSettings};
pub use rotation::RotationSettings;

use crate::error::{Error, Kind, Result, printable};
use crate::ledger::DeviceId;
use crate::prompt::Settings;
use crate::timestamp;
use crate::uri::DeviceUri;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// What one machine knows before it asks a store. Holds no secret: a PIN is named by `pin-source`, never written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The store's URL, where it is not the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// How people are asked and told.
    #[serde(skip_serializing_if = "is_default")]
    pub prompt: Settings,
    /// How `strongroom agent` runs. Its options come first.
    #[serde(skip_serializing_if = "is_default")]
    pub agent: AgentSettings,
    /// What sets new values at their issuers, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: BTreeMap<String, HookSettings>,
    /// Which tokens hosts have, by the protocol that asks: `[hosts.git]`, and there `"github.com" = "work/github"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, BTreeMap<String, String>>,
    /// Devices, in the order in which they are tried.
    #[serde(rename = "device", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<ConfiguredDevice>,
}

fn is_default<T: Default + PartialEq>(settings: &T) -> bool {
    *settings == T::default()
}

/// `[agent]`. What is not set is decided by the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct AgentSettings {
    /// The socket that it listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// The socket for systemd credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// Names and prefixes whose tokens may be kept opened, and for how long.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cache: BTreeMap<String, Period>,
    /// Whether labels `strongroom.cache` count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_labels: Option<bool>,
    /// After which idle time a device is locked whose PIN was typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Period>,
    /// The program that asks for PINs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PathBuf>,
    /// Names and prefixes whose tokens nobody gets before a person has agreed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub confirm: Vec<String>,
    /// How often checkpoints are signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<Period>,
    /// The time within which every request is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Period>,
    /// The most connections at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<usize>,
    /// About how many lines the access log may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log_max: Option<u64>,
    /// Whether and how it rotates tokens by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationSettings>,
}

/// A duration, written as `30s`, `5m` or `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(pub Duration);

impl FromStr for Period {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        timestamp::parse_duration(text).map(Self).ok_or("a time is one of 30s, 5m, 2h")
    }
}

impl TryFrom<String> for Period {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        timestamp::format_duration(period.0)
    }
}

/// A device of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfiguredDevice {
    /// Its URI.
    pub uri: String,
    /// Its id in the ledger, which spares asking it for its keys. A hint: a wrong one opens nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl ConfiguredDevice {
    /// The parsed URI.
    ///
    /// # Errors
    /// `Usage`.
    pub fn parsed(&self) -> Result<(DeviceUri, Option<DeviceId>)> {
        let id = self.id.as_ref().map(|id| id.parse()).transpose();
        let id =
            id.map_err(|e| Error::new(Kind::Usage, "read the configuration", format!("a device id is {e}")))?;
        Ok((DeviceUri::parse(&self.uri)?, id))
    }
}

impl Config {
    /// Reads the file; a missing one is an empty configuration.
    ///
    /// # Errors
    /// `Usage` with line and column for a file that does not parse; `Io`.
    pub fn load(path: &Path) -> Result<Self> {
        const OPERATION: &str = "read the configuration";
        let unreadable = |message: String| {
            let shown = printable(&path.display().to_string());
            Error::new(Kind::Usage, OPERATION, message).with_target(shown)
        };
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|e| unreadable(located(&text, &e))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Error::io(OPERATION, path, e)),
        }
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// `Io`.
    pub fn save(&self, path: &Path) -> Result<()> {
        if let Some(directory) = path.parent() {
            crate::paths::make_private(directory)?;
        }
        let write = || {
            let fresh = path.with_extension("toml.new");
            let mut file = std::fs::File::create(&fresh)?;
            let text = toml::to_string(self).map_err(std::io::Error::other)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&fresh, path)
        };
        write().map_err(|e| Error::io("write the configuration", path, e))
    }
}

/// What is wrong with a file, and in which line and column. Nothing of the file is repeated but the names of keys.
pub(crate) fn located(text: &str, error: &toml::de::Error) -> String {
    let message = printable(error.message());
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return message };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    /// The example in the documentation has every key, and survives being saved.
    #[test]
    fn the_documented_file_is_read_and_written() {
        let page = include_str!("../docs/reference/config.md");
        let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let config = load(example).unwrap();
        let agent = &config.agent;
        assert_eq!((config.devices.len(), agent.access_log_max), (2, Some(10_000_000)));
        assert_eq!(agent.cache["prod/db"], Period(Duration::from_secs(300)));
        let all = [agent.socket.is_some(), agent.credentials.is_some(), agent.prompt.is_some()];
        assert_eq!((all, agent.confirm.len()), ([true; 3], 1));
        assert_eq!(agent.checkpoint_every, Some(Period(Duration::from_secs(300))));
        let rest = (agent.cache_labels, agent.idle, agent.deadline, agent.connections);
        let (idle, deadline) = (Period(Duration::from_secs(900)), Period(Duration::from_secs(30)));
        assert_eq!(rest, (Some(false), Some(idle), Some(deadline), Some(12_000)));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        config.save(&path).unwrap();
        assert_eq!(Config::load(&path).unwrap(), config);
    }

    #[test]
    fn what_is_wrong_is_placed() {
        for (text, place, what) in [
            ("stor = \"x\"\n", "line 1, column 1", "stor"),
            ("[agent]\nidel = \"5m\"\n", "line 2, column 1", "idel"),
            ("[agent]\nidle = \"5 minutes\"\n", "line 2, column 8", "30s, 5m, 2h"),
            ("[agent.cache]\n\"prod/db\" = \"long\"\n", "line 2, column 13", "30s, 5m, 2h"),
            ("[[device]]\nuri = \"tpm:\"\nname = \"x\"\n", "line 3, column 1", "name"),
            ("[agent]\nconnections = -1\n", "line 2, column 15", ""),
            ("store = ", "line 1", ""),
        ] {
            let error = load(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.message().starts_with(place), "{text}: {error}");
            assert!(error.message().contains(what), "{text}: {error}");
        }
    }
}
