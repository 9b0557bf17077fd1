//! `run`: becomes a program that finds its tokens in its environment, or in files that lie in memory.

use super::dotenv;
use crate::cli::Execute;
use crate::cli::args::{names, unusable_value};
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::exit::ExitWith;
use crate::cli::process::{hardening, tss_log};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use strongroom::error::printable;
use strongroom::uri::{DeviceUri, PinSource};
use strongroom::vault::TokenRef;
use strongroom::{Error, Kind, Result, Secret};

/// The prefix of a reference to a token in an environment file.
const SCHEME: &str = "strongroom://";

#[derive(Debug, Args)]
pub struct Run {
    /// Put a token into an environment variable
    #[arg(long = "env", short, value_name = "VAR=NAME[@VERSION]", add = ArgValueCompleter::new(completions::bindings))]
    env: Vec<String>,
    /// Put a token into a file in memory, and the file's path into an environment variable
    #[arg(long = "file", short, value_name = "VAR=NAME[@VERSION]", add = ArgValueCompleter::new(completions::bindings))]
    file: Vec<String>,
    /// Read variables from a file of VAR=strongroom://NAME[@VERSION] and VAR=value lines
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND", allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// What a variable is set to.
enum Value {
    Plain(String),
    Token(TokenRef),
    File(TokenRef),
}

impl Execute for Run {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let variables = self.variables()?;
        let wanted = distinct(&variables);
        let tokens = match wanted.is_empty() {
            true => Vec::new(),
            // The vault is closed, and its devices with it, before the program takes over.
            false => context.with_tokens(|store, out| {
                let mut failed = None;
                let mut tokens = Vec::with_capacity(wanted.len());
                for opened in store.open_all(&wanted) {
                    match opened {
                        Ok(token) => tokens.push(token.value),
                        Err(error) => {
                            out.error(&error);
                            failed.get_or_insert(crate::cli::exit::code_of(error.kind()));
                        }
                    }
                }
                failed.map_or(Ok(tokens), |code| Err(ExitWith(code).into()))
            })?,
        };
        let token = |of: &TokenRef| wanted.iter().position(|other| other == of).map(|i| &tokens[i]);
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        without_pins(context, &mut command)?;
        tss_log::restore(&mut command);
        let mut files = Vec::new();
        for (variable, value) in &variables {
            match value {
                Value::Plain(value) => command.env(variable, value),
                Value::Token(of) => command.env(variable, in_environment(variable, of, token(of))?),
                Value::File(of) => command.env(variable, in_memory(token(of), &mut files)?),
            };
        }
        Err(become_program(command, &self.command[0]))
    }
}

impl Run {
    /// Every variable once, in the order given.
    fn variables(&self) -> Result<Vec<(String, Value)>> {
        let mut variables: Vec<(String, Value)> = Vec::new();
        for path in &self.env_file {
            variables.extend(from_file(path)?);
        }
        for text in &self.env {
            variables.push(binding("--env", text, Value::Token)?);
        }
        for text in &self.file {
            variables.push(binding("--file", text, Value::File)?);
        }
        let mut names: Vec<_> = variables.iter().map(|(name, _)| name).collect();
        names.sort();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(unusable(&format!("set {}", pair[0]), "it is set twice")),
            None => Ok(variables),
        }
    }
}

fn binding(option: &str, text: &str, value: fn(TokenRef) -> Value) -> Result<(String, Value)> {
    let (variable, name) =
        text.split_once('=').ok_or_else(|| unusable_value(option, "it is not VAR=NAME"))?;
    if !dotenv::is_variable(variable) {
        return Err(unusable_value(
            option,
            "a variable's name consists of letters, digits and _, and does not begin with a digit",
        ));
    }
    let name = names::versioned(name.strip_prefix(SCHEME).unwrap_or(name))?;
    Ok((variable.into(), value(name)))
}

