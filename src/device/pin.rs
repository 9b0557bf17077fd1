//! The PIN of one device in this process: which one may be sent, and when none may.
//!
//! A state machine that talks to no device. A driver asks [`PinState::check`] before it asks a person, reports the verdict of
//! the device, and sends nothing that is not in [`PinState::pin`] or fresh from a person. After a refusal, no PIN is
//! sent until [`PinState::reset`], which only a person causes (`lock`, `unlock`).

use crate::error::{Error, Kind, Result};

/// What is known of the PIN. `P` is the driver's form of it, which wipes itself.
pub struct PinState<P> {
    state: State<P>,
    /// The tries that the device had left when a PIN was sent, until its verdict arrives.
    in_flight: Option<u32>,
}

enum State<P> {
    /// There is none yet.
    Absent,
    /// The device has not judged it yet.
    Pending(P),
    /// The device has accepted it.
    Accepted(P),
    /// The device has refused one.
    Refused,
    /// Nobody knows what the device made of one.
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

    /// Whether a PIN may be sent that the device has not judged: if its answer is lost, the PIN must not be sent again.
    pub fn is_pending(&self) -> bool {
        matches!(self.state, State::Pending(_))
    }

    /// Refuses where no PIN may be sent any more.
    ///
    /// # Errors
    /// `PinWrong` after a refusal, or where an answer was lost.
    pub fn check(&self, operation: &str, device: &str, hardware: &str) -> Result<()> {
        let message = match self.state {
            State::Refused => format!("{hardware} has refused the PIN, and it is not tried again"),
            State::Lost => "the answer to the PIN was lost, and it is not tried again".to_owned(),
            State::Absent | State::Pending(_) | State::Accepted(_) => return Ok(()),
        };
        Err(Error::new(Kind::PinWrong, operation, message)
            .with_target(device)
            .with_hint("check the PIN, then start the command anew"))
    }

    /// A person gave this PIN. After a refusal it is dropped: see [`PinState::reset`].
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

    /// The answer to the PIN was lost.
    pub fn lose(&mut self) {
        self.state = State::Lost;
    }

    /// A PIN goes to a device that has so many tries left.
    pub fn note_sent(&mut self, tries: u32) {
        self.in_flight = Some(tries);
    }

    /// Its verdict has arrived.
    pub fn note_judged(&mut self) {
        self.in_flight = None;
    }

    /// Whether a PIN whose verdict was lost has cost a try: then it counts as refused.
    pub fn was_refused_unheard(&mut self, tries: u32) -> bool {
        let refused = self.in_flight.take().is_some_and(|before| tries < before);
        if refused {
            self.refuse();
        }
        refused
    }

    /// Forgets the PIN, but not that one was refused.
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
}
