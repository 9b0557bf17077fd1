//! Prompts for PINs, touches and confirmations. Drivers ask; the caller decides who answers: a terminal, a pinentry, a
//! pin-source or nobody.

use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::uri::PinSource;
use serde::{Deserialize, Serialize};
use std::io::IsTerminal;
use std::time::Duration;

mod notifier;
mod pin_source;
mod pinentry;
mod program;
mod terminal;

pub use notifier::CommandNotifier;
pub use pin_source::BatchPrompter;
pub use pinentry::Pinentry;
pub use program::ProgramPrompter;
pub use terminal::{Terminal, question};

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
    /// What is opened with it, where one of several people gives it: `share 1 of 2 of prod/db`.
    pub what_for: Option<&'a str>,
}

/// The only way a driver reaches a person. Its silent implementation is batch mode.
pub trait Prompter {
    /// The PIN. Asked at most once per device and process; a wrong one is never asked again by the program.
    fn pin(&mut self, request: &PinRequest<'_>) -> Result<Secret>;
    /// Tells the person to touch the device, and why.
    fn touch(&mut self, why: &str) -> Result<()>;
    /// A yes or no question; `Ok(false)` where nobody can be asked.
    fn confirm(&mut self, question: &str) -> Result<bool>;
    /// A secret other than a PIN, with nothing that counts wrong ones: a management key.
    ///
    /// # Errors
    /// `PinUnavailable` where nobody can be asked.
    fn secret(&mut self, question: &str) -> Result<Secret> {
        Err(Error::new(Kind::PinUnavailable, "ask a question", format!("nobody can be asked `{question}`"))
            .with_hint("run the command on a terminal"))
    }
    /// Whether a person sees these prompts, and can be waited for.
    fn is_attended(&self) -> bool {
        false
    }
    /// Called now and then while a driver waits for a person, so that the device is not taken for hung.
    fn still_waiting(&mut self) {}
}

/// A prompter that says what a touch is for, or a PIN: the drivers know their devices, not what is done with them.
pub struct PurposePrompter<'a> {
    /// Who is asked.
    pub inner: &'a mut dyn Prompter,
    /// `open prod/db`.
    pub purpose: &'a str,
    /// [`PinRequest::what_for`].
    pub pin_for: Option<&'a str>,
}

impl Prompter for PurposePrompter<'_> {
    fn pin(&mut self, request: &PinRequest<'_>) -> Result<Secret> {
        let PinRequest { device, source, tries, what_for } = *request;
        self.inner.pin(&PinRequest { device, source, tries, what_for: self.pin_for.or(what_for) })
    }

    fn touch(&mut self, why: &str) -> Result<()> {
        self.inner.touch(&format!("{why} to {}", self.purpose))
    }

    fn confirm(&mut self, question: &str) -> Result<bool> {
        self.inner.confirm(question)
    }

    fn secret(&mut self, question: &str) -> Result<Secret> {
        self.inner.secret(question)
    }

    fn is_attended(&self) -> bool {
        self.inner.is_attended()
    }

    fn still_waiting(&mut self) {
        self.inner.still_waiting();
    }
}

/// How people are asked and told: `[prompt]` in config.toml.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A command to run when a person has to do something; that is its last argument: `["notify-send", "Strongroom"]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// A pinentry that asks where there is no terminal: `pinentry-gnome3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinentry: Option<String>,
}

/// How long a dialogue stays before it counts as cancelled.
const PATIENCE: Duration = Duration::from_secs(120);

/// The prompter that fits this process: the terminal, if a person sits at one, else a pinentry, else [`BatchPrompter`]; with a
/// notification where one is configured.
pub fn for_process_with(settings: &Settings) -> Box<dyn Prompter + Send> {
    for_process_within(settings, PATIENCE)
}

/// As [`for_process_with`]. A pinentry is ended after `patience`.
pub fn for_process_within(settings: &Settings, patience: Duration) -> Box<dyn Prompter + Send> {
    // Under cron or in a detached shell there may be a /dev/tty that nobody looks at.
    let attended = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
    let inner: Box<dyn Prompter + Send> = match (Terminal::open(), &settings.pinentry) {
        (Some(terminal), _) if attended => Box::new(terminal),
        (_, Some(program)) => Box::new(Pinentry { program: program.clone(), patience }),
        _ => Box::new(BatchPrompter),
    };
    match settings.command.is_empty() {
        true => inner,
        false => Box::new(CommandNotifier { inner, command: settings.command.clone() }),
    }
}

/// As [`for_process_with`], with nothing configured.
pub fn for_process() -> Box<dyn Prompter + Send> {
    for_process_with(&Settings::default())
}
