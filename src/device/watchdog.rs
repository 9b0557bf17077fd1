//! A device that stops answering must not stop its caller for ever.
//!
//! Drivers call blocking C, which cannot be interrupted. [`Watchdog`] gives a device a thread of its own and waits for each
//! answer with patience, not for ever. What the driver asks the person is passed back to the caller's thread, and the time
//! that takes does not count. A device that did not answer is not asked again until it has: its thread is left behind,
//! and the process can report and go on.

use super::{
    Challenge, Counting, CreateOptions, Device, DeviceIdentity, KeyInfo, KeyRef, Measured, Parallel,
    Provision, Wrap,
};
use crate::error::{Error, Kind, Result};
use crate::prompt::{BatchPrompter, Prompter};
use crate::uri::{DeviceUri, Scheme};
use relay::{Message, Relay};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use zeroize::Zeroizing;

mod abilities;
mod challenge;
mod relay;

use challenge::OwnedChallenge;

/// Longer than a healthy device takes for an operation.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Making an RSA key on a smart card may take a minute.
const PATIENCE_FOR_MAKING: Duration = Duration::from_secs(180);
/// For closing: what a device does not finish then, the end of the process does, except that nobody gives back what is loaded in
/// a bare TPM, at which many others may be waiting for their turn.
const PATIENCE_FOR_CLOSING: Duration = Duration::from_secs(10);

/// A device on a thread of its own.
pub struct Watchdog {
    // First: without it the thread ends, which `_closed` waits for.
    jobs: Sender<Job>,
    /// The thread is in a call. When another call is about to be made, that one has hung.
    busy: Arc<AtomicBool>,
    patience: Duration,
    scheme: Scheme,
    name: String,
    has: Abilities,
    _closed: Closed,
}

type Job = Box<dyn FnOnce(&mut dyn Device) + Send>;

/// What it is called when it is connected, and what it can do.
type Introduction = (String, Abilities);

/// Which optional traits the device has.
#[derive(Clone, Copy)]
struct Abilities {
    provision: bool,
    wrap: bool,
    parallel: bool,
    count: bool,
    measure: bool,
}

/// Dropping it waits until the thread has closed the device.
struct Closed {
    ended: Receiver<()>,
    busy: Arc<AtomicBool>,
}

impl Drop for Closed {
    fn drop(&mut self) {
        if !self.busy.load(Ordering::Acquire) {
            let _ = self.ended.recv_timeout(PATIENCE_FOR_CLOSING);
        }
    }
}

impl Watchdog {
    /// Connects as [`super::connect`] does, with patience for that too.
    ///
    /// # Errors
    /// As [`super::connect`]; `Device` when the device does not answer in time.
    pub fn connect(uri: &DeviceUri, patience: Duration) -> Result<Self> {
        let own = uri.clone();
        let make = move |_: &mut dyn Prompter| super::connect_here(&own);
        Self::around(make, uri.scheme(), uri.display_name(), patience, &mut BatchPrompter)
    }

    /// Connects as [`super::connect_attended`] does. The time that a person takes does not count.
    ///
    /// # Errors
    /// As [`Watchdog::connect`].
    pub fn connect_attended(
        uri: &DeviceUri,
        patience: Duration,
        prompter: &mut dyn Prompter,
    ) -> Result<Self> {
        let own = uri.clone();
        let make = move |prompter: &mut dyn Prompter| super::connect_attended_here(&own, prompter);
        Self::around(make, uri.scheme(), uri.display_name(), patience, prompter)
    }

    fn around(
        make: impl FnOnce(&mut dyn Prompter) -> Result<Box<dyn Device>> + Send + 'static,
        scheme: Scheme,
        name: String,
        patience: Duration,
        prompter: &mut dyn Prompter,
    ) -> Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let (says, made) = channel();
        let (ends, ended) = channel();
        let busy = Arc::new(AtomicBool::new(true));
        let closed = Closed { ended, busy: Arc::clone(&busy) };
        let (seen, attended) = (Arc::clone(&busy), prompter.is_attended());
        std::thread::Builder::new()
            .name("device".into())
            .spawn(move || {
                own(make, says, attended, &queue, &seen);
                drop(ends);
            })
            .map_err(|e| Error::new(Kind::Io, "start the device's thread", e.to_string()).caused_by(e))?;
        let (name, has) = outcome(&made, patience, prompter)
            .unwrap_or_else(|| Err(hung(&name, "connect to the device", patience)))?;
        Ok(Self { jobs, busy, patience, scheme, name, has, _closed: closed })
    }

    /// Runs a job on the device's thread; the driver's questions are answered on this one.
    fn ask<T: Send + 'static>(
        &self,
        tried: &str,
        patience: Duration,
        prompter: &mut dyn Prompter,
        job: impl FnOnce(&mut dyn Device, &mut dyn Prompter) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err(hung(&self.name, tried, self.patience));
        }
        let (says, hears) = channel();
        let (busy, attended) = (Arc::clone(&self.busy), prompter.is_attended());
        let run: Job = Box::new(move |device| {
            let outcome = job(device, &mut Relay { says: &says, attended });
            busy.store(false, Ordering::Release);
            let _ = says.send(Message::Done(outcome));
        });
        let _ = self.jobs.send(run);
        outcome(&hears, patience, prompter).unwrap_or_else(|| Err(hung(&self.name, tried, patience)))
    }
}

