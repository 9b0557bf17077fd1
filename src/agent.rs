//! The agent: a daemon that owns the devices, so that applications need neither PIN nor device, and get only what they
//! were granted.
//!
//! HTTP/1.1 on a Unix socket. The kernel says who asks (`identity`), signed grants say what they may do (`authz`). Nothing
//! that blocks runs on the thread that answers: each device has a thread of its own (`devices`), and so have reading
//! (`ledger_queries`), writing and the access log. Each is asked through a bounded queue and with a deadline (`worker`), so
//! that a device that hangs stalls nobody who does not need it.
//!
//! ```text
//!   connection ──▶ reader: may it? what is it?  ──▶ device's thread: open  ──▶ access log ──▶ answer
//!                  (replica, sealed bytes)           (one for each device)
//! ```
//!
//! This module and those below it are the only ones that use tokio.

mod access_log;
mod authz;
mod checkpoints;
mod confirmation;
mod credentials;
mod devices;
mod http;
mod identity;
mod ledger_queries;
mod lifecycle;
mod metrics;
mod open_age_file;
mod open_token;
mod rotations;
mod sd_notify;
mod sockets;
mod store_file;
mod token_cache;
mod worker;

pub use authz::AgentOwner;
pub use confirmation::ConfirmPolicy;
pub use devices::{AgentDevice, Connect, PinPolicy};
// For the examples there.
#[doc(hidden)]
pub use http::authorized;
pub use lifecycle::{StopHandle, run};
pub use sockets::{Sockets, group_of_applications};
pub use token_cache::CachePolicy;

use crate::config::Config;
use crate::device::DeviceWorker;
use crate::error::{Error, Kind, Result};
use crate::vault::{Setup, Vault};
use access_log::{AccessLog, LineLimit};
use checkpoints::Checkpoints;
use confirmation::Confirmations;
use devices::DeviceHandle;
use devices::device_owner::AgentDeviceOwner;
use http::watch::Watchers;
use identity::pidfd_cache::PidfdCache;
use ledger_queries::{FoundTokens, LedgerEpoch, LedgerQueries};
use metrics::Metrics;
use rotations::{BusyHooks, Rotations};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use store_file::StoreFile;
use token_cache::Cache;
use tokio::sync::{Semaphore, watch};
use worker::{ShutdownGuard, Worker};

/// How many requests may wait for the reader or the writer.
const QUEUE: usize = 4096;

/// How many callers' programs are read for their digest at once.
const PROGRAMS: usize = 2;

/// What an agent is started with.
pub struct Options {
    /// The store's URL.
    pub store: String,
    /// The directory for replicas and pins.
    pub state: PathBuf,
    /// The devices, in the order in which they are tried.
    pub devices: Vec<AgentDevice>,
    /// Whose agent it is.
    pub owner: AgentOwner,
    /// Tokens that may be kept opened for a while.
    pub cache: Vec<CachePolicy>,
    /// Whether those may be, too, whose label `strongroom.cache` says so.
    pub cache_labels: bool,
    /// How PINs are come by, and for how long.
    pub pin_policy: PinPolicy,
    /// How often checkpoints are signed with devices that are witnesses; if `None`, as the store's settings ask for.
    pub checkpoint_every: Option<Duration>,
    /// Who confirms that a token is handed out.
    pub confirm: ConfirmPolicy,
    /// A request is answered within this time, one way or another.
    pub deadline: Duration,
    /// A request's body has to arrive within this time.
    pub body_time: Duration,
    /// The most connections.
    pub connections: usize,
    /// About how many lines the access log may have; the oldest ones go.
    pub access_log_max: u64,
    /// Where the agent rotates what is due: the configuration, for its hooks and for `[agent.rotation]`.
    pub rotation: Option<Config>,
    /// Milliseconds since 1970.
    pub clock: fn() -> u64,
}

impl Options {
    /// With the usual limits.
    pub fn new(store: String, state: PathBuf, devices: Vec<AgentDevice>, owner: AgentOwner) -> Self {
        Self {
            store,
            state,
            devices,
            owner,
            cache: Vec::new(),
            cache_labels: true,
            pin_policy: PinPolicy::default(),
            checkpoint_every: None,
            confirm: ConfirmPolicy::default(),
            deadline: Duration::from_secs(30),
            body_time: Duration::from_secs(20),
            connections: 12_000,
            access_log_max: 10_000_000,
            rotation: None,
            clock: crate::vault::system_clock,
        }
    }

    /// A vault without devices.
    fn vault(&self) -> Result<Vault> {
        Vault::open(self.setup())
    }

    fn setup(&self) -> Setup {
        let mut setup = Setup::new(self.store.clone(), Vec::new(), self.state.clone());
        (setup.prompter, setup.clock) = (Box::new(crate::prompt::BatchPrompter), self.clock);
        setup
    }
}

