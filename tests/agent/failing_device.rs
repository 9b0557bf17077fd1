//! A device that fails on command.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use strongroom::device::{Device, DeviceIdentity, KeyInfo, KeyRef, PrivateOperation, Provision};
use strongroom::prompt::{PinRequest, Prompter, TriesLeft};
use strongroom::{Error, Kind, Result};
use test_support::soft_device::SoftDevice;
use zeroize::Zeroizing;

/// What is the matter with it, and what was done to it.
#[derive(Default)]
pub struct Faults {
    /// Every call hangs until this is false again.
    hangs: Mutex<bool>,
    released: Condvar,
    /// It was pulled out.
    pub gone: AtomicBool,
    /// It wants this PIN.
    pub pin: Mutex<Option<&'static str>>,
    /// It takes no PIN any more.
    pub locked_out: AtomicBool,
    /// How often it was connected.
    pub connected: AtomicUsize,
    /// How often a PIN was sent to it.
    pub pins: AtomicUsize,
    /// How often it opened something.
    pub opened: AtomicUsize,
    /// How many calls hang.
    pub busy: AtomicUsize,
    /// Whether it has taken a PIN.
    pub logged_in: AtomicBool,
}

impl Faults {
    pub fn hang(&self, hangs: bool) {
        *self.hangs.lock().unwrap() = hangs;
        self.released.notify_all();
    }

    fn wait(&self) {
        let mut hangs = self.hangs.lock().unwrap();
        self.busy.fetch_add(1, Ordering::SeqCst);
        while *hangs {
            hangs = self.released.wait(hangs).unwrap();
        }
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

pub struct Faulty {
    inner: SoftDevice,
    faults: Arc<Faults>,
}

/// Connects, if it is there.
pub fn connect(inner: &SoftDevice, faults: &Arc<Faults>) -> Result<Box<dyn Device>> {
    faults.wait();
    if faults.gone.load(Ordering::SeqCst) {
        return Err(Error::new(Kind::DeviceGone, "connect to the device", "it is not there")
            .with_target(inner.name()));
    }
    faults.connected.fetch_add(1, Ordering::SeqCst);
    faults.logged_in.store(false, Ordering::SeqCst);
    Ok(Box::new(Faulty { inner: inner.clone(), faults: Arc::clone(faults) }))
}

impl Faulty {
    fn ready(&mut self, prompter: &mut dyn Prompter) -> Result<()> {
        self.faults.wait();
        if self.faults.gone.load(Ordering::SeqCst) {
            return Err(Error::new(Kind::DeviceGone, "use the device", "it was removed")
                .with_target(self.inner.name()));
        }
        if self.faults.locked_out.load(Ordering::SeqCst) {
            let error = Error::new(Kind::PinLocked, "log in", "the PIN is locked");
            return Err(error.with_target(self.inner.name()));
        }
        let pin = *self.faults.pin.lock().unwrap();
        if let (Some(right), false) = (pin, self.faults.logged_in.load(Ordering::SeqCst)) {
            let request = PinRequest {
                device: self.inner.name(),
                source: None,
                tries: TriesLeft::Unknown,
                what_for: None,
            };
            let given = prompter.pin(&request)?;
            self.faults.pins.fetch_add(1, Ordering::SeqCst);
            if given.expose() != right.as_bytes() {
                return Err(
                    Error::new(Kind::PinWrong, "log in", "the PIN is wrong").with_target(self.inner.name())
                );
            }
            self.faults.logged_in.store(true, Ordering::SeqCst);
        }
        Ok(())
    }
}

impl Device for Faulty {
    fn identity(&mut self) -> DeviceIdentity {
        self.inner.identity()
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn keys(&mut self, prompter: &mut dyn Prompter) -> Result<Vec<KeyInfo>> {
        self.ready(prompter)?;
        self.inner.keys(prompter)
    }

    fn open_key(
        &mut self,
        key: &KeyRef,
        challenge: PrivateOperation<'_>,
        prompter: &mut dyn Prompter,
    ) -> Result<Zeroizing<Vec<u8>>> {
        self.ready(prompter)?;
        self.faults.opened.fetch_add(1, Ordering::SeqCst);
        self.inner.open_key(key, challenge, prompter)
    }

    fn sign(&mut self, key: &KeyRef, digest: &[u8], prompter: &mut dyn Prompter) -> Result<Vec<u8>> {
        self.ready(prompter)?;
        self.inner.sign(key, digest, prompter)
    }

    fn lock(&mut self) {
        self.faults.logged_in.store(false, Ordering::SeqCst);
    }

    fn provisioning(&mut self) -> Option<&mut dyn Provision> {
        None
    }
}
