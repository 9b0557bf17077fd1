//! The life of an agent: from its sockets to its last answer, with reloads in between.

use super::http::server;
use super::{Agent, Options, Sockets, credentials, sd_notify};
use crate::agent::worker::ShutdownGuard;
use crate::error::{Error, Kind, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often the store is looked at for what others changed.
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

fn io(tried: &str, e: std::io::Error) -> Error {
    Error::new(Kind::Io, tried, e.to_string()).caused_by(e)
}

fn listener(socket: &std::os::unix::net::UnixListener) -> Result<UnixListener> {
    let own = socket.try_clone().and_then(|own| own.set_nonblocking(true).map(|()| own));
    own.and_then(UnixListener::from_std).map_err(|e| io("listen", e))
}

async fn run_on(
    options: Options,
    sockets: Sockets,
    running: &StopHandle,
    ready: &mut dyn FnMut(),
    reload: &mut dyn FnMut() -> Result<Options>,
) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| io("listen for signals", e))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| io("listen for signals", e))?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(|e| io("listen for signals", e))?;
    let alive = ShutdownGuard::default();
    let (mut agent, mut told) = (Arc::new(Agent::start(options, &alive)?), false);
    loop {
        let (stop, stopped) = watch::channel(false);
        let serving = begin(&agent, &sockets, &stopped)?;
        sd_notify::tell("READY=1\nSTATUS=Serving");
        if !std::mem::replace(&mut told, true) {
            ready();
        }
        let mut ended = running.0.subscribe();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = async { while !*ended.borrow_and_update() && ended.changed().await.is_ok() {} } => {}
            _ = hang_up.recv() => {
                sd_notify::reloading();
                agent = renewed(agent, &mut || reload().and_then(|options| Agent::start(options, &alive)), &stop, serving).await;
                continue;
            }
            () = replaced(&agent) => {
                log::warn!("another file is in the store's place: starting anew on it");
                agent = renewed(agent, &mut || reload().and_then(|options| Agent::start(options, &alive)), &stop, serving).await;
                tokio::time::sleep(FOLLOW).await;
                continue;
            }
        }
        sd_notify::tell("STOPPING=1");
        finish(&stop, serving).await;
        drop(agent);
        if !alive.ended(CLOSING).await {
            log::warn!("a device was not closed in time");
        }
        return Ok(());
    }
}

/// The agent as it is configured now; as it was, where that cannot be. What was begun is finished first.
async fn renewed(
    agent: Arc<Agent>,
    fresh: &mut dyn FnMut() -> Result<Agent>,
    stop: &watch::Sender<bool>,
    serving: Serving,
) -> Arc<Agent> {
    let fresh = fresh();
    finish(stop, serving).await;
    // What was unlocked and kept belongs to the configuration there was.
    fresh.map(Arc::new).unwrap_or_else(|error| {
        log::error!("everything stays as it was: {error}");
        agent
    })
}

/// Comes back when another file is in the store's place.
async fn replaced(agent: &Agent) {
    while !agent.store_file.is_replaced() {
        tokio::time::sleep(FOLLOW).await;
    }
}

type Serving = Vec<tokio::task::JoinHandle<()>>;

fn begin(agent: &Arc<Agent>, sockets: &Sockets, stopped: &watch::Receiver<bool>) -> Result<Serving> {
    let mut serving = vec![
        tokio::spawn(server::serve(Arc::clone(agent), listener(&sockets.requests)?, stopped.clone())),
        tokio::spawn(follow(Arc::clone(agent), stopped.clone())),
        tokio::spawn(recognize(Arc::clone(agent), stopped.clone())),
    ];
    if let Some(socket) = &sockets.credentials {
        serving.push(tokio::spawn(credentials::serve(Arc::clone(agent), listener(socket)?, stopped.clone())));
    }
    Ok(serving)
}

/// Lets what has been begun finish, for a while.
async fn finish(stop: &watch::Sender<bool>, serving: Serving) {
    stop.send_replace(true);
    let all = async {
        for task in serving {
            let _ = task.await;
        }
    };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        log::warn!("some requests were not finished in time");
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
        agent.tick().await;
        // Only a reader that answers is a sign of life.
        if watchdog.is_some_and(|every| told.elapsed() >= every / 2) {
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
