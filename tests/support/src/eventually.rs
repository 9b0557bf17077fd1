//! Waiting for what another thread or process does.

use std::time::{Duration, Instant};

/// Asks again and again until the condition holds. `false` if it does not by the deadline.
#[must_use]
pub fn eventually(deadline: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
