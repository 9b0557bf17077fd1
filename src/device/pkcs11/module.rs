//! PKCS#11 modules: loaded once, initialised once, and reinitialised when their state is lost.
//!
//! A module is process-global: two contexts on one module share its state, and finalising one invalidates the other. So a
//! process has one [`Module`] per file, kept in a registry, and devices hold a [`ModuleUse`]. Dropping the last one
//! finalises the module, which ends its sessions and logins. It stays loaded, because many modules crash in `dlclose`.
//!
//! Every `C_Initialize` starts a new *generation*. Handles of an older one are invalid and may by now name another session,
//! so they are forgotten, never closed.

use super::error::{DriverError, code, decode};
use super::file_kind::{self, FileKind};
use super::login::{Login, lock};
use super::start_lock::StartLock;
use crate::error::{Error, Kind, Result};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as CallError, RvError};
use std::collections::HashMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock, RwLockReadGuard};

static MODULES: LazyLock<Mutex<HashMap<PathBuf, Arc<Module>>>> = LazyLock::new(Mutex::default);

/// A loaded module.
pub struct Module {
    path: PathBuf,
    calls: Pkcs11,
    state: RwLock<State>,
    users: Mutex<usize>,
    logins: Mutex<HashMap<String, Arc<Mutex<Login>>>>,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// The number of initialisations.
    generation: u64,
    /// The process that initialised it, because a forked child must initialise it again. 0 after finalising.
    process: u32,
    /// Another library in this process initialised it, so we must not finalise it.
    foreign: bool,
}

/// A device's use of a module.
pub struct ModuleUse(Arc<Module>);

/// Permission to call the module. It cannot be finalised while this exists.
pub struct InitializedModule<'a> {
    state: RwLockReadGuard<'a, State>,
    calls: &'a Pkcs11,
}

impl ModuleUse {
    /// Loads a module, unless it is loaded already.
    ///
    /// # Errors
    /// `DeviceGone` when the file is missing, `Unsupported` when it is for another machine, `Usage` when it is not a module.
    pub fn open(path: &Path) -> Result<Self> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut modules = lock(&MODULES);
        let module = match modules.get(&path) {
            Some(module) => Arc::clone(module),
            None => {
                let module = Arc::new(Module::load(&path)?);
                modules.insert(path, Arc::clone(&module));
                module
            }
        };
        *lock(&module.users) += 1;
        Ok(Self(module))
    }
}

impl Clone for ModuleUse {
    fn clone(&self) -> Self {
        *lock(&self.0.users) += 1;
        Self(Arc::clone(&self.0))
    }
}

impl Drop for ModuleUse {
    fn drop(&mut self) {
        let mut users = lock(&self.0.users);
        *users -= 1;
        if *users == 0 {
            self.0.finalise();
        }
    }
}

impl Deref for ModuleUse {
    type Target = Module;

    fn deref(&self) -> &Module {
        &self.0
    }
}

impl InitializedModule<'_> {
    /// The generation of handles obtained now.
    pub fn generation(&self) -> u64 {
        self.state.generation
    }
}

impl Deref for InitializedModule<'_> {
    type Target = Pkcs11;

    fn deref(&self) -> &Pkcs11 {
        self.calls
    }
}

