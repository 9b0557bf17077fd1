//! The PIN of one device in this process: decides whether a PIN may be sent, and asks for it.
//!
//! A state machine without a device, for every driver, also one of another program. A driver calls [`PinState::check`]
//! before it asks a person, sends only the PIN in [`PinState::pin`] or one that a person has just given, and reports the
//! device's response. After a refusal no PIN is sent until [`PinState::reset`], which only a person triggers (`lock`,
//! `unlock`).

use crate::error::{Error, Kind, Result};
use crate::prompt::{PinRequest, Prompter, TriesLeft};
use crate::secret::Secret;
use crate::uri::PinSource;
use std::ops::RangeInclusive;

/// The state of the PIN. `P` is the driver's own type for it, which is wiped on drop.
pub struct PinState<P> {
    state: State<P>,
    /// The number of tries left when the PIN was sent; `None` once the device has responded.
    in_flight: Option<u32>,
}

enum State<P> {
    /// No PIN is known.
    Absent,
    /// The device has not responded to this PIN yet.
    Pending(P),
    /// The device has accepted it.
    Accepted(P),
    /// The device has refused one.
    Refused,
    /// The device's response to a PIN was lost.
    Lost,
}

impl<P> Default for PinState<P> {
    fn default() -> Self {
        Self { state: State::Absent, in_flight: None }
    }
}

impl<P> PinState<P> {
    /// The PIN that may be sent without asking a person.
    pub fn pin(&self) -> Option<&P> {
        match &self.state {
            State::Pending(pin) | State::Accepted(pin) => Some(pin),
            State::Absent | State::Refused | State::Lost => None,
        }
    }

    /// Whether the device has yet to respond to the PIN. If the response is lost, the PIN must not be sent again.
    pub fn is_pending(&self) -> bool {
        matches!(self.state, State::Pending(_))
    }

    /// Refuses when no PIN may be sent.
    ///
    /// # Errors
    /// `PinWrong` after a refusal or a lost response.
    pub fn check(&self, operation: &str, device: &str, hardware: &str) -> Result<()> {
        let message = match self.state {
            State::Refused => format!("{hardware} has refused the PIN, and it is not sent again"),
            State::Lost => "the response to the PIN was lost, and it is not sent again".to_owned(),
            State::Absent | State::Pending(_) | State::Accepted(_) => return Ok(()),
        };
        Err(Error::new(Kind::PinWrong, operation, message)
            .with_target(device)
            .with_hint("check the PIN, then run the command again"))
    }

    /// A person gave this PIN. After a refusal it is dropped, until [`PinState::reset`].
    pub fn enter(&mut self, pin: P) {
        if !matches!(self.state, State::Refused | State::Lost) {
            self.state = State::Pending(pin);
        }
    }

    /// The device accepted the PIN.
    pub fn accept(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Absent) {
            State::Pending(pin) => State::Accepted(pin),
            other => other,
        };
    }

    /// The device refused the PIN.
    pub fn refuse(&mut self) {
        self.state = State::Refused;
    }

    /// The device's response to the PIN was lost.
    pub fn lose(&mut self) {
        self.state = State::Lost;
    }

    /// A PIN is sent to a device with this many tries left.
    pub fn note_sent(&mut self, tries: u32) {
        self.in_flight = Some(tries);
    }

    /// The device has responded to it.
    pub fn note_judged(&mut self) {
        self.in_flight = None;
    }

    /// Whether a PIN whose response was lost has cost a try. If so, it counts as refused.
    pub fn was_refused_unheard(&mut self, tries: u32) -> bool {
        let refused = self.in_flight.take().is_some_and(|before| tries < before);
        if refused {
            self.refuse();
        }
        refused
    }

    /// Forgets the PIN, but remembers a refusal.
    pub fn forget(&mut self) {
        if self.pin().is_some() {
            self.state = State::Absent;
        }
    }

    /// Forgets everything: a person starts over.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// A request for the PIN of one device, with what all drivers check before a PIN is sent.
pub struct PinEntry<'a> {
    /// The operation named in errors.
    pub operation: &'static str,
    /// The device in the user's words.
    pub device: &'a str,
    /// `the YubiKey`.
    pub hardware: &'static str,
    /// The URI's pin-source.
    pub source: Option<&'a PinSource>,
    /// How many tries the device reports.
    pub tries: TriesLeft,
    /// The lengths of PIN that the device accepts, in bytes.
    pub lengths: RangeInclusive<usize>,
    /// How to get a locked PIN working again.
    pub unlock: &'a str,
}

