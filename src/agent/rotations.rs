//! Tokens that the agent rotates by itself: what is due, with its own devices, and with the hooks of this machine.
//!
//! Each hook has a thread and a vault of its own, so that a slow issuer stands in no other's way, and no client waits. Nobody
//! is asked for anything: a device that needs a PIN that is not known here opens and signs nothing. All that a rotation has
//! to remember is in the ledger, so an agent that is stopped or killed in the middle of one leaves nothing behind that the
//! next one does not finish.

mod schedule;

use super::devices::DeviceHandle;
use super::devices::device_owner::AgentDeviceOwner;
use super::ledger_queries::LedgerQueries;
use super::metrics::gauge;
use super::worker::{ShutdownGuard, Worker};
use super::{Agent, Options};
use crate::config::Config;
use crate::device::DeviceWorker;
use crate::error::{Error, Kind, Result};
use crate::ledger::{DeviceId, Name, Prefix};
use crate::rotation::{self, Outcome};
use crate::uri::DeviceUri;
use crate::vault::{RotationView, Setup, Vault};
use schedule::Schedule;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// No rotation is waited for longer than this: more than all steps may take.
const ATTEMPT: Duration = Duration::from_secs(2 * 3600);

/// What a hook's thread owns.
struct Rotator {
    setup: Box<dyn Fn() -> Setup + Send>,
    /// Opened when the first token is due.
    vault: Option<Vault>,
    devices: Vec<(DeviceUri, DeviceId, DeviceWorker)>,
    config: Arc<Config>,
}

/// The hooks that are at work in this process, also for an agent that is being replaced.
pub type BusyHooks = Arc<Mutex<BTreeSet<String>>>;

/// The threads, and what is to be done.
pub struct Rotations {
    /// By hook; none where the agent rotates nothing.
    rotators: BTreeMap<String, Worker<Rotator>>,
    config: Arc<Config>,
    schedule: Mutex<Schedule>,
    busy: BusyHooks,
    /// When one succeeded last (ms since 1970); 0 for never.
    last_success: AtomicU64,
}

/// A hook at work. It is free again when this goes.
struct Turn {
    hook: String,
    busy: BusyHooks,
}

