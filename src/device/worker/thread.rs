//! The thread that owns a device: connects it, runs its jobs, closes it.

use super::prompt_relay::{Message, Relay};
use super::{DeviceJob, DeviceOwner, hung};
use crate::device::Device;
use crate::error::{Error, Kind, Result};
use crate::prompt::{BatchPrompter, Prompter};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long closing may take. The end of the process closes everything else, but it does not flush the slots of a bare TPM, so a
/// TPM gets the time to wait for its turn among other processes.
const PATIENCE_FOR_CLOSING: Duration = Duration::from_secs(10);

/// Connects to the device: at the start, and again after its thread was given up.
pub(super) type Connect = Box<dyn Fn(&mut dyn Prompter) -> Result<Box<dyn Device>> + Send + Sync>;

type Task = Box<dyn FnOnce(&mut dyn Device) + Send>;

/// A thread that owns a device, and is replaced when it hangs.
pub(super) struct DeviceThread {
    connect: Arc<Connect>,
    name: String,
    patience: Duration,
    running: Mutex<Running>,
}

/// The thread as it is now. Dropping it waits until the device is closed, unless it hangs.
struct Running {
    // First: without it the thread ends, which `_closed` waits for.
    tasks: Sender<Task>,
    /// The thread is in a call. If it is still set when the next call comes, that call has hung.
    busy: Arc<AtomicBool>,
    /// When the current call began.
    since: Instant,
    _closed: Closed,
}

struct Closed {
    ended: Receiver<()>,
    busy: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Closed {
    fn drop(&mut self) {
        if self.busy.load(Ordering::Acquire) {
            return;
        }
        if let Err(RecvTimeoutError::Disconnected) = self.ended.recv_timeout(PATIENCE_FOR_CLOSING) {
            end(self.thread.take());
        }
    }
}

/// Waits for a thread that has nothing more to do. A driver's libraries keep things for each thread, which they free at its
/// end; while the process exits, they would free them a second time.
fn end<T>(thread: Option<JoinHandle<T>>) {
    let _ = thread.map(JoinHandle::join);
}

impl DeviceThread {
    /// Connects. The device's own name comes with the thread.
    pub(super) fn start(
        connect: Connect,
        name: String,
        patience: Duration,
        prompter: &mut dyn Prompter,
    ) -> Result<(Self, String)> {
        let connect = Arc::new(connect);
        let (running, known_as) = Running::start(Arc::clone(&connect), &name, patience, prompter)?;
        Ok((Self { connect, name: known_as.clone(), patience, running: Mutex::new(running) }, known_as))
    }
}

impl DeviceOwner for DeviceThread {
    fn run(
        &self,
        operation: &str,
        patience: Duration,
        prompter: &mut dyn Prompter,
        mut job: DeviceJob,
    ) -> Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.busy.load(Ordering::Acquire) {
            // A new thread is tried once the device had its time twice.
            if running.since.elapsed() < self.patience * 2 {
                return Err(hung(&self.name, operation, self.patience));
            }
            *running =
                Running::start(Arc::clone(&self.connect), &self.name, self.patience, &mut BatchPrompter)?.0;
        }
        running.busy.store(true, Ordering::Release);
        running.since = Instant::now();
        let (sender, receiver) = channel();
        let (busy, attended) = (Arc::clone(&running.busy), prompter.is_attended());
        let _ = running.tasks.send(Box::new(move |device| {
            let outcome = job(device, &mut Relay { sender: &sender, attended });
            busy.store(false, Ordering::Release);
            let _ = sender.send(Message::Done(outcome));
        }));
        receive(&receiver, patience, prompter).unwrap_or_else(|| Err(hung(&self.name, operation, patience)))
    }
}

impl Running {
    fn start(
        connect: Arc<Connect>,
        name: &str,
        patience: Duration,
        prompter: &mut dyn Prompter,
    ) -> Result<(Self, String)> {
        let (tasks, queue) = channel::<Task>();
        let (sender, receiver) = channel();
        let (ends, ended) = channel();
        let busy = Arc::new(AtomicBool::new(true));
        let (shared, attended) = (Arc::clone(&busy), prompter.is_attended());
        let body = own_device(connect, sender, attended, queue, shared, ends);
        let spawned = std::thread::Builder::new().name("device".into()).spawn(body);
        let thread = spawned
            .map_err(|e| Error::new(Kind::Io, "start the device's thread", e.to_string()).caused_by(e))?;
        let closed = Closed { ended, busy: Arc::clone(&busy), thread: Some(thread) };
        let connected = receive(&receiver, patience, prompter);
        let known_as = connected.unwrap_or_else(|| Err(hung(name, "connect to the device", patience)))?;
        Ok((Self { tasks, busy, since: Instant::now(), _closed: closed }, known_as))
    }
}

/// What the device's thread does. Drops `ends` when the device is closed.
fn own_device(
    connect: Arc<Connect>,
    sender: Sender<Message<String>>,
    attended: bool,
    tasks: Receiver<Task>,
    busy: Arc<AtomicBool>,
    ends: Sender<()>,
) -> impl FnOnce() {
    move || {
        let _ends = ends;
        let connected = connect(&mut Relay { sender: &sender, attended });
        busy.store(false, Ordering::Release);
        let mut device = match connected {
            Ok(device) => device,
            Err(error) => return drop(sender.send(Message::Done(Err(error)))),
        };
        let _ = sender.send(Message::Done(Ok(device.name().to_owned())));
        drop(sender);
        tasks.iter().for_each(|task| task(&mut *device));
    }
}

/// The response of the device's thread; `None` when it sends nothing for this long. Passes its questions to the prompter.
fn receive<T>(
    receiver: &Receiver<Message<T>>,
    patience: Duration,
    prompter: &mut dyn Prompter,
) -> Option<Result<T>> {
    loop {
        match receiver.recv_timeout(patience).ok()? {
            Message::Done(outcome) => return Some(outcome),
            Message::Question(question) => question.put_to(prompter),
            Message::Waiting => {}
        }
    }
}

/// Runs a job that uses a device, or the service behind it, before there is a [`Device`], and waits with a limit.
///
/// # Errors
/// The job's; `Device` when it does not finish in time, which leaves its thread behind.
pub fn within<T: Send + 'static>(
    patience: Duration,
    (name, operation): (&str, &str),
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = channel();
    let thread = std::thread::spawn(move || sender.send(job()));
    let done = receiver.recv_timeout(patience);
    if done.is_ok() {
        end(Some(thread));
    }
    done.unwrap_or_else(|_| Err(hung(name, operation, patience)))
}
