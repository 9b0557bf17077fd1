//! A token as a [`Device`].

use super::error::DriverError;
use super::login::{Login, lock};
use super::module::ModuleUse;
use super::objects;
use super::operations;
use super::session::TokenSession;
use super::token_info::TokenInfo;
use crate::device::{
    Algorithm, CreateOptions, Device, DeviceIdentity, KeyInfo, KeyRef, KeyWrap, Parallel, PrivateOperation,
    Provision, Purpose,
};
use crate::error::Result;
use crate::prompt::Prompter;
use crate::uri::DeviceUri;
use std::path::Path;
use std::sync::{Arc, Mutex};
use zeroize::Zeroizing;

/// A connected token: one session, sharing this process's login.
pub struct Pkcs11Device {
    pub(super) uri: DeviceUri,
    pub(super) name: String,
    pub(super) info: TokenInfo,
    pub(super) login: Arc<Mutex<Login>>,
    pub(super) session: Option<TokenSession>,
    /// A key was found here before, so a search that finds none now is suspect.
    pub(super) found: bool,
    // Declared last, because dropping it may finalise the module.
    pub(super) module: ModuleUse,
}

impl Pkcs11Device {
    /// Loads the module, finds the token, opens a session.
    pub fn connect(uri: &DeviceUri, module: &Path) -> Result<Self> {
        let module = ModuleUse::open(module)?;
        let (session, info) = TokenSession::take(&module, uri, &uri.display_name())?;
        Ok(Self::new(uri.clone(), info, session, module))
    }

    fn new(uri: DeviceUri, info: TokenInfo, session: TokenSession, module: ModuleUse) -> Self {
        let login = module.login(info.login_key(&uri));
        lock(&login).join();
        // Prompts name the token even if the URI does not.
        let nameless = uri.token().is_none() && info.described;
        let named = if nameless { uri.with("token", &info.identity.label).ok() } else { None };
        let name = named.as_ref().unwrap_or(&uri).display_name();
        Self { name, uri, info, login, session: Some(session), found: false, module }
    }
}

impl Drop for Pkcs11Device {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.close(&self.module);
        }
        lock(&self.login).leave();
    }
}

impl Device for Pkcs11Device {
    fn identity(&mut self) -> DeviceIdentity {
        self.info.identity.clone()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn keys(&mut self, prompter: &mut dyn Prompter) -> Result<Vec<KeyInfo>> {
        let expected = self.found;
        self.operate("list the keys", prompter, |context, session| {
            let mut found = Vec::new();
            for purpose in [Purpose::Open, Purpose::Sign] {
                let label = objects::label(context.uri, purpose);
                match objects::locate(&session.raw, context.uri, &label) {
                    Ok(located) => found.push(context.key_info(session, &located, purpose)?),
                    Err(DriverError::Missing { .. }) => {}
                    Err(fault) => return Err(fault),
                }
            }
            match found.is_empty() && expected {
                true => Err(DriverError::Missing { label: objects::label(context.uri, Purpose::Open) }),
                false => Ok(found),
            }
        })
    }

    fn keys_judged_by(
        &mut self,
        _options: &CreateOptions,
        prompter: &mut dyn Prompter,
    ) -> Result<Vec<KeyInfo>> {
        let keys = self.keys(prompter)?;
        self.operate("try to take the keys out of the device", prompter, |context, session| {
            keys.iter().try_for_each(|key| {
                let private = context.private_key(session, &KeyRef::from(key))?;
                operations::prove_kept(&session.raw, private.handle)
            })
        })?;
        Ok(keys)
    }

    fn has_key(&mut self, key: &KeyRef, prompter: &mut dyn Prompter) -> Result<bool> {
        let named = self.keys(prompter)?;
        if named.iter().any(|own| own.purpose == key.purpose && own.public == key.public) {
            return Ok(true);
        }
        self.operate("look for the key", prompter, |_, session| {
            Ok(objects::locate_by_public(&session.raw, &key.public)?.is_some())
        })
    }

    fn open_key(
        &mut self,
        key: &KeyRef,
        challenge: PrivateOperation<'_>,
        prompter: &mut dyn Prompter,
    ) -> Result<Zeroizing<Vec<u8>>> {
        self.operate("open with the key", prompter, |context, session| {
            let private = context.private_key(session, key)?;
            operations::answer(&context.operation(&session.raw, private), challenge)
        })
    }

    fn sign(&mut self, key: &KeyRef, digest: &[u8], prompter: &mut dyn Prompter) -> Result<Vec<u8>> {
        self.operate("sign", prompter, |context, session| {
            let private = context.private_key(session, key)?;
            operations::sign(&context.operation(&session.raw, private), &key.public, digest)
        })
    }

    fn lock(&mut self) {
        let mut login = lock(&self.login);
        login.forget();
        if let Some(session) = &mut self.session {
            session.forget_keys();
            if let Ok(_live) = self.module.live(session.generation) {
                let _ = session.raw.logout();
            }
        }
    }

    fn provisioning(&mut self) -> Option<&mut dyn Provision> {
        Some(self)
    }

    fn wrapping(&mut self) -> Option<&mut dyn KeyWrap> {
        Some(self)
    }

    fn parallel(&mut self) -> Option<&mut dyn Parallel> {
        Some(self)
    }
}

impl KeyWrap for Pkcs11Device {
    fn wrap(
        &mut self,
        key: &KeyRef,
        iv: &[u8; 12],
        aad: &[u8],
        plaintext: &[u8],
        prompter: &mut dyn Prompter,
    ) -> Result<Vec<u8>> {
        self.operate("seal with the key", prompter, |context, session| {
            let secret = context.private_key(session, key)?;
            operations::wrap(&session.raw, secret.handle, iv, aad, plaintext)
        })
    }
}

impl Parallel for Pkcs11Device {
    fn max_sessions(&self, key: &KeyRef) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match key.public.algorithm() {
            Algorithm::Rsa(_) => cores.min(4),
            // SoftHSM locks around short operations. Measured: a second session slows both down.
            Algorithm::P256 | Algorithm::P384 | Algorithm::Aes256 if self.module.is_softhsm() => 1,
            Algorithm::P256 | Algorithm::P384 | Algorithm::Aes256 => (cores * 2).min(4),
        }
    }

    fn clone_session(&mut self) -> Result<Box<dyn Device>> {
        let (session, info) = TokenSession::take(&self.module, &self.uri, &self.name)?;
        Ok(Box::new(Self::new(self.uri.clone(), info, session, self.module.clone())))
    }
}
