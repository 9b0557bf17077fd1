//! One device, on a thread of its own: connected when first needed, and anew after it went away; unlocked by a person or
//! by its pin-source; locked when told to, or when nobody used it for a while.
//!
//! A PIN that the device refused is never sent again before a person says so (`unlock`), wherever it came from.

use crate::agent::ledger_queries::AuthorizedToken;
use crate::agent::worker::{ShutdownGuard, Worker};
use crate::device::{Device, KeyRef};
use crate::error::{Error, Kind, Result};
use crate::ledger::DeviceId;
use crate::seal::Opened;
use crate::secret::Secret;
use crate::uri::DeviceUri;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

pub mod device_owner;
mod device_session;
mod pin_prompter;

pub use device_session::DeviceSession;

/// How a device is reached, again and again.
pub type Connect = Arc<dyn Fn() -> Result<Box<dyn Device>> + Send + Sync>;

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
        Self { uri, id, connect: Arc::new(move || crate::device::connect(&own)) }
    }
}

/// How PINs are obtained, and for how long they are kept.
#[derive(Clone, Debug, Default)]
pub struct PinPolicy {
    /// A program that is run with a question and prints the PIN.
    pub program: Option<PathBuf>,
    /// A typed PIN is forgotten when nobody used the device for so long.
    pub idle: Option<Duration>,
}

/// What a device is like at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceStatus {
    /// Not used yet.
    Unused,
    /// Answered last time.
    Ready,
    /// Needs its PIN: `strongroom unlock`.
    Locked,
    /// Refused the PIN; it is not sent again.
    Refused,
    /// Takes no PIN: locked out, or its last try is left to a person.
    LockedOut,
    /// Cannot be reached.
    Gone,
    /// Answered with a failure.
    Failing,
    /// Has not answered for longer than it may take.
    Hung,
}

impl DeviceStatus {
    /// For health and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Ready => "ready",
            Self::Locked => "locked",
            Self::Refused => "pin-refused",
            Self::LockedOut => "pin-locked",
            Self::Gone => "gone",
            Self::Failing => "failing",
            Self::Hung => "hung",
        }
    }
}

/// A handle on a device's thread.
pub struct DeviceHandle {
    /// As configured.
    pub uri: DeviceUri,
    /// In the user's words.
    pub name: String,
    /// Replaced when it hangs.
    thread: Mutex<Worker<DeviceSession>>,
    connect: Connect,
    pin_policy: PinPolicy,
    alive: ShutdownGuard,
    state: Arc<State>,
    patience: Duration,
}

/// The device's state, for other threads.
struct State {
    id: Mutex<Option<DeviceId>>,
    lock: Arc<LockSwitch>,
    seen: Mutex<(DeviceStatus, String)>,
    /// Further sessions on the same login, each on a thread of its own, for devices that gain by them.
    sessions: Mutex<Vec<Worker<DeviceSession>>>,
}

/// Whether a person locked a device. It is looked at before anything is done on the device, and again before anything
/// that came of it is handed on; so a lock holds at once, whatever the device is doing.
///
/// Even while it is unlocked, odd while it is locked.
#[derive(Default)]
pub struct LockSwitch(AtomicU64);

