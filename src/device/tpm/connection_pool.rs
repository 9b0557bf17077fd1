//! The connection and the PIN, shared by all devices of a process on one TPM.
//!
//! A bare TPM serves one connection at a time, so a second one from the same process would deadlock.

use super::commands::Commands;
use super::connection::Connection;
use super::direct::Direct;
use super::error::{DriverError, Remedy};
use super::esys::Esys;
use super::key_blob::ParentKey;
use super::lockout::{self, Lockout};
use super::transport::Transport;
use crate::device::pin::{PinEntry, PinState};
use crate::error::{Error, Kind, Result};
use crate::prompt::{Prompter, TriesLeft};
use crate::uri::PinSource;
use rand_core::{OsRng, RngCore};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// One per TPM in use by this process.
static SHARED: Mutex<BTreeMap<Transport, Weak<Mutex<SharedConnection>>>> = Mutex::new(BTreeMap::new());

/// How long to wait for a busy TPM, over all attempts. Shorter than the device worker's patience.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long to wait for a slot that another program uses. Sixteen processes on a bare TPM share three slots.
const QUEUE: Duration = Duration::from_secs(10);
/// The first and the longest pause between attempts at a busy TPM.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(160));
/// The number of attempts when the TPM keeps losing loaded objects or its connection.
const ATTEMPTS: usize = 4;

/// A TPM that several devices share.
pub struct SharedConnection {
    transport: Transport,
    connection: Option<Either>,
    pin: PinState<Zeroizing<Vec<u8>>>,
    /// The storage root key of a key that the TPM has used.
    proven: Option<ParentKey>,
}

/// A connection, one at a time.
enum Either {
    /// Without tpm2-tss: it opens and signs.
    Direct(Connection<Direct>),
    /// Through tpm2-tss: it does all there is.
    Esys(Connection<Esys>),
}

/// A connection for what both kinds can do.
pub type Any = Connection<dyn Commands>;

impl Either {
    fn any(&mut self) -> &mut Any {
        match self {
            Self::Direct(connection) => connection,
            Self::Esys(connection) => connection,
        }
    }
}

/// How to ask for the PIN.
pub struct PinPrompt<'a> {
    /// The device's name in prompts.
    pub device: &'a str,
    /// The URI's pin-source.
    pub source: Option<&'a PinSource>,
    /// Asks the person.
    pub prompter: &'a mut dyn Prompter,
}

impl PinPrompt<'_> {
    fn ask(&mut self, tries: TriesLeft, unlock: &str) -> Result<Zeroizing<Vec<u8>>> {
        // TPM2B_AUTH is at most as long as the name algorithm's digest.
        let (hardware, lengths) = ("the TPM", 1..=32);
        let (operation, device, source) = (lockout::USE_PIN, self.device, self.source);
        let pin =
            PinEntry { operation, device, hardware, source, tries, lengths, unlock }.ask(self.prompter)?;
        // TPMs ignore trailing zero bytes (part 1 §19.6.4.3).
        if pin.expose().last() == Some(&0) {
            let message = "the PIN ends with a zero byte: it was not sent to the TPM";
            return Err(Error::new(Kind::PinWrong, operation, message).with_target(device));
        }
        Ok(Zeroizing::new(pin.expose().to_vec()))
    }
}

/// This process's shared use of a TPM. Dropping the last one closes the connection and forgets the PIN.
pub fn share(transport: Transport) -> Arc<Mutex<SharedConnection>> {
    let mut all = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, shared| shared.strong_count() > 0);
    if let Some(shared) = all.get(&transport).and_then(Weak::upgrade) {
        return shared;
    }
    let pin = PinState::default();
    let fresh = SharedConnection { transport: transport.clone(), connection: None, pin, proven: None };
    let shared = Arc::new(Mutex::new(fresh));
    all.insert(transport, Arc::downgrade(&shared));
    shared
}

/// Takes the lock, poisoned or not: the next attempt notices whatever a panicked thread left.
pub fn lock(shared: &Mutex<SharedConnection>) -> MutexGuard<'_, SharedConnection> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for SharedConnection {
    /// A resource manager flushes by itself what is loaded when a connection ends, without loading it again first.
    fn drop(&mut self) {
        if let (true, Some(either)) = (self.transport.is_managed(), &mut self.connection) {
            either.any().forget();
        }
    }
}

