//! A prompter that answers from a script and remembers what it was asked.

use strongroom::error::{Error, Kind, Result};
use strongroom::prompt::{PinRequest, Prompter, TriesLeft};
use strongroom::secret::Secret;

/// Answers with one PIN, or with none.
#[derive(Default)]
pub struct Scripted {
    /// The PIN it answers with.
    pub pin: Option<&'static str>,
    /// What it answers to questions.
    pub confirm: bool,
    /// How often it was asked for the PIN.
    pub pins: usize,
    /// How often it was asked a question.
    pub confirmations: usize,
    /// How often it was asked to touch the device.
    pub touches: usize,
    /// The tries left that the last request for a PIN told.
    pub tries: Option<TriesLeft>,
    /// What it was told to touch, and why.
    pub told: Vec<String>,
    /// What it types when it is asked for another secret than the PIN.
    pub secret: Option<&'static str>,
    /// Whether a person is there.
    pub attended: bool,
}

impl Scripted {
    /// Answers with this PIN.
    pub fn pin(pin: &'static str) -> Self {
        Self { pin: Some(pin), ..Self::default() }
    }
}

impl Prompter for Scripted {
    fn pin(&mut self, request: &PinRequest<'_>) -> Result<Secret> {
        self.pins += 1;
        self.tries = Some(request.tries);
        let pin =
            self.pin.ok_or_else(|| Error::new(Kind::PinUnavailable, "get the PIN", "the script has none"))?;
        Ok(Secret::new(pin.into()))
    }

    fn touch(&mut self, why: &str) -> Result<()> {
        self.touches += 1;
        self.told.push(why.into());
        Ok(())
    }

    fn confirm(&mut self, _question: &str) -> Result<bool> {
        self.confirmations += 1;
        Ok(self.confirm)
    }

    fn secret(&mut self, question: &str) -> Result<Secret> {
        let unknown = || Error::new(Kind::PinUnavailable, "answer", format!("the script has no {question}"));
        self.secret.map(|typed| Secret::new(typed.into())).ok_or_else(unknown)
    }

    fn is_attended(&self) -> bool {
        self.attended
    }
}