impl LockSwitch {
    /// What it is now, to see later whether it was locked meanwhile.
    pub fn state(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Whether it is locked.
    pub fn is_locked(&self) -> bool {
        self.state() % 2 == 1
    }

    /// Locks it.
    fn lock(&self) {
        self.0.fetch_or(1, Ordering::SeqCst);
    }

    /// Unlocks it, unless it was locked after `before` was its state.
    fn unlock(&self, before: u64) -> bool {
        let after = before + before % 2;
        self.0.compare_exchange(before, after, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DeviceHandle {
    /// Starts the device's thread. The device is not reached yet.
    ///
    /// # Errors
    /// `Io`.
    pub fn start(
        device: AgentDevice,
        patience: Duration,
        pin_policy: PinPolicy,
        alive: &ShutdownGuard,
    ) -> Result<Self> {
        let seen = Mutex::new((DeviceStatus::Unused, String::new()));
        let id = Mutex::new(device.id);
        let state = Arc::new(State { id, lock: Arc::default(), seen, sessions: Mutex::default() });
        let (name, uri, connect) = (device.uri.display_name(), device.uri, device.connect);
        let host = DeviceSession::new(
            Arc::clone(&connect),
            name.clone(),
            pin_policy.clone(),
            Arc::clone(&state),
            alive,
        );
        let thread = Mutex::new(Worker::start("device", QUEUE, alive, host)?);
        Ok(Self { uri, name, thread, connect, pin_policy, alive: alive.clone(), state, patience })
    }

    /// The device's thread, as it is now.
    pub fn thread(&self) -> Worker<DeviceSession> {
        lock(&self.thread).clone()
    }

    /// Gives up a thread whose device does not answer, after twice its time, and starts another. A PIN that was typed is
    /// forgotten with it.
    ///
    /// # Errors
    /// `Io`.
    pub fn replace_if_hung(&self) -> Result<()> {
        let mut thread = lock(&self.thread);
        if thread.load().busy_for().is_none_or(|busy| busy < self.patience * 2) {
            return Ok(());
        }
        log::warn!("{} does not answer: it is given up, and connected anew", self.name);
        let (connect, state) = (Arc::clone(&self.connect), Arc::clone(&self.state));
        let host =
            DeviceSession::new(connect, self.name.clone(), self.pin_policy.clone(), state, &self.alive);
        *thread = Worker::start("device", QUEUE, &self.alive, host)?;
        Ok(())
    }

    /// Has a token opened, or a share of it after other devices opened so many, on whichever session has least to do; `first` before what others wait for.
    ///
    /// # Errors
    /// The trouble of the thread, or the device's error.
    pub async fn open(
        &self,
        (token, shares): (&Arc<AuthorizedToken>, usize),
        key: &KeyRef,
        what: &str,
        (deadline, first): (Instant, bool),
    ) -> Result<Opened> {
        let job = || {
            let (token, key, what) = (Arc::clone(token), key.clone(), what.to_owned());
            move |session: &mut DeviceSession| session.open((&token.ready, shares), &key, &what)
        };
        if let Some(session) = self.idlest_session() {
            match session.ranked(first).call(deadline, job()).await {
                Ok(Err(error)) if is_about_the_session(error.kind()) => self.state.drop_sessions(),
                Ok(done) => return done,
                Err(_) => self.state.drop_sessions(),
            }
        }
        let done = self.thread().ranked(first).call(deadline, job()).await;
        done.map_err(|trouble| trouble.into_error("open the token", &self.name))?
    }

    /// A session that has less to do than the device's own thread.
    fn idlest_session(&self) -> Option<Worker<DeviceSession>> {
        let sessions = lock(&self.state.sessions);
        let idlest = sessions.iter().min_by_key(|session| session.load().to_do())?;
        (idlest.load().to_do() < self.thread().load().to_do()).then(|| idlest.clone())
    }

    /// Its id in the ledger, once it is known.
    pub fn id(&self) -> Option<DeviceId> {
        *lock(&self.state.id)
    }

    /// What it is like at the moment, and why.
    pub fn status(&self) -> (DeviceStatus, String) {
        match self.thread().load().busy_for() {
            Some(busy) if busy > self.patience => {
                (DeviceStatus::Hung, format!("it has not answered for {} s", busy.as_secs()))
            }
            _ if self.state.lock.is_locked() => (DeviceStatus::Locked, "it was locked".into()),
            _ => lock(&self.state.seen).clone(),
        }
    }

    /// An error at once for a device that hangs or is locked: nobody has to wait for it.
    ///
    /// # Errors
    /// `Device`; `PinUnavailable`.
    pub fn check(&self, operation: &str) -> Result<()> {
        self.check_answers(operation)?;
        if self.state.lock.is_locked() { Err(was_locked(&self.name)) } else { Ok(()) }
    }

    fn check_answers(&self, operation: &str) -> Result<()> {
        match self.status() {
            (DeviceStatus::Hung, why) => Err(Error::new(Kind::Device, operation, why).with_target(&self.name).with_hint(
                "unplug it and plug it in again, or restart the service behind it; then restart the agent if it stays so",
            )),
            _ => Ok(()),
        }
    }

    /// Unlocks it with a PIN, or with its pin-source, and logs in.
    ///
    /// # Errors
    /// `PinUnavailable` when it was locked again meanwhile; the device's.
    pub async fn unlock(&self, pin: Option<Secret>, deadline: Instant) -> Result<()> {
        self.check_answers("unlock")?;
        let before = self.state.lock.state();
        let unlock = move |session: &mut DeviceSession| session.unlock(pin, before);
        let done = self.thread().first().call(deadline, unlock).await;
        done.map_err(|trouble| trouble.into_error("unlock", &self.name))?
    }

    /// Locks it. From then on nothing is opened on it, and nothing that it was opening is handed out. It is logged out as
    /// soon as it has finished what it is doing: then something comes back.
    pub fn lock(&self) -> oneshot::Receiver<()> {
        self.state.lock.lock();
        let (says, hears) = oneshot::channel();
        // Where the queue is full, those in it see to it.
        self.thread().first().cast(move |session| {
            session.obey_lock();
            let _ = says.send(());
        });
        hears
    }
}

/// The answer for a device that a person locked.
fn was_locked(name: &str) -> Error {
    Error::new(Kind::PinUnavailable, "use the device", "it was locked")
        .with_target(name)
        .with_hint("run `strongroom unlock`")
}

impl State {
    /// Lets the sessions go. Those that are busy end when they have finished.
    fn drop_sessions(&self) {
        lock(&self.sessions).clear();
    }
}

/// What another session of the same device may do better at.
fn is_about_the_session(kind: Kind) -> bool {
    device_session::is_gone(kind) || matches!(kind, Kind::Device | Kind::PinUnavailable)
}
