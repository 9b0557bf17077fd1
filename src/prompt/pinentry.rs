//! The person behind a pinentry: GnuPG's dialogues, spoken to in Assuan over pipes.
//!
//! <https://www.gnupg.org/documentation/manuals/assuan/>, and the commands in pinentry's own manual. Lines of at most 1000 bytes;
//! `OK`, `ERR` and `D` (data, percent-encoded) are the answers that matter.

use super::pin_source::pin_from;
use super::terminal::question;
use super::{PinRequest, Prompter};
use crate::error::{Error, Kind, Result, printable};
use crate::secret::Secret;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// The longest line of the protocol.
const LINE: usize = 1000;

/// A pinentry gets so much longer than the dialogue that it shows.
const GRACE: Duration = Duration::from_secs(2);

/// GPG_ERR_CANCELED, GPG_ERR_NOT_CONFIRMED and GPG_ERR_TIMEOUT, in the low bits of an error's number.
const DECLINED: [u32; 3] = [99, 114, 62];

/// What is escaped in what we send.
const ESCAPED: AsciiSet = CONTROLS.add(b'%');

/// What a failing dialogue was trying.
const OPERATION: &str = "ask by pinentry";

/// Asks through a program that opens a dialogue where there is no terminal.
pub struct Pinentry {
    /// Its name or path.
    pub program: String,
    /// How long a dialogue stays before it counts as cancelled. A pinentry that does not end it then is killed.
    pub patience: Duration,
}

impl Prompter for Pinentry {
    fn pin(&mut self, request: &PinRequest<'_>) -> Result<Secret> {
        match request.source {
            Some(source) => pin_from(source),
            None => self.ask(question(request).trim_end_matches([':', ' '])),
        }
    }

    fn touch(&mut self, why: &str) -> Result<()> {
        // A dialogue would have to be answered; this is only told.
        log::warn!("{why}");
        Ok(())
    }

    fn confirm(&mut self, question: &str) -> Result<bool> {
        let mut dialogue = Dialogue::open(self)?;
        dialogue.describe(question)?;
        Ok(dialogue.say("CONFIRM")?.is_some())
    }

    fn secret(&mut self, question: &str) -> Result<Secret> {
        self.ask(question)
    }

    fn is_attended(&self) -> bool {
        true
    }
}

impl Pinentry {
    fn ask(&self, what: &str) -> Result<Secret> {
        let mut dialogue = Dialogue::open(self)?;
        dialogue.describe(what)?;
        dialogue.say("SETPROMPT PIN:")?;
        let cancelled = || {
            Error::new(Kind::Cancelled, OPERATION, "the dialogue was cancelled")
                .with_target(printable(&self.program))
        };
        dialogue.say("GETPIN")?.ok_or_else(cancelled)
    }
}

/// A running pinentry.
struct Dialogue<'a> {
    program: &'a str,
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    until: Instant,
}

impl<'a> Dialogue<'a> {
    fn open(pinentry: &'a Pinentry) -> Result<Self> {
        let (program, patience) = (pinentry.program.as_str(), pinentry.patience);
        let started =
            Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = started.map_err(|e| failed(program, &e.to_string()).caused_by(e))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(program, "it has no pipes"));
        };
        let until = Instant::now() + patience + GRACE;
        let mut dialogue = Self { program, child, to, from, until };
        dialogue.answer()?;
        dialogue.say(&format!("SETTIMEOUT {}", patience.as_secs().max(1)))?;
        Ok(dialogue)
    }

    fn describe(&mut self, what: &str) -> Result<()> {
        let what: String = what.chars().take(300).collect();
        self.say(&format!("SETDESC Strongroom: {}", utf8_percent_encode(&printable(&what), &ESCAPED)))
            .map(drop)
    }

    /// Sends a command. `None` when the person said no; data, or nothing, when yes.
    fn say(&mut self, command: &str) -> Result<Option<Secret>> {
        let line = format!("{command}\n");
        self.to.write_all(line.as_bytes()).map_err(|e| failed(self.program, &e.to_string()))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Option<Secret>> {
        let mut data = Secret::new(Vec::new());
        loop {
            let line = self.line()?;
            let (word, rest) = match line.iter().position(|byte| *byte == b' ') {
                Some(space) => (&line[..space], &line[space + 1..]),
                None => (&line[..], &[][..]),
            };
            match word {
                b"OK" => return Ok(Some(data)),
                b"D" => data = decode(rest),
                b"ERR" => return self.refused(rest),
                // Status lines and comments.
                _ => {}
            }
        }
    }

    fn refused(&self, rest: &[u8]) -> Result<Option<Secret>> {
        let text = String::from_utf8_lossy(rest);
        let number = text.split(' ').next().and_then(|number| number.parse::<u32>().ok());
        match number.map(|number| number & 0xffff) {
            Some(number) if DECLINED.contains(&number) => Ok(None),
            _ => Err(failed(self.program, &printable(&text))),
        }
    }

    fn is_readable(&self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(&self.from, PollFlags::IN)];
        let left = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        loop {
            match poll(&mut fds, Some(&left)) {
                Err(rustix::io::Errno::INTR) => {}
                ready => return matches!(ready, Ok(1..)),
            }
        }
    }

    /// One line without its end. Read byte by byte, so that no buffer keeps what follows.
    fn line(&mut self) -> Result<Zeroizing<Vec<u8>>> {
        let mut line = Zeroizing::new(Vec::with_capacity(LINE));
        let mut byte = Zeroizing::new([0]);
        while line.len() < LINE {
            if !self.is_readable() {
                return Err(failed(self.program, "it did not answer in time"));
            }
            match self.from.read(&mut *byte) {
                Ok(0) => return Err(failed(self.program, "it ended")),
                Ok(_) if byte[0] == b'\n' => return Ok(line),
                Ok(_) => line.push(byte[0]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(self.program, &e.to_string())),
            }
        }
        Err(failed(self.program, "a line is too long"))
    }
}