impl SharedConnection {
    /// Connects if necessary.
    ///
    /// # Errors
    /// `DeviceGone` when there is no TPM, or this user may not use it.
    pub fn connection(&mut self, target: &str) -> Result<&mut Any> {
        if self.connection.is_none() {
            self.connection = Some(match self.transport.connect_directly(target)? {
                Some(direct) => Either::Direct(self.noted(Connection::new(direct))),
                None => Either::Esys(self.through_tss(target)?),
            });
        }
        self.connection.as_mut().map(Either::any).ok_or_else(|| gone(target))
    }

    /// The connection through tpm2-tss. A bare TPM serves no second one at the same time.
    fn tss_connection(&mut self, target: &str) -> Result<&mut Connection<Esys>> {
        if !matches!(self.connection, Some(Either::Esys(_))) {
            self.connection = None;
            self.connection = Some(Either::Esys(self.through_tss(target)?));
        }
        match &mut self.connection {
            Some(Either::Esys(connection)) => Ok(connection),
            _ => Err(gone(target)),
        }
    }

    fn through_tss(&self, target: &str) -> Result<Connection<Esys>> {
        Ok(self.noted(Connection::new(Esys::new(self.transport.connect(target)?))))
    }

    /// A resource manager flushes what a connection leaves behind; for a bare TPM there is a record.
    fn noted<C: Commands>(&self, mut connection: Connection<C>) -> Connection<C> {
        if !self.transport.is_managed() {
            connection.keep_record(&self.transport.label());
        }
        connection
    }

    /// Runs a job of opening or signing on the TPM, and repeats it after failures that a retry can cure.
    ///
    /// # Errors
    /// `DeviceGone`, `Device`, and whatever the job's failure means.
    pub fn work<T>(
        &mut self,
        operation: &str,
        target: &str,
        mut job: impl FnMut(&mut Any) -> Result<T, DriverError>,
    ) -> Result<T> {
        self.repeat(operation, target, |shared| Ok(job(shared.connection(target)?)))
    }

    /// Runs a job that takes tpm2-tss.
    ///
    /// # Errors
    /// Like those of [`SharedConnection::work`].
    pub fn work_by_tss<T>(
        &mut self,
        operation: &str,
        target: &str,
        mut job: impl FnMut(&mut Connection<Esys>) -> Result<T, DriverError>,
    ) -> Result<T> {
        self.repeat(operation, target, |shared| Ok(job(shared.tss_connection(target)?)))
    }