/// What an agent leaves to the next one, when the process reads its configuration again.
#[derive(Default)]
struct ProcessState {
    /// Held by every thread.
    alive: ShutdownGuard,
    /// How often the devices were locked: also what an agent that is being replaced has begun is not handed out then.
    locks: Arc<AtomicU64>,
    /// The hooks that are at work.
    busy_hooks: BusyHooks,
}

/// What is wrong with the store.
struct Trouble {
    /// By what a change of it is told.
    state: String,
    words: String,
}

/// Everything that the answers are made from.
#[doc(hidden)]
pub struct Agent {
    reader: Worker<LedgerQueries>,
    writer: Worker<Vault>,
    access_log: AccessLog,
    checkpoints: Checkpoints,
    rotations: Rotations,
    confirmations: Confirmations,
    devices: Vec<Arc<DeviceHandle>>,
    epoch: Arc<LedgerEpoch>,
    /// The epoch in which the counters at hand were last compared with the store.
    counters_checked: AtomicU64,
    store_file: StoreFile,
    cache: Arc<Cache>,
    metrics: Metrics,
    pidfds: PidfdCache,
    /// Turns at reading a caller's program.
    digest_permits: Arc<Semaphore>,
    owner: AgentOwner,
    deadline: Duration,
    body_time: Duration,
    connections: usize,
    clock: fn() -> u64,
    /// Who watches tokens.
    watchers: Watchers,
    /// Whether what is never finished by itself is to end.
    stopping: watch::Sender<bool>,
    /// What went wrong when the store was last followed.
    trouble: Mutex<Option<Trouble>>,
    /// Numbers of tokens, and when they were counted.
    numbers: tokio::sync::Mutex<Option<(Instant, LedgerCounts)>>,
    started: Instant,
}

/// Living tokens, those that expire soon, and the ledger's length.
type LedgerCounts = (u64, u64, u64);

impl Agent {
    fn start(options: Options, process: &ProcessState) -> Result<Self> {
        let alive = &process.alive;
        let epoch = Arc::new(LedgerEpoch::default());
        let vault = options.vault()?;
        let limit = LineLimit::new(options.access_log_max, options.clock);
        let access_log = AccessLog::start(crate::store::open(&options.store)?, limit, alive)?;
        let checkpoints = Checkpoints::start(&options, alive)?;
        let rotations = Rotations::start(&options, Arc::clone(&process.busy_hooks), alive)?;
        let writer = Worker::start("writer", QUEUE, alive, options.vault()?)?;
        let store_file = StoreFile::of(&options.store);
        let confirmations = Confirmations::start(options.confirm.prompter, alive)?;
        let (owner, accounts) = (options.owner, authz::AccountIds::default());
        let cache = Arc::new(Cache::new(options.cache, options.cache_labels, Arc::clone(&process.locks)));
        let mut reader = LedgerQueries {
            vault,
            store_file: store_file.clone(),
            owner,
            accounts,
            confirm: options.confirm.on,
            epoch: Arc::clone(&epoch),
            cache: Arc::clone(&cache),
            at: None,
            witnessed: true,
            found: FoundTokens::default(),
        };
        reader.notice()?;
        let start = |device| {
            DeviceHandle::start(device, options.deadline, options.pin_policy.clone(), alive).map(Arc::new)
        };
        let devices = options.devices.into_iter().map(start).collect::<Result<Vec<_>>>()?;
        let agent = Self {
            reader: Worker::start("reader", QUEUE, alive, reader)?,
            writer,
            access_log,
            checkpoints,
            rotations,
            confirmations,
            devices,
            epoch,
            counters_checked: AtomicU64::new(0),
            store_file,
            cache,
            metrics: Metrics::default(),
            pidfds: PidfdCache::default(),
            digest_permits: Arc::new(Semaphore::new(PROGRAMS)),
            owner,
            deadline: options.deadline,
            body_time: options.body_time,
            connections: options.connections,
            clock: options.clock,
            watchers: Watchers::default(),
            stopping: watch::Sender::default(),
            trouble: Mutex::default(),
            numbers: tokio::sync::Mutex::default(),
            started: Instant::now(),
        };
        agent.lend();
        Ok(agent)
    }

    /// Lends the devices whose ids are known to the vault that writes.
    fn lend(&self) {
        for device in &self.devices {
            if let Some(id) = device.id() {
                self.lend_one(device, id);
            }
        }
        let unknown = |device: &&Arc<DeviceHandle>| device.id().is_none();
        let unknown = self.devices.iter().filter(unknown).map(|device| unanswered(device)).collect();
        self.note_unidentified(unknown);
    }

    /// Has the vaults know which devices are still to be recognized.
    fn note_unidentified(&self, devices: Vec<String>) {
        let same = devices.clone();
        self.reader.cast(move |reader| reader.vault.note_unidentified(devices));
        self.writer.first().cast(move |vault| vault.note_unidentified(same));
    }

