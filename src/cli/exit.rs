//! Exit codes, and what is said on the way out.

use crate::cli::output::Output;
use clap::error::ErrorKind;
use std::fmt;
use std::io;
use std::process::ExitCode;
use strongroom::{Error, Kind};

/// The table that `--help` shows and docs/reference/exit-codes.md explains.
pub const TABLE: &str = "\
Exit codes:
    0  done; also when the reader of a pipe has gone
    1  something else: a file, the operating system, a question answered with no, a feature not built in
    2  the request is wrong: an option, a name, an empty token
    3  there is no such token, version or device
    4  the ledger refuses (suspended, revoked, expired, no role), or another change came first
    5  the device failed or is missing, lacks the key, or could let the key leave
    6  the PIN is wrong, locked or not available
    7  the store was altered, rolled back or not witnessed, or was never verified here
    8  the store is missing, unreadable, full or of another format
    9  no agent is running
   10  `status` or `doctor` found something that does not work, or `due` a token that is due
   11  the change was proposed, and waits for other admins
    run: the program's own code; 126 if it cannot be executed, 127 if it does not exist";

/// The exit code for a kind of failure.
pub fn code_of(kind: Kind) -> u8 {
    match kind {
        Kind::Usage => 2,
        Kind::NotFound => 3,
        Kind::Refused | Kind::Conflict => 4,
        Kind::SealedElsewhere | Kind::Device | Kind::DeviceGone | Kind::KeyMissing | Kind::Evidence => 5,
        Kind::PinWrong | Kind::PinLocked | Kind::PinUnavailable => 6,
        Kind::Tampered | Kind::RolledBack | Kind::Stale | Kind::Untrusted => 7,
        Kind::Store => 8,
        Kind::NoAgent => 9,
        Kind::Degraded => 10,
        Kind::Proposed => 11,
        _ => 1,
    }
}

/// A failure with its own exit code, or one that was reported already.
#[derive(Clone, Copy, Debug)]
pub struct ExitWith(pub u8);

impl fmt::Display for ExitWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}", self.0)
    }
}

impl std::error::Error for ExitWith {}

/// Reports a failure, if there is one, and returns the exit code.
pub fn code(out: &mut Output, done: anyhow::Result<()>) -> ExitCode {
    let done = done.and_then(|()| Ok(out.flush()?));
    let Err(failure) = done else { return ExitCode::SUCCESS };
    if is_closed_pipe(&failure) {
        return ExitCode::SUCCESS;
    }
    let other = failure.downcast_ref::<ExitWith>().copied();
    let code = match failure.downcast_ref::<Error>() {
        Some(error) => {
            out.error(error);
            code_of(error.kind())
        }
        None if other.is_some() => 1,
        None => {
            out.error(&Error::new(Kind::Io, "continue", format!("{failure:#}")));
            1
        }
    };
    ExitCode::from(other.map_or(code, |other| other.0))
}

/// The reader of our output has closed the pipe, as `head` does.
fn is_closed_pipe(failure: &anyhow::Error) -> bool {
    let closed = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    failure.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(closed))
}

/// Prints what the command line's parser returns instead of a command: help, the version or an error.
pub fn usage(out: &mut Output, error: &clap::Error) -> ExitCode {
    let text = error.render();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let done = match out.colours_data() {
                true => out.bytes(text.ansi().to_string().as_bytes()),
                false => out.bytes(text.to_string().as_bytes()),
            };
            code(out, done.map_err(anyhow::Error::from))
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            out.help_instead(&text.to_string());
            ExitCode::from(code_of(Kind::Usage))
        }
        _ => {
            out.parse_error(&text.to_string());
            ExitCode::from(code_of(Kind::Usage))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../docs/reference/exit-codes.md");

    #[test]
    fn the_documented_table_is_this_one() {
        for line in TABLE.lines().skip(1) {
            assert!(PAGE.contains(line.trim()), "docs/reference/exit-codes.md lacks: {line}");
        }
    }

    /// Each row of the table of kinds: kinds between backticks, and their code.
    #[test]
    fn the_documented_kinds_have_their_codes() {
        let mut documented = Vec::new();
        let table = PAGE.split("| `kind` | code |\n|---|---|\n").nth(1).unwrap();
        for row in table.lines().take_while(|line| line.starts_with('|')) {
            let (kinds, code) = row.trim_matches(['|', ' ']).split_once(" | ").unwrap();
            for kind in kinds.split('`').skip(1).step_by(2) {
                let kind = Kind::named(kind).unwrap_or_else(|| panic!("no kind is called {kind}"));
                assert_eq!(code_of(kind).to_string(), code, "{kind:?}");
                documented.push(kind);
            }
        }
        for kind in Kind::all() {
            assert!(documented.contains(&kind), "docs/reference/exit-codes.md lacks {kind:?}");
        }
    }
}