impl Drop for Dialogue<'_> {
    fn drop(&mut self) {
        let _ = self.to.write_all(b"BYE\n");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is not an escape stands for itself.
fn decode(encoded: &[u8]) -> Secret {
    // Never longer than it was: no reallocation leaves a part behind.
    let mut out = Zeroizing::new(Vec::with_capacity(encoded.len()));
    out.extend(percent_decode(encoded));
    Secret::from(out)
}

fn failed(program: &str, answer: &str) -> Error {
    Error::new(Kind::PinUnavailable, OPERATION, answer)
        .with_target(printable(program))
        .with_hint("install a pinentry and name it in config.toml: [prompt] pinentry = \"pinentry-gnome3\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::TriesLeft;
    use std::path::{Path, PathBuf};
    use test_support::executable::write_executable;

    /// A pinentry that answers GETPIN and CONFIRM with these lines, and notes what it was told.
    fn scripted(answer: &str) -> (tempfile::TempDir, Pinentry, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let (program, heard) = (directory.path().join("pinentry"), directory.path().join("heard"));
        let script = format!(
            "#!/bin/sh\necho 'OK pleased'\nwhile read -r line; do echo \"$line\" >> {}; case $line in \
             GETPIN|CONFIRM) printf '{answer}\\n';; BYE) exit;; *) echo OK;; esac; done\n",
            heard.display()
        );
        write_executable(&program, &script);
        let pinentry =
            Pinentry { program: program.to_str().unwrap().into(), patience: Duration::from_secs(120) };
        (directory, pinentry, heard)
    }

    fn asked(pinentry: &mut Pinentry) -> Result<Secret> {
        pinentry.pin(&PinRequest {
            device: "piv:serial=1",
            source: None,
            tries: TriesLeft::Count(3),
            what_for: None,
        })
    }

    #[test]
    fn a_pin_comes_through_a_dialogue() {
        let (_directory, mut pinentry, heard) = scripted("D 12%%2534%%0a56\\nOK");
        assert_eq!(asked(&mut pinentry).unwrap().expose(), b"12%34\n56");
        let heard = std::fs::read_to_string(heard).unwrap();
        assert!(heard.contains("SETDESC Strongroom: PIN of piv:serial=1 (3 tries left)\n"), "{heard}");
        assert!(heard.contains("SETTIMEOUT 120\n"));
    }

    #[test]
    fn no_is_no() {
        let (_directory, mut pinentry, _) = scripted("ERR 83886179 Operation cancelled <Pinentry>");
        assert_eq!(asked(&mut pinentry).unwrap_err().kind(), Kind::Cancelled);
        assert!(!pinentry.confirm("Use the last try?").unwrap());
        let (_directory, mut pinentry, _) = scripted("OK");
        assert!(pinentry.confirm("Use the last try?").unwrap());
    }

    #[test]
    fn one_that_does_not_answer_is_ended() {
        let (_directory, mut pinentry, _) = scripted("D");
        let hangs = "#!/bin/sh\nexec sleep 60\n";
        write_executable(Path::new(&pinentry.program), hangs);
        pinentry.patience = Duration::ZERO;
        let error = pinentry.confirm("Hand it out?").unwrap_err();
        assert!(error.message().contains("in time"), "{error}");
    }

    #[test]
    fn what_is_no_pinentry_is_told() {
        for program in ["/nonexistent/pinentry", "/bin/true", "/bin/false"] {
            let error = asked(&mut Pinentry { program: program.into(), patience: Duration::from_secs(20) })
                .unwrap_err();
            assert_eq!(error.kind(), Kind::PinUnavailable, "{program}");
        }
        let (_directory, mut pinentry, _) = scripted("ERR 67109139 Unknown IPC command");
        assert_eq!(asked(&mut pinentry).unwrap_err().kind(), Kind::PinUnavailable);
    }
}