/// What comes of what the device's thread does now; `None` when it says nothing for so long. Its questions are put.
fn outcome<T>(
    hears: &Receiver<Message<T>>,
    patience: Duration,
    prompter: &mut dyn Prompter,
) -> Option<Result<T>> {
    loop {
        match hears.recv_timeout(patience).ok()? {
            Message::Done(outcome) => return Some(outcome),
            Message::Question(question) => question.put_to(prompter),
            Message::Waiting => {}
        }
    }
}

/// What a job answers that asks a device, or the service behind it, before there is a [`Device`].
///
/// # Errors
/// The job's; `Device` when it does not answer in time. Its thread is left behind then.
pub fn within<T: Send + 'static>(
    patience: Duration,
    (name, tried): (&str, &str),
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (says, hears) = channel();
    std::thread::spawn(move || says.send(job()));
    hears.recv_timeout(patience).unwrap_or_else(|_| Err(hung(name, tried, patience)))
}

/// The device's thread: makes it, runs its jobs, closes it.
fn own(
    make: impl FnOnce(&mut dyn Prompter) -> Result<Box<dyn Device>>,
    says: Sender<Message<Introduction>>,
    attended: bool,
    jobs: &Receiver<Job>,
    busy: &AtomicBool,
) {
    let device = make(&mut Relay { says: &says, attended });
    busy.store(false, Ordering::Release);
    let mut device = match device {
        Ok(device) => device,
        Err(error) => return drop(says.send(Message::Done(Err(error)))),
    };
    let has = Abilities {
        provision: device.provisioning().is_some(),
        wrap: device.wrapping().is_some(),
        parallel: device.parallel().is_some(),
        count: device.counting().is_some(),
        measure: device.measured().is_some(),
    };
    let _ = says.send(Message::Done(Ok((device.name().to_owned(), has))));
    drop(says);
    jobs.iter().for_each(|job| job(&mut *device));
}

fn hung(name: &str, tried: &str, patience: Duration) -> Error {
    let answer = format!("the device has not answered for {patience:?}");
    Error::new(Kind::Device, tried, answer).with_target(name).with_hint(
        "unplug it and plug it in again, or restart the service behind it (pcscd, the HSM's client, the \
         TPM's resource manager), then repeat the command",
    )
}

impl Device for Watchdog {
    fn identity(&mut self) -> DeviceIdentity {
        let asked = self
            .ask("identify the device", self.patience, &mut BatchPrompter, |device, _| Ok(device.identity()));
        asked.unwrap_or_else(|error| {
            log::warn!("{error}");
            DeviceIdentity::unknown(self.scheme)
        })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn keys(&mut self, prompter: &mut dyn Prompter) -> Result<Vec<KeyInfo>> {
        self.ask("list the keys", self.patience, prompter, |device, prompter| device.keys(prompter))
    }

    fn keys_judged_by(
        &mut self,
        options: &CreateOptions,
        prompter: &mut dyn Prompter,
    ) -> Result<Vec<KeyInfo>> {
        let options = options.clone();
        self.ask("list the keys", self.patience, prompter, move |device, prompter| {
            device.keys_judged_by(&options, prompter)
        })
    }

    fn holds(&mut self, key: &KeyRef, prompter: &mut dyn Prompter) -> Result<bool> {
        let key = key.clone();
        self.ask("look for the key", self.patience, prompter, move |device, prompter| {
            device.holds(&key, prompter)
        })
    }

    fn open_key(
        &mut self,
        key: &KeyRef,
        challenge: Challenge<'_>,
        prompter: &mut dyn Prompter,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let (key, challenge) = (key.clone(), OwnedChallenge::from(challenge));
        self.ask("open with the key", self.patience, prompter, move |device, prompter| {
            device.open_key(&key, challenge.borrow(), prompter)
        })
    }

    fn sign(&mut self, key: &KeyRef, digest: &[u8], prompter: &mut dyn Prompter) -> Result<Vec<u8>> {
        let (key, digest) = (key.clone(), digest.to_vec());
        self.ask("sign", self.patience, prompter, move |device, prompter| {
            device.sign(&key, &digest, prompter)
        })
    }

    fn lock(&mut self) {
        // A device that has hung still holds its PIN; so does its thread, until the process ends.
        let _ = self.ask("lock", self.patience, &mut BatchPrompter, |device, _| {
            device.lock();
            Ok(())
        });
    }

    fn provisioning(&mut self) -> Option<&mut dyn Provision> {
        if self.has.provision { Some(self) } else { None }
    }

    fn wrapping(&mut self) -> Option<&mut dyn Wrap> {
        if self.has.wrap { Some(self) } else { None }
    }

    fn parallel(&mut self) -> Option<&mut dyn Parallel> {
        if self.has.parallel { Some(self) } else { None }
    }

    fn counting(&mut self) -> Option<&mut dyn Counting> {
        if self.has.count { Some(self) } else { None }
    }

    fn measured(&mut self) -> Option<&mut dyn Measured> {
        if self.has.measure { Some(self) } else { None }
    }
}
