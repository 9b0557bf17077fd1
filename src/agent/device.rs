//! One device, on a thread of its own: connected when first needed, and anew after it went away; unlocked by a person or
//! by its pin-source; locked when told to, or when nobody used it for a while.
//!
//! A PIN that the device refused is never sent again before a person says so (`unlock`), wherever it came from.

use super::owner::Owner;
use crate::device::{Device, KeyRef};
use crate::error::{Error, Kind, Result};
use crate::ledger::DeviceId;
use crate::prompt::{PinRequest, Prompter, Silent};
use crate::replica::DeviceRow;
use crate::secret::Secret;
use crate::uri::DeviceUri;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How a device is reached, again and again.
pub type Connect = Box<dyn FnMut() -> Result<Box<dyn Device>> + Send>;

/// How many answers in a row may be failures before the device is connected anew.
const FAILURES: u32 = 2;

/// How many requests may wait for one device.
const QUEUE: usize = 256;

/// A device that the agent owns.
pub struct AgentDevice {
    /// As configured.
    pub uri: DeviceUri,
    /// Its id in the ledger, where it is known.
    pub id: Option<DeviceId>,
    /// How it is reached.
    pub connect: Connect,
}

impl AgentDevice {
    /// A configured one, reached by its driver.
    pub fn configured(uri: DeviceUri, id: Option<DeviceId>) -> Self {
        let own = uri.clone();
        Self { uri, id, connect: Box::new(move || crate::device::connect(&own)) }
    }
}

/// What a device is like at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Not used yet.
    Unused,
    /// Answered last time.
    Ready,
    /// Needs its PIN: `strongroom unlock`.
    Locked,
    /// Refused the PIN; it is not sent again.
    Refused,
    /// Cannot be reached.
    Gone,
    /// Answered with a failure.
    Failing,
    /// Has not answered for longer than it may take.
    Hung,
}

impl Condition {
    /// For health and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Ready => "ready",
            Self::Locked => "locked",
            Self::Refused => "pin-refused",
            Self::Gone => "gone",
            Self::Failing => "failing",
            Self::Hung => "hung",
        }
    }
}

/// A handle on a device's thread.
pub struct Station {
    /// As configured.
    pub uri: DeviceUri,
    /// In the user's words.
    pub name: String,
    /// The thread.
    pub thread: Owner<Host>,
    state: Arc<State>,
    patience: Duration,
}

