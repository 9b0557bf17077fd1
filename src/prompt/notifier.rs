//! Telling a person who does not look at a terminal: a command that shows a notification.

use super::{PinRequest, Prompter};
use crate::error::{Result, printable};
use crate::secret::Secret;
use std::process::{Command, Stdio};

/// Runs a command besides whatever its inner prompter does.
pub struct CommandNotifier {
    /// Who is asked.
    pub inner: Box<dyn Prompter + Send>,
    /// The program and its arguments. What the person has to do is added as the last one.
    pub command: Vec<String>,
}

impl CommandNotifier {
    /// Does not wait for it, and a failing one stops nothing.
    fn notify(&self, what: &str) {
        let Some((program, arguments)) = self.command.split_first() else { return };
        // Nothing of it may end up among the data on our stdout.
        let started = Command::new(program)
            .args(arguments)
            .arg(printable(what))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(mut child) => drop(std::thread::spawn(move || child.wait())),
            Err(error) => log::warn!("prompt.command: cannot run {}: {error}", printable(program)),
        }
    }
}

impl Prompter for CommandNotifier {
    fn pin(&mut self, request: &PinRequest<'_>) -> Result<Secret> {
        self.inner.pin(request)
    }

    fn touch(&mut self, why: &str) -> Result<()> {
        self.notify(why);
        self.inner.touch(why)
    }

    fn confirm(&mut self, question: &str) -> Result<bool> {
        self.notify(question);
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

#[cfg(test)]
mod tests {
    use super::super::BatchPrompter;
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_notification_says_what_there_is_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let said = directory.path().join("said");
        let script = format!("printf '%s' \"$1\" > {0}.new && mv {0}.new {0}", said.display());
        let command = ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
        CommandNotifier { inner: Box::new(BatchPrompter), command }
            .touch("touch your YubiKey 1 to open a\n")
            .unwrap();
        let began = Instant::now();
        while !said.exists() && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(std::fs::read_to_string(said).unwrap(), "touch your YubiKey 1 to open a\\u{a}");
    }

    #[test]
    fn a_command_that_is_missing_stops_nothing() {
        let command = vec!["/nonexistent/notify".to_owned()];
        CommandNotifier { inner: Box::new(BatchPrompter), command }.touch("touch it").unwrap();
        CommandNotifier { inner: Box::new(BatchPrompter), command: Vec::new() }.touch("touch it").unwrap();
    }
}
