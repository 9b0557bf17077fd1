//! When to ask for the PIN and how long to keep it.
//!
//! All devices of this process on one YubiKey share a [`Login`]. It asks for the PIN once and keeps it as long as one of them
//! exists, because the card forgets the verification whenever another program resets it, and requires the PIN for each signature
//! under the policy `always`. After a refusal no PIN is sent until `lock` is called: see [`PinState`].

use crate::device::pin::{PinEntry, PinState};
use crate::error::{Error, Kind, Result};
use crate::prompt::{Prompter, TriesLeft};
use crate::secret::Secret;
use crate::uri::PinSource;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use yubikey::Serial;

/// The operation named in errors.
pub const LOG_IN: &str = "log in";

/// The lengths of PIN that a YubiKey accepts, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 6..=8;

/// This process's logins, by serial number.
static LOGINS: Mutex<BTreeMap<Serial, Arc<Mutex<Login>>>> = Mutex::new(BTreeMap::new());

/// This process's login to one YubiKey.
#[derive(Default)]
pub struct Login {
    pub pin: PinState<Arc<Secret>>,
    /// Raised whenever the PIN is forgotten. Earlier verifications do not count.
    epoch: u64,
    /// How many devices share it.
    devices: usize,
}

/// Takes a lock, poisoned or not: the data is valid at every step.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Joins the login of a YubiKey.
pub fn join(serial: Serial) -> Arc<Mutex<Login>> {
    let login = Arc::clone(lock(&LOGINS).entry(serial).or_default());
    lock(&login).devices += 1;
    login
}

impl Login {
    /// Leaves the login. The last device to leave forgets the PIN.
    pub fn leave(&mut self) {
        self.devices -= 1;
        if self.devices == 0 {
            self.pin.forget();
            self.epoch += 1;
        }
    }

    /// The login's number. A verification counts only in the login it was made in.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The card accepted the PIN.
    pub fn accept(&mut self, pin: Arc<Secret>) {
        self.pin.enter(pin);
        self.pin.accept();
    }

    /// The card refused it.
    pub fn refuse(&mut self) {
        self.pin.refuse();
        self.epoch += 1;
    }

    /// Forgets the PIN, and that one was refused: the person starts over.
    pub fn forget(&mut self) {
        self.pin.reset();
        self.epoch += 1;
    }

    /// The kept PIN, or one from the prompter. At least one try must be left.
    ///
    /// # Errors
    /// `PinWrong` when the card refused one before, or when this one cannot be right; `PinLocked` when the last try was not
    /// confirmed; `PinUnavailable` when no PIN can be obtained.
    pub fn credential(
        &mut self,
        tries: u8,
        device: &str,
        source: Option<&PinSource>,
        prompter: &mut dyn Prompter,
    ) -> Result<Arc<Secret>> {
        self.pin.check(LOG_IN, device, "the YubiKey")?;
        let entry = PinEntry {
            operation: LOG_IN,
            device,
            hardware: "the YubiKey",
            source,
            tries: TriesLeft::Count(tries.into()),
            lengths: LENGTHS,
            unlock: "set a new PIN with the PUK: `ykman piv access unblock-pin`",
        };
        match self.pin.pin() {
            Some(pin) => entry.confirm_last_try(prompter).map(|()| Arc::clone(pin)),
            None => entry.ask(prompter).map(Arc::new),
        }
    }
}

/// The error for a blocked PIN. `puk` is the number of PUK tries left.
pub fn blocked(device: &str, puk: u8) -> Error {
    let (message, hint) = match puk {
        0 => (
            "the PIN is blocked, and so is the PUK",
            "its keys are lost: open with another device, retire this one with `strongroom device retire`, and begin \
             anew with `ykman piv reset`",
        ),
        _ => (
            "the PIN is blocked",
            "set a new PIN with the PUK: `ykman piv access unblock-pin`; its keys stay",
        ),
    };
    Error::new(Kind::PinLocked, LOG_IN, message).with_target(device).with_hint(hint)
}

/// The error for a wrong PIN.
pub fn wrong(tries: u8, device: &str) -> Error {
    let message = match tries {
        1 => "the PIN is wrong; 1 try is left".into(),
        tries => format!("the PIN is wrong; {tries} tries are left"),
    };
    Error::new(Kind::PinWrong, LOG_IN, message)
        .with_target(device)
        .with_hint("check the PIN, then run the command again")
}
