//! The finger that touches a card, or does not.

use crate::card::Surroundings;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What becomes of a card that asks for a touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// It is touched at once.
    Granted,
    /// Nobody touches it: it gives up when its time is up.
    Refused,
    /// It is touched after so long. That may be after it gave up.
    Late(Duration),
}

/// A hand near a card. Shared between the card, which waits, and whoever decides.
pub struct Hand {
    state: Mutex<State>,
    changed: Condvar,
    start: Instant,
}

struct State {
    touch: Touch,
    patience: Duration,
    gone: bool,
    blinking: bool,
    asked: usize,
}

impl Hand {
    /// A hand, and how long the card waits for it: hardware waits for 15 seconds.
    pub fn new(touch: Touch, patience: Duration) -> Self {
        let state = State { touch, patience, gone: false, blinking: false, asked: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), start: Instant::now() }
    }

    /// What becomes of touches from now on, and of one that is being waited for.
    pub fn decide(&self, touch: Touch) {
        self.lock().touch = touch;
        self.changed.notify_all();
    }

    /// How long the card waits from now on.
    pub fn set_patience(&self, patience: Duration) {
        self.lock().patience = patience;
        self.changed.notify_all();
    }

    /// The card is pulled out (true) or put back (false): waiting ends.
    pub fn set_gone(&self, gone: bool) {
        self.lock().gone = gone;
        self.changed.notify_all();
    }

    /// How often the card has asked for a touch.
    pub fn asked(&self) -> usize {
        self.lock().asked
    }

    /// Waits until the card blinks. False when it has not within that time.
    pub fn wait_until_blinking(&self, at_most: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, at_most, |state| !state.blinking);
        waited.unwrap_or_else(PoisonError::into_inner).0.blinking
    }

    fn wait(&self) -> bool {
        let began = Instant::now();
        let mut state = self.lock();
        state.asked += 1;
        state.blinking = true;
        self.changed.notify_all();
        let touched = loop {
            let elapsed = began.elapsed();
            let until = match state.touch {
                Touch::Granted => break !state.gone,
                _ if state.gone || elapsed >= state.patience => break false,
                Touch::Late(after) if elapsed >= after => break true,
                Touch::Late(after) => after.min(state.patience),
                Touch::Refused => state.patience,
            };
            let waited = self.changed.wait_timeout(state, until - elapsed);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        state.blinking = false;
        touched
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Surroundings for &Hand {
    fn touched(&mut self) -> bool {
        self.wait()
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn granted_refused_and_late() {
        let hand = Hand::new(Touch::Granted, Duration::from_millis(40));
        assert!(hand.wait());
        hand.decide(Touch::Refused);
        assert!(!hand.wait());
        hand.decide(Touch::Late(Duration::from_millis(5)));
        assert!(hand.wait());
        hand.decide(Touch::Late(Duration::from_secs(60)));
        assert!(!hand.wait());
        assert_eq!(hand.asked(), 4);
    }

    #[test]
    fn a_hand_may_come_or_go_while_the_card_blinks() {
        let hand = Hand::new(Touch::Refused, Duration::from_secs(60));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| hand.wait());
            assert!(hand.wait_until_blinking(Duration::from_secs(10)));
            hand.decide(Touch::Granted);
            assert!(waiting.join().unwrap());
            hand.decide(Touch::Refused);
            let waiting = scope.spawn(|| hand.wait());
            assert!(hand.wait_until_blinking(Duration::from_secs(10)));
            hand.set_gone(true);
            assert!(!waiting.join().unwrap());
        });
    }
}
