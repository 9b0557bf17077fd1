//! A file that appears whole under its name, or not at all.

use crate::error::{Error, Kind, Result, printable};
use crate::failpoint;
use rand_core::{OsRng, RngCore};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file of its owner alone beside the one that it will become. It is removed when it is dropped before that.
#[derive(Debug)]
pub struct PartialFile {
    path: PathBuf,
    place: PathBuf,
    operation: &'static str,
}

impl PartialFile {
    /// An empty file beside `place`. `operation` completes "cannot …".
    ///
    /// # Errors
    /// `Io`.
    pub fn beside(place: &Path, operation: &'static str) -> Result<Self> {
        let mut random = [0; 8];
        let random_name = OsRng.try_fill_bytes(&mut random);
        random_name.map_err(|e| Error::new(Kind::Io, "name a temporary file", e.to_string()))?;
        let path = with_suffix(place, &format!(".partial-{}", hex::encode(random)));
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        created.map_err(|e| failed(operation, place, e))?;
        Ok(Self { path, place: place.into(), operation })
    }

    /// Where it is now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it out and gives it its name. What has the name already is replaced only if `replace` says so; a symbolic
    /// link is never followed.
    ///
    /// # Errors
    /// `Conflict` if something has the name; `Io`.
    pub fn put_in_place(self, replace: bool) -> Result<()> {
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let synced = File::open(&self.path).and_then(|file| file.sync_all());
        synced.map_err(|e| failed(self.operation, &self.place, e))?;
        failpoint::reach("partial.synced");
        match renameat_with(CWD, &self.path, CWD, &self.place, flags) {
            Ok(()) => {}
            // A file system that cannot promise it can still link.
            Err(Errno::INVAL | Errno::NOSYS) if !replace => {
                std::fs::hard_link(&self.path, &self.place).map_err(|e| self.not_placed(e))?;
            }
            Err(e) => return Err(self.not_placed(e.into())),
        }
        failpoint::reach("partial.renamed");
        let directory = self.place.parent().filter(|parent| !parent.as_os_str().is_empty());
        let synced =
            File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all());
        synced.map_err(|e| failed(self.operation, &self.place, e))
    }

    fn not_placed(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::AlreadyExists => occupied(self.operation, &self.place),
            _ => failed(self.operation, &self.place, error),
        }
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // It is gone if it was put in place.
        std::fs::remove_file(&self.path).ok();
    }
}

/// The error for a name that is taken.
pub(crate) fn occupied(operation: &str, place: &Path) -> Error {
    Error::new(Kind::Conflict, operation, "there is something already")
        .with_target(printable(&place.display().to_string()))
}

/// A path with something after its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(path);
    path.push(suffix);
    path.into()
}

fn failed(operation: &str, place: &Path, error: io::Error) -> Error {
    Error::io(operation, place, error).with_hint("check the directory, its permissions and free space")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_appears_whole_and_replaces_nothing_unasked() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("file");
        let written = |text: &str| {
            let partial = PartialFile::beside(&place, "write it").unwrap();
            std::fs::write(partial.path(), text).unwrap();
            partial
        };
        drop(written("dropped"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        written("one").put_in_place(false).unwrap();
        assert_eq!(written("two").put_in_place(false).unwrap_err().kind(), Kind::Conflict);
        assert_eq!(std::fs::read_to_string(&place).unwrap(), "one");
        written("two").put_in_place(true).unwrap();
        assert_eq!(std::fs::read_to_string(&place).unwrap(), "two");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (place, elsewhere) = (directory.path().join("file"), directory.path().join("elsewhere"));
        std::os::unix::fs::symlink(&elsewhere, &place).unwrap();
        let partial = PartialFile::beside(&place, "write it").unwrap();
        assert_eq!(partial.put_in_place(false).unwrap_err().kind(), Kind::Conflict);
        PartialFile::beside(&place, "write it").unwrap().put_in_place(true).unwrap();
        assert!(!elsewhere.exists() && std::fs::symlink_metadata(&place).unwrap().is_file());
    }
}
