//! Runs operations, and repeats them after the module lost its state.
//!
//! An attempt that fails because the state is lost (the token was unplugged, its storage was unavailable for a while, another
//! device of this process restarted the module) is repeated once after the state is restored. No other failure is retried.

use super::device::Pkcs11Device;
use super::error::{DriverError, STORAGE, code, decode};
use super::login::{Credential, LOG_IN, Login, is_about_the_pin, lock};
use super::session::{BACKOFF_MS, OperationContext, TokenSession};
use super::slots;
use crate::error::{Error, Kind, Result};
use crate::prompt::Prompter;
use cryptoki::error::RvError;
use cryptoki::session::{SessionState, UserType};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

/// How often an operation is repeated because other devices restarted the module.
const RESTARTS: u32 = 16;

impl Pkcs11Device {
    /// Runs an operation on a logged-in session, and repeats it once if the module lost its state.
    pub fn operate<T>(
        &mut self,
        operation: &str,
        prompter: &mut dyn Prompter,
        run: impl Fn(&OperationContext<'_>, &mut TokenSession) -> Result<T, DriverError>,
    ) -> Result<T> {
        let mut rebuilt = false;
        for _ in 0..RESTARTS {
            let fault = match self.attempt(prompter, &run) {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            match fault {
                // Another device of this process restarted the module. This says nothing about the operation.
                DriverError::Stale => {}
                fault if !rebuilt && self.is_lost_state(&fault) => {
                    log::debug!("{}: {operation}: once more after {fault:?}", self.name);
                    self.rebuild().map_err(|e| self.still_gone(e, operation))?;
                    rebuilt = true;
                }
                fault => return Err(self.report(fault, operation)),
            }
        }
        Err(self.report(DriverError::Stale, operation))
    }

    fn attempt<T>(
        &mut self,
        prompter: &mut dyn Prompter,
        run: &impl Fn(&OperationContext<'_>, &mut TokenSession) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        self.log_in(prompter)?;
        let session = self.session.as_mut().ok_or(DriverError::Stale)?;
        let login = lock(&self.login).for_operations();
        let live = self.module.live(session.generation)?;
        let context = OperationContext { live, uri: &self.uri, name: &self.name, info: &self.info, login };
        let done = run(&context, session);
        drop(context);
        self.found |= session.found;
        if done.as_ref().is_err_and(is_about_the_pin) {
            lock(&self.login).refuse();
        }
        done
    }

    /// Makes sure that the session is of the module's current generation and the token is logged in.
    ///
    /// Locks the login while asking for the PIN, so that parallel sessions ask only once. Does not hold the module or the start
    /// lock meanwhile, so that a waiting prompt blocks nothing else.
    fn log_in(&mut self, prompter: &mut dyn Prompter) -> Result<(), DriverError> {
        let shared = Arc::clone(&self.login);
        let mut login = lock(&shared);
        let generation = self.ensure_session()?;
        if self.info.pin.required && login.current(generation).is_none() {
            self.refresh_facts()?;
            let credential = login.credential(self.info.pin, &self.name, self.uri.pin_source(), prompter)?;
            self.try_login(&mut login, credential)?;
        }
        let session = self.session.as_mut().ok_or(DriverError::Stale)?;
        session.enter(login.current(session.generation).unwrap_or_default());
        Ok(())
    }

    /// Sends the PIN. Restarts the module and retries only after failures that are not about the PIN.
    fn try_login(
        &mut self,
        login: &mut MutexGuard<'_, Login>,
        credential: Credential,
    ) -> Result<(), DriverError> {
        let mut pauses = BACKOFF_MS.iter();
        loop {
            let generation = self.ensure_session()?;
            let fault = match self.call_login(&credential) {
                Err(fault) => fault,
                Ok(judged) => {
                    if judged {
                        login.accept(generation, credential)
                    } else {
                        login.enter(generation)
                    }
                    return Ok(());
                }
            };
            if is_about_the_pin(&fault) {
                login.refuse();
                return Err(fault);
            }
            let Some(pause) = pauses.next().filter(|_| self.module.is_softhsm()) else { return Err(fault) };
            log::debug!("{}: {LOG_IN}: {fault:?}: restarting the module", self.name);
            std::thread::sleep(Duration::from_millis(*pause));
            let _turn = self.module.start_lock();
            self.module.restart(generation)?;
        }
    }

    /// `Ok(false)` when the token was logged in already, which proves nothing about the PIN.
    fn call_login(&self, credential: &Credential) -> Result<bool, DriverError> {
        let _turn = self.module.start_lock();
        let session = self.session.as_ref().ok_or(DriverError::Stale)?;
        let _live = self.module.live(session.generation)?;
        let user = self.uri.user_type().map_or(UserType::User, UserType::VendorExtension);
        match credential.send(&session.raw, user) {
            Ok(()) => Ok(true),
            Err(e) if code(&e) == Some(RvError::UserAlreadyLoggedIn) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// A session in the module's current generation, on the same token as before.
    pub(super) fn ensure_session(&mut self) -> Result<u64> {
        if let Some(session) = &self.session
            && self.module.live(session.generation).is_ok()
        {
            return Ok(session.generation);
        }
        let (session, info) = TokenSession::take(&self.module, &self.uri, &self.name)?;
        let generation = session.generation;
        if info.identity != self.info.identity {
            session.close(&self.module);
            return Err(Error::new(
                Kind::DeviceGone,
                "find the device again",
                "another token is in its slot",
            )
            .with_target(&self.name)
            .with_hint("plug in the original token, then repeat the command"));
        }
        (self.session, self.info) = (Some(session), info);
        Ok(generation)
    }

    /// Reads the flags on the number of tries again, before asking for a PIN.
    fn refresh_facts(&mut self) -> Result<(), DriverError> {
        let session = self.session.as_mut().ok_or(DriverError::Stale)?;
        if !std::mem::take(&mut session.fresh) {
            let live = self.module.live(session.generation)?;
            self.info = slots::find(&live, &self.uri, &self.name)?.1;
        }
        Ok(())
    }

    /// Whether lost state of the module, rather than the operation itself, may have caused a failure.
    fn is_lost_state(&self, fault: &DriverError) -> bool {
        let code = match fault {
            DriverError::Stale => return true,
            // If no key was ever found, there is none. Otherwise the storage may be unavailable.
            DriverError::Missing { .. } => return self.found,
            DriverError::Final(_) => return false,
            DriverError::Call(error) => code(error),
        };
        match code {
            Some(
                RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::CryptokiNotInitialized
                | RvError::ObjectHandleInvalid
                | RvError::KeyHandleInvalid
                | RvError::UserNotLoggedIn
                // tpm2-pkcs11 does not end an operation that fails.
                | RvError::OperationActive
                | RvError::DeviceRemoved
                | RvError::TokenNotPresent,
            ) => true,
            // A bad challenge causes these codes, too. The state is lost only if the keys are missing as well.
            Some(RvError::GeneralError | RvError::FunctionFailed | RvError::DeviceError) => {
                !self.has_its_keys()
            }
            _ => false,
        }
    }

    fn has_its_keys(&self) -> bool {
        let Some(session) = &self.session else { return false };
        self.module.live(session.generation).is_ok_and(|_live| session.has_its_keys(&self.uri))
    }

    /// Restores the login if only that was lost, else restarts the module.
    fn rebuild(&mut self) -> Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        session.forget_keys();
        let generation = session.generation;
        let state = match self.module.live(generation) {
            Ok(_live) => session.raw.get_session_info().ok().map(|info| info.session_state()),
            Err(_) => return Ok(()),
        };
        if matches!(state, Some(SessionState::RoPublic)) && self.info.pin.required {
            // SoftHSM returns OBJECT_HANDLE_INVALID in place of USER_NOT_LOGGED_IN.
            lock(&self.login).lost();
            return Ok(());
        }
        let _turn = self.module.start_lock();
        self.module.restart(generation)
    }

    pub(super) fn report(&self, fault: DriverError, operation: &str) -> Error {
        match fault {
            DriverError::Call(error) => decode(error, operation, &self.name),
            DriverError::Final(error) if error.kind() == Kind::DeviceGone && self.found => {
                self.still_gone(error, operation)
            }
            DriverError::Final(error) if error.target().is_none() => error.with_target(&self.name),
            DriverError::Final(error) => error,
            DriverError::Missing { label } => {
                let message = format!("the token has no key labelled `{label}`");
                Error::new(Kind::KeyMissing, operation, message).with_target(&self.name).with_hint(STORAGE)
            }
            DriverError::Stale => {
                Error::new(Kind::DeviceGone, operation, "the module was restarted again and again")
                    .with_target(&self.name)
                    .with_hint("repeat the command")
            }
        }
    }

    fn still_gone(&self, error: Error, operation: &str) -> Error {
        let message = format!("the module lost the token, and restarting it failed: {}", error.message());
        Error::new(Kind::DeviceGone, operation, message)
            .with_target(&self.name)
            .with_hint(STORAGE)
            .caused_by(error)
    }
}
