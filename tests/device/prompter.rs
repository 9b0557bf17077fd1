//! A prompter that answers from a script and remembers what it was asked.

use strongroom::error::{Error, Kind, Result};
use strongroom::prompt::{PinRequest, Prompter, TriesLeft};
use strongroom::secret::Secret;

/// Answers with one PIN, or with none.
#[derive(Default)]
pub struct Scripted {
    pub pin: Option<&'static str>,
    pub confirm: bool,
    /// How often each was asked for.
    pub pins: usize,
    pub confirmations: usize,
    pub touches: usize,
    pub tries: Option<TriesLeft>,
}

impl Scripted {
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

    fn touch(&mut self, _why: &str) -> Result<()> {
        self.touches += 1;
        Ok(())
    }

    fn confirm(&mut self, _question: &str) -> Result<bool> {
        self.confirmations += 1;
        Ok(self.confirm)
    }
}
