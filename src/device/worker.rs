//! Runs device operations with a time limit.
//!
//! Drivers call blocking C, which cannot be interrupted. A [`DeviceWorker`] runs closures on the thread that owns the device,
//! and waits for each with a limit. Questions of the driver to a person are passed to the caller's thread, and the time that a
//! person takes does not count. A device that does not respond in time is given up: its thread is left behind, and after a
//! while a new thread is started.
//!
//! ```no_run
//! # use strongroom::device::{DeviceWorker, KeyRef};
//! # fn example(uri: &strongroom::uri::DeviceUri, key: KeyRef, digest: [u8; 32]) -> strongroom::Result<()> {
//! # let mut prompter = strongroom::prompt::BatchPrompter;
//! let worker = DeviceWorker::connect(uri, strongroom::device::PATIENCE)?;
//! let signature = worker.call("sign", &mut prompter, move |device, prompter| device.sign(&key, &digest, prompter))?;
//! # Ok(())
//! # }
//! ```

use super::{Device, DeviceIdentity};
use crate::error::{Error, Kind, Result};
use crate::prompt::{BatchPrompter, Prompter};
use crate::uri::{DeviceUri, Scheme};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

mod prompt_relay;
mod thread;

use thread::DeviceThread;
pub use thread::within;

/// Longer than a healthy device takes for an operation.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Making an RSA key on a smart card may take a minute.
const PATIENCE_FOR_MAKING: Duration = Duration::from_secs(180);

/// A closure that runs on the device's thread. It may run again if the device turns out to have been away.
pub type DeviceJob = Box<dyn FnMut(&mut dyn Device, &mut dyn Prompter) -> Result<()> + Send>;

/// The owner of a device, who runs jobs on it for others.
pub trait DeviceOwner: Send + Sync {
    /// Runs `job`, and waits for at most `patience` while the device is silent. `operation` completes "cannot …".
    ///
    /// # Errors
    /// The job's; `Device` when the device does not answer in time.
    fn run(
        &self,
        operation: &str,
        patience: Duration,
        prompter: &mut dyn Prompter,
        job: DeviceJob,
    ) -> Result<()>;
}

/// A connected device and its owner. Dropping the last one closes the device.
pub struct DeviceWorker {
    name: String,
    scheme: Scheme,
    patience: Duration,
    owner: Arc<dyn DeviceOwner>,
}

impl DeviceWorker {
    /// Connects on a thread of its own. Does not log in.
    ///
    /// # Errors
    /// As [`super::connect`]; `Device` when the device does not answer in time.
    pub fn connect(uri: &DeviceUri, patience: Duration) -> Result<Self> {
        let own = uri.clone();
        let connect = move |_: &mut dyn Prompter| super::connect(&own);
        Self::on_thread(Box::new(connect), uri, patience, &mut BatchPrompter)
    }

    /// As [`DeviceWorker::connect`], where a person may be there: a YubiKey that is not plugged in is asked for, and waited for.
    ///
    /// # Errors
    /// As [`DeviceWorker::connect`].
    pub fn connect_attended(
        uri: &DeviceUri,
        patience: Duration,
        prompter: &mut dyn Prompter,
    ) -> Result<Self> {
        let own = uri.clone();
        let connect = move |prompter: &mut dyn Prompter| super::connect_attended(&own, prompter);
        Self::on_thread(Box::new(connect), uri, patience, prompter)
    }

    fn on_thread(
        connect: thread::Connect,
        uri: &DeviceUri,
        patience: Duration,
        prompter: &mut dyn Prompter,
    ) -> Result<Self> {
        let (thread, name) = DeviceThread::start(connect, uri.display_name(), patience, prompter)?;
        Ok(Self { name, scheme: uri.scheme(), patience, owner: Arc::new(thread) })
    }

    /// A connected device that the calling threads use themselves, one after the other.
    pub fn inline(scheme: Scheme, device: Box<dyn Device>) -> Self {
        let name = device.name().to_owned();
        Self { name, scheme, patience: PATIENCE, owner: Arc::new(Inline(Mutex::new(device))) }
    }

    /// A device that another owner runs jobs on.
    pub fn owned_by(owner: impl DeviceOwner + 'static, uri: &DeviceUri, patience: Duration) -> Self {
        Self { name: uri.display_name(), scheme: uri.scheme(), patience, owner: Arc::new(owner) }
    }

    /// The device in the user's words, for errors and prompts.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `job` where the device is.
    ///
    /// # Errors
    /// The job's; `Device` when the device does not answer in time.
    pub fn call<T: Send + 'static>(
        &self,
        operation: &str,
        prompter: &mut dyn Prompter,
        mut job: impl FnMut(&mut dyn Device, &mut dyn Prompter) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = channel();
        let run: DeviceJob = Box::new(move |device, prompter| {
            let _ = sender.send(job(device, prompter)?);
            Ok(())
        });
        self.owner.run(operation, self.patience, prompter, run)?;
        receiver.try_recv().map_err(|_| hung(&self.name, operation, self.patience))
    }

    /// The same device, with the time that making keys may take.
    #[must_use]
    pub fn for_making_keys(&self) -> Self {
        let patience = self.patience.max(PATIENCE_FOR_MAKING);
        Self { name: self.name.clone(), scheme: self.scheme, patience, owner: Arc::clone(&self.owner) }
    }

    /// The device's description of itself; `unknown` if it does not respond.
    pub fn identity(&self) -> DeviceIdentity {
        let asked = self.call("identify the device", &mut BatchPrompter, |device, _| Ok(device.identity()));
        asked.unwrap_or_else(|error| {
            log::warn!("{error}");
            DeviceIdentity::unknown(self.scheme)
        })
    }

    /// Forgets the PIN and logs out.
    pub fn lock(&self) {
        // A hung device keeps its login, and its thread the PIN, until the process ends.
        let _ = self.call("lock", &mut BatchPrompter, |device, _| {
            device.lock();
            Ok(())
        });
    }
}

/// A device on its callers' threads.
struct Inline(Mutex<Box<dyn Device>>);

impl DeviceOwner for Inline {
    fn run(&self, _: &str, _: Duration, prompter: &mut dyn Prompter, mut job: DeviceJob) -> Result<()> {
        let mut device = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        job(&mut **device, prompter)
    }
}

fn hung(name: &str, operation: &str, patience: Duration) -> Error {
    let message = format!("the device has not answered for {patience:?}");
    Error::new(Kind::Device, operation, message).with_target(name).with_hint(
        "unplug it and plug it in again, or restart the service behind it (pcscd, the HSM's client, the \
         TPM's resource manager), then repeat the command",
    )
}
