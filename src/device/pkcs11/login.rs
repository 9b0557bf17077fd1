//! When to ask for the PIN and how long to keep it.
//!
//! A login belongs to the process and the token (PKCS#11 v2.40 §2.6.4), not to a session, so all devices of a process on
//! one token share one [`Login`]. It asks for the PIN once and keeps it while the login lasts, in case the module must be
//! restarted. After a refusal no PIN is sent until `lock` is called: see [`PinState`].

use super::error::{DriverError, code};
use super::token_info::PinInfo;
use crate::device::pin::{PinEntry, PinState};
use crate::error::{Error, Kind, Result};
use crate::prompt::Prompter;
use crate::uri::PinSource;
use cryptoki::error::RvError;
use cryptoki::session::{Session, UserType};
use cryptoki::types::RawAuthPin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state of one token's login in this process.
#[derive(Default)]
pub struct Login {
    pin: PinState<Arc<RawAuthPin>>,
    /// The generation of the module that is logged in.
    generation: Option<u64>,
    /// Counts logins. Handles of private objects are valid during one login only.
    epoch: u64,
    /// How many devices share it.
    devices: usize,
    operation: OperationLogin,
}

/// Logs in for one operation, with what the device has accepted (CKU_CONTEXT_SPECIFIC). Locked while the device judges it, so that a PIN
/// which is refused to one session is not sent by another.
#[derive(Clone, Default)]
pub struct OperationLogin(Arc<Mutex<Option<Credential>>>);

/// What to log in with.
#[derive(Clone)]
pub enum Credential {
    /// A PIN, new or kept.
    Pin(Arc<RawAuthPin>),
    /// CKF_PROTECTED_AUTHENTICATION_PATH: no PIN passes through this program.
    Pad,
}

impl Credential {
    /// C_Login.
    pub fn send(&self, session: &Session, user: UserType) -> cryptoki::error::Result<()> {
        match self {
            Self::Pin(pin) => session.login_with_raw(user, pin),
            Self::Pad => session.login(user, None),
        }
    }
}

impl OperationLogin {
    /// Logs in for the operation that this session has begun.
    ///
    /// # Errors
    /// `PinWrong` when no PIN is kept: the device has refused it meanwhile, or was logged in by others. The module's.
    pub fn send(&self, session: &Session) -> Result<(), DriverError> {
        let mut credential = lock(&self.0);
        let Some(kept) = &*credential else {
            let message =
                "the key wants the PIN at every use (CKA_ALWAYS_AUTHENTICATE), and no accepted PIN is kept";
            return Err(Error::new(Kind::PinWrong, LOG_IN, message)
                .with_hint("check the PIN, then run the command again")
                .into());
        };
        let sent = kept.send(session, UserType::ContextSpecific).map_err(DriverError::from);
        if sent.as_ref().is_err_and(is_about_the_pin) {
            *credential = None;
        }
        sent
    }

    fn keep(&self, credential: Option<Credential>) {
        *lock(&self.0) = credential;
    }
}

impl Login {
    /// Adds a device.
    pub fn join(&mut self) {
        self.devices += 1;
    }

    /// Removes a device. The last one to leave forgets the PIN.
    pub fn leave(&mut self) {
        self.devices -= 1;
        if self.devices == 0 {
            self.pin.forget();
            self.operation.keep(None);
            self.generation = None;
        }
    }

    /// For keys that want a login for every operation.
    pub fn for_operations(&self) -> OperationLogin {
        self.operation.clone()
    }

    /// The login's number, if this generation of the module is logged in.
    pub fn current(&self, generation: u64) -> Option<u64> {
        (self.generation == Some(generation)).then_some(self.epoch)
    }

    /// The device accepted the PIN.
    pub fn accept(&mut self, generation: u64, credential: Credential) {
        self.operation.keep(Some(credential.clone()));
        if let Credential::Pin(pin) = credential {
            self.pin.enter(pin);
            self.pin.accept();
        }
        self.enter(generation);
    }

    /// The token is logged in, which proves nothing about the PIN.
    pub fn enter(&mut self, generation: u64) {
        self.generation = Some(generation);
        self.epoch += 1;
    }

    /// The device refused the PIN.
    pub fn refuse(&mut self) {
        self.pin.refuse();
        self.operation.keep(None);
        self.generation = None;
    }

    /// The module reports that no user is logged in.
    pub fn lost(&mut self) {
        self.generation = None;
    }

    /// Forgets the PIN, and that one was refused: the person starts over.
    pub fn forget(&mut self) {
        self.pin.reset();
        self.operation.keep(None);
        self.generation = None;
    }

    /// The kept PIN, or one from the prompter.
    ///
    /// # Errors
    /// `PinWrong` when the device refused one before; else as [`ask`].
    pub fn credential(
        &mut self,
        info: PinInfo,
        device: &str,
        source: Option<&PinSource>,
        prompter: &mut dyn Prompter,
    ) -> Result<Credential> {
        self.pin.check(LOG_IN, device, "the device")?;
        match self.pin.pin() {
            Some(pin) => Ok(Credential::Pin(Arc::clone(pin))),
            None => ask(info, device, source, prompter),
        }
    }
}

/// Codes after which a PIN is never sent again.
pub fn is_about_the_pin(fault: &DriverError) -> bool {
    let DriverError::Call(error) = fault else { return false };
    matches!(
        code(error),
        Some(
            RvError::PinIncorrect
                | RvError::PinInvalid
                | RvError::PinLenRange
                | RvError::PinExpired
                | RvError::PinLocked
        )
    )
}

/// The operation named in errors.
pub const LOG_IN: &str = "log in";

/// Asks the prompter for a PIN, if the device's state allows a try.
///
/// # Errors
/// `PinLocked` when no try is left or the last one was not confirmed; `PinUnavailable` when no PIN can be obtained;
/// `PinWrong` when it cannot be right.
fn ask(
    info: PinInfo,
    device: &str,
    source: Option<&PinSource>,
    prompter: &mut dyn Prompter,
) -> Result<Credential> {
    let fail = |kind, message: &str| Error::new(kind, LOG_IN, message).with_target(device);
    if info.locked {
        return Err(fail(Kind::PinLocked, "the PIN is locked")
            .with_hint("the device's security officer can set a new PIN with the vendor's tool"));
    }
    let entry = PinEntry {
        operation: LOG_IN,
        device,
        hardware: "the device",
        source,
        tries: info.tries,
        lengths: info.lengths(),
        unlock: "let the security officer reset the PIN",
    };
    if info.pad {
        entry.confirm_last_try(prompter)?;
        prompter.touch(&format!("enter the PIN of {device} on its own keypad"))?;
        return Ok(Credential::Pad);
    }
    let pin = entry.ask(prompter)?;
    Ok(Credential::Pin(Arc::new(RawAuthPin::new(Box::new(pin.expose().to_vec())))))
}

/// Takes a lock, poisoned or not: the data is valid at every step.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
