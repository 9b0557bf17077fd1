//! `run`: becomes a program that finds its tokens in its environment, or in files that lie in memory.

use super::masked;
use super::supervised::{self, OnChange};
use super::variables::{OpenedVariables, Selection};
use crate::cli::Execute;
use crate::cli::args::{time, unusable_value};
use crate::cli::context::Context;
use crate::cli::exit::ExitWith;
use crate::cli::process::{hardening, tss_log};
use clap::Args;
use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};
use rustix::process::Signal;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;
use strongroom::error::printable;
use strongroom::integrations::project::Value;
use strongroom::secret::mask::SHORTEST;
use strongroom::uri::{DeviceUri, PinSource};
use strongroom::vault::TokenRef;
use strongroom::{Error, Kind, Result};

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    selection: Selection,
    /// Hide the tokens in what the program writes, as they are and in base64, hexadecimal, percent-encoding and JSON
    #[arg(long)]
    mask: bool,
    /// Start the program again whenever one of its tokens has a new version: SIGTERM, --grace, SIGKILL. If it ends after that
    /// with a failure, it is started again, with longer and longer pauses
    #[arg(long, conflicts_with_all = ["mask", "signal_on_change"])]
    restart_on_change: bool,
    /// Send the program a signal whenever one of its tokens has a new version: HUP, USR1, … It keeps its environment and its
    /// files, so it must come by the new value itself
    #[arg(long, value_name = "SIGNAL", conflicts_with = "mask")]
    signal_on_change: Option<String>,
    /// How long the program may take to end, before it is started again
    #[arg(long, value_name = "TIME", default_value = "10s", requires = "restart_on_change")]
    grace: String,
    /// A command for `sh -c`, with the program's environment, that succeeds when the program works. Asked after it was started
    /// again; one that does not work within 10 s is started once more
    #[arg(long, value_name = "COMMAND", requires = "restart_on_change")]
    health_command: Option<String>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND", allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl Execute for Run {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        if self.restart_on_change || self.signal_on_change.is_some() {
            return self.supervise(context);
        }
        // The vault is closed, and its devices with it, before the program takes over.
        let opened = self.selection.open(context)?;
        let (mut command, _files) = self.prepare(context, &opened)?;
        if self.mask {
            let hidden: Vec<&[u8]> = opened.values().collect();
            if hidden.iter().any(|value| value.trim_ascii().len() < SHORTEST) {
                context.out.warn("a token of fewer than 4 bytes is not hidden");
            }
            hardening::restore_core_limit();
            return masked::run(&mut command, &hidden).map_err(|e| not_started(&e, &self.command[0]))?;
        }
        Err(become_program(command, &self.command[0]))
    }
}

impl Run {
    /// Runs the program as a child, and has it hear of new versions.
    fn supervise(&self, context: &mut Context) -> anyhow::Result<()> {
        let on = self.selection.watched()?;
        if on.is_empty() {
            let error = Error::new(Kind::Usage, "watch tokens", "the program gets no token");
            return Err(error.with_hint("name one: --env VAR=NAME").into());
        }
        let grace = Duration::from_millis(time::period("--grace", &self.grace)?);
        let change = OnChange {
            signal: self.signal_on_change.as_deref().map(signal).transpose()?,
            grace,
            health: self.health_command.clone(),
        };
        hardening::restore_core_limit();
        supervised::run(context, on, &change, &mut |context| {
            let opened = self.selection.open(context)?;
            Ok(self.prepare(context, &opened)?)
        })
    }

    /// The program's command, and the files in memory that it inherits.
    fn prepare(&self, context: &Context, opened: &OpenedVariables) -> Result<(Command, Vec<OwnedFd>)> {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        without_pins(context, &mut command)?;
        tss_log::restore(&mut command);
        let mut files = Vec::new();
        for variable in &opened.variables {
            let name = &variable.name;
            match &variable.value {
                Value::Plain(value) => command.env(name, value),
                Value::Token(of) => command.env(name, in_environment(name, of, opened.token(of))?),
                Value::File(of) => command.env(name, in_memory(opened.token(of), &mut files)?),
            };
        }
        Ok((command, files))
    }
}

/// A signal by its name.
fn signal(name: &str) -> Result<Signal> {
    Ok(match name.trim_start_matches("SIG") {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "TERM" => Signal::TERM,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "WINCH" => Signal::WINCH,
        _ => {
            let message = "it is none of HUP, INT, QUIT, TERM, USR1, USR2, WINCH".to_owned();
            return Err(unusable_value("--signal-on-change", message));
        }
    })
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

fn in_environment(variable: &str, of: &TokenRef, bytes: &[u8]) -> Result<OsString> {
    if bytes.contains(&0) {
        let message = "the token holds a NUL byte, and an environment variable cannot";
        let error = Error::new(Kind::Usage, format!("set {variable}"), message);
        return Err(error.with_hint(format!("give it as a file: --file {variable}={}", of.name)));
    }
    Ok(OsString::from_vec(bytes.to_vec()))
}

/// A file without a name on any disk, sealed against every change. The program and those that it starts inherit it.
fn in_memory(token: &[u8], files: &mut Vec<OwnedFd>) -> Result<String> {
    let make = || -> io::Result<OwnedFd> {
        // Linux before 6.3 does not know that a file in memory need not be a program.
        let fd = memfd_create("strongroom", MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL)
            .or_else(|_| memfd_create("strongroom", MemfdFlags::ALLOW_SEALING))?;
        let mut file = File::from(fd);
        file.write_all(token)?;
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
    not_started(&command.exec(), program)
}

/// Why a program was not started, with the exit code that shells have for it.
pub fn not_started(failure: &io::Error, program: &OsString) -> anyhow::Error {
    let (code, hint) = match failure.kind() {
        io::ErrorKind::NotFound => (127, "check its name and $PATH"),
        io::ErrorKind::ArgumentListTooLong => (126, "give large tokens as files: --file VAR=NAME"),
        _ => (126, "check that it may be executed, and is for this machine"),
    };
    let shown = printable(&program.to_string_lossy());
    let error = Error::new(Kind::Io, format!("start `{shown}`"), failure.to_string()).with_hint(hint);
    anyhow::Error::new(error).context(ExitWith(code))
}
