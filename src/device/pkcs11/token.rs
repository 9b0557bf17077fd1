//! A token as a [`Device`].

use super::error::Fault;
use super::login::Login;
use super::module::{ModuleUse, lock};
use super::objects;
use super::operations;
use super::seat::Seat;
use super::slots::TokenFacts;
use crate::device::{
    Algorithm, Challenge, Device, DeviceIdentity, KeyInfo, KeyRef, Parallel, Provision, Purpose, Wrap,
};
use crate::error::Result;
use crate::prompt::Prompter;
use crate::uri::DeviceUri;
use std::path::Path;
use std::sync::{Arc, Mutex};
use zeroize::Zeroizing;

/// A connected token: one session, and a share in the login of this process.
pub struct Token {
    pub(super) uri: DeviceUri,
    pub(super) name: String,
    pub(super) facts: TokenFacts,
    pub(super) login: Arc<Mutex<Login>>,
    pub(super) seat: Option<Seat>,
    /// A key was found here before: that there is none now is not the plain truth.
    pub(super) found: bool,
    // Last: dropping it may finalise the module.
    pub(super) module: ModuleUse,
}

impl Token {
    /// Loads the module, finds the token, opens a session.
    pub fn connect(uri: &DeviceUri, module: &Path) -> Result<Self> {
        let module = ModuleUse::open(module)?;
        let (seat, facts) = Seat::take(&module, uri, &uri.display_name())?;
        Ok(Self::new(uri.clone(), facts, seat, module))
    }

    fn new(uri: DeviceUri, facts: TokenFacts, seat: Seat, module: ModuleUse) -> Self {
        let login = module.login(facts.key());
        lock(&login).join();
        // A prompt names the token, also where the URI means the only one there is.
        let named = if uri.token().is_none() { uri.with("token", &facts.identity.label).ok() } else { None };
        let name = named.as_ref().unwrap_or(&uri).display_name();
        Self { name, uri, facts, login, seat: Some(seat), found: false, module }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            seat.close(&self.module);
        }
        lock(&self.login).leave();
    }
}

impl Device for Token {
    fn identity(&mut self) -> DeviceIdentity {
        self.facts.identity.clone()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn keys(&mut self, prompter: &mut dyn Prompter) -> Result<Vec<KeyInfo>> {
        let expected = self.found;
        self.operate("list the keys", prompter, |operation, seat| {
            let mut found = Vec::new();
            for purpose in [Purpose::Open, Purpose::Sign] {
                let label = objects::label(operation.uri, purpose);
                match objects::locate(&seat.session, operation.uri, &label) {
                    Ok(located) => found.push(operation.key_info(seat, &located, purpose)?),
                    Err(Fault::Missing { .. }) => {}
                    Err(fault) => return Err(fault),
                }
            }
            match found.is_empty() && expected {
                true => Err(Fault::Missing { label: objects::label(operation.uri, Purpose::Open) }),
                false => Ok(found),
            }
        })
    }

    fn holds(&mut self, key: &KeyRef, prompter: &mut dyn Prompter) -> Result<bool> {
        let named = self.keys(prompter)?;
        if named.iter().any(|own| own.purpose == key.purpose && own.public == key.public) {
            return Ok(true);
        }
        self.operate("look for the key", prompter, |_, seat| {
            Ok(objects::locate_by_public(&seat.session, &key.public)?.is_some())
        })
    }

    fn open_key(
        &mut self,
        key: &KeyRef,
        challenge: Challenge<'_>,
        prompter: &mut dyn Prompter,
    ) -> Result<Zeroizing<Vec<u8>>> {
        self.operate("open with the key", prompter, |operation, seat| {
            let handle = operation.handle(seat, key)?;
            operations::answer(&seat.session, handle, challenge)
        })
    }

    fn sign(&mut self, key: &KeyRef, digest: &[u8], prompter: &mut dyn Prompter) -> Result<Vec<u8>> {
        self.operate("sign", prompter, |operation, seat| {
            let handle = operation.handle(seat, key)?;
            operations::sign(&seat.session, handle, &key.public, digest)
        })
    }

    fn lock(&mut self) {
        let mut login = lock(&self.login);
        login.forget();
        if let Some(seat) = &mut self.seat {
            seat.forget_keys();
            if let Ok(_live) = self.module.live(seat.generation) {
                let _ = seat.session.logout();
            }
        }
    }

    fn provisioning(&mut self) -> Option<&mut dyn Provision> {
        Some(self)
    }

    fn wrapping(&mut self) -> Option<&mut dyn Wrap> {
        Some(self)
    }

    fn parallel(&mut self) -> Option<&mut dyn Parallel> {
        Some(self)
    }
}

impl Wrap for Token {
    fn wrap(
        &mut self,
        key: &KeyRef,
        iv: &[u8; 12],
        aad: &[u8],
        plaintext: &[u8],
        prompter: &mut dyn Prompter,
    ) -> Result<Vec<u8>> {
        self.operate("seal with the key", prompter, |operation, seat| {
            let handle = operation.handle(seat, key)?;
            operations::wrap(&seat.session, handle, iv, aad, plaintext)
        })
    }
}

impl Parallel for Token {
    fn lanes(&self, key: &KeyRef) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match key.public.algorithm() {
            Algorithm::Rsa(_) => cores.min(4),
            // SoftHSM holds one lock around short operations: measured, a second session slows both down.
            Algorithm::P256 | Algorithm::P384 | Algorithm::Aes256 if self.module.is_softhsm() => 1,
            Algorithm::P256 | Algorithm::P384 | Algorithm::Aes256 => (cores * 2).min(4),
        }
    }

    fn another(&mut self) -> Result<Box<dyn Device>> {
        let (seat, facts) = Seat::take(&self.module, &self.uri, &self.name)?;
        Ok(Box::new(Self::new(self.uri.clone(), facts, seat, self.module.clone())))
    }
}
