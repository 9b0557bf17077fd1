//! The person behind a program: it is run with a question as its argument, and prints the answer as a line.

use super::pin_source::pin_from;
use super::{PinRequest, Prompter};
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Asks by a program such as `systemd-ask-password`.
pub struct ProgramPrompter {
    /// Its path.
    pub program: PathBuf,
    /// How long a person may take. The program is ended after it.
    pub patience: Duration,
}

impl ProgramPrompter {
    /// The line that the program prints, without its end.
    ///
    /// # Errors
    /// `PinUnavailable` when it prints none, fails, or takes too long.
    pub fn answer(&self, question: &str) -> Result<Secret> {
        let failed = |message: String| {
            Error::new(Kind::PinUnavailable, "ask by a program", message)
                .with_target(self.program.display().to_string())
        };
        let mut command = Command::new(&self.program);
        let asking = command.arg(question).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut asking = asking.map_err(|e| failed(e.to_string()))?;
        let answered = self.read_line(&mut asking);
        match (answered, has_succeeded(&mut asking)) {
            (Some(line), true) if !line.is_empty() => Ok(line),
            _ => Err(failed("it gave no answer".into())),
        }
    }

    /// A thread of its own reads, so that a program that never ends can be ended.
    fn read_line(&self, asking: &mut Child) -> Option<Secret> {
        let output = asking.stdout.take()?;
        let (says, hears) = std::sync::mpsc::channel();
        std::thread::spawn(move || says.send(Secret::read_from(output, "ask by a program")));
        let said = hears.recv_timeout(self.patience).ok()?.ok()?;
        let line = said.expose().strip_suffix(b"\n").unwrap_or(said.expose());
        (!line.contains(&b'\n')).then(|| Secret::new(line.to_vec()))
    }
}

/// Whether it ended well. It has closed its output, or had its time.
fn has_succeeded(asking: &mut Child) -> bool {
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        if let Ok(Some(status)) = asking.try_wait() {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = asking.kill();
    let _ = asking.wait();
    false
}

impl Prompter for ProgramPrompter {
    fn pin(&mut self, request: &PinRequest<'_>) -> Result<Secret> {
        match request.source {
            Some(source) => pin_from(source),
            None => self.answer(&format!("PIN of {}", request.device)),
        }
    }

    fn touch(&mut self, why: &str) -> Result<()> {
        log::warn!("{why}");
        Ok(())
    }

    /// Only the word `yes` is one. A program that printed nothing, or failed, said no.
    fn confirm(&mut self, question: &str) -> Result<bool> {
        Ok(self.answer(&format!("{question} Type yes:")).is_ok_and(|answer| answer.expose() == b"yes"))
    }

    fn is_attended(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_support::executable::write_executable;

    fn confirmed(script: &str) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("ask");
        write_executable(&program, &format!("#!/bin/sh\n{script}\n"));
        let patience = Duration::from_millis(if script.contains("sleep") { 50 } else { 20_000 });
        ProgramPrompter { program, patience }.confirm("Hand out a to b?").unwrap()
    }

    #[test]
    fn only_yes_is_a_yes() {
        assert!(confirmed("[ \"$1\" = 'Hand out a to b? Type yes:' ] && echo yes"));
        for script in
            ["echo no", "echo", "echo yes; exit 1", "printf 'yes\\nyes\\n'", "exit 0", "sleep 60; echo yes"]
        {
            assert!(!confirmed(script), "{script}");
        }
        let mut missing =
            ProgramPrompter { program: "/nonexistent/ask".into(), patience: Duration::from_secs(1) };
        assert!(!missing.confirm("?").unwrap());
    }
}
