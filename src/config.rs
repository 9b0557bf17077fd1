//! `config.toml`: which store, and which devices are here.

use crate::error::{Error, Kind, Result, printable};
use crate::ledger::DeviceId;
use crate::prompt::Settings;
use crate::uri::DeviceUri;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// What one machine knows before it asks a store. Holds no secret: a PIN is named by `pin-source`, never written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The store's URL, where it is not the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// How people are asked and told.
    #[serde(skip_serializing_if = "is_usual")]
    pub prompt: Settings,
    /// Devices, in the order in which they are tried.
    #[serde(rename = "device", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<ConfiguredDevice>,
}

fn is_usual(settings: &Settings) -> bool {
    *settings == Settings::default()
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
        let failed = |kind, answer: String| {
            Error::new(kind, "read the configuration", answer)
                .with_target(printable(&path.display().to_string()))
        };
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|e| failed(Kind::Usage, printable(e.message()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(failed(Kind::Io, e.to_string()).caused_by(e)),
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
        write().map_err(|e| {
            Error::new(Kind::Io, "write the configuration", e.to_string())
                .with_target(printable(&path.display().to_string()))
                .caused_by(e)
        })
    }
}
