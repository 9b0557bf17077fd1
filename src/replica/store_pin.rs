//! The pin: the store's id at a location, and the last position that this client verified. Kept outside the replica.

use crate::error::{Error, Kind, Result, printable};
use crate::failpoint;
use crate::ledger::{Hash, LogPosition, StoreId};
use rustix::fs::{FlockOperation, flock};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What this client knows of a store before reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorePin {
    /// The hash of its genesis.
    pub store: StoreId,
    /// How far it was verified.
    pub position: LogPosition,
}

/// A trust anchor's text form: `<store id>` or `<store id>:<n>:<chain>`.
pub type TrustAnchor = StorePin;

impl StorePin {
    /// Only the store's id is known.
    pub fn from_store(store: StoreId) -> Self {
        Self { store, position: LogPosition::START }
    }

    /// Reads the pin of the store at `location`; `None` for a first contact.
    ///
    /// # Errors
    /// `Io`; `Untrusted` for a damaged file, which never counts as "no pin".
    pub fn load(directory: &Path, location: &str) -> Result<Option<Self>> {
        let path = file(directory, location);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(&path, "read", e)),
        };
        let pin = text.lines().next().and_then(|line| line.parse().ok());
        pin.map(Some).ok_or_else(|| {
            Error::new(Kind::Untrusted, "read the pin", "the file is damaged")
                .with_target(printable(&path.display().to_string()))
                .with_hint("remove the file and run `strongroom trust STORE-ID` with the id you have from the store's owner")
        })
    }

    /// Saves the pin. It only moves forward: another process may have saved a later one.
    ///
    /// # Errors
    /// `Io`.
    pub fn keep(&self, directory: &Path, location: &str) -> Result<()> {
        self.save(directory, location, |kept| kept.store == self.store && kept.position.n >= self.position.n)
    }

    /// Saves the pin whatever was known before, for `trust --replace` and a new store.
    ///
    /// # Errors
    /// `Io`.
    pub fn replace(&self, directory: &Path, location: &str) -> Result<()> {
        self.save(directory, location, |_| false)
    }

    fn save(&self, directory: &Path, location: &str, prevails: impl Fn(&Self) -> bool) -> Result<()> {
        let path = file(directory, location);
        let write = || {
            let lock = File::create(path.with_extension("lock"))?;
            flock(&lock, FlockOperation::LockExclusive)?;
            if let Ok(Some(kept)) = Self::load(directory, location)
                && prevails(&kept)
            {
                return Ok(());
            }
            let fresh = path.with_extension("new");
            let mut out = File::create(&fresh)?;
            out.write_all(format!("{self}\n{}\n", printable(location)).as_bytes())?;
            out.sync_data()?;
            failpoint::reach("pin.written");
            std::fs::rename(&fresh, &path)?;
            failpoint::reach("pin.renamed");
            Ok(())
        };
        write().map_err(|e: std::io::Error| failed(&path, "write", e))
    }

    /// Forgets the store at `location`, of which nothing came.
    ///
    /// # Errors
    /// `Io`.
    pub fn forget(directory: &Path, location: &str) -> Result<()> {
        let path = file(directory, location);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(&path, "remove", e)),
            _ => Ok(()),
        }
    }
}

/// One file per location, named by its hash, since locations contain characters that file names cannot.
fn file(directory: &Path, location: &str) -> PathBuf {
    let hash = crate::ledger::sha256(location.as_bytes());
    directory.join(format!("{}.pin", hex::encode(&hash.0[..16])))
}

fn failed(path: &Path, verb: &str, error: std::io::Error) -> Error {
    Error::io(format!("{verb} the pin"), path, error)
        .with_hint("check the directory's permissions and free space")
}

impl fmt::Display for StorePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position.n {
            0 => write!(f, "{}", self.store),
            n => write!(f, "{}:{n}:{}", self.store, self.position.chain),
        }
    }
}

impl FromStr for StorePin {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let mut parts = s.split(':');
        let store = parts.next().unwrap_or_default().parse().map_err(|e| format!("a store id is {e}"))?;
        let position = match (parts.next(), parts.next(), parts.next()) {
            (None, _, _) => LogPosition::START,
            (Some(n), Some(chain), None) => LogPosition {
                n: n.parse::<NonZeroU64>()
                    .map_err(|_| "the position is not a number above 0".to_string())?
                    .get(),
                chain: chain.parse::<Hash>().map_err(|e| format!("the chain value is {e}"))?,
            },
            _ => return Err("expected STORE-ID or STORE-ID:N:CHAIN".into()),
        };
        Ok(Self { store, position })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_never_moves_back() {
        let directory = tempfile::tempdir().unwrap();
        let at =
            |n| StorePin { store: StoreId([7; 32]), position: LogPosition { n, chain: Hash([n as u8; 32]) } };
        assert_eq!(StorePin::load(directory.path(), "sqlite:///x").unwrap(), None);
        for (keep, expect) in [(3, 3), (2, 3), (9, 9)] {
            at(keep).keep(directory.path(), "sqlite:///x").unwrap();
            assert_eq!(StorePin::load(directory.path(), "sqlite:///x").unwrap(), Some(at(expect)));
        }
    }

    #[test]
    fn a_hand_over_is_read_as_it_is_written() {
        let (store, chain) = ("5a".repeat(32), "cc".repeat(32));
        for line in [store.clone(), format!("{store}:1:{chain}"), format!("{store}:{}:{chain}", u64::MAX)] {
            assert_eq!(line.parse::<StorePin>().unwrap().to_string(), line);
        }
        let wrong =
            ["", "5a", ":", &format!("{store}:"), &format!("{store}:1"), &format!("{store}:0:{chain}")];
        let longer = [format!("{store}:1:{chain}:"), format!("{store}:-1:{chain}"), format!("{store} ")];
        for line in wrong.into_iter().chain(longer.iter().map(String::as_str)) {
            assert!(line.parse::<StorePin>().is_err(), "{line}");
        }
    }

    #[test]
    fn a_damaged_pin_is_not_a_first_contact() {
        let directory = tempfile::tempdir().unwrap();
        StorePin::from_store(StoreId([7; 32])).keep(directory.path(), "here").unwrap();
        std::fs::write(file(directory.path(), "here"), "").unwrap();
        assert_eq!(StorePin::load(directory.path(), "here").unwrap_err().kind(), Kind::Untrusted);
    }
}
