//! `edit`: a token in an editor. The file lies in memory, and goes when the editor has ended.

use crate::cli::Execute;
use crate::cli::args::names;
use crate::cli::completions;
use crate::cli::context::Context;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use rand_core::{OsRng, RngCore};
use rustix::fs::{FsWord, statfs};
use serde_json::json;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use strongroom::vault::{PutOptions, TokenRef};
use strongroom::{Error, Kind, Result, Secret};

/// The type of a tmpfs, which lies in memory (statfs(2)).
const TMPFS: FsWord = 0x0102_1994;

#[derive(Debug, Args)]
pub struct Edit {
    /// The token; a new one if there is none
    #[arg(add = ArgValueCompleter::new(completions::names))]
    name: String,
}

/// A directory in memory for one file, for its owner alone.
struct Draft {
    directory: PathBuf,
}

impl Execute for Edit {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let name = names::name(&self.name)?;
        let operation = format!("edit {name}");
        let before = context.with_tokens(|tokens, _| {
            let there = tokens.open_if_there(&TokenRef { name: name.clone(), version: None })?;
            Ok(there.map(|token| token.value))
        })?;
        let draft = Draft::new(&operation)?;
        draft.write(before.as_ref(), &operation)?;
        // The vault is closed meanwhile: nobody waits for a person.
        edit(&draft.path(), &operation)?;
        let after = draft.read(before.as_ref(), &operation)?;
        drop(draft);
        if before.as_ref() == Some(&after) {
            return Ok(context
                .out
                .done(&json!({"name": name.as_str(), "changed": false}), &format!("{name}: not changed"))?);
        }
        if after.is_empty() {
            return Err(
                Error::new(Kind::Cancelled, operation, "the token is empty; nothing was stored").into()
            );
        }
        context.with_tokens(|tokens, out| {
            let report = tokens.put(&name, &after, &PutOptions::default())?;
            let object = json!({"name": name.as_str(), "changed": true, "version": report.version});
            Ok(out.done(
                &object,
                &format!("{name}: version {}, sealed to {}", report.version, report.recipients.join(", ")),
            )?)
        })
    }
}

/// Runs the person's editor.
fn edit(path: &Path, operation: &str) -> Result<()> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".into());
    // An editor may have arguments, as git and others read it. Vim is to leave no copies elsewhere.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(path);
    command.env("VIMINIT", "set noswapfile nobackup nowritebackup noundofile viminfo=");
    let status = command.status().map_err(|e| Error::new(Kind::Io, operation, format!("sh: {e}")))?;
    match status.success() {
        true => Ok(()),
        false => {
            let message = format!("the editor failed ({status}); nothing was stored");
            Err(Error::new(Kind::Cancelled, operation, message).with_hint("set $VISUAL or $EDITOR"))
        }
    }
}

impl Draft {
    fn new(operation: &str) -> Result<Self> {
        let run = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let candidates = run.into_iter().chain(["/dev/shm", "/run", "/tmp"].map(PathBuf::from));
        let mut random = [0; 8];
        OsRng.try_fill_bytes(&mut random).map_err(|e| Error::new(Kind::Io, operation, e.to_string()))?;
        for parent in candidates.filter(|path| is_in_memory(path)) {
            let directory = parent.join(format!("strongroom-{}", hex::encode(random)));
            if DirBuilder::new().mode(0o700).create(&directory).is_ok() {
                return Ok(Self { directory });
            }
        }
        Err(Error::new(Kind::Io, operation, "no file system in memory can be written to")
            .with_hint("mount a tmpfs on /dev/shm, or use `strongroom put`"))
    }

    fn path(&self) -> PathBuf {
        self.directory.join("token")
    }

    fn write(&self, token: Option<&Secret>, operation: &str) -> Result<()> {
        let path = self.path();
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(token.map(Secret::expose).unwrap_or_default()));
        written.map_err(|e| Error::io(operation, &path, e))
    }

    /// What the editor left. Editors add a newline at the end, which is no part of a token that had none.
    fn read(&self, before: Option<&Secret>, operation: &str) -> Result<Secret> {
        let path = self.path();
        let file = File::open(&path).map_err(|e| Error::io(operation, &path, e))?;
        let after = Secret::read_from(file, operation)?;
        let had_newline = before.is_some_and(|token| token.expose().ends_with(b"\n"));
        match after.expose().strip_suffix(b"\n") {
            Some(text) if !had_newline => Ok(Secret::new(text.to_vec())),
            _ => Ok(after),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Also what the editor left beside it.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn is_in_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.f_type == TMPFS)
}
