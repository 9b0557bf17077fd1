//! The thread that writes the access log. What was read is written down before it is handed out, many reads at a time.

use super::owner::Alive;
use crate::error::Result;
use crate::store::{Access, Store};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The most lines of one transaction.
const AT_ONCE: usize = 512;

/// A read does not wait longer than this for being written down.
const PATIENCE: Duration = Duration::from_secs(2);

type Line = (Access, Option<oneshot::Sender<()>>);

/// A handle on the thread.
#[derive(Clone)]
pub struct Recorder(SyncSender<Line>);

impl Recorder {
    /// Starts the thread.
    ///
    /// # Errors
    /// `Io`.
    pub fn start(store: Box<dyn Store>, alive: &Alive) -> Result<Self> {
        let (says, hears) = sync_channel(4 * AT_ONCE);
        let alive = alive.clone();
        let body = move || {
            keep(store, &hears);
            drop(alive);
        };
        let started = std::thread::Builder::new().name("access-log".into()).spawn(body);
        started.map_err(|e| {
            crate::Error::new(crate::Kind::Io, "start the access log's thread", e.to_string())
        })?;
        Ok(Self(says))
    }

    /// Writes a read down and waits until it is there. A log that cannot be written stops no read: reading must go on
    /// when the store's disk is full.
    pub async fn record(&self, access: Access) {
        let (done, written) = oneshot::channel();
        self.queue((access, Some(done)));
        if tokio::time::timeout(PATIENCE, written).await.is_err() {
            log::warn!("a read was handed out before it was in the access log: the store is slow");
        }
    }

    /// Writes a read down in its turn, waiting for no more than room for it: for tokens that are handed out from memory.
    pub async fn record_soon(&self, access: Access) {
        let mut line = (access, None);
        let until = Instant::now() + PATIENCE;
        while let Err(TrySendError::Full(back)) = self.0.try_send(line) {
            if Instant::now() > until {
                return log::warn!(
                    "not in the access log, which is too slow: {} {}",
                    back.0.outcome,
                    back.0.name
                );
            }
            line = back;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Writes a line down in its turn.
    pub fn note(&self, access: Access) {
        self.queue((access, None));
    }

    fn queue(&self, line: Line) {
        if let Err(TrySendError::Full((access, _)) | TrySendError::Disconnected((access, _))) =
            self.0.try_send(line)
        {
            log::warn!("not in the access log, which is too slow: {} {}", access.outcome, access.name);
        }
    }
}

fn keep(mut store: Box<dyn Store>, lines: &Receiver<Line>) {
    while let Ok(first) = lines.recv() {
        let mut batch = vec![first];
        batch.extend(lines.try_iter().take(AT_ONCE - 1));
        let (accesses, waiting): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        if let Err(error) = store.record(&accesses) {
            log::warn!("{} reads are not in the access log: {}", accesses.len(), error.answer());
        }
        for done in waiting.into_iter().flatten() {
            let _ = done.send(());
        }
    }
}
