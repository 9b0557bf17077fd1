//! Checkpoints that the agent signs by itself, with those of its devices that are witnesses, and what it knows of others'.
//!
//! A thread and a vault of their own: a checkpoint waits for no client, and no client for a checkpoint. Nobody is asked
//! for anything: a device that needs a PIN that is not known here, or a touch, signs none.

use super::devices::device_owner::AgentDeviceOwner;
use super::ledger_queries::LedgerQueries;
use super::worker::{ShutdownGuard, Worker, WorkerError};
use super::{Agent, Options};
use crate::device::DeviceWorker;
use crate::error::Result;
use crate::ledger::DeviceId;
use crate::ledger::judge::LedgerView;
use crate::uri::DeviceUri;
use crate::vault::{Setup, Vault, WitnessView, Witnessed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often it is looked whether a checkpoint is due.
const LOOK: Duration = Duration::from_millis(500);

/// After a failure it is tried again after this time, if not earlier.
const AGAIN: Duration = Duration::from_secs(10);

/// What the thread owns.
struct Publisher {
    setup: Box<dyn Fn() -> Setup + Send>,
    /// Opened when the first checkpoint is due.
    vault: Option<Vault>,
    devices: Vec<(DeviceUri, DeviceId, DeviceWorker)>,
}

/// The thread, and what others see of the witnesses.
pub struct Checkpoints {
    publisher: Worker<Publisher>,
    /// From the configuration.
    every: Option<Duration>,
    /// As of the last look at the store.
    witnesses: Mutex<Vec<WitnessView>>,
    /// Whether the last one failed, and why.
    trouble: Mutex<Option<String>>,
}

impl Checkpoints {
    /// Starts the thread. It opens nothing yet.
    ///
    /// # Errors
    /// `Io`.
    pub fn start(options: &Options, alive: &ShutdownGuard) -> Result<Self> {
        let (store, state, clock) = (options.store.clone(), options.state.clone(), options.clock);
        let setup = move || {
            let mut setup = Setup::new(store.clone(), Vec::new(), state.clone());
            (setup.prompter, setup.clock) = (Box::new(crate::prompt::BatchPrompter), clock);
            setup
        };
        let publisher = Publisher { setup: Box::new(setup), vault: None, devices: Vec::new() };
        let publisher = Worker::start("witness", super::QUEUE, alive, publisher)?;
        let (every, witnesses, trouble) = (options.checkpoint_every, Mutex::default(), Mutex::default());
        Ok(Self { publisher, every, witnesses, trouble })
    }

    /// Lends it a device, which it uses without asking anybody.
    pub fn lend(&self, uri: DeviceUri, id: DeviceId, owner: AgentDeviceOwner, patience: Duration) {
        let worker = DeviceWorker::owned_by(owner, &uri, patience);
        self.publisher.cast(move |publisher| publisher.devices.push((uri, id, worker)));
    }

    /// The witnesses as of the last look at the store.
    pub fn witnesses(&self) -> Vec<WitnessView> {
        self.witnesses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Each witness with how its checkpoint stands: `one fresh, two old`.
    pub fn standings(&self) -> String {
        let witnesses = self.witnesses();
        let each = witnesses.iter().map(|witness| format!("{} {}", witness.device, witness.status));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Notes what a look at the store has shown.
    fn note(&self, witnesses: Vec<WitnessView>) {
        *self.witnesses.lock().unwrap_or_else(PoisonError::into_inner) = witnesses;
    }

    /// Why the last checkpoint was not signed, if so.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_trouble(&self, trouble: Option<String>) {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trouble) = trouble.as_ref().filter(|_| *known != trouble) {
            log::warn!("{trouble}");
        }
        *known = trouble;
    }
}

impl Publisher {
    /// Signs one with each of these devices.
    fn publish(&mut self, witnesses: &[DeviceId]) -> Result<()> {
        let vault = match &mut self.vault {
            Some(vault) => vault,
            none => none.insert(Vault::open((self.setup)())?),
        };
        for (uri, id, worker) in self.devices.drain(..) {
            vault.attach_device(uri, id, worker);
        }
        witnesses.iter().map(|device| vault.checkpoint_with(device).map(drop)).fold(Ok(()), Result::and)
    }
}

impl LedgerQueries {
    /// Follows the store, and looks at the witnesses. Where these let nothing open, what was opened before is dropped.
    ///
    /// # Errors
    /// As [`LedgerQueries::follow`]; as [`Vault::check_witnesses`].
    fn follow_witnesses(&mut self) -> Result<()> {
        self.follow()?;
        self.check_witnesses("open tokens").map(drop)
    }

    fn witnesses(&mut self) -> Vec<WitnessView> {
        let witnesses = self.vault.witnesses().unwrap_or_default();
        witnesses.iter().map(WitnessView::from).collect()
    }

    /// As [`Vault::check_witnesses`]; what was opened or looked up before counts for nothing after a failure.
    ///
    /// # Errors
    /// As [`Vault::check_witnesses`].
    pub fn check_witnesses(&mut self, operation: &str) -> Result<Witnessed> {
        let checked = self.vault.check_witnesses(operation);
        let failed = checked.is_err();
        if std::mem::replace(&mut self.witnessed, !failed) && failed {
            self.at = None;
        }
        self.notice()?;
        checked
    }

    /// How often this store wants checkpoints of the agent's devices, and of which; `None` for never.
    fn wanted_checkpoints(
        &self,
        own: &[DeviceId],
        every: Option<Duration>,
    ) -> Option<(Duration, Vec<DeviceId>)> {
        let replica = self.vault.replica();
        let asked = replica.settings().ok()?.witnesses;
        let every = every.or(asked.map(|asked| Duration::from_millis(asked.max_age / 3)))?;
        let witnesses = replica.active_witnesses().ok()?;
        let own: Vec<_> = witnesses.iter().map(|(id, _)| *id).filter(|id| own.contains(id)).collect();
        (!own.is_empty()).then_some((every.max(Duration::from_secs(1)), own))
    }
}

/// Signs checkpoints whenever they are due, until the agent stops.
pub async fn publish(agent: Arc<Agent>, mut stop: watch::Receiver<bool>) {
    let mut last: Option<(Instant, bool)> = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stop.changed() => return,
        }
        let Some((every, witnesses)) = agent.wanted_checkpoints().await else { continue };
        let due =
            |(at, failed): (Instant, bool)| at.elapsed() >= if failed { every.min(AGAIN) } else { every };
        if last.is_none_or(due) {
            let failed = agent.publish_checkpoints(witnesses).await;
            last = Some((Instant::now(), failed));
        }
    }
}