/// What others see of it.
struct State {
    id: Mutex<Option<DeviceId>>,
    seen: Mutex<(Condition, String)>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Station {
    /// Starts the device's thread. The device is not reached yet.
    ///
    /// # Errors
    /// `Io`.
    pub fn start(device: AgentDevice, patience: Duration, idle: Option<Duration>) -> Result<Self> {
        let seen = Mutex::new((Condition::Unused, String::new()));
        let state = Arc::new(State { id: Mutex::new(device.id), seen });
        let (name, uri) = (device.uri.display_name(), device.uri);
        let host = Host {
            connect: device.connect,
            device: None,
            prompter: Caller { pin: None, what: String::new() },
            closed: false,
            refused: None,
            failures: 0,
            used: Instant::now(),
            idle,
            name: name.clone(),
            state: Arc::clone(&state),
        };
        Ok(Self { uri, name, thread: Owner::start("device", QUEUE, host)?, state, patience })
    }

    /// Its id in the ledger, once it is known.
    pub fn id(&self) -> Option<DeviceId> {
        *lock(&self.state.id)
    }

    /// What it is like at the moment, and why.
    pub fn condition(&self) -> (Condition, String) {
        match self.thread.load().busy_for() {
            Some(busy) if busy > self.patience => {
                (Condition::Hung, format!("it has not answered for {} s", busy.as_secs()))
            }
            _ => lock(&self.state.seen).clone(),
        }
    }

    /// An error at once for a device that hangs: nobody else has to wait for it.
    ///
    /// # Errors
    /// `Device`.
    pub fn check(&self, tried: &str) -> Result<()> {
        match self.condition() {
            (Condition::Hung, why) => Err(Error::new(Kind::Device, tried, why).on(&self.name).advice(
                "unplug it and plug it in again, or restart the service behind it; then restart the agent if it stays so",
            )),
            _ => Ok(()),
        }
    }
}

/// What the device's thread owns.
pub struct Host {
    connect: Connect,
    device: Option<Box<dyn Device>>,
    prompter: Caller,
    /// Locked by a person: not even a pin-source opens it.
    closed: bool,
    refused: Option<(Kind, String)>,
    failures: u32,
    used: Instant,
    idle: Option<Duration>,
    name: String,
    state: Arc<State>,
}

impl Host {
    /// Runs an operation for somebody (`what` says for whom) on the connected device; once more when it turns out to have
    /// been away.
    ///
    /// # Errors
    /// The device's.
    pub fn run<T>(
        &mut self,
        what: &str,
        mut operation: impl FnMut(&mut dyn Device, &mut dyn Prompter) -> Result<T>,
    ) -> Result<T> {
        self.check_open()?;
        self.prompter.what = what.into();
        let was_connected = self.device.is_some();
        let mut done = self.attempt(&mut operation);
        if was_connected && done.as_ref().is_err_and(|error| is_gone(error.kind())) && self.refused.is_none()
        {
            done = self.attempt(&mut operation);
        }
        self.used = Instant::now();
        done
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

    fn check_open(&self) -> Result<()> {
        let advice = "run `strongroom unlock`";
        if self.closed {
            let error = Error::new(Kind::PinUnavailable, "use the device", "it was locked");
            return Err(error.on(&self.name).advice(advice));
        }
        match &self.refused {
            Some((kind, answer)) => {
                let answer = format!("{answer}; the PIN is not sent again");
                Err(Error::new(*kind, "use the device", answer).on(&self.name).advice(advice))
            }
            None => Ok(()),
        }
    }

    /// What an outcome says of the device.
    fn note(&mut self, error: Option<&Error>) {
        let Some(error) = error else {
            self.failures = 0;
            return self.show(Condition::Ready, "");
        };
        match error.kind() {
            Kind::PinWrong | Kind::PinLocked => {
                self.prompter.pin = None;
                self.refused = Some((error.kind(), error.answer().into()));
                self.show(Condition::Refused, error.answer());
            }
            Kind::PinUnavailable => self.show(Condition::Locked, error.answer()),
            kind if is_gone(kind) => {
                self.device = None;
                self.show(Condition::Gone, error.answer());
            }
            Kind::Device => {
                self.failures += 1;
                if self.failures >= FAILURES {
                    (self.device, self.failures) = (None, 0);
                }
                self.show(Condition::Failing, error.answer());
            }
            // An answer about the token, not about the device.
            _ => {}
        }
    }

    fn show(&self, condition: Condition, why: &str) {
        *lock(&self.state.seen) = (condition, why.into());
    }

    /// Opens the file key of a sealed token.
    ///
    /// # Errors
    /// The device's; `Tampered`.
    pub fn open(&mut self, token: &crate::vault::Ready, key: &KeyRef, what: &str) -> Result<Secret> {
        self.run(what, |device, prompter| token.open_on(device, prompter, key))
    }

    /// Which of the enrolled devices it is, so that tokens sealed to it find it.
    ///
    /// # Errors
    /// The device's.
    pub fn recognise(&mut self, rows: &[DeviceRow]) -> Result<Option<DeviceId>> {
        let id = self.run("learn which device it is", |device, prompter| {
            for row in rows {
                if crate::vault::is_enrolled_as(device, row, prompter)? {
                    return Ok(Some(row.id));
                }
            }
            Ok(None)
        })?;
        *lock(&self.state.id) = id;
        Ok(id)
    }

    /// Unlocks it with a PIN, or with its pin-source, and logs in.
    ///
    /// # Errors
    /// `PinWrong` when the device refuses; the device's.
    pub fn unlock(&mut self, pin: Option<Secret>) -> Result<()> {
        if let Some(device) = self.device.as_mut().filter(|_| self.refused.is_some() || pin.is_some()) {
            device.lock();
        }
        (self.closed, self.refused, self.prompter.pin) = (false, None, pin);
        let done = self.run("unlock", |device, prompter| device.keys(prompter).map(drop));
        if done.is_err() {
            self.prompter.pin = None;
        }
        done
    }

    /// Forgets the PIN and logs out, until somebody unlocks it.
    pub fn lock(&mut self) {
        self.forget();
        (self.closed, self.refused) = (true, None);
        self.show(Condition::Locked, "it was locked");
    }

    fn forget(&mut self) {
        self.prompter.pin = None;
        if let Some(device) = &mut self.device {
            device.lock();
        }
    }

    /// A PIN that was typed is forgotten when nobody used the device for long enough.
    pub fn tick(&mut self) {
        let over = self.idle.is_some_and(|idle| self.used.elapsed() >= idle);
        if over && self.prompter.pin.is_some() {
            self.forget();
            self.show(Condition::Locked, "nobody used it for a while");
        }
    }
}

fn is_gone(kind: Kind) -> bool {
    matches!(kind, Kind::DeviceGone | Kind::KeyMissing)
}

/// Answers a driver for whoever called: with the PIN that was typed at `unlock`, or from the URI's pin-source.
struct Caller {
    pin: Option<Secret>,
    /// Who wants what.
    what: String,
}

impl Prompter for Caller {
    fn pin(&mut self, request: &PinRequest<'_>) -> Result<Secret> {
        if let Some(pin) = &self.pin {
            return Ok(pin.clone());
        }
        match request.source {
            Some(_) => Silent.pin(request),
            None => Err(Error::new(Kind::PinUnavailable, "get the PIN", "the device is locked")
                .on(request.device)
                .advice("run `strongroom unlock`")),
        }
    }

    fn touch(&mut self, why: &str) -> Result<()> {
        log::warn!("{why} (for {})", self.what);
        Ok(())
    }

    fn confirm(&mut self, _: &str) -> Result<bool> {
        Ok(false)
    }
}
