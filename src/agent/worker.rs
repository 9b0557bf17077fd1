//! A thread that owns something which blocks, and a bounded queue of jobs for it.
//!
//! Devices, replicas and stores are synchronous, and a device's C library may hang for ever. Each has a thread of its own;
//! a caller queues a job and waits until a deadline. A full queue is an answer too: `Full`, at
//! once. Nobody waits for a job whose worker hangs longer than its own deadline, and a job whose asker has gone is not run.

use crate::agent::metrics::Histogram;
use crate::error::{Error, Kind, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// Shared by the threads of an agent. To wait for their end is to count how many still have a share in it. A process that
/// ends while a device is being closed may crash in the device's library.
#[derive(Clone, Default)]
pub struct ShutdownGuard(Arc<()>);

impl ShutdownGuard {
    /// Waits until every thread has ended, or `patience` is over.
    pub async fn ended(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while Arc::strong_count(&self.0) > 1 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Arc::strong_count(&self.0) == 1
    }
}

/// A handle on the thread. When the last one goes, the thread drops what it owns and ends.
pub struct Worker<T> {
    jobs: mpsc::Sender<Job<T>>,
    /// Done before all of those.
    first: mpsc::Sender<Job<T>>,
    load: Arc<Load>,
}

/// The state of the thread, for others.
#[derive(Default)]
pub struct Load {
    waiting: AtomicUsize,
    busy_since: Mutex<Option<Instant>>,
    /// How long jobs ran.
    pub latency: Histogram,
}

/// Why a job brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerError {
    /// The queue is full.
    Full,
    /// The deadline passed.
    Late,
    /// The thread has ended.
    Ended,
}

impl<T> Clone for Worker<T> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone(), first: self.first.clone(), load: Arc::clone(&self.load) }
    }
}

impl Load {
    /// How many jobs wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many jobs wait or run.
    pub fn to_do(&self) -> usize {
        self.waiting() + usize::from(self.since().is_some())
    }

    /// How long the job that runs now has been running.
    pub fn busy_for(&self) -> Option<Duration> {
        self.since().map(|since| since.elapsed())
    }

    fn since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.busy_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<T>(&self, job: Job<T>, owned: &mut T) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let started = Instant::now();
        *self.since() = Some(started);
        job(owned);
        *self.since() = None;
        self.latency.observe(started.elapsed());
    }
}

impl<T: Send + 'static> Worker<T> {
    /// Starts the thread. Its queue holds `depth` jobs. It has a share in `alive` until it has dropped what it owns.
    ///
    /// # Errors
    /// `Io` when the system has no more threads.
    pub fn start(name: &str, depth: usize, alive: &ShutdownGuard, mut owned: T) -> Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job<T>>(depth);
        let (first, mut queue_of_first) = mpsc::channel::<Job<T>>(depth);
        let failed = |e: std::io::Error| {
            Error::new(Kind::Io, format!("start the thread `{name}`"), e.to_string()).caused_by(e)
        };
        let waiting = Builder::new_current_thread().build().map_err(failed)?;
        let load = Arc::new(Load::default());
        let (seen, alive) = (Arc::clone(&load), alive.clone());
        let body = move || {
            while let Some(job) = waiting.block_on(next(&mut queue_of_first, &mut queue)) {
                seen.run(job, &mut owned);
            }
            drop(owned);
            drop(alive);
        };
        std::thread::Builder::new().name(name.into()).spawn(body).map_err(failed)?;
        Ok(Self { jobs, first, load })
    }

    /// The same thread, for jobs that are done before those of others.
    #[must_use]
    pub fn first(&self) -> Self {
        self.ranked(true)
    }

    /// The same thread, for jobs that are done before those of others if they are to be `first`.
    #[must_use]
    pub fn ranked(&self, first: bool) -> Self {
        let jobs = if first { &self.first } else { &self.jobs };
        Self { jobs: jobs.clone(), first: self.first.clone(), load: Arc::clone(&self.load) }
    }

    /// The state of the thread.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Has a job done, and waits for what comes of it until `deadline`.
    ///
    /// # Errors
    /// The trouble, if nothing came of it.
    pub async fn call<R: Send + 'static>(
        &self,
        deadline: Instant,
        job: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, WorkerError> {
        let (says, hears) = oneshot::channel();
        self.queue(Box::new(move |owned| {
            // The caller may have gone, or given up: then the next job's turn comes sooner.
            if !says.is_closed() {
                let _ = says.send(job(owned));
            }
        }))?;
        match tokio::time::timeout_at(deadline.into(), hears).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(WorkerError::Ended),
            Err(_) => Err(WorkerError::Late),
        }
    }

    /// As [`Worker::call`], for a thread that may block.
    ///
    /// # Errors
    /// As [`Worker::call`].
    pub fn call_blocking<R: Send + 'static>(
        &self,
        patience: Duration,
        job: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, WorkerError> {
        let (says, hears) = std::sync::mpsc::channel();
        self.queue(Box::new(move |owned| {
            let _ = says.send(job(owned));
        }))?;
        hears.recv_timeout(patience).map_err(|e| match e {
            std::sync::mpsc::RecvTimeoutError::Timeout => WorkerError::Late,
            std::sync::mpsc::RecvTimeoutError::Disconnected => WorkerError::Ended,
        })
    }

    /// Has a job done whenever its turn comes.
    pub fn cast(&self, job: impl FnOnce(&mut T) + Send + 'static) {
        // A thread that is too busy for it is told again.
        let _ = self.queue(Box::new(job));
    }

    fn queue(&self, job: Job<T>) -> Result<(), WorkerError> {
        self.load.waiting.fetch_add(1, Ordering::Relaxed);
        self.jobs.try_send(job).map_err(|refused| {
            self.load.waiting.fetch_sub(1, Ordering::Relaxed);
            match refused {
                mpsc::error::TrySendError::Full(_) => WorkerError::Full,
                mpsc::error::TrySendError::Closed(_) => WorkerError::Ended,
            }
        })
    }
}

