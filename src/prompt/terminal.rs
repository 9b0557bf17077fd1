//! The person at the terminal.

use super::pin_source::pin_from;
use super::{PinRequest, Prompter, TriesLeft};
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};

/// Asks on the controlling terminal, so that stdin and stdout stay free for data.
#[derive(Debug)]
pub struct Terminal {
    tty: File,
}

impl Terminal {
    /// `None` when the process has no controlling terminal.
    pub fn open() -> Option<Self> {
        Some(Self { tty: OpenOptions::new().read(true).write(true).open("/dev/tty").ok()? })
    }

    fn say(&mut self, text: &str) -> Result<()> {
        // Whatever a device calls itself, it does not drive the terminal.
        let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        self.tty.write_all(text.as_bytes()).and_then(|()| self.tty.flush()).map_err(|e| failed(&e))
    }

    /// What is typed, which is not shown: not even to who answers the moment the question is there.
    fn hidden(&mut self, question: &str) -> Result<Secret> {
        let _echo_off = EchoOff::now(&self.tty).map_err(|e| failed(&e))?;
        self.say(question)?;
        let typed = rpassword::read_password().map_err(|e| failed(&e))?;
        Ok(Secret::new(typed.into_bytes()))
    }

    fn line_end(&mut self) -> Result<()> {
        self.tty.write_all(b"\n").map_err(|e| failed(&e))
    }
}

/// The terminal shows nothing of what is typed, until this is dropped.
struct EchoOff {
    tty: File,
    before: Termios,
}

impl EchoOff {
    fn now(tty: &File) -> std::io::Result<Self> {
        let (tty, before) = (tty.try_clone()?, tcgetattr(tty)?);
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&tty, OptionalActions::Now, &silent)?;
        Ok(Self { tty, before })
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.tty, OptionalActions::Now, &self.before);
    }
}

impl Prompter for Terminal {
    fn pin(&mut self, request: &PinRequest<'_>) -> Result<Secret> {
        if let Some(source) = request.source {
            return pin_from(source);
        }
        self.hidden(&question(request))
    }

    fn touch(&mut self, why: &str) -> Result<()> {
        self.say(why)?;
        self.line_end()
    }

    fn confirm(&mut self, question: &str) -> Result<bool> {
        self.say(&format!("{question} [y/N] "))?;
        let mut answer = String::new();
        BufReader::new(&self.tty).read_line(&mut answer).map_err(|e| failed(&e))?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    fn secret(&mut self, question: &str) -> Result<Secret> {
        self.hidden(&format!("{question}: "))
    }

    fn is_attended(&self) -> bool {
        true
    }
}

/// How a person is asked for a PIN: `PIN of pkcs11:token=demo (3 tries left), for share 1 of 2 of prod/db: `
pub fn question(request: &PinRequest<'_>) -> String {
    let tries = match request.tries {
        TriesLeft::Unknown => String::new(),
        TriesLeft::Low => " (a wrong PIN was entered before)".into(),
        TriesLeft::Count(1) | TriesLeft::Last => " (the LAST try before it locks)".into(),
        TriesLeft::Count(n) => format!(" ({n} tries left)"),
    };
    let what_for = request.what_for.map(|what| format!(", for {what}")).unwrap_or_default();
    format!("PIN of {}{tries}{what_for}: ", request.device)
}

fn failed(error: &std::io::Error) -> Error {
    Error::new(Kind::PinUnavailable, "ask on the terminal", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_shown() {
        let asked = |tries| {
            question(&PinRequest { device: "pkcs11:token=demo", source: None, tries, what_for: None })
        };
        assert_eq!(asked(TriesLeft::Unknown), "PIN of pkcs11:token=demo: ");
        assert_eq!(asked(TriesLeft::Count(3)), "PIN of pkcs11:token=demo (3 tries left): ");
        assert!(asked(TriesLeft::Last).contains("LAST"));
        let request = PinRequest {
            device: "pkcs11:token=demo",
            source: None,
            tries: TriesLeft::Count(3),
            what_for: Some("share 1 of 2 of prod/db"),
        };
        assert_eq!(
            question(&request),
            "PIN of pkcs11:token=demo (3 tries left), for share 1 of 2 of prod/db: "
        );
    }
}