fn from_file(path: &Path) -> Result<Vec<(String, Value)>> {
    let shown = printable(&path.display().to_string());
    let failed = |kind, message: String| {
        Error::new(kind, "read the environment file", message).with_target(shown.clone())
    };
    let text = std::fs::read_to_string(path).map_err(|e| failed(Kind::Io, e.to_string()))?;
    let lines =
        dotenv::parse(&text).map_err(|(line, what)| failed(Kind::Usage, format!("line {line}: {what}")))?;
    let value = |line: dotenv::Assignment| {
        let wrong = |what: &str| failed(Kind::Usage, format!("line {}: {what}", line.line));
        let value = match line.value.strip_prefix(SCHEME) {
            Some(name) => Value::Token(names::versioned(name).map_err(|e| wrong(e.message()))?),
            // It would reach the program as it stands.
            None if line.value.contains(SCHEME) => {
                return Err(wrong("strongroom:// is not replaced inside a longer value")
                    .with_hint("make the reference the whole value, or store the whole value as a token"));
            }
            None => Value::Plain(line.value.to_string()),
        };
        Ok((line.variable, value))
    };
    lines.into_iter().map(value).collect()
}

/// Each token once, however many variables it goes into.
fn distinct(variables: &[(String, Value)]) -> Vec<TokenRef> {
    let mut wanted: Vec<TokenRef> = Vec::new();
    for (_, value) in variables {
        if let Value::Token(token) | Value::File(token) = value
            && !wanted.contains(token)
        {
            wanted.push(token.clone());
        }
    }
    wanted
}

/// Removes PINs from the program's environment.
fn without_pins(context: &Context, command: &mut Command) -> Result<()> {
    for device in context.resolve()?.devices {
        if let Ok(uri) = DeviceUri::parse(&device.uri)
            && let Some(PinSource::Env(name)) = uri.pin_source()
        {
            command.env_remove(name);
        }
    }
    Ok(())
}

fn in_environment(variable: &str, of: &TokenRef, token: Option<&Secret>) -> Result<OsString> {
    let bytes = token.map(Secret::expose).unwrap_or_default();
    if bytes.contains(&0) {
        let error = unusable(
            &format!("set {variable}"),
            "the token holds a NUL byte, and an environment variable cannot",
        );
        return Err(error.with_hint(format!("give it as a file: --file {variable}={}", of.name)));
    }
    Ok(OsString::from_vec(bytes.to_vec()))
}

/// A file without a name on any disk, sealed against every change. The program and those that it starts inherit it.
fn in_memory(token: Option<&Secret>, files: &mut Vec<OwnedFd>) -> Result<String> {
    let make = || -> io::Result<OwnedFd> {
        // Linux before 6.3 does not know that a file in memory need not be a program.
        let fd = memfd_create("strongroom", MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL)
            .or_else(|_| memfd_create("strongroom", MemfdFlags::ALLOW_SEALING))?;
        let mut file = File::from(fd);
        file.write_all(token.map(Secret::expose).unwrap_or_default())?;
        fchmod(&file, Mode::RUSR)?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(file.into())
    };
    let fd = make().map_err(|e| Error::new(Kind::Io, "make a file in memory", e.to_string()).caused_by(e))?;
    // Not by this process's id: a daemon that forks inherits the file, and its first process ends.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    files.push(fd);
    Ok(path)
}

/// Replaces this process. Returns only a failure.
fn become_program(mut command: Command, program: &OsString) -> anyhow::Error {
    hardening::restore_core_limit();
    let failure = command.exec();
    let (code, hint) = match failure.kind() {
        io::ErrorKind::NotFound => (127, "check its name and $PATH"),
        io::ErrorKind::ArgumentListTooLong => (126, "give large tokens as files: --file VAR=NAME"),
        _ => (126, "check that it may be executed, and is for this machine"),
    };
    let shown = printable(&program.to_string_lossy());
    let error = Error::new(Kind::Io, format!("start `{shown}`"), failure.to_string()).with_hint(hint);
    anyhow::Error::new(error).context(ExitWith(code))
}

fn unusable(operation: &str, why: &str) -> Error {
    Error::new(Kind::Usage, operation, why)
}
