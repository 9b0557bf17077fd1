//! The life of an agent: from its sockets to its last answer, with reloads in between.

use super::http::server;
use super::{Agent, Options, ProcessState, Sockets, checkpoints, credentials, rotations, sd_notify};
use crate::error::{Error, Kind, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often the agent looks for changes that others made to the store.
const FOLLOW: Duration = Duration::from_millis(250);

/// What has been begun is finished within this time after SIGTERM.
const GRACE: Duration = Duration::from_secs(20);

/// Devices are closed, and the access log is written, within this time.
const CLOSING: Duration = Duration::from_secs(3);

/// How an agent that runs inside another program is told to stop.
#[derive(Clone)]
pub struct StopHandle(watch::Sender<bool>);

impl Default for StopHandle {
    fn default() -> Self {
        Self(watch::channel(false).0)
    }
}

impl StopHandle {
    /// Stops it: what has been begun is finished.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Runs an agent on these sockets until SIGTERM, SIGINT or `running` stops it. `ready` is called once it serves and heeds
/// signals. SIGHUP has `reload` make the options anew.
///
/// # Errors
/// The store's, before anything is served; `Io`.
pub fn run(
    options: Options,
    sockets: Sockets,
    running: &StopHandle,
    ready: &mut dyn FnMut(),
    reload: &mut dyn FnMut() -> Result<Options>,
) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| io("start", e))?;
    let done = runtime.block_on(run_on(options, sockets, running, ready, reload));
    // A device that hangs keeps its thread; the end of the process ends both.
    runtime.shutdown_background();
    done
}

fn io(operation: &str, e: std::io::Error) -> Error {
    Error::new(Kind::Io, operation, e.to_string()).caused_by(e)
}

fn listener(socket: &std::os::unix::net::UnixListener) -> Result<UnixListener> {
    let own = socket.try_clone().and_then(|own| own.set_nonblocking(true).map(|()| own));
    own.and_then(UnixListener::from_std).map_err(|e| io("listen", e))
}

/// Starts an agent on a thread of its own: a store on PostgreSQL waits for its server, which no task may.
fn start_aside(options: Options, process: &ProcessState) -> Result<Agent> {
    let started = std::thread::scope(|scope| scope.spawn(|| Agent::start(options, process)).join());
    started.unwrap_or_else(|_| Err(Error::new(Kind::Io, "start the agent", "the thread for it ended")))
}

async fn run_on(
    options: Options,
    mut sockets: Sockets,
    running: &StopHandle,
    ready: &mut dyn FnMut(),
    reload: &mut dyn FnMut() -> Result<Options>,
) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| io("listen for signals", e))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| io("listen for signals", e))?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(|e| io("listen for signals", e))?;
    let process = ProcessState::default();
    let (end, ends) = watch::channel(false);
    let start = |options, sockets: &Sockets| -> Result<Serving> {
        Serving::begin(Arc::new(start_aside(options, &process)?), sockets, &ends)
    };
    credentials::refuse_unanswered(std::mem::take(&mut sockets.unanswered)).await;
    let (mut serving, mut draining) = (start(options, &sockets)?, JoinSet::new());
    sd_notify::tell("READY=1\nSTATUS=Serving");
    ready();
    let mut ended = running.0.subscribe();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = async { while !*ended.borrow_and_update() && ended.changed().await.is_ok() {} } => break,
            Some(_) = draining.join_next() => continue,
            _ = hang_up.recv() => sd_notify::reloading(),
            () = replaced(&serving.agent) => {
                log::warn!("another file is in the store's place: starting anew on it");
                tokio::time::sleep(FOLLOW).await;
            }
        }
        // The new one serves first. What the old one has begun it finishes beside it: nobody waits for a slow client.
        match reload().and_then(|options| start(options, &sockets)) {
            Ok(fresh) => drop(draining.spawn(std::mem::replace(&mut serving, fresh).finish())),
            Err(error) => log::error!("everything stays as it was: {error}"),
        }
        sd_notify::tell("READY=1\nSTATUS=Serving");
    }
    sd_notify::tell("STOPPING=1");
    end.send_replace(true);
    draining.spawn(serving.finish());
    if tokio::time::timeout(GRACE, draining.join_all()).await.is_err() {
        log::warn!("some requests were not finished in time");
    }
    if !process.alive.ended(CLOSING).await {
        log::warn!("a device was not closed in time");
    }
    Ok(())
}

/// Comes back when another file is in the store's place.
async fn replaced(agent: &Agent) {
    while !agent.store_file.is_replaced() {
        tokio::time::sleep(FOLLOW).await;
    }
}

/// An agent, and the tasks that serve from it.
struct Serving {
    agent: Arc<Agent>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Serving {
    fn begin(agent: Arc<Agent>, sockets: &Sockets, ends: &watch::Receiver<bool>) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let requests = listener(&sockets.requests)?;
        let credentials = sockets.credentials.as_ref().map(listener).transpose()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(server::serve(Arc::clone(&agent), requests, stopped.clone()));
        tasks.spawn(follow(Arc::clone(&agent), stopped.clone()));
        tasks.spawn(recognize(Arc::clone(&agent), stopped.clone()));
        tasks.spawn(checkpoints::publish(Arc::clone(&agent), stopped.clone()));
        tasks.spawn(rotations::rotate_due(Arc::clone(&agent), stopped.clone()));
        if let Some(socket) = credentials {
            tasks.spawn(credentials::serve(Arc::clone(&agent), socket, stopped, ends.clone()));
        }
        Ok(Self { agent, stop, tasks })
    }

    /// Takes nothing more on, and waits until what has been begun is finished.
    async fn finish(self) {
        self.stop.send_replace(true);
        self.agent.stopping.send_replace(true);
        self.tasks.join_all().await;
        self.agent.access_log.write_counts(true);
    }
}

async fn follow(agent: Arc<Agent>, mut stop: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(FOLLOW);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let watchdog = sd_notify::watchdog();
    let mut told = tokio::time::Instant::now();
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = stop.changed() => return,
        }
        // Only a reader that answers is a sign of life.
        let answers = agent.tick().await;
        if answers && watchdog.is_some_and(|every| told.elapsed() >= every / 2) {
            sd_notify::tell("WATCHDOG=1");
            told = tokio::time::Instant::now();
        }
    }
}

/// Asks devices that are not known yet, until they are.
async fn recognize(agent: Arc<Agent>, mut stop: watch::Receiver<bool>) {
    while agent.devices.iter().any(|device| device.id().is_none()) {
        tokio::select! {
            () = agent.recognize() => {}
            _ = stop.changed() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
            _ = stop.changed() => return,
        }
    }
}
