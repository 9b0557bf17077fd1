//! Whether the store is still the file that was opened. An open file goes on without its name, and what is written to it
//! then is lost.

use crate::error::{Error, Kind, Result, printable};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The file of a store, as it was when the agent started.
#[derive(Clone, Debug)]
pub struct StoreFile(Option<(PathBuf, u64, u64)>);

impl StoreFile {
    /// Of the store at this URL; empty if the store is not a file.
    pub fn of(url: &str) -> Self {
        let path = PathBuf::from(url.strip_prefix("sqlite://").unwrap_or(url));
        Self(std::fs::metadata(&path).ok().map(|file| (path, file.dev(), file.ino())))
    }

    /// An error when the file is gone or another one.
    ///
    /// # Errors
    /// `Store`.
    pub fn check(&self) -> Result<()> {
        let Some((path, dev, ino)) = &self.0 else { return Ok(()) };
        let message = match std::fs::metadata(path) {
            Ok(file) if (file.dev(), file.ino()) == (*dev, *ino) => return Ok(()),
            Ok(_) => "another file is in its place".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(Error::new(Kind::Store, "use the store", message)
            .with_target(printable(&path.display().to_string()))
            .with_hint("put it back; the agent finds it by itself"))
    }

    /// Whether another file is in its place.
    pub fn is_replaced(&self) -> bool {
        self.check().is_err() && self.0.as_ref().is_some_and(|(path, ..)| path.exists())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        std::fs::write(&path, "one").unwrap();
        let store_file = StoreFile::of(&format!("sqlite://{}", path.display()));
        assert!(store_file.check().is_ok() && !store_file.is_replaced());
        std::fs::rename(&path, path.with_extension("old")).unwrap();
        assert!(store_file.check().is_err() && !store_file.is_replaced());
        std::fs::write(&path, "two").unwrap();
        assert!(store_file.is_replaced());
        std::fs::rename(path.with_extension("old"), &path).unwrap();
        assert!(store_file.check().is_ok());
        assert!(StoreFile::of("postgres://x").check().is_ok());
    }
}