async fn next<J>(first: &mut mpsc::Receiver<J>, others: &mut mpsc::Receiver<J>) -> Option<J> {
    tokio::select! {
        biased;
        Some(job) = first.recv() => Some(job),
        Some(job) = others.recv() => Some(job),
        else => None,
    }
}

impl WorkerError {
    /// The trouble as an error of `target`, which the thread owns.
    pub fn into_error(self, operation: &str, target: &str) -> Error {
        let (message, hint) = match self {
            Self::Full => ("too many others are waiting for it", "try again in a moment"),
            Self::Late => {
                ("it did not answer in time", "try again; `strongroom status` shows what it is doing")
            }
            Self::Ended => ("it was stopped", "try again when the agent has started anew"),
        };
        Error::new(Kind::Device, operation, message).with_target(target).with_hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn what_comes_first_does_not_wait_for_others() {
        let worker = Worker::start("test", 20, &ShutdownGuard::default(), Vec::new()).unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        worker.cast(move |_| {
            let _ = held.recv();
        });
        (1..=10).for_each(|n| worker.cast(move |done| done.push(n)));
        worker.first().cast(|done| done.push(0));
        release.send(()).unwrap();
        let later = Instant::now() + Duration::from_secs(20);
        let done = runtime().block_on(worker.call(later, |done| done.clone())).unwrap();
        assert_eq!(done, (0..=10).collect::<Vec<_>>());
    }

    #[test]
    fn a_job_that_hangs_stops_nobody_for_longer_than_they_wait() {
        let worker = Worker::start("test", 2, &ShutdownGuard::default(), 0_u32).unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        worker.cast(move |_| {
            let _ = held.recv();
        });
        while worker.load().busy_for().is_none() {
            std::thread::yield_now();
        }
        runtime().block_on(async {
            let soon = || Instant::now() + Duration::from_millis(20);
            assert_eq!(worker.call(soon(), |n| *n += 1).await, Err(WorkerError::Late));
            assert_eq!(worker.call(soon(), |n| *n += 1).await, Err(WorkerError::Late));
            assert_eq!(worker.call(soon(), |n| *n += 1).await, Err(WorkerError::Full));
            release.send(()).unwrap();
            // What nobody waits for any more was not done.
            let later = Instant::now() + Duration::from_secs(20);
            let mut seen = worker.call(later, |n| *n).await;
            while seen == Err(WorkerError::Full) {
                seen = worker.call(later, |n| *n).await;
            }
            assert_eq!(seen, Ok(0));
            assert_eq!(worker.load().waiting(), 0);
        });
    }
}
