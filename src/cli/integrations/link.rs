//! `link`: the names by which other programs look for their helpers.

use crate::cli::Execute;
use crate::cli::context::Context;
use clap::Args;
use serde_json::json;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use strongroom::{Error, Kind, Result};

/// age's name for its plugin.
const AGE: &str = "age-plugin-strongroom";

/// What the program is called, and which `credential` it is then.
const NAMES: [(&str, &str); 5] = [
    ("git-credential-strongroom", "git"),
    ("docker-credential-strongroom", "docker"),
    ("cargo-credential-strongroom", "cargo"),
    ("terraform-credentials-strongroom", "terraform"),
    (AGE, "age"),
];

#[derive(Debug, Args)]
pub struct Link {
    /// The directory, which should be in $PATH
    directory: PathBuf,
}

impl Execute for Link {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let program = std::env::current_exe()
            .map_err(|e| Error::io("find this program", Path::new("/proc/self/exe"), e))?;
        let mut made = Vec::new();
        for (name, _) in NAMES {
            let path = self.directory.join(name);
            link(&program, &path)?;
            made.push(path.display().to_string());
        }
        Ok(context.out.done(&json!({"links": made}), &format!("linked {}", made.join(", ")))?)
    }
}

/// Makes the link, or makes an older one lead here. What is no link stays.
fn link(program: &Path, path: &Path) -> Result<()> {
    const OPERATION: &str = "link a helper";
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.is_symlink() => {
            let error = Error::new(Kind::Usage, OPERATION, "something else is there");
            return Err(error
                .with_target(path.display().to_string())
                .with_hint("move it away, or name another directory"));
        }
        Ok(_) => std::fs::remove_file(path).map_err(|e| Error::io(OPERATION, path, e))?,
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io(OPERATION, path, e)),
    }
    symlink(program, path).map_err(|e| Error::io(OPERATION, path, e))
}

/// The arguments of a program that was started by one of the names, as `strongroom` takes them.
pub fn by_name(arguments: Vec<OsString>) -> Vec<OsString> {
    let called = arguments.first().and_then(|path| Path::new(path).file_name());
    // Some age programs follow the link before they start a plugin.
    let plugin = arguments.get(1).is_some_and(|first| first.as_encoded_bytes().starts_with(b"--age-plugin="));
    let named = |name: &str| called.is_some_and(|called| called == name) || plugin && name == AGE;
    let helper = NAMES.iter().find(|(name, _)| named(name));
    match helper {
        None => arguments,
        Some((_, helper)) => {
            let words = ["strongroom", "credential", helper].map(OsString::from);
            words.into_iter().chain(arguments.into_iter().skip(1)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_its_command() {
        let called = |words: &[&str]| by_name(words.iter().map(OsString::from).collect());
        let get = called(&["/usr/bin/git-credential-strongroom", "get"]);
        assert_eq!(get, ["strongroom", "credential", "git", "get"].map(OsString::from));
        let plugin = called(&["x/strongroom", "--age-plugin=identity-v1"]);
        assert_eq!(
            plugin,
            ["strongroom", "credential", "age", "--age-plugin=identity-v1"].map(OsString::from)
        );
        assert_eq!(called(&["x/strongroom", "get"]), ["x/strongroom", "get"].map(OsString::from));
    }
}
