//! The card by itself: no PC/SC, no files.

use super::*;

struct NoHands;

impl Surroundings for NoHands {
    fn touched(&mut self) -> bool {
        false
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}