    fn lend_one(&self, device: &Arc<DeviceHandle>, id: crate::ledger::DeviceId) {
        let uri = device.uri.clone();
        let owner = AgentDeviceOwner { device: Arc::clone(device), attended: true };
        let unattended = AgentDeviceOwner { device: Arc::clone(device), attended: false };
        self.checkpoints.lend(uri.clone(), id, unattended, self.deadline);
        self.rotations.lend(device, id, self.deadline);
        self.reader.cast(move |reader| reader.vault.disregard_witness(id));
        let worker = DeviceWorker::owned_by(owner, &uri, self.deadline);
        // Before any change, the first ones included.
        self.writer.first().cast(move |vault| vault.attach_device(uri, id, worker));
    }

    /// Learns which devices those are that the configuration does not tell the id of.
    async fn recognize(&self) {
        let mut unknown = Vec::new();
        for device in self.devices.iter().filter(|device| device.id().is_none()) {
            let deadline = Instant::now() + self.deadline;
            let rows = self.reader.call(deadline, |reader| reader.vault.replica().devices()).await;
            let Ok(Ok(mut rows)) = rows else {
                unknown.push(unanswered(device));
                continue;
            };
            rows.retain(|row| row.retired.is_none());
            let known = device.thread().call(deadline, move |session| session.recognize(&rows)).await;
            match known {
                Ok(Ok(Some(id))) => self.lend_one(device, id),
                // It is none of the store's.
                Ok(Ok(None)) => {}
                _ => unknown.push(unanswered(device)),
            }
        }
        self.note_unidentified(unknown);
    }

    /// Follows the store, and lets the devices look at the time. False when the reader does not answer.
    async fn tick(&self) -> bool {
        let followed = self.look_at_store().await;
        let answers = followed.is_ok();
        self.note_trouble(match followed {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(trouble) => Some(trouble.into_error("sync with the store", "the reader")),
        });
        for device in &self.devices {
            if let Err(error) = device.replace_if_hung() {
                log::warn!("{error}");
            }
            device.thread().cast(devices::DeviceSession::tick);
        }
        self.cache.sweep();
        self.access_log.write_counts(false);
        answers
    }

    /// Says once what is wrong with the store. Of checkpoints that are too old, the words change with every look.
    fn note_trouble(&self, error: Option<Error>) {
        let trouble = error.map(|error| Trouble {
            state: if error.kind() == Kind::Stale { self.checkpoints.standings() } else { error.to_string() },
            words: error.to_string(),
        });
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let state = |trouble: &Option<Trouble>| trouble.as_ref().map(|trouble| trouble.state.clone());
        if let Some(new) = trouble.as_ref().filter(|_| state(&known) != state(&trouble)) {
            log::warn!("{}", new.words);
        }
        *known = trouble;
    }

    /// What is wrong with the store, in words.
    fn store_trouble(&self) -> Option<String> {
        let known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map(|trouble| trouble.words.clone())
    }
}

impl Agent {
    /// Has the reader look something up on the newest state of the store, `first` before what others wait for.
    pub async fn read<T: Send + 'static>(
        &self,
        first: bool,
        tried: &str,
        job: impl FnOnce(&mut LedgerQueries) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let job = move |reader: &mut LedgerQueries| reader.follow().and_then(|()| job(reader));
        let done = self.reader.ranked(first).call(Instant::now() + self.deadline, job).await;
        done.map_err(|trouble| trouble.into_error(tried, "the store"))?
    }

    /// Has the writer make a change, `first` before what others wait for; everybody knows of it before the answer goes out.
    pub async fn write<T: Send + 'static>(
        &self,
        first: bool,
        tried: &str,
        job: impl FnOnce(&mut Vault) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store_file = self.store_file.clone();
        let job = move |vault: &mut Vault| store_file.check().and_then(|()| job(vault));
        let done = self.writer.ranked(first).call(Instant::now() + self.deadline, job).await;
        let value = done.map_err(|trouble| trouble.into_error(tried, "the writer"))??;
        self.metrics.changed.add();
        self.tick().await;
        Ok(value)
    }
}

/// A device of which it is not known yet which one it is, and why, for people.
fn unanswered(device: &DeviceHandle) -> String {
    format!("{}: it was not recognized yet", device.name)
}

/// Everything that the agent's own parsers make of some bytes, in words: those for a request's path and query, for a
/// credential's name, for a control group and for a grantee. For whoever feeds them anything.
#[doc(hidden)]
pub fn fuzz_parsers(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut said = vec![http::params::fuzz_query(&text)];
    said.extend(
        credentials::CredentialRequest::parse(bytes).map(|asked| format!("{} {}", asked.unit, asked.id)),
    );
    said.extend(
        identity::systemd_unit::Unit::from_cgroup(&text).map(|unit| format!("{:?}", unit.to_string())),
    );
    said.extend(text.parse::<crate::vault::Grantee>().map(|grantee| grantee.to_string()).ok());
    said
}
