//! A device that stops answering must not stop its caller for ever.
//!
//! Drivers call blocking C, which cannot be interrupted. [`Watchdog`] gives a device a thread of its own and waits for each
//! answer with patience, not for ever. What the driver asks the person is passed back to the caller's thread, and the time
//! that takes does not count. A device that did not answer is not asked again until it has: its thread is left behind,
//! and the process can report and go on.

use super::{
    Algorithm, Challenge, Counting, CreateOptions, Device, DeviceIdentity, KeyInfo, KeyRef, Measured,
    Measurement, Parallel, Prediction, Provision, Purpose, Wrap,
};
use crate::error::{Error, Kind, Result};
use crate::prompt::Prompter;
use crate::uri::{DeviceUri, Scheme};
use relay::{Message, Relay};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use zeroize::Zeroizing;

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
    identity: OnceLock<DeviceIdentity>,
    has: Abilities,
    _closed: Closed,
}

type Job = Box<dyn FnOnce(&mut dyn Device) + Send>;

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
        Self::around(move || super::connect_here(&own), uri.scheme(), uri.display_name(), patience)
    }

    fn around(
        make: impl FnOnce() -> Result<Box<dyn Device>> + Send + 'static,
        scheme: Scheme,
        name: String,
        patience: Duration,
    ) -> Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let (made, answer) = channel();
        let (ends, ended) = channel();
        let busy = Arc::new(AtomicBool::new(true));
        let closed = Closed { ended, busy: Arc::clone(&busy) };
        let seen = Arc::clone(&busy);
        std::thread::Builder::new()
            .name("device".into())
            .spawn(move || {
                own(make, &made, &queue, &seen);
                drop(ends);
            })
            .map_err(|e| Error::new(Kind::Io, "start the device's thread", e.to_string()).caused_by(e))?;
        match answer.recv_timeout(patience) {
            Ok(facts) => {
                let has = facts?;
                Ok(Self {
                    jobs,
                    busy,
                    patience,
                    scheme,
                    name,
                    identity: OnceLock::new(),
                    has,
                    _closed: closed,
                })
            }
            Err(_) => Err(hung(&name, "connect to the device", patience)),
        }
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
        loop {
            match hears.recv_timeout(patience) {
                Ok(Message::Done(outcome)) => return outcome,
                Ok(Message::Question(question)) => question.put_to(prompter),
                Err(_) => return Err(hung(&self.name, tried, patience)),
            }
        }
    }
}

impl Watchdog {
    fn count<T: Send + 'static>(
        &self,
        what: &'static str,
        job: impl FnOnce(&mut dyn Counting) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let name = self.name.clone();
        self.ask(what, self.patience, &mut crate::prompt::Silent, move |device, _| match device.counting() {
            Some(counting) => job(counting),
            None => without(&name, what),
        })
    }
}

/// The device's thread: makes it, runs its jobs, closes it.
fn own(
    make: impl FnOnce() -> Result<Box<dyn Device>>,
    made: &Sender<Result<Abilities>>,
    jobs: &Receiver<Job>,
    busy: &AtomicBool,
) {
    let device = make();
    busy.store(false, Ordering::Release);
    let mut device = match device {
        Ok(device) => device,
        Err(error) => return drop(made.send(Err(error))),
    };
    let has = Abilities {
        provision: device.provisioning().is_some(),
        wrap: device.wrapping().is_some(),
        parallel: device.parallel().is_some(),
        count: device.counting().is_some(),
        measure: device.measured().is_some(),
    };
    let _ = made.send(Ok(has));
    jobs.iter().for_each(|job| job(&mut *device));
}

fn hung(name: &str, tried: &str, patience: Duration) -> Error {
    let answer = format!("the device has not answered for {patience:?}");
    Error::new(Kind::Device, tried, answer).on(name).advice(
        "unplug it and plug it in again, or restart the service behind it (pcscd, the HSM's client, the \
         TPM's resource manager), then repeat the command",
    )
}

fn without<T>(name: &str, what: &str) -> Result<T> {
    Err(Error::new(Kind::Unsupported, what, "the device cannot").on(name))
}