impl Drop for Turn {
    fn drop(&mut self) {
        locked(&self.busy).remove(&self.hook);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rotations {
    /// Starts a thread for each hook, if the agent is to rotate. They open nothing yet.
    ///
    /// # Errors
    /// `Io`.
    pub fn start(options: &Options, busy: BusyHooks, alive: &ShutdownGuard) -> Result<Self> {
        let config = Arc::new(options.rotation.clone().unwrap_or_default());
        let settings = config.agent.rotation.clone();
        let hooks = config.hooks.keys().filter(|_| settings.is_some());
        let start = |hook: &String| {
            let (store, state, clock) = (options.store.clone(), options.state.clone(), options.clock);
            let setup = move || {
                let mut setup = Setup::new(store.clone(), Vec::new(), state.clone());
                (setup.prompter, setup.clock) = (Box::new(crate::prompt::BatchPrompter), clock);
                setup
            };
            let (setup, config) = (Box::new(setup), Arc::clone(&config));
            let rotator = Rotator { setup, vault: None, devices: Vec::new(), config };
            Ok((hook.clone(), Worker::start("rotation", super::QUEUE, alive, rotator)?))
        };
        let rotators = hooks.map(start).collect::<Result<_>>()?;
        let seed =
            format!("{} {}", rustix::system::uname().nodename().to_string_lossy(), options.state.display());
        let schedule = Mutex::new(Schedule::new(settings.unwrap_or_default(), seed));
        Ok(Self { rotators, config, schedule, busy, last_success: AtomicU64::new(0) })
    }

    /// Lends it a device, which it uses without asking anybody.
    pub fn lend(&self, device: &Arc<DeviceHandle>, id: DeviceId, patience: Duration) {
        for rotator in self.rotators.values() {
            let (uri, owner) =
                (device.uri.clone(), AgentDeviceOwner { device: Arc::clone(device), attended: false });
            let worker = DeviceWorker::owned_by(owner, &uri, patience);
            rotator.cast(move |rotator| rotator.devices.push((uri, id, worker)));
        }
    }

    /// What is wrong with rotations, if anything is.
    pub fn problems(&self) -> Vec<String> {
        locked(&self.schedule).failures()
    }

    /// The numbers for Prometheus, where the agent rotates.
    pub fn write(&self, out: &mut String) {
        if self.config.agent.rotation.is_none() {
            return;
        }
        let counts = locked(&self.schedule).counts();
        let last = self.last_success.load(Ordering::Relaxed) / 1000;
        for (name, what, value) in [
            ("rotations_due", "Tokens that this agent is to rotate now", counts.due as u64),
            ("rotations_overdue", "Tokens that it should have rotated by now", counts.overdue as u64),
            ("rotations_failing", "Tokens whose last rotation failed", counts.failing as u64),
            ("rotation_last_success_timestamp_seconds", "When a rotation succeeded last; 0 for never", last),
        ] {
            gauge(out, name, what, [(String::new(), value)]);
        }
    }

    /// What to do now. Each hook has one turn at a time.
    fn next(&self, due: &[RotationView], now: u64) -> Vec<(RotationView, Turn)> {
        let mut busy = locked(&self.busy);
        let next = locked(&self.schedule).next(due, &busy, now, Instant::now());
        let turn = |view: RotationView| {
            busy.insert(view.hook.clone());
            let turn = Turn { hook: view.hook.clone(), busy: Arc::clone(&self.busy) };
            (view, turn)
        };
        next.into_iter().map(turn).collect()
    }
}

impl Rotator {
    fn rotate(&mut self, name: &str) -> Result<Outcome> {
        let name = Name::parse(name).map_err(|why| Error::new(Kind::Usage, "rotate", why))?;
        let vault = match &mut self.vault {
            Some(vault) => vault,
            none => none.insert(Vault::open((self.setup)())?),
        };
        for (uri, id, worker) in self.devices.drain(..) {
            vault.attach_device(uri, id, worker);
        }
        let hook = rotation::hook_of(vault, &self.config, &name)?;
        rotation::rotate(vault, &*hook, &name, rotation::Options::default(), &mut |words| {
            log::info!("{words}")
        })
    }
}

impl LedgerQueries {
    /// What is due, and can be rotated with these devices and with the hooks of this machine.
    fn due_here(&mut self, own: &[DeviceId], config: &Config) -> Result<(Vec<RotationView>, u64)> {
        let now = self.vault.latest_time();
        let mut due = self.vault.due(&Prefix::default(), now)?;
        let mut devices = self.vault.replica().devices()?;
        devices.retain(|device| device.retired.is_none() && own.contains(&device.id));
        due.retain(|view| {
            let ours = Name::parse(&view.name).is_ok_and(|name| {
                config.hooks.get(&view.hook).is_some_and(|settings| settings.is_for(&name))
            });
            let roles =
                |name: &str| devices.iter().any(|device| device.roles.iter().any(|role| role.writes(name)));
            ours && roles(&view.name) && devices.iter().any(|device| device.opens(&view.name))
        });
        Ok((due, now))
    }
}

/// Rotates what is due, until the agent stops. What was begun is finished.
pub async fn rotate_due(agent: Arc<Agent>, mut stop: watch::Receiver<bool>) {
    let Some(settings) = agent.rotations.config.agent.rotation.clone() else { return };
    let mut attempts = JoinSet::new();
    loop {
        for (view, turn) in agent.rotations_to_do().await {
            let agent = Arc::clone(&agent);
            attempts.spawn(async move {
                agent.attempt(view).await;
                drop(turn);
            });
        }
        tokio::select! {
            () = tokio::time::sleep(settings.every()) => {}
            Some(_) = attempts.join_next() => {}
            _ = stop.changed() => break,
        }
    }
    attempts.join_all().await;
}

impl Agent {
    async fn rotations_to_do(&self) -> Vec<(RotationView, Turn)> {
        let own: Vec<DeviceId> = self.devices.iter().filter_map(|device| device.id()).collect();
        let config = Arc::clone(&self.rotations.config);
        let due =
            self.read(false, "look for what is due", move |reader| reader.due_here(&own, &config)).await;
        match due {
            Ok((due, now)) => self.rotations.next(&due, now),
            // Whoever follows the store says so.
            Err(_) => Vec::new(),
        }
    }

    async fn attempt(&self, view: RotationView) {
        let Some(rotator) = self.rotations.rotators.get(&view.hook) else { return };
        let (name, operation) = (view.name.clone(), format!("rotate {}", view.name));
        let done = rotator.call(Instant::now() + ATTEMPT, move |rotator| rotator.rotate(&name)).await;
        let done = done.unwrap_or_else(|trouble| Err(trouble.into_error(&operation, "the agent")));
        let told = match done {
            Ok(outcome) => self.rotated(&view, &outcome),
            // Another machine, or a person, is at it.
            Err(error) if error.kind() == Kind::Conflict => {
                log::info!("{error}");
                locked(&self.rotations.schedule).leave(&view.name, Instant::now());
                None
            }
            Err(error) => Some(self.not_rotated(&view, &error)),
        };
        self.tick().await;
        if let Some(event) = told {
            self.notify(rotator, event).await;
        }
    }

    fn rotated(&self, view: &RotationView, outcome: &Outcome) -> Option<Value> {
        locked(&self.rotations.schedule).succeeded(&view.name);
        self.rotations.last_success.store((self.clock)(), Ordering::Relaxed);
        let Outcome::Rotated(version) = outcome else { return None };
        self.metrics.rotations.add();
        log::info!("{}: rotated, version {version} is in use", view.name);
        Some(json!({"event": "rotated", "token": view.name, "hook": view.hook, "version": version}))
    }

    fn not_rotated(&self, view: &RotationView, error: &Error) -> Value {
        let why = error.to_string();
        let (failures, wait) = locked(&self.rotations.schedule).failed(&view.name, &why, Instant::now());
        self.metrics.failed_rotations.add();
        log::error!("{why}: failure {failures}, it is tried again in {} s", wait.as_secs());
        json!({
            "event": "failed", "token": view.name, "hook": view.hook, "error": why, "hint": error.hint(),
            "failures": failures, "retry_seconds": wait.as_secs(),
        })
    }

    /// Tells the program of the configuration, in the hook's thread.
    async fn notify(&self, rotator: &Worker<Rotator>, event: Value) {
        let Some(settings) = self.rotations.config.agent.rotation.as_ref() else { return };
        if settings.notify.is_empty() {
            return;
        }
        let command = settings.notify.clone();
        let told = rotator.call(Instant::now() + ATTEMPT, move |_| rotation::notify(&command, &event)).await;
        if let Ok(Err(error)) = told {
            log::error!("{error}");
        }
    }
}