impl PinEntry<'_> {
    /// Asks the person to confirm the last try.
    ///
    /// # Errors
    /// `PinLocked` when it is not confirmed.
    pub fn confirm_last_try(&self, prompter: &mut dyn Prompter) -> Result<()> {
        if !matches!(self.tries, TriesLeft::Last | TriesLeft::Count(1)) {
            return Ok(());
        }
        let question = format!("One more wrong PIN locks {}. Use the last try?", self.device);
        if prompter.confirm(&question)? {
            return Ok(());
        }
        let message =
            format!("one more wrong PIN would lock {}, and the try was not confirmed", self.hardware);
        let hint = format!("run the command on a terminal and confirm, or {}", self.unlock);
        Err(self.fail(Kind::PinLocked, message).with_hint(hint))
    }

    /// Asks for the PIN. Refuses one of a wrong length, because a device may count it as a wrong one.
    ///
    /// # Errors
    /// `PinUnavailable` when there is none; `PinWrong` when it cannot be right; `PinLocked` as
    /// [`PinEntry::confirm_last_try`].
    pub fn ask(&self, prompter: &mut dyn Prompter) -> Result<Secret> {
        self.confirm_last_try(prompter)?;
        let request =
            PinRequest { device: self.device, source: self.source, tries: self.tries, what_for: None };
        let pin = prompter.pin(&request)?;
        if pin.is_empty() {
            let message = format!("the PIN is empty: it was not sent to {}", self.hardware);
            return Err(self.fail(Kind::PinUnavailable, message));
        }
        if self.lengths.contains(&pin.len()) {
            return Ok(pin);
        }
        let (shortest, longest) = (self.lengths.start(), self.lengths.end());
        let message =
            format!("a PIN of {} has {shortest} to {longest} bytes: this one was not sent", self.hardware);
        Err(self.fail(Kind::PinWrong, message))
    }

    fn fail(&self, kind: Kind, message: String) -> Error {
        Error::new(kind, self.operation, message).with_target(self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pin: &PinState<u32>) -> Result<()> {
        pin.check("log in", "piv:", "the YubiKey")
    }

    #[test]
    fn an_accepted_pin_is_kept() {
        let mut pin = PinState::default();
        assert!(pin.pin().is_none());
        pin.enter(1234);
        assert!(pin.is_pending() && pin.pin() == Some(&1234));
        pin.accept();
        assert!(!pin.is_pending() && pin.pin() == Some(&1234));
        pin.forget();
        assert!(pin.pin().is_none() && check(&pin).is_ok());
    }

    #[test]
    fn after_a_refusal_no_pin_is_sent_until_a_person_starts_over() {
        for end in [PinState::refuse, PinState::lose] {
            for accepted in [false, true] {
                let mut pin = PinState::default();
                pin.enter(1234);
                if accepted {
                    pin.accept();
                }
                end(&mut pin);
                // Neither another PIN nor a late acceptance, nor the end of a session, brings it back.
                let steps: [fn(&mut PinState<u32>); 3] =
                    [|pin| pin.enter(1234), PinState::accept, PinState::forget];
                for step in steps {
                    step(&mut pin);
                    assert!(pin.pin().is_none() && !pin.is_pending());
                    assert_eq!(check(&pin).unwrap_err().kind(), Kind::PinWrong);
                }
                pin.reset();
                assert!(check(&pin).is_ok());
                pin.enter(4321);
                assert_eq!(pin.pin(), Some(&4321));
            }
        }
    }

    #[test]
    fn a_lost_verdict_that_cost_a_try_is_a_refusal() {
        let mut pin = PinState::<u32>::default();
        pin.note_sent(3);
        assert!(!pin.was_refused_unheard(3) && check(&pin).is_ok());
        pin.note_sent(3);
        pin.note_judged();
        assert!(!pin.was_refused_unheard(2) && check(&pin).is_ok());
        pin.note_sent(3);
        assert!(pin.was_refused_unheard(2) && check(&pin).is_err());
    }

    /// Answers every question, and counts them.
    #[derive(Default)]
    struct Person {
        pin: &'static str,
        confirms: bool,
        asked: usize,
    }

    impl Prompter for Person {
        fn pin(&mut self, _: &PinRequest<'_>) -> Result<Secret> {
            self.asked += 1;
            Ok(Secret::new(self.pin.as_bytes().to_vec()))
        }

        fn touch(&mut self, _: &str) -> Result<()> {
            Ok(())
        }

        fn confirm(&mut self, _: &str) -> Result<bool> {
            Ok(self.confirms)
        }
    }

    fn entry(tries: TriesLeft) -> PinEntry<'static> {
        let (operation, device, hardware) = ("log in", "piv:", "the YubiKey");
        PinEntry { operation, device, hardware, source: None, tries, lengths: 6..=8, unlock: "wait" }
    }

    #[test]
    fn the_last_try_is_used_only_when_confirmed() {
        for tries in [TriesLeft::Last, TriesLeft::Count(1)] {
            let mut person = Person { pin: "123456", ..Person::default() };
            let error = entry(tries).ask(&mut person).unwrap_err();
            assert_eq!((error.kind(), person.asked), (Kind::PinLocked, 0));
            assert_eq!(error.hint(), Some("run the command on a terminal and confirm, or wait"));
            person.confirms = true;
            entry(tries).ask(&mut person).unwrap();
        }
        entry(TriesLeft::Count(2)).ask(&mut Person { pin: "123456", ..Person::default() }).unwrap();
    }

    #[test]
    fn a_pin_of_a_wrong_length_is_not_sent() {
        for (pin, kind) in
            [("", Kind::PinUnavailable), ("12345", Kind::PinWrong), ("123456789", Kind::PinWrong)]
        {
            let error = entry(TriesLeft::Unknown).ask(&mut Person { pin, ..Person::default() }).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}
