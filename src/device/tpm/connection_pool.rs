//! What all devices of a process on one TPM share: the connection, and the PIN.
//!
//! A bare TPM serves one connection at a time, so a second one from the same process would wait for itself.

use super::connection::Connection;
use super::error::{DriverError, Remedy};
use super::lockout::{self, Lockout};
use super::transport::Transport;
use crate::device::pin::PinState;
use crate::error::{Error, Kind, Result};
use crate::prompt::{PinRequest, Prompter, TriesLeft};
use crate::uri::PinSource;
use rand_core::{OsRng, RngCore};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// One for each TPM that this process uses.
static SHARED: Mutex<BTreeMap<Transport, Weak<Mutex<SharedConnection>>>> = Mutex::new(BTreeMap::new());

/// How long a busy TPM is waited for, all attempts together. Shorter than the watchdog's patience.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a slot is waited for that somebody else has: sixteen processes at a bare TPM take turns at three of them.
const QUEUE: Duration = Duration::from_secs(10);
/// Between two attempts at a busy TPM: the first pause, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(160));
/// Attempts after which a TPM that loses what is loaded, or its connection, is given up.
const ATTEMPTS: usize = 4;

/// A TPM, shared.
pub struct SharedConnection {
    transport: Transport,
    connection: Option<Connection>,
    pin: PinState<Zeroizing<Vec<u8>>>,
}

/// Who is asked for the PIN, and in what words.
pub struct PinPrompt<'a> {
    /// The device in the user's words.
    pub device: &'a str,
    /// The URI's pin-source.
    pub source: Option<&'a PinSource>,
    /// Who is asked.
    pub prompter: &'a mut dyn Prompter,
}

/// The share of this process in a TPM. The last one to be dropped closes the connection and forgets the PIN.
pub fn share(transport: Transport) -> Arc<Mutex<SharedConnection>> {
    let mut all = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, shared| shared.strong_count() > 0);
    if let Some(shared) = all.get(&transport).and_then(Weak::upgrade) {
        return shared;
    }
    let fresh = SharedConnection { transport: transport.clone(), connection: None, pin: PinState::default() };
    let shared = Arc::new(Mutex::new(fresh));
    all.insert(transport, Arc::downgrade(&shared));
    shared
}

