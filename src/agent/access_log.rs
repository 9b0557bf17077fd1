//! The thread that writes the access log. What was read is written down before it is handed out, many reads at a time.

use crate::agent::worker::ShutdownGuard;
use crate::error::{Error, Kind, Result};
use crate::store::{Access, Store};
use crate::vault::{Accessor, is_success};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc, oneshot};

/// The most lines of one transaction.
const AT_ONCE: usize = 512;

/// A line that nobody waits for is held back for so long, so that one transaction writes more of them.
const GATHERING: Duration = Duration::from_millis(1);

/// A read does not wait longer than this for being written down.
const PATIENCE: Duration = Duration::from_millis(500);

/// The most characters of a name, and of a program, that are written down. Clients choose them.
const MAX_NAME: usize = 255;
const MAX_EXE: usize = 512;

type Line = (Access, Option<oneshot::Sender<()>>);

/// A handle on the thread.
#[derive(Clone)]
pub struct AccessLog {
    openings: mpsc::Sender<Line>,
    /// A queue of its own, written after the openings: a client can cause any number of denials.
    denials: mpsc::Sender<Line>,
    /// Somebody waits.
    hurry: Arc<Notify>,
    denied: Arc<Mutex<Denied>>,
}

/// How long the log may get.
pub struct LineLimit {
    most: u64,
    clock: fn() -> u64,
    /// Lines that were written since it was last looked at.
    written: usize,
}

/// So many lines are written before the log's length is looked at again.
const LOOK_AFTER: usize = 1024;

impl LineLimit {
    /// Of about so many lines.
    pub fn new(most: u64, clock: fn() -> u64) -> Self {
        Self { most, clock, written: LOOK_AFTER }
    }

    /// Drops the oldest lines, some thousands at once, if there are too many. The log says so.
    fn apply(&mut self, store: &mut dyn Store, written: usize) {
        self.written += written;
        if self.written < LOOK_AFTER {
            return;
        }
        let this = Accessor::this_process();
        let by = Access {
            time: (self.clock)(),
            device: String::new(),
            uid: this.uid,
            pid: this.pid,
            exe: this.exe,
            name: String::new(),
            version: 0,
            outcome: String::new(),
        };
        match store.drop_accesses(self.most, &by) {
            Ok(0) => self.written = 0,
            // There may be more of them.
            Ok(dropped) => log::info!("the access log is full: {dropped} of its oldest lines were dropped"),
            Err(error) => {
                log::warn!("the access log cannot be kept short: {}", error.message());
                self.written = 0;
            }
        }
    }
}

/// What the thread writes down.
struct Lines {
    openings: mpsc::Receiver<Line>,
    denials: mpsc::Receiver<Line>,
    hurry: Arc<Notify>,
}

impl AccessLog {
    /// Starts the thread.
    ///
    /// # Errors
    /// `Io`.
    pub fn start(store: Box<dyn Store>, limit: LineLimit, alive: &ShutdownGuard) -> Result<Self> {
        let io = |e: std::io::Error| Error::new(Kind::Io, "start the access log's thread", e.to_string());
        let (access_log, lines) = Self::new();
        let waiting = Builder::new_current_thread().enable_time().build().map_err(io)?;
        let alive = alive.clone();
        let body = move || {
            keep(store, limit, lines, &waiting);
            drop(alive);
        };
        std::thread::Builder::new().name("access-log".into()).spawn(body).map_err(io)?;
        Ok(access_log)
    }

    fn new() -> (Self, Lines) {
        let (openings, opened) = mpsc::channel(4 * AT_ONCE);
        let (denials, denied) = mpsc::channel(4 * AT_ONCE);
        let hurry = Arc::new(Notify::new());
        let lines = Lines { openings: opened, denials: denied, hurry: Arc::clone(&hurry) };
        (Self { openings, denials, hurry, denied: Arc::default() }, lines)
    }

    /// Writes down what came of an opening and waits until it is there. A log that cannot be written stops no read:
    /// reading must go on when the store's disk is full.
    pub async fn record(&self, access: Access, denied: bool) {
        if denied && !self.is_first(&access) {
            return;
        }
        let queue = if denied { &self.denials } else { &self.openings };
        let what = described(&access);
        let written = async {
            let (done, written) = oneshot::channel();
            let queued = queue.send((cut(access), Some(done))).await.is_ok();
            self.hurry.notify_one();
            queued && written.await.is_ok()
        };
        if !matches!(tokio::time::timeout(PATIENCE, written).await, Ok(true)) {
            log::warn!("not, or not yet, in the access log: {what}");
        }
    }