    fn repeat<T>(
        &mut self,
        operation: &str,
        target: &str,
        mut attempt: impl FnMut(&mut Self) -> Result<Result<T, DriverError>>,
    ) -> Result<T> {
        let (began, mut pause, mut attempts) = (Instant::now(), PAUSE.0, 0);
        loop {
            let fault = match attempt(self)? {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            let remedy = fault.remedy();
            self.recover(&fault, remedy, target);
            attempts += 1;
            let again = match remedy {
                Remedy::None | Remedy::Renew => fault.is(0x128) && attempts < ATTEMPTS,
                Remedy::Wait => began.elapsed() < PATIENCE,
                Remedy::Queue => began.elapsed() < QUEUE,
                // Never send a PIN again while its result is unknown.
                Remedy::Reload | Remedy::Reconnect => attempts < ATTEMPTS && !self.pin.is_pending(),
            };
            if !again {
                return Err(self.report(fault, operation, target));
            }
            log::debug!("{operation} on {target}: {fault:?}; trying again");
            if matches!(remedy, Remedy::Wait | Remedy::Queue) {
                std::thread::sleep(unevenly(pause));
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }

    /// Flushes everything in the TPM whose state is unknown.
    fn recover(&mut self, fault: &DriverError, remedy: Remedy, target: &str) {
        let Some(mut either) = self.connection.take() else { return };
        let connection = either.any();
        match remedy {
            // A broken connection cannot flush them. After a reset its handles may name other objects, so keys go by their names.
            Remedy::Reload | Remedy::Reconnect | Remedy::Renew => {
                let left = connection.leftovers();
                drop(either);
                // A resource manager may have reused the session's handle.
                if !self.transport.is_managed()
                    && let Ok(fresh) = self.connection(target)
                {
                    fresh.give_back(&left);
                }
                return;
            }
            Remedy::Queue => connection.unload(),
            Remedy::Wait | Remedy::None => {}
        }
        if !matches!(fault, DriverError::Final(_)) {
            connection.end_session();
        }
        self.connection = Some(either);
    }

    /// The storage root key of a key that the TPM has used: it is this TPM's.
    pub fn proven_parent(&self) -> Option<ParentKey> {
        self.proven.clone()
    }

    /// The TPM has used a key under this storage root key.
    pub fn prove_parent(&mut self, parent: &ParentKey) {
        self.proven = Some(parent.clone());
    }

    /// The complete error: with the number of tries left after a wrong PIN, or the end of a lockout.
    fn report(&mut self, fault: DriverError, operation: &str, target: &str) -> Error {
        let wrong = fault.is(0x8e) && self.pin.pin().is_some();
        let locked = fault.is(0x921);
        if wrong {
            self.pin.refuse();
        }
        if !wrong && !locked {
            return fault.report(operation, target);
        }
        let lockout = self.connection.as_mut().and_then(|either| Lockout::read(&mut either.any().tpm).ok());
        lockout::report(fault, lockout, operation, target)
    }

    /// The kept PIN, or one from the prompter if the TPM's state allows a try.
    ///
    /// # Errors
    /// `PinWrong` when the TPM refused one before; `PinLocked`; `PinUnavailable`.
    pub fn pin(&mut self, asking: &mut PinPrompt<'_>) -> Result<Zeroizing<Vec<u8>>> {
        if let Some(pin) = self.pin.pin() {
            return Ok(pin.clone());
        }
        self.pin.check(lockout::USE_PIN, asking.device, "the TPM")?;
        let device = asking.device;
        let lockout = self.work(lockout::USE_PIN, device, |connection| Lockout::read(&mut connection.tpm))?;
        lockout.check(device)?;
        let pin = asking.ask(lockout.tries(), &lockout.hint())?;
        self.pin.enter(pin.clone());
        Ok(pin)
    }

    /// A PIN for new keys. Asks twice, because a typing error would make keys that cannot be used.
    ///
    /// # Errors
    /// `PinUnavailable`; `PinWrong` when the two differ.
    pub fn new_pin(&mut self, asking: &mut PinPrompt<'_>) -> Result<Zeroizing<Vec<u8>>> {
        if let Some(pin) = self.pin.pin() {
            return Ok(pin.clone());
        }
        let device = asking.device;
        let mut again = |what: &str| {
            let named = format!("{device}, {what}");
            let mut asking = PinPrompt { device: &named, source: asking.source, prompter: asking.prompter };
            asking.ask(TriesLeft::Unknown, "")
        };
        let (pin, repeated) = (again("for its new keys")?, again("once more")?);
        if *pin != *repeated {
            let message = "the two PINs differ: no key was made";
            return Err(Error::new(Kind::PinWrong, "choose a PIN", message).with_target(device));
        }
        // A newly chosen PIN is not the one that was refused.
        self.pin.reset();
        self.pin.enter(pin.clone());
        self.pin.accept();
        Ok(pin)
    }

    /// The TPM has accepted the PIN.
    pub fn proven(&mut self) {
        self.pin.accept();
    }

    /// Converts an error after the PIN was sent. If the result of an unproven PIN is unknown, forgets it and sends no PIN again.
    pub fn unsure(&mut self, error: Error, target: &str) -> Error {
        if !self.pin.is_pending() || !matches!(error.kind(), Kind::Device | Kind::DeviceGone) {
            return error;
        }
        self.forget();
        self.pin.lose();
        let message = format!("the response to the PIN was lost ({}); it is not sent again", error.message());
        Error::new(Kind::PinWrong, lockout::USE_PIN, message)
            .with_target(target)
            .with_hint("check the device and the PIN, then run the command again")
            .caused_by(error)
    }

    /// Forgets the PIN, and that one was refused.
    pub fn forget(&mut self) {
        self.pin.reset();
        if let Some(connection) = self.connection.as_mut().map(Either::any) {
            // tpm2-tss keeps an object's authValue while it is loaded.
            connection.end_session();
            connection.unload();
        }
    }
}

fn gone(target: &str) -> Error {
    Error::new(Kind::DeviceGone, "reach the TPM", "it is gone").with_target(target)
}

/// Random jitter, from half the pause to all of it, so that waiting processes do not retry at the same time.
fn unevenly(pause: Duration) -> Duration {
    let share = f64::from(OsRng.next_u32()) / f64::from(u32::MAX);
    pause.mul_f64(0.5 + share / 2.0)
}
