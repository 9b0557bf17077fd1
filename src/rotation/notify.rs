//! Tells a program of the configuration what became of a rotation.

use super::program::{Descriptors, Program};
use crate::error::{Error, Kind, Result, printable};
use serde_json::Value;
use std::time::Duration;

/// It may take this long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a program with its arguments, as a hook is run, and gives it the event on standard input.
///
/// # Errors
/// `Io` when it cannot be started, fails, or takes longer than 30 seconds.
pub fn notify(command: &[String], event: &Value) -> Result<()> {
    let operation = "tell of a rotation".to_owned();
    let program = Program { operation, command, user: None, timeout: TIMEOUT };
    let finished = program.run(event.to_string().as_bytes(), &Descriptors::default())?;
    if finished.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&finished.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).map(printable).unwrap_or_default();
    let message = format!("`{}` ended with {}: {last}", printable(&command.join(" ")), finished.status);
    Err(Error::new(Kind::Io, program.operation, message))
}