    /// Writes a read down in its turn, waiting for no more than room for it: for tokens that are handed out from memory.
    pub async fn record_soon(&self, access: Access) {
        let Err(refused) = self.openings.try_send((cut(access), None)) else { return };
        let line = refused.into_inner();
        let what = described(&line.0);
        if !matches!(tokio::time::timeout(PATIENCE, self.openings.send(line)).await, Ok(Ok(()))) {
            log::warn!("not in the access log, which is too slow: {what}");
        }
    }

    /// Writes a denial down in its turn, or counts it, where the same was written down a moment ago.
    pub fn note_denial(&self, access: Access) {
        if self.is_first(&access) {
            self.queue_denial(access);
        }
    }

    /// Whether a denial gets a line of its own. Others are only counted.
    fn is_first(&self, access: &Access) -> bool {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).is_first(access)
    }

    /// Writes down how often what was denied had been counted, when the time for counting is over, or `now`.
    pub fn write_counts(&self, now: bool) {
        let counted = self.denied.lock().unwrap_or_else(PoisonError::into_inner).counted(now);
        counted.into_iter().for_each(|access| self.queue_denial(access));
    }

    fn queue_denial(&self, access: Access) {
        if let Err(refused) = self.denials.try_send((cut(access), None)) {
            log::warn!("not in the access log, which is too slow: {}", described(&refused.into_inner().0));
        }
    }
}

/// For so long the same denials are counted.
const COUNTING: Duration = Duration::from_secs(60);

/// So many denials of one user, and of all, get lines of their own in that time. The denied client chooses the names.
const LINES_OF_EACH: usize = 30;
const LINES_OF_ALL: usize = 200;

/// What was denied a moment ago.
#[derive(Default)]
struct Denied {
    since: Option<Instant>,
    /// By user, name and program: the line, and how often there was none for it.
    lines: HashMap<(u32, String, String), (Access, u64)>,
    /// By user: one of those that had no room, and how many there were.
    rest: HashMap<u32, (Access, u64)>,
}

impl Denied {
    fn is_first(&mut self, access: &Access) -> bool {
        self.since.get_or_insert_with(Instant::now);
        let key = (access.uid, access.name.clone(), access.exe.clone());
        if let Some((_, more)) = self.lines.get_mut(&key) {
            *more += 1;
            return false;
        }
        let own = self.lines.keys().filter(|(uid, ..)| *uid == access.uid).count();
        if own < LINES_OF_EACH && self.lines.len() < LINES_OF_ALL {
            self.lines.insert(key, (cut(access.clone()), 0));
            return true;
        }
        // Users without any line are counted together.
        let uid = if own == 0 { u32::MAX } else { access.uid };
        let first = || (Access { name: String::new(), uid, ..cut(access.clone()) }, 0);
        self.rest.entry(uid).or_insert_with(first).1 += 1;
        false
    }

    fn counted(&mut self, now: bool) -> Vec<Access> {
        if !now && self.since.is_none_or(|since| since.elapsed() < COUNTING) {
            return Vec::new();
        }
        self.since = None;
        let line = |(access, count): (Access, u64), how: &str| {
            (count > 0).then(|| Access { outcome: format!("denied {count} {how}"), ..access })
        };
        let lines = self.lines.drain().filter_map(|(_, counted)| line(counted, "more times"));
        lines
            .chain(self.rest.drain().filter_map(|(_, counted)| line(counted, "times under other names")))
            .collect()
    }
}

/// What a message is about, for the journal (`journalctl MESSAGE_ID=…`): a token was handed out, or it was not.
const HANDED_OUT: &str = "04d25cc19f77496f9b85df9bdde1c0a4";
const NOT_HANDED_OUT: &str = "edb926e336dc4118b1b2cbe9fd1cafe6";

/// Says on the log what came of an opening, as fields.
pub fn announce(access: &Access, unit: Option<&str>) {
    log::info!(
        message_id = message_id(&access.outcome),
        token = access.name, version = access.version, outcome = access.outcome, device = access.device,
        unit = unit.unwrap_or_default(), uid = access.uid, pid = access.pid, program = access.exe;
        "{}@{}: {}", access.name, access.version, access.outcome
    );
}

fn message_id(outcome: &str) -> &'static str {
    if is_success(outcome) { HANDED_OUT } else { NOT_HANDED_OUT }
}

fn described(access: &Access) -> String {
    format!("{} {}", access.outcome, access.name.chars().take(MAX_NAME).collect::<String>().escape_debug())
}

fn cut(mut access: Access) -> Access {
    for (text, most) in [(&mut access.name, MAX_NAME), (&mut access.exe, MAX_EXE)] {
        if text.len() > most
            && let Some((end, _)) = text.char_indices().nth(most)
        {
            text.truncate(end);
        }
    }
    access
}

