//! File locations: the XDG base directories for a user, the FHS for root.

use crate::error::{Error, Kind, Result};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The directories of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `config.toml`.
    pub config: PathBuf,
    /// Replicas and pins.
    pub state: PathBuf,
    /// The default store.
    pub store: PathBuf,
}

impl Paths {
    /// From the environment: `$XDG_CONFIG_HOME`, `$XDG_STATE_HOME`, `$XDG_DATA_HOME` if set; else below the home
    /// directory, or for root `/etc/strongroom` and `/var/lib/strongroom`.
    ///
    /// # Errors
    /// `Io` if there is no home directory.
    pub fn discover() -> Result<Self> {
        let root = rustix::process::geteuid().is_root();
        let directory = |variable: &str, system: &str, home: &str| {
            let named = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
            match (named, root) {
                (Some(path), _) => Ok(path.join("strongroom")),
                (None, true) => Ok(PathBuf::from(system)),
                (None, false) => Ok(home_directory()?.join(home).join("strongroom")),
            }
        };
        let state = directory("XDG_STATE_HOME", "/var/lib/strongroom", ".local/state")?;
        Ok(Self {
            config: directory("XDG_CONFIG_HOME", "/etc/strongroom", ".config")?.join("config.toml"),
            state,
            store: directory("XDG_DATA_HOME", "/var/lib/strongroom", ".local/share")?.join("store.sqlite"),
        })
    }
}

fn home_directory() -> Result<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute()).ok_or_else(|| {
        Error::new(Kind::Io, "find the home directory", "HOME is not set")
            .with_hint("set HOME, or name the store with --store")
    })
}

/// Where the machine's agent listens.
pub const MACHINE_SOCKET: &str = "/run/strongroom/agent.sock";

/// The default socket of this user's agent, or of the machine's for root.
///
/// # Errors
/// `Io` when a user has no runtime directory.
pub fn agent_socket() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(MACHINE_SOCKET.into());
    }
    let directory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let directory = directory.ok_or_else(|| {
        Error::new(Kind::Io, "find the agent's socket", "XDG_RUNTIME_DIR is not set")
            .with_hint("name it with --socket")
    })?;
    Ok(directory.join("strongroom/agent.sock"))
}

/// Creates a directory, and its parents, for its owner alone.
///
/// # Errors
/// `Io`.
pub fn make_private(directory: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|e| {
        Error::io("make a directory", directory, e).with_hint("check who owns the directory above it")
    })
}

/// Opens a regular file to be read. A FIFO, whose writer might never come, and all else is refused at once.
///
/// # Errors
/// Those of opening it; `InvalidInput` for what is no regular file.
pub fn open_regular(path: &Path) -> std::io::Result<File> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}