impl Device for Watchdog {
    fn identity(&self) -> &DeviceIdentity {
        // Asked for when somebody wants to know: a device may have to be asked in its turn.
        self.identity.get_or_init(|| {
            let asked =
                self.ask("identify the device", self.patience, &mut crate::prompt::Silent, |device, _| {
                    Ok(device.identity().clone())
                });
            asked.unwrap_or_else(|error| {
                log::warn!("{error}");
                DeviceIdentity::unknown(self.scheme)
            })
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

    fn sign(&mut self, key: &KeyRef, digest: &[u8; 32], prompter: &mut dyn Prompter) -> Result<[u8; 64]> {
        let (key, digest) = (key.clone(), *digest);
        self.ask("sign", self.patience, prompter, move |device, prompter| {
            device.sign(&key, &digest, prompter)
        })
    }

    fn lock(&mut self) {
        // A device that has hung still holds its PIN; so does its thread, until the process ends.
        let _ = self.ask("lock", self.patience, &mut crate::prompt::Silent, |device, _| {
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

impl Measured for Watchdog {
    fn measure(&mut self, key: &KeyRef, predicted: &[Prediction]) -> Result<Option<Measurement>> {
        const WHAT: &str = "read what was measured";
        let (key, predicted, name) = (key.clone(), predicted.to_vec(), self.name.clone());
        self.ask(WHAT, self.patience, &mut crate::prompt::Silent, move |device, _| match device.measured() {
            Some(measured) => measured.measure(&key, &predicted),
            None => without(&name, WHAT),
        })
    }
}

impl Counting for Watchdog {
    fn make_counter(&mut self) -> Result<(u32, u64)> {
        self.count("make a counter", |counting| counting.make_counter())
    }

    fn read_counter(&mut self, index: u32) -> Result<u64> {
        self.count("read the counter", move |counting| counting.read_counter(index))
    }

    fn raise_counter(&mut self, index: u32) -> Result<u64> {
        self.count("raise the counter", move |counting| counting.raise_counter(index))
    }

    fn remove_counter(&mut self, index: u32) -> Result<()> {
        self.count("remove the counter", move |counting| counting.remove_counter(index))
    }
}

impl Provision for Watchdog {
    fn create(
        &mut self,
        purpose: Purpose,
        algorithm: Algorithm,
        options: &CreateOptions,
        prompter: &mut dyn Prompter,
    ) -> Result<KeyInfo> {
        const WHAT: &str = "create the key";
        let (name, options) = (self.name.clone(), options.clone());
        self.ask(WHAT, self.patience.max(PATIENCE_FOR_MAKING), prompter, move |device, prompter| match device
            .provisioning()
        {
            Some(provision) => provision.create(purpose, algorithm, &options, prompter),
            None => without(&name, WHAT),
        })
    }

    fn algorithms(&mut self) -> Result<Vec<Algorithm>> {
        self.ask("list the device's mechanisms", self.patience, &mut crate::prompt::Silent, |device, _| {
            device.provisioning().map_or_else(|| Ok(Vec::new()), Provision::algorithms)
        })
    }

    fn destroy(&mut self, key: &KeyInfo, prompter: &mut dyn Prompter) -> Result<()> {
        const WHAT: &str = "destroy the key";
        let (key, name) = (key.clone(), self.name.clone());
        self.ask(WHAT, self.patience, prompter, move |device, prompter| match device.provisioning() {
            Some(provision) => provision.destroy(&key, prompter),
            None => without(&name, WHAT),
        })
    }
}

impl Wrap for Watchdog {
    fn wrap(
        &mut self,
        key: &KeyRef,
        iv: &[u8; 12],
        aad: &[u8],
        plaintext: &[u8],
        prompter: &mut dyn Prompter,
    ) -> Result<Vec<u8>> {
        const WHAT: &str = "seal with the key";
        let (key, iv, aad, name) = (key.clone(), *iv, aad.to_vec(), self.name.clone());
        let plaintext = Zeroizing::new(plaintext.to_vec());
        self.ask(WHAT, self.patience, prompter, move |device, prompter| match device.wrapping() {
            Some(wrap) => wrap.wrap(&key, &iv, &aad, &plaintext, prompter),
            None => without(&name, WHAT),
        })
    }
}

impl Parallel for Watchdog {
    fn lanes(&self, key: &KeyRef) -> usize {
        let key = key.clone();
        let lanes =
            self.ask("count the lanes", self.patience, &mut crate::prompt::Silent, move |device, _| {
                Ok(device.parallel().map_or(1, |parallel| parallel.lanes(&key)))
            });
        lanes.unwrap_or(1)
    }

    fn another(&mut self) -> Result<Box<dyn Device>> {
        const WHAT: &str = "open another session";
        let name = self.name.clone();
        let lane = self.ask(WHAT, self.patience, &mut crate::prompt::Silent, move |device, _| {
            device.parallel().map_or_else(|| without(&name, WHAT), Parallel::another)
        })?;
        Ok(Box::new(Self::around(move || Ok(lane), self.scheme, self.name.clone(), self.patience)?))
    }
}