impl Lines {
    /// What to write down next: openings first, in what room they leave denials. `None` when nobody is left to ask for it.
    async fn next(&mut self) -> Option<Vec<Line>> {
        let mut batch = vec![self.line().await?];
        self.fill(&mut batch);
        if batch.len() < AT_ONCE && batch.iter().all(|(_, done)| done.is_none()) {
            let _ = tokio::time::timeout(GATHERING, self.hurry.notified()).await;
            self.fill(&mut batch);
        }
        Some(batch)
    }

    /// Takes what is there.
    fn fill(&mut self, batch: &mut Vec<Line>) {
        for queue in [&mut self.openings, &mut self.denials] {
            while batch.len() < AT_ONCE
                && let Ok(line) = queue.try_recv()
            {
                batch.push(line);
            }
        }
    }

    async fn line(&mut self) -> Option<Line> {
        tokio::select! {
            biased;
            Some(line) = self.openings.recv() => Some(line),
            Some(line) = self.denials.recv() => Some(line),
            else => None,
        }
    }
}

fn keep(mut store: Box<dyn Store>, mut limit: LineLimit, mut lines: Lines, waiting: &Runtime) {
    while let Some(batch) = waiting.block_on(lines.next()) {
        let (accesses, asked): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        if let Err(error) = store.record(&accesses) {
            // Those who wait hear that it was not written.
            log::warn!("{} lines are not in the access log: {}", accesses.len(), error.message());
            continue;
        }
        for done in asked.into_iter().flatten() {
            let _ = done.send(());
        }
        limit.apply(&mut *store, accesses.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(name: &str) -> Access {
        Access {
            time: 0,
            device: String::new(),
            uid: 0,
            pid: 1,
            exe: "é".repeat(2000),
            name: name.into(),
            version: 0,
            outcome: "opened".into(),
        }
    }

    #[test]
    fn the_journal_tells_what_several_devices_opened_from_what_was_not_opened() {
        for outcome in ["opened", "opened with 00ff"] {
            assert_eq!(message_id(outcome), HANDED_OUT);
        }
        assert_eq!(message_id("denied"), NOT_HANDED_OUT);
    }

    #[test]
    fn openings_go_before_denials_however_many_those_are() {
        let (access_log, mut lines) = AccessLog::new();
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        (0..10 * AT_ONCE).for_each(|_| access_log.queue_denial(access("denied")));
        runtime.block_on(access_log.record_soon(access(&"a".repeat(2000))));
        let batch = runtime.block_on(lines.next()).unwrap();
        assert_eq!((batch.len(), batch[0].0.name.as_str()), (AT_ONCE, "a".repeat(MAX_NAME).as_str()));
        assert_eq!(batch[0].0.exe.chars().count(), MAX_EXE);
        assert!(batch[1..].iter().all(|(access, _)| access.name == "denied"));
        drop(access_log);
        let left = std::iter::from_fn(|| runtime.block_on(lines.next())).flatten().count();
        assert_eq!(left, 3 * AT_ONCE + 1);
    }

    #[test]
    fn denials_are_counted_and_few_are_written_down() {
        let mut denied = Denied::default();
        let of = |uid: u32, name: String| Access { uid, ..access(&name) };
        let firsts = (0..1000).filter(|_| denied.is_first(&of(1, "a".into()))).count();
        let others = (0..1000).filter(|n| denied.is_first(&of(2, format!("b{n}")))).count();
        assert_eq!((firsts, others), (1, LINES_OF_EACH));
        let users = (10..1000).filter(|uid| denied.is_first(&of(*uid, "c".into()))).count();
        assert_eq!(users, LINES_OF_ALL - 1 - LINES_OF_EACH);
        assert!(denied.counted(false).is_empty(), "the time is not over");
        let mut lines = denied.counted(true);
        lines.sort_by_key(|line| line.uid);
        let seen: Vec<_> =
            lines.iter().map(|line| (line.uid, line.name.as_str(), line.outcome.as_str())).collect();
        assert_eq!(
            seen,
            [
                (1, "a", "denied 999 more times"),
                (2, "", "denied 970 times under other names"),
                (u32::MAX, "", "denied 821 times under other names"),
            ]
        );
        assert!(denied.counted(true).is_empty() && denied.is_first(&of(1, "a".into())));
    }

    #[test]
    fn nothing_is_gathered_while_somebody_waits() {
        let (access_log, mut lines) = AccessLog::new();
        // Without a clock, nothing can be waited for.
        let runtime = Builder::new_current_thread().build().unwrap();
        let (done, _written) = oneshot::channel();
        access_log.openings.try_send((access("waits"), Some(done))).unwrap();
        access_log.openings.try_send((access("is handed out from memory"), None)).unwrap();
        assert_eq!(runtime.block_on(lines.next()).unwrap().len(), 2);
    }
}
