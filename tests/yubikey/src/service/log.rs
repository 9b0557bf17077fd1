//! What went to and from a card, and after how much of it the card will be pulled out.

/// A command and its answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Exchange {
    /// As the card got it. May hold a PIN: for assertions, not for files.
    pub command: Vec<u8>,
    /// As the card gave it, status word last. Empty when it was lost.
    pub answer: Vec<u8>,
}

impl Exchange {
    /// INS.
    pub fn instruction(&self) -> u8 {
        self.command.get(1).copied().unwrap_or_default()
    }

    /// The status word; 0 where the answer was lost.
    pub fn status(&self) -> u16 {
        self.answer.last_chunk::<2>().map_or(0, |status| u16::from_be_bytes(*status))
    }
}

/// What is lost when a card goes away in the middle of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The command: the card never saw it.
    Command,
    /// The answer: the card has carried the command out.
    Answer,
}

#[derive(Default)]
pub(super) struct Log {
    pub exchanges: Vec<Exchange>,
    plan: Option<(usize, Lost)>,
}

impl Log {
    pub fn remove_after(&mut self, apdus: usize, lost: Lost) {
        self.plan = Some((apdus, lost));
    }

    /// Counts one APDU; says what is lost with it.
    pub fn next(&mut self) -> Option<Lost> {
        match &mut self.plan {
            Some((0, lost)) => {
                let lost = *lost;
                self.plan = None;
                Some(lost)
            }
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        }
    }
}
