//! A program that runs as a child of this process: signals are passed on to it, and its exit code becomes this one's.

use crate::cli::exit::ExitWith;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// The signals that are for the program.
pub const SIGNALS: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// Whether a signal asks the program to end.
pub fn ends(signal: i32) -> bool {
    [SIGINT, SIGQUIT, SIGTERM].contains(&signal)
}

/// Passes a signal on. A terminal sends some to the program itself.
pub fn pass_on(child: Pid, signal: i32) {
    if io::stdin().is_terminal() && [SIGINT, SIGQUIT].contains(&signal) {
        return;
    }
    if let Some(signal) = Signal::from_named_raw(signal) {
        let _ = kill_process(child, signal);
    }
}

/// A failure with the program's exit code if that is not 0; of one that a signal ended, with 128 and its number, as shells do.
pub fn outcome(status: ExitStatus) -> anyhow::Result<()> {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    match u8::try_from(code) {
        Ok(0) => Ok(()),
        code => Err(ExitWith(code.unwrap_or(1)).into()),
    }
}