/// A thread that panicked leaves nothing half-done that the next attempt would not notice.
pub fn lock(shared: &Mutex<SharedConnection>) -> MutexGuard<'_, SharedConnection> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedConnection {
    /// The connection, made when there is none.
    pub fn connection(&mut self, on: &str) -> Result<&mut Connection> {
        if self.connection.is_none() {
            self.connection = Some(Connection::new(self.transport.connect(on)?));
        }
        self.connection
            .as_mut()
            .ok_or_else(|| Error::new(Kind::DeviceGone, "reach the TPM", "it is gone").with_target(on))
    }

    /// Works on the TPM; once more where a failure asks for it.
    ///
    /// # Errors
    /// `DeviceGone`, `Device`, and whatever the job's failure means.
    pub fn work<T>(
        &mut self,
        tried: &str,
        on: &str,
        mut job: impl FnMut(&mut Connection) -> Result<T, DriverError>,
    ) -> Result<T> {
        let (began, mut pause, mut attempts) = (Instant::now(), PAUSE.0, 0);
        loop {
            let fault = match job(self.connection(on)?) {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            let remedy = fault.code().map_or(Remedy::None, super::error::Code::remedy);
            self.recover(&fault, remedy, on);
            attempts += 1;
            let again = match remedy {
                Remedy::None | Remedy::Renew => fault.is(0x128) && attempts < ATTEMPTS,
                Remedy::Wait => began.elapsed() < PATIENCE,
                Remedy::Queue => began.elapsed() < QUEUE,
                // A PIN whose fate is unknown is not sent a second time.
                Remedy::Reload | Remedy::Reconnect => attempts < ATTEMPTS && !self.pin.is_pending(),
            };
            if !again {
                return Err(self.report(fault, tried, on));
            }
            log::debug!("{tried} on {on}: {fault:?}; trying again");
            if matches!(remedy, Remedy::Wait | Remedy::Queue) {
                std::thread::sleep(unevenly(pause));
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }

    /// Leaves nothing in the TPM whose state is unknown.
    fn recover(&mut self, fault: &DriverError, remedy: Remedy, on: &str) {
        let Some(mut connection) = self.connection.take() else { return };
        match remedy {
            // A context that outlives a reset has handles that mean other things now.
            Remedy::Reload => return,
            // Nor does a connection that broke take what would give them back.
            Remedy::Reconnect | Remedy::Renew => {
                let left = connection.leftovers();
                drop(connection);
                if let Ok(context) = self.transport.connect(on) {
                    let mut fresh = Connection::new(context);
                    // A resource manager gives back what a connection leaves, and may have handed the session's number on.
                    if !self.transport.is_managed() {
                        fresh.give_back(&left);
                    }
                    self.connection = Some(fresh);
                }
                return;
            }
            Remedy::Queue => connection.unload(),
            Remedy::Wait | Remedy::None => {}
        }
        if matches!(fault, DriverError::Call { .. }) {
            connection.end_session();
        }
        self.connection = Some(connection);
    }

    /// The error in full: after a failed PIN with the tries that are left, in a lockout with its end.
    fn report(&mut self, fault: DriverError, tried: &str, on: &str) -> Error {
        let wrong = fault.is(0x8e) && self.pin.pin().is_some();
        let locked = fault.is(0x921);
        if wrong {
            self.pin.refuse();
        }
        if !wrong && !locked {
            return fault.report(tried, on);
        }
        let lockout =
            self.connection.as_mut().and_then(|connection| Lockout::read(&mut connection.context).ok());
        lockout::report(fault, lockout, tried, on)
    }

    /// The PIN: the kept one, or one that is asked for, if the TPM's state allows a try at all.
    ///
    /// # Errors
    /// `PinWrong` when the TPM refused one before; `PinLocked`; `PinUnavailable`.
    pub fn pin(&mut self, asking: &mut PinPrompt<'_>) -> Result<Zeroizing<Vec<u8>>> {
        if let Some(pin) = self.pin.pin() {
            return Ok(pin.clone());
        }
        self.pin.check(lockout::USE_PIN, asking.device, "the TPM")?;
        let device = asking.device;
        let lockout =
            self.work(lockout::USE_PIN, device, |connection| Lockout::read(&mut connection.context))?;
        lockout.allows_a_try(device, asking.prompter)?;
        let pin = self.ask(asking, lockout.tries())?;
        self.pin.enter(pin.clone());
        Ok(pin)
    }

    /// A PIN for new keys. Asked for twice, as a slip would make keys that nobody can use.
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
            self.ask(&mut asking, TriesLeft::Unknown)
        };
        let (pin, repeated) = (again("for its new keys")?, again("once more")?);
        if *pin != *repeated {
            let answer = "the two PINs differ: no key was made";
            return Err(Error::new(Kind::PinWrong, "choose a PIN", answer).with_target(device));
        }
        // A person chose it just now: it is not the one that was refused.
        self.pin.reset();
        self.pin.enter(pin.clone());
        self.pin.accept();
        Ok(pin)
    }

    fn ask(&mut self, asking: &mut PinPrompt<'_>, tries: TriesLeft) -> Result<Zeroizing<Vec<u8>>> {
        let request = PinRequest { device: asking.device, source: asking.source, tries };
        let pin = asking.prompter.pin(&request)?;
        let fail = |kind, answer: &str| {
            Err(Error::new(kind, lockout::USE_PIN, answer).with_target(asking.device.to_owned()))
        };
        // TPM2B_AUTH holds as much as the key's name algorithm; trailing zero bytes do not count (part 1 §19.6.4.3).
        match pin.len() {
            0 => fail(Kind::PinUnavailable, "the PIN is empty: it was not sent to the TPM"),
            1..=32 if pin.expose().last() != Some(&0) => Ok(Zeroizing::new(pin.expose().to_vec())),
            _ => fail(
                Kind::PinWrong,
                "a PIN here has 1 to 32 bytes, the last not zero: it was not sent to the TPM",
            ),
        }
    }

    /// The TPM has accepted the PIN.
    pub fn proven(&mut self) {
        self.pin.accept();
    }

    /// What an error means after the PIN was sent: where nobody knows what became of an unproven one, it is forgotten, and none
    /// is sent again.
    pub fn unsure(&mut self, error: Error, on: &str) -> Error {
        if !self.pin.is_pending() || !matches!(error.kind(), Kind::Device | Kind::DeviceGone) {
            return error;
        }
        self.forget();
        self.pin.lose();
        let answer = format!("the answer to the PIN was lost ({}); it is not sent again", error.message());
        Error::new(Kind::PinWrong, lockout::USE_PIN, answer)
            .with_target(on)
            .with_hint("see to the device, check the PIN, then start the command anew")
            .caused_by(error)
    }

    /// Forgets the PIN, also that one was refused.
    pub fn forget(&mut self) {
        self.pin.reset();
        if let Some(connection) = &mut self.connection {
            // tpm2-tss keeps an object's authValue for as long as it is loaded.
            connection.end_session();
            connection.unload();
        }
    }
}

/// Half of it to all of it: who waits for the same thing should not come back at the same time.
fn unevenly(pause: Duration) -> Duration {
    let share = f64::from(OsRng.next_u32()) / f64::from(u32::MAX);
    pause.mul_f64(0.5 + share / 2.0)
}
