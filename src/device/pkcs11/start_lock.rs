//! Serialises starts of SoftHSM across processes.
//!
//! SoftHSM's `C_Login` rewrites the token's own object file. A process that reads it at that moment, in `C_Initialize` or
//! `C_Login`, considers the token broken and loses it: with eight processes starting at once, more than one in four
//! failed. So the steps from initialising to the slot list, and the login, hold an exclusive lock on SoftHSM's
//! configuration file, the one file that all processes on the same token directory share.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a start waits for others. After that it goes ahead and relies on retries.
const PATIENCE: Duration = Duration::from_secs(5);

/// Held until dropped.
pub struct StartLock {
    _file: File,
}

impl StartLock {
    /// Waits for the lock; `None` when there is no configuration file to lock, or the wait times out.
    pub fn take() -> Option<Self> {
        let file = File::open(configuration()?).ok()?;
        let began = Instant::now();
        let mut pause = Duration::from_micros(200);
        loop {
            match file.try_lock() {
                Ok(()) => return Some(Self { _file: file }),
                Err(TryLockError::Error(_)) => return None,
                Err(TryLockError::WouldBlock) if began.elapsed() > PATIENCE => return None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }
}

/// The file SoftHSM itself reads (softhsm2.conf(5)).
fn configuration() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("SOFTHSM2_CONF") {
        return Some(path.into());
    }
    let own = std::env::home_dir().map(|home| home.join(".config/softhsm2/softhsm2.conf"));
    own.filter(|path| path.exists()).or_else(|| Some("/etc/softhsm/softhsm2.conf".into()))
}
