//! Failpoints: named places between two writes, where a test has this process killed.
//!
//! A debug build that was started with `STRONGROOM_FAILPOINT=NAME` kills itself (`kill -9`) when it first comes to the
//! place of that name, with `NAME:3` the third time. A release build does not look.

/// Marks the place `name`.
#[cfg(debug_assertions)]
pub(crate) fn reach(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static REACHED: AtomicU32 = AtomicU32::new(0);
    let wanted = WANTED.get_or_init(|| {
        let wanted = std::env::var("STRONGROOM_FAILPOINT").ok()?;
        let (name, times) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        Some((name.to_owned(), times.parse().ok()?))
    });
    let Some((wanted, times)) = wanted else { return };
    if wanted == name && REACHED.fetch_add(1, Ordering::Relaxed) + 1 == *times {
        // The signal cannot be blocked, so nothing comes after it.
        let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        log::error!("failpoint {name}: {killed:?}");
    }
}

/// Nothing in a release build.
#[cfg(not(debug_assertions))]
pub(crate) fn reach(_: &str) {}