impl Module {
    fn load(path: &Path) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            calls: Pkcs11::new(path).map_err(|error| not_loaded(path, error))?,
            state: RwLock::default(),
            users: Mutex::default(),
            logins: Mutex::default(),
        })
    }

    /// Serialises starts of SoftHSM, which loses its token when several processes start at once.
    pub fn start_lock(&self) -> Option<StartLock> {
        self.is_softhsm().then(StartLock::take).flatten()
    }

    /// Whether the file is SoftHSM, or p11-kit's proxy, behind which SoftHSM may be; the proxy is a link to p11-kit's library. Judged
    /// by its name, because the module identifies itself only after a start.
    pub fn is_softhsm(&self) -> bool {
        self.is_named("softhsm") || self.is_named("p11-kit-proxy") || self.is_named("libp11-kit")
    }

    fn is_named(&self, part: &str) -> bool {
        self.path.file_name().is_some_and(|name| name.to_string_lossy().contains(part))
    }

    /// The module, initialised by this process.
    pub fn start(&self) -> Result<InitializedModule<'_>> {
        loop {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if state.process == std::process::id() {
                return Ok(InitializedModule { state, calls: &self.calls });
            }
            drop(state);
            self.initialise()?;
        }
    }

    /// The module, if handles of this generation are still valid.
    pub fn live(&self, generation: u64) -> Result<InitializedModule<'_>, DriverError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.generation != generation || state.process != std::process::id() {
            return Err(DriverError::Stale);
        }
        Ok(InitializedModule { state, calls: &self.calls })
    }

    /// Reinitialises the module, unless that happened since `generation`. The only remedy after its storage was
    /// unavailable, and the second defence against the start race.
    pub fn restart(&self, generation: u64) -> Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.generation != generation {
            return Ok(());
        }
        if state.foreign {
            return Err(Error::new(
                Kind::DeviceGone,
                "restart the PKCS#11 module",
                "another library in this process uses it, too",
            )
            .with_target(self.path.display().to_string())
            .with_hint("restart the program"));
        }
        log::debug!("{}: reinitialising", self.path.display());
        let _ = self.calls.clone().finalize();
        state.process = 0;
        self.initialise_locked(&mut state)
    }

    /// The login of one token, shared by all its devices in this process.
    pub fn login(&self, token: String) -> Arc<Mutex<Login>> {
        Arc::clone(lock(&self.logins).entry(token).or_default())
    }

    fn initialise(&self) -> Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.process == std::process::id() {
            return Ok(());
        }
        self.initialise_locked(&mut state)
    }

    fn initialise_locked(&self, state: &mut State) -> Result<()> {
        let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        let already = |error: &CallError| code(error) == Some(RvError::CryptokiAlreadyInitialized);
        let mut result = self.calls.initialize(arguments);
        if state.process != 0 && result.as_ref().is_err_and(already) {
            // A forked child inherits the parent's state.
            let _ = self.calls.clone().finalize();
            result = self.calls.initialize(arguments);
        }
        state.foreign = result.as_ref().is_err_and(already);
        match result {
            Err(error) if !state.foreign => Err(self.not_started(error)),
            _ => {
                state.generation += 1;
                state.process = std::process::id();
                Ok(())
            }
        }
    }

    fn not_started(&self, error: CallError) -> Error {
        let target = self.path.display().to_string();
        let decoded = decode(error, "start the PKCS#11 module", &target);
        if self.is_named("softokn") {
            let message = "NSS's softoken wants parameters of its own, and keeps its keys in files";
            return Error::new(Kind::Unsupported, "start the PKCS#11 module", message)
                .with_target(target)
                .caused_by(decoded)
                .with_hint("use a hardware device; SoftHSM is good enough to try things out");
        }
        if !self.is_softhsm() {
            return decoded;
        }
        let message = decoded.message().to_owned();
        Error::new(Kind::DeviceGone, "start the PKCS#11 module", message).with_target(target).caused_by(decoded).with_hint(
            "SoftHSM found no usable configuration or token directory: check $SOFTHSM2_CONF and its directories.tokendir",
        )
    }

    fn finalise(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.process == std::process::id() && !state.foreign {
            let _ = self.calls.clone().finalize();
        }
        state.process = 0;
    }
}

fn not_loaded(path: &Path, error: CallError) -> Error {
    let refused = |kind, message: String, hint: &str| {
        Error::new(kind, "load the PKCS#11 module", message)
            .with_target(path.display().to_string())
            .with_hint(hint)
    };
    let no_module =
        "name the vendor's PKCS#11 library in module-path; `strongroom doctor` lists those it finds";
    match file_kind::inspect(path) {
        FileKind::Missing => refused(
            Kind::DeviceGone,
            "there is no such file".into(),
            "install the vendor's PKCS#11 library, or correct module-path; `strongroom doctor` lists those it finds",
        ),
        FileKind::Unreadable(why) => refused(Kind::Io, why, "check the file's permissions"),
        FileKind::NotALibrary => refused(Kind::Usage, "the file is not a shared library".into(), no_module),
        FileKind::OtherArchitecture(file, own) => refused(
            Kind::Unsupported,
            format!("the library is built for {file}, this program for {own}"),
            "install the library for this machine's architecture",
        ),
        FileKind::Library => match error {
            CallError::LibraryLoading(error) => refused(
                Kind::Device,
                format!("the dynamic linker refused it: {error}"),
                "install what it depends on: `ldd FILE`",
            ),
            CallError::MissingSymbol(symbol) => refused(
                Kind::Usage,
                format!("the library is not a PKCS#11 module: it has no {symbol}"),
                no_module,
            ),
            other => decode(other, "load the PKCS#11 module", &path.display().to_string()),
        },
    }
}
