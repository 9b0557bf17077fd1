//! The service manager's watchdog: fed as long as the store answers, and not when it hangs.

use crate::daemon::Daemon;
use crate::hanging_store::HangingStore;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};
use test_support::eventually::eventually;
use test_support::home::Home;

/// What the service manager allows.
const ALLOWED: Duration = Duration::from_millis(800);

/// How often it is fed within this time.
fn fed(manager: &UnixDatagram, within: Duration) -> usize {
    let (until, mut count) = (Instant::now() + within, 0);
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        manager.set_read_timeout(Some(left)).unwrap();
        let mut message = [0; 256];
        let Ok(length) = manager.recv(&mut message) else { break };
        count += usize::from(&message[..length] == b"WATCHDOG=1");
    }
    count
}

#[test]
fn a_store_that_hangs_does_not_feed_the_watchdog() {
    let Some(home) = Home::with_store() else { return };
    let path = home.dir.join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let daemon = Daemon::start_with(&home, &[], |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", ALLOWED.as_micros().to_string());
    });
    assert!(fed(&manager, ALLOWED * 10) > 1);
    let hanging = HangingStore::of(&home);
    // What was on its way.
    fed(&manager, ALLOWED / 2);
    assert_eq!(fed(&manager, ALLOWED * 4), 0);
    // It serves what needs no store, and soon says what is wrong.
    let says_so = || daemon.get("/v1/health").status == 503;
    assert!(eventually(Duration::from_secs(20), says_so));
    drop(hanging);
    let began = Instant::now();
    while fed(&manager, ALLOWED) == 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not go on");
    }
}
