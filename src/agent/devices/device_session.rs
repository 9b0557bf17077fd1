//! What a device's thread owns, and what it does on it.

use super::pin_prompter::PinPrompter;
use super::{Connect, DeviceStatus, PinPolicy, QUEUE, State, lock, was_locked};
use crate::agent::worker::{ShutdownGuard, Worker};
use crate::device::{Device, KeyRef};
use crate::error::{Error, Kind, Result};
use crate::ledger::DeviceId;
use crate::prompt::Prompter;
use crate::replica::DeviceRow;
use crate::seal::Opened;
use crate::secret::Secret;
use crate::vault::SealedToken;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How many answers in a row may be failures before the device is connected anew.
const FAILURES: u32 = 2;

/// What the device's thread owns.
pub struct DeviceSession {
    /// Its further sessions were asked for.
    spread: bool,
    connect: Connect,
    device: Option<Box<dyn Device>>,
    prompter: PinPrompter,
    /// The state of the lock when it was last obeyed.
    obeyed: u64,
    refused: Option<(Kind, String)>,
    failures: u32,
    used: Instant,
    idle: Option<Duration>,
    name: String,
    state: Arc<State>,
    /// For the threads of its further sessions.
    alive: ShutdownGuard,
}

impl DeviceSession {
    /// Not connected yet.
    pub(super) fn new(
        connect: Connect,
        name: String,
        pin_policy: PinPolicy,
        state: Arc<State>,
        alive: &ShutdownGuard,
    ) -> Self {
        Self {
            spread: false,
            connect,
            device: None,
            prompter: PinPrompter::new(pin_policy.program),
            obeyed: state.lock.state(),
            refused: None,
            failures: 0,
            used: Instant::now(),
            idle: pin_policy.idle,
            name,
            state,
            alive: alive.clone(),
        }
    }

    /// Runs an operation for somebody (`what` says for whom) on the connected device; once more when it turns out to have
    /// been away.
    ///
    /// # Errors
    /// The device's.
    pub fn run<T>(
        &mut self,
        what: &str,
        operation: impl FnMut(&mut dyn Device, &mut dyn Prompter) -> Result<T>,
    ) -> Result<T> {
        self.run_for(what, true, operation)
    }

    /// As [`DeviceSession::run`]; where it is not `attended`, nobody is asked for a PIN or a touch.
    ///
    /// # Errors
    /// As [`DeviceSession::run`]; `PinUnavailable` and `Refused` where somebody would have to be asked.
    pub(super) fn run_for<T>(
        &mut self,
        what: &str,
        attended: bool,
        mut operation: impl FnMut(&mut dyn Device, &mut dyn Prompter) -> Result<T>,
    ) -> Result<T> {
        self.check_open()?;
        self.prompter.attended = attended;
        let unlocked = self.state.lock.state();
        self.prompter.what = what.into();
        let was_connected = self.device.is_some();
        let mut done = self.attempt(&mut operation);
        if was_connected && done.as_ref().is_err_and(|error| is_gone(error.kind())) && self.refused.is_none()
        {
            done = self.attempt(&mut operation);
        }
        // What the agent does by itself keeps no PIN: nobody is there.
        if attended {
            self.used = Instant::now();
        }
        self.obey_lock();
        match self.state.lock.state() == unlocked {
            true => done,
            // What was done meanwhile does not count.
            false => Err(was_locked(&self.name)),
        }
    }

    /// Forgets the PIN and logs out, where somebody locked the device.
    pub fn obey_lock(&mut self) {
        let state = self.state.lock.state();
        if state != std::mem::replace(&mut self.obeyed, state) {
            self.forget();
            self.refused = None;
        }
    }

    fn attempt<T>(
        &mut self,
        operation: &mut impl FnMut(&mut dyn Device, &mut dyn Prompter) -> Result<T>,
    ) -> Result<T> {
        let done = match &mut self.device {
            Some(device) => operation(&mut **device, &mut self.prompter),
            None => match (self.connect)() {
                Ok(device) => operation(&mut **self.device.insert(device), &mut self.prompter),
                Err(error) => Err(error),
            },
        };
        self.note(done.as_ref().err());
        done
    }

    fn check_open(&mut self) -> Result<()> {
        self.obey_lock();
        if self.state.lock.is_locked() {
            return Err(was_locked(&self.name));
        }
        match &self.refused {
            Some((kind, message)) => {
                let message = format!("{message}; the PIN is not sent again");
                Err(Error::new(*kind, "use the device", message)
                    .with_target(&self.name)
                    .with_hint("run `strongroom unlock`"))
            }
            None => Ok(()),
        }
    }

