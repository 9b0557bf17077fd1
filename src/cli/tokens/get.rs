//! `get`: a token's bytes, to where they were asked for.

use crate::cli::Execute;
use crate::cli::args::names;
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::output::Output;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use strongroom::error::printable;
use strongroom::ledger::Name;
use strongroom::vault::OpenedToken;
use strongroom::{Error, Kind, Result, Secret};

#[derive(Debug, Args)]
pub struct Get {
    /// NAME or NAME@VERSION
    #[arg(add = ArgValueCompleter::new(completions::names))]
    name: String,
    /// Write it to this file, readable by its owner only
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The newest staged version, to set it at its issuer; needs a device here that may write the token
    #[arg(long)]
    staged: bool,
    /// Print it to a terminal even if it is binary
    #[arg(long)]
    force: bool,
}

impl Execute for Get {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let wanted = names::versioned(&self.name)?;
        if !self.staged {
            return context.with_tokens(|tokens, out| {
                let mut opened = tokens.open_all(std::slice::from_ref(&wanted)).into_iter();
                opened.try_for_each(|token| Ok(self.write(out, &wanted.name, &token?)?))
            });
        }
        if wanted.version.is_some() {
            let refused =
                Error::new(Kind::Usage, format!("open {}", self.name), "--staged names the version");
            return Err(refused.with_hint("leave the version out").into());
        }
        // An agent hands out no staged versions.
        context
            .with_vault(|vault, out| Ok(self.write(out, &wanted.name, &vault.get_staged(&wanted.name)?)?))
    }
}

impl Get {
    fn write(&self, out: &mut Output, name: &Name, token: &OpenedToken) -> Result<()> {
        match &self.output {
            Some(path) => write_file(path, &token.value),
            None if out.json_wanted() => out.json(&as_json(name, token)),
            None => self.print(out, &token.value),
        }
    }

    fn print(&self, out: &mut Output, token: &Secret) -> Result<()> {
        if !out.to_terminal() {
            return out.bytes(token.expose());
        }
        if !self.force && !is_text(token.expose()) {
            let refused = Error::new(
                Kind::Usage,
                format!("print {}", self.name),
                "it is binary and would garble the terminal",
            );
            return Err(refused.with_hint("redirect it, write it with --output FILE, or use --force"));
        }
        out.bytes(token.expose())?;
        out.bytes(b"\n")
    }
}

/// Text that does nothing to a terminal but appear.
fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'))
}

fn as_json(name: &Name, token: &OpenedToken) -> serde_json::Value {
    let (name, version) = (name.as_str(), token.version);
    match std::str::from_utf8(token.expose()) {
        Ok(text) => json!({"name": name, "version": version, "value": text}),
        Err(_) => json!({"name": name, "version": version, "base64": STANDARD.encode(token.expose())}),
    }
}

/// Replaces the file atomically, and readable by its owner only. Devices and pipes are written to directly.
///
/// # Errors
/// `Io`.
pub fn write_file(path: &Path, token: &Secret) -> Result<()> {
    let special = std::fs::metadata(path).is_ok_and(|m| {
        let kind = m.file_type();
        kind.is_char_device() || kind.is_fifo() || kind.is_block_device()
    });
    let written = match special {
        true => OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(token.expose())),
        false => replace(path, token),
    };
    written.map_err(|e| {
        let shown = printable(&path.display().to_string());
        Error::new(Kind::Io, format!("write the token to {shown}"), e.to_string())
            .with_target(shown)
            .caused_by(e)
    })
}

fn replace(path: &Path, token: &Secret) -> io::Result<()> {
    // A link stays one: the file it leads to is replaced.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let file_name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    let fresh = path.with_file_name(format!(".{file_name}.{}", std::process::id()));
    let write = |mut file: File| {
        file.write_all(token.expose())?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)
    };
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    write(created).inspect_err(|_| {
        let _ = std::fs::remove_file(&fresh);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_private_and_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "something longer").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_file(&link, &Secret::new(b"s3cret".to_vec())).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"s3cret");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn binary_is_what_would_drive_a_terminal() {
        assert!(is_text("pass wörd\n\tx".as_bytes()));
        for binary in [&b"\x1b[31m"[..], b"\xff", b"a\0b", "\u{9b}".as_bytes()] {
            assert!(!is_text(binary));
        }
    }
}
