//! Who answers a device that asks: the PIN that was typed at `unlock`, the URI's pin-source, or a program of the owner's.

use crate::error::{Error, Kind, Result};
use crate::prompt::{BatchPrompter, PinRequest, ProgramPrompter, Prompter};
use crate::secret::Secret;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A person may think it over for so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// After a no, the person is not asked again for so long.
const PEACE: Duration = Duration::from_secs(30);

/// Answers a driver's questions for the client whose request it works on.
pub struct PinPrompter {
    /// As typed; forgotten by `lock`.
    pub pin: Option<Secret>,
    /// Who wants what.
    pub what: String,
    /// Whether a person may be asked.
    pub attended: bool,
    program: Option<PathBuf>,
    declined: Option<Instant>,
}

impl PinPrompter {
    /// With a program that asks for PINs, if there is one.
    pub fn new(program: Option<PathBuf>) -> Self {
        Self { pin: None, what: String::new(), attended: true, program, declined: None }
    }

    /// Has the program ask. One that printed nothing, or failed, said no.
    fn ask(&mut self, program: PathBuf, device: &str) -> Result<Secret> {
        if self.declined.is_some_and(|at| at.elapsed() < PEACE) {
            let message = "it was declined a moment ago";
            return Err(Error::new(Kind::PinUnavailable, "ask for the PIN", message)
                .with_target(program.display().to_string())
                .with_hint("run `strongroom unlock`"));
        }
        let question = format!("PIN of {device} ({})", self.what);
        let answered = ProgramPrompter { program, patience: PATIENCE }.answer(&question);
        match &answered {
            Ok(pin) => self.pin = Some(pin.clone()),
            Err(_) => self.declined = Some(Instant::now()),
        }
        answered
    }
}

impl Prompter for PinPrompter {
    fn pin(&mut self, request: &PinRequest<'_>) -> Result<Secret> {
        let program = self.program.clone().filter(|_| self.attended);
        match (&self.pin, request.source, program) {
            (Some(pin), ..) => Ok(pin.clone()),
            (None, Some(_), _) => BatchPrompter.pin(request),
            (None, None, Some(program)) => self.ask(program, request.device),
            (None, None, None) => {
                Err(Error::new(Kind::PinUnavailable, "get the PIN", "the device is locked")
                    .with_target(request.device)
                    .with_hint("run `strongroom unlock`"))
            }
        }
    }

    fn touch(&mut self, why: &str) -> Result<()> {
        if !self.attended {
            let message = "it asks for a touch, and nobody was told";
            return Err(Error::new(Kind::Refused, "use the device", message).with_hint(
                "give the role `witness` to a device that needs none, or run `strongroom checkpoint`",
            ));
        }
        log::warn!("{why} (for {})", self.what);
        Ok(())
    }

    fn confirm(&mut self, _: &str) -> Result<bool> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::TriesLeft;
    use test_support::executable::write_executable;

    fn asked(script: &str) -> (PinPrompter, Result<Secret>) {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("ask");
        write_executable(&program, &format!("#!/bin/sh\n{script}\n"));
        let mut caller = PinPrompter::new(Some(program));
        caller.what = "web.service asks for prod/db".into();
        let request = PinRequest {
            device: "pkcs11:token=demo",
            source: None,
            tries: TriesLeft::Unknown,
            what_for: None,
        };
        let pin = caller.pin(&request);
        (caller, pin)
    }

    #[test]
    fn a_program_is_asked_with_who_wants_what() {
        let (caller, pin) =
            asked(r#"test "$1" = "PIN of pkcs11:token=demo (web.service asks for prod/db)" && echo 1234"#);
        assert_eq!(pin.unwrap().expose(), b"1234");
        assert!(caller.pin.is_some());
    }

    #[test]
    fn a_person_who_declines_is_left_in_peace() {
        for script in ["exit 1", "true", "echo 1234; exit 1", "printf '1\\n2\\n'"] {
            let (mut caller, pin) = asked(script);
            assert_eq!(pin.unwrap_err().kind(), Kind::PinUnavailable, "{script}");
            let request = PinRequest { device: "x", source: None, tries: TriesLeft::Unknown, what_for: None };
            assert!(caller.pin(&request).unwrap_err().message().contains("a moment ago"), "{script}");
        }
    }
}