    /// What an outcome says of the device.
    fn note(&mut self, error: Option<&Error>) {
        let Some(error) = error else {
            self.failures = 0;
            return self.show(DeviceStatus::Ready, "");
        };
        match error.kind() {
            Kind::PinWrong | Kind::PinLocked => {
                self.prompter.pin = None;
                self.refused = Some((error.kind(), error.message().into()));
                let locked = error.kind() == Kind::PinLocked;
                let status = if locked { DeviceStatus::LockedOut } else { DeviceStatus::Refused };
                self.show(status, error.message());
            }
            Kind::PinUnavailable => self.show(DeviceStatus::Locked, error.message()),
            kind if is_gone(kind) => {
                self.disconnect();
                self.show(DeviceStatus::Gone, error.message());
            }
            Kind::Device => {
                self.failures += 1;
                if self.failures >= FAILURES {
                    self.failures = 0;
                    self.disconnect();
                }
                self.show(DeviceStatus::Failing, error.message());
            }
            // An answer about the token, not about the device.
            _ => {}
        }
    }

    fn show(&self, status: DeviceStatus, why: &str) {
        *lock(&self.state.seen) = (status, why.into());
    }

    /// Opens a sealed token, or a share of it after other devices opened so many.
    ///
    /// # Errors
    /// The device's; `Tampered`.
    pub fn open(
        &mut self,
        (token, shares): (&SealedToken, usize),
        key: &KeyRef,
        what: &str,
    ) -> Result<Opened> {
        let opened = self.run(what, |device, prompter| token.open_on(device, prompter, key, shares));
        if opened.is_ok() && !self.spread {
            self.open_sessions(key);
        }
        opened
    }

    /// As many further sessions as the device gains by; fewer where it has no more.
    fn open_sessions(&mut self, key: &KeyRef) {
        self.spread = true;
        let Some(parallel) = self.device.as_mut().and_then(|device| device.parallel()) else { return };
        let more = parallel.max_sessions(key).saturating_sub(1);
        let sessions: Vec<_> = (0..more).map_while(|_| parallel.clone_session().ok()).collect();
        let sessions = sessions
            .into_iter()
            .map_while(|session| Worker::start("session", QUEUE, &self.alive, self.further(session)).ok());
        *lock(&self.state.sessions) = sessions.collect();
    }

    /// The owner of a further session. It never reconnects, and asks nobody for a PIN.
    fn further(&self, connected: Box<dyn Device>) -> Self {
        let name = self.name.clone();
        let ended =
            move || Err(Error::new(Kind::DeviceGone, "use the session", "it ended").with_target(&name));
        let seen = Mutex::new((DeviceStatus::Ready, String::new()));
        let lock = Arc::clone(&self.state.lock);
        let state = Arc::new(State { id: Mutex::default(), lock, seen, sessions: Mutex::default() });
        let fresh = Self::new(Arc::new(ended), self.name.clone(), PinPolicy::default(), state, &self.alive);
        Self { spread: true, device: Some(connected), ..fresh }
    }

    /// Drops the connection and its further sessions.
    fn disconnect(&mut self) {
        self.state.drop_sessions();
        (self.device, self.spread) = (None, false);
    }

    /// Which of the enrolled devices it is, so that tokens sealed to it find it.
    ///
    /// # Errors
    /// The device's.
    pub fn recognize(&mut self, rows: &[DeviceRow]) -> Result<Option<DeviceId>> {
        let id = self.run("learn which device it is", |device, prompter| {
            crate::vault::recognize(device, rows, prompter)
        })?;
        *lock(&self.state.id) = id;
        Ok(id)
    }

    /// Unlocks it with a PIN, or with its pin-source, and logs in, unless it was locked after `before`.
    ///
    /// # Errors
    /// `PinWrong` when the device refuses; `PinUnavailable`; the device's.
    pub(super) fn unlock(&mut self, pin: Option<Secret>, before: u64) -> Result<()> {
        if !self.state.lock.unlock(before) {
            return Err(was_locked(&self.name));
        }
        self.obey_lock();
        if let Some(device) = self.device.as_mut().filter(|_| self.refused.is_some() || pin.is_some()) {
            device.lock();
        }
        (self.refused, self.prompter.pin) = (None, pin);
        let done = self.run("unlock", |device, prompter| device.keys(prompter).map(drop));
        if done.is_err() {
            self.prompter.pin = None;
        }
        done
    }

    fn forget(&mut self) {
        self.prompter.pin = None;
        self.state.drop_sessions();
        self.spread = false;
        if let Some(device) = &mut self.device {
            device.lock();
        }
    }

    /// A PIN that was typed is forgotten when nobody used the device for long enough.
    pub fn tick(&mut self) {
        let over = self.idle.is_some_and(|idle| self.used.elapsed() >= idle);
        if over && self.prompter.pin.is_some() {
            self.forget();
            self.show(DeviceStatus::Locked, "nobody used it for a while");
        }
    }
}

pub(super) fn is_gone(kind: Kind) -> bool {
    matches!(kind, Kind::DeviceGone | Kind::KeyMissing)
}