impl Agent {
    /// Has the reader follow the store and look at the witnesses.
    pub(super) async fn look_at_store(&self) -> Result<Result<()>, WorkerError> {
        let deadline = Instant::now() + self.deadline;
        let seen = self.reader.call(deadline, |reader| {
            let looked = reader.follow_witnesses();
            (looked, reader.witnesses())
        });
        seen.await.map(|(looked, witnesses)| {
            self.checkpoints.note(witnesses);
            looked
        })
    }

    async fn wanted_checkpoints(&self) -> Option<(Duration, Vec<DeviceId>)> {
        let own: Vec<DeviceId> = self.devices.iter().filter_map(|device| device.id()).collect();
        let every = self.checkpoints.every;
        let deadline = Instant::now() + self.deadline;
        self.reader.call(deadline, move |reader| reader.wanted_checkpoints(&own, every)).await.ok().flatten()
    }

    /// Returns whether one failed.
    async fn publish_checkpoints(&self, witnesses: Vec<DeviceId>) -> bool {
        let deadline = Instant::now() + self.deadline;
        let signed =
            self.checkpoints.publisher.call(deadline, move |publisher| publisher.publish(&witnesses)).await;
        let signed = match signed {
            Ok(signed) => signed,
            Err(trouble) => Err(trouble.into_error("sign a checkpoint", "the agent")),
        };
        if signed.is_ok() {
            self.metrics.checkpoints.add();
        }
        let trouble = signed.err().map(|error| error.to_string());
        let failed = trouble.is_some();
        self.checkpoints.note_trouble(trouble);
        failed
    }
}
