//! Talking to the person who owns a device. The drivers ask; who answers (a terminal, a PIN file, nobody) is decided above.

use crate::error::Result;
use crate::secret::Secret;
use crate::uri::PinSource;
use std::io::IsTerminal;

mod source;
mod terminal;

pub use source::Silent;
pub use terminal::Terminal;

/// How many tries the device says it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriesLeft {
    /// The device does not tell.
    Unknown,
    /// At least one wrong PIN was entered since the last right one.
    Low,
    /// Exactly this many.
    Count(u32),
    /// The next wrong PIN locks the device.
    Last,
}

/// A driver's request for a PIN.
#[derive(Debug)]
pub struct PinRequest<'a> {
    /// The device in the user's words, e.g. `pkcs11:token=demo`.
    pub device: &'a str,
    /// Where the device's URI says the PIN lies, if it says so.
    pub source: Option<&'a PinSource>,
    /// What the device tells about tries.
    pub tries: TriesLeft,
}

/// The only way a driver reaches a person. Its silent implementation is batch mode.
pub trait Prompter {
    /// The PIN. Asked at most once per device and process; a wrong one is never asked again by the program.
    fn pin(&mut self, request: &PinRequest<'_>) -> Result<Secret>;
    /// Tells the person to touch the device, and why.
    fn touch(&mut self, why: &str) -> Result<()>;
    /// A yes or no question; `Ok(false)` where nobody can be asked.
    fn confirm(&mut self, question: &str) -> Result<bool>;
}

/// The prompter that fits this process: the terminal, if a person sits at one, else [`Silent`].
pub fn for_process() -> Box<dyn Prompter + Send> {
    // Under cron or in a pipeline of a detached shell there may be a /dev/tty and nobody in front of it.
    let attended = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
    match Terminal::open() {
        Some(terminal) if attended => Box::new(terminal),
        _ => Box::new(Silent),
    }
}
