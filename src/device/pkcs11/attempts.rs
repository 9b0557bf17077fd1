//! Attempts: logging in, calling, and trying once more when the module had lost its state.
//!
//! An attempt that fails because the state is gone (the token was pulled, its storage went away and came back, another
//! device of this process started the module anew) is repeated once after the state is rebuilt. Nothing else is.

use super::error::{Fault, STORAGE, code, decode};
use super::login::{Credential, LOG_IN, Login};
use super::module::lock;
use super::seat::{BACKOFF_MS, Operation, Seat};
use super::slots;
use super::token::Token;
use crate::error::{Error, Kind, Result};
use crate::prompt::Prompter;
use cryptoki::error::RvError;
use cryptoki::session::{SessionState, UserType};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

/// How often an operation begins again because others started the module anew.
const RESTARTS: u32 = 16;

impl Token {
    /// Runs an operation on a logged-in session, once more if the module had lost its state.
    pub fn operate<T>(
        &mut self,
        tried: &str,
        prompter: &mut dyn Prompter,
        run: impl Fn(&Operation<'_>, &mut Seat) -> Result<T, Fault>,
    ) -> Result<T> {
        let mut rebuilt = false;
        for _ in 0..RESTARTS {
            let fault = match self.attempt(prompter, &run) {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            match fault {
                // Another device of this process started the module anew: its doing, not an answer.
                Fault::Stale => {}
                fault if !rebuilt && self.is_lost_state(&fault) => {
                    log::debug!("{}: {tried}: once more after {fault:?}", self.name);
                    self.rebuild().map_err(|e| self.still_gone(e, tried))?;
                    rebuilt = true;
                }
                fault => return Err(self.report(fault, tried)),
            }
        }
        Err(self.report(Fault::Stale, tried))
    }

    fn attempt<T>(
        &mut self,
        prompter: &mut dyn Prompter,
        run: &impl Fn(&Operation<'_>, &mut Seat) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.log_in(prompter)?;
        let seat = self.seat.as_mut().ok_or(Fault::Stale)?;
        let live = self.module.live(seat.generation)?;
        let done = run(&Operation { live, uri: &self.uri, name: &self.name, facts: &self.facts }, seat);
        self.found |= seat.found;
        done
    }

    /// Makes sure that the session is of the module's present generation and the token logged in.
    ///
    /// The login is locked while the PIN is asked for, so that several lanes ask once. The module and the start lock are
    /// not: a person thinking it over stops nobody else.
    fn log_in(&mut self, prompter: &mut dyn Prompter) -> Result<(), Fault> {
        let shared = Arc::clone(&self.login);
        let mut login = lock(&shared);
        let generation = self.sit()?;
        if self.facts.pin.required && login.current(generation).is_none() {
            self.refresh_facts()?;
            let credential = login.credential(self.facts.pin, &self.name, self.uri.pin_source(), prompter)?;
            self.try_login(&mut login, credential)?;
        }
        let seat = self.seat.as_mut().ok_or(Fault::Stale)?;
        seat.enter(login.current(seat.generation).unwrap_or_default());
        Ok(())
    }

    /// Sends the PIN. Only what is not about the PIN is tried again, with the module started anew.
    fn try_login(&mut self, login: &mut MutexGuard<'_, Login>, credential: Credential) -> Result<(), Fault> {
        let mut pauses = BACKOFF_MS.iter();
        loop {
            let generation = self.sit()?;
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
            log::debug!("{}: {LOG_IN}: {fault:?}: starting the module anew", self.name);
            std::thread::sleep(Duration::from_millis(*pause));
            let _turn = self.module.start_lock();
            self.module.restart(generation)?;
        }
    }

    /// `Ok(false)` when the token was logged in already, which says nothing about the PIN.
    fn call_login(&self, credential: &Credential) -> Result<bool, Fault> {
        let _turn = self.module.start_lock();
        let seat = self.seat.as_ref().ok_or(Fault::Stale)?;
        let _live = self.module.live(seat.generation)?;
        let answer = match credential.pin() {
            Some(pin) => seat.session.login_with_raw(UserType::User, pin),
            None => seat.session.login(UserType::User, None),
        };
        match answer {
            Ok(()) => Ok(true),
            Err(e) if code(&e) == Some(RvError::UserAlreadyLoggedIn) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// A session in the module's present generation, on the same token as before.
    pub(super) fn sit(&mut self) -> Result<u64> {
        if let Some(seat) = &self.seat
            && self.module.live(seat.generation).is_ok()
        {
            return Ok(seat.generation);
        }
        let (seat, facts) = Seat::take(&self.module, &self.uri, &self.name)?;
        let generation = seat.generation;
        if facts.identity != self.facts.identity {
            seat.close(&self.module);
            return Err(Error::new(
                Kind::DeviceGone,
                "find the device again",
                "another token is in its place",
            )
            .with_target(&self.name)
            .with_hint("put the token back that was there, then repeat the command"));
        }
        (self.seat, self.facts) = (Some(seat), facts);
        Ok(generation)
    }

    /// Before a PIN is asked for, the flags that tell about tries have to be of now.
    fn refresh_facts(&mut self) -> Result<(), Fault> {
        let seat = self.seat.as_mut().ok_or(Fault::Stale)?;
        if !std::mem::take(&mut seat.fresh) {
            let live = self.module.live(seat.generation)?;
            self.facts = slots::find(&live, &self.uri, &self.name)?.1;
        }
        Ok(())
    }

    /// Whether a failure may be the module's lost state, rather than an answer to the question.
    fn is_lost_state(&self, fault: &Fault) -> bool {
        let code = match fault {
            Fault::Stale => return true,
            // At first sight of a token this is the plain truth; later it may be its storage that is gone.
            Fault::Missing { .. } => return self.found,
            Fault::Final(_) => return false,
            Fault::Call(error) => code(error),
        };
        match code {
            Some(
                RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::CryptokiNotInitialized
                | RvError::ObjectHandleInvalid
                | RvError::KeyHandleInvalid
                | RvError::UserNotLoggedIn
                | RvError::DeviceRemoved
                | RvError::TokenNotPresent,
            ) => true,
            // These answer a bad challenge too: they are the state only if the keys are gone with it.
            Some(RvError::GeneralError | RvError::FunctionFailed | RvError::DeviceError) => {
                !self.has_its_keys()
            }
            _ => false,
        }
    }

    fn has_its_keys(&self) -> bool {
        let Some(seat) = &self.seat else { return false };
        self.module.live(seat.generation).is_ok_and(|_live| seat.has_its_keys(&self.uri))
    }

    /// Rebuilds what was lost: the login, if that is all, else the whole state of the module.
    fn rebuild(&mut self) -> Result<()> {
        let Some(seat) = &mut self.seat else { return Ok(()) };
        seat.forget_keys();
        let generation = seat.generation;
        let state = match self.module.live(generation) {
            Ok(_live) => seat.session.get_session_info().ok().map(|info| info.session_state()),
            Err(_) => return Ok(()),
        };
        if matches!(state, Some(SessionState::RoPublic)) && self.facts.pin.required {
            // SoftHSM says OBJECT_HANDLE_INVALID where it means USER_NOT_LOGGED_IN.
            lock(&self.login).lost();
            return Ok(());
        }
        let _turn = self.module.start_lock();
        self.module.restart(generation)
    }

    pub(super) fn report(&self, fault: Fault, tried: &str) -> Error {
        match fault {
            Fault::Call(error) => decode(error, tried, &self.name),
            Fault::Final(error) if error.kind() == Kind::DeviceGone && self.found => {
                self.still_gone(error, tried)
            }
            Fault::Final(error) if error.target().is_none() => error.with_target(&self.name),
            Fault::Final(error) => error,
            Fault::Missing { label } => {
                let answer = format!("the token is there, but no key in it is labelled `{label}`");
                Error::new(Kind::KeyMissing, tried, answer).with_target(&self.name).with_hint(STORAGE)
            }
            Fault::Stale => {
                Error::new(Kind::DeviceGone, tried, "the module was started anew again and again")
                    .with_target(&self.name)
                    .with_hint("repeat the command")
            }
        }
    }

    fn still_gone(&self, error: Error, tried: &str) -> Error {
        let answer = format!("the module lost the token, and starting it anew failed: {}", error.message());
        Error::new(Kind::DeviceGone, tried, answer)
            .with_target(&self.name)
            .with_hint(STORAGE)
            .caused_by(error)
    }
}

/// An answer after which a PIN is never sent again.
fn is_about_the_pin(fault: &Fault) -> bool {
    let Fault::Call(error) = fault else { return false };
    matches!(
        code(error),
        Some(
            RvError::PinIncorrect
                | RvError::PinInvalid
                | RvError::PinLenRange
                | RvError::PinExpired
                | RvError::PinLocked
        )
    )
}
