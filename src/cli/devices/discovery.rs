//! Finds this machine's devices, without logging in to any.

use crate::cli::confirm;
use std::path::PathBuf;
use strongroom::device::DeviceIdentity;
use strongroom::prompt::Terminal;
use strongroom::uri::DeviceUri;
use strongroom::{Error, Kind, Result};

/// A PKCS#11 module and what is behind it.
pub struct Module {
    /// Its file.
    pub path: PathBuf,
    /// Its tokens; an error when the module does not load or start.
    pub tokens: Result<Vec<Token>>,
}

/// A token in a module.
pub struct Token {
    /// Its description of itself.
    pub identity: DeviceIdentity,
    /// Ready for use: it has a label and a user PIN.
    pub ready: bool,
    /// Its user PIN is locked.
    pub locked: bool,
    /// One more wrong PIN locks it.
    pub last_try: bool,
    /// A URI that names it, with the module's path.
    pub uri: String,
}

/// The module that the environment names, or those in the usual directories, each with its tokens.
#[cfg(feature = "pkcs11")]
pub fn modules() -> Vec<Module> {
    use strongroom::device::pkcs11::{candidate_modules, tokens_of};
    use strongroom::device::{PATIENCE, within};
    let discover = |path: PathBuf| {
        let (name, module) = (path.display().to_string(), path.clone());
        // A module that hangs does not keep the others from being looked at.
        let tokens = within(PATIENCE, (&name, "look for tokens"), move || tokens_of(&module));
        let tokens = tokens.map(|tokens| tokens.into_iter().map(|facts| token(facts, &path)).collect());
        Module { path, tokens }
    };
    // Modules write to stderr what they think of a missing service or an empty configuration.
    without_stderr(|| candidate_modules().into_iter().map(discover).collect())
}

/// Runs `job` with standard error closed to everybody in this process.
#[cfg(feature = "pkcs11")]
fn without_stderr<T>(job: impl FnOnce() -> T) -> T {
    let kept = rustix::io::dup(rustix::stdio::stderr());
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null");
    let (Ok(kept), Ok(null)) = (kept, null) else { return job() };
    let hidden = rustix::stdio::dup2_stderr(null);
    let done = job();
    if hidden.is_ok() {
        let _ = rustix::stdio::dup2_stderr(kept);
    }
    done
}

/// This build has no PKCS#11 driver.
#[cfg(not(feature = "pkcs11"))]
pub fn modules() -> Vec<Module> {
    Vec::new()
}

#[cfg(feature = "pkcs11")]
fn token(facts: strongroom::device::pkcs11::TokenInfo, module: &std::path::Path) -> Token {
    let (ready, locked) = (facts.initialised && facts.pin.set, facts.pin.locked);
    let (slot, module) = (facts.slot_id.to_string(), module.display().to_string());
    let name =
        if facts.described { ("token", facts.identity.label.as_str()) } else { ("slot-id", slot.as_str()) };
    let attributes = [name, ("module-path", module.as_str())];
    let named = DeviceUri::parse("pkcs11:")
        .and_then(|uri| attributes.iter().try_fold(uri, |uri, (name, value)| uri.with(name, value)));
    let uri = named.map_or_else(|_| format!("pkcs11:slot-id={}", facts.slot_id), |uri| uri.to_string());
    let last_try = facts.pin.tries == strongroom::prompt::TriesLeft::Last;
    Token { identity: facts.identity, ready, locked, last_try, uri }
}

/// The YubiKeys that are plugged in, and new enough.
#[cfg(feature = "piv")]
pub fn yubikeys() -> Vec<Token> {
    let readers = strongroom::device::piv::discover().unwrap_or_default();
    readers.into_iter().filter_map(|reader| yubikey(reader.yubikey.ok()?)).collect()
}

/// This build has no YubiKey driver.
#[cfg(not(feature = "piv"))]
pub fn yubikeys() -> Vec<Token> {
    Vec::new()
}

#[cfg(feature = "piv")]
fn yubikey(facts: strongroom::device::piv::YubiKeyInfo) -> Option<Token> {
    let piv = facts.piv?;
    let identity = DeviceIdentity {
        scheme: strongroom::uri::Scheme::Piv,
        maker: "Yubico".into(),
        model: "YubiKey".into(),
        serial: facts.serial.to_string(),
        firmware: facts.firmware,
        label: format!("YubiKey {}", facts.serial),
        simulator: false,
    };
    let locked = piv.pin.tries == 0;
    let (last_try, uri) = (piv.pin.tries == 1, format!("piv:serial={}", facts.serial));
    Some(Token { identity, ready: !locked, locked, last_try, uri })
}

/// The TPM behind the kernel's resource manager, if this user may use it.
#[cfg(feature = "tpm")]
pub fn tpms() -> Vec<Token> {
    let ours = |uri: &str| {
        let uri = DeviceUri::parse(uri).ok()?;
        let health = strongroom::device::tpm::examine(&uri).ok()?;
        let (last_try, locked) = (health.is_at_last_try(), health.locked);
        Some(Token { identity: health.identity, ready: true, locked, last_try, uri: uri.to_string() })
    };
    std::path::Path::new("/dev/tpmrm0")
        .exists()
        .then(|| ours("tpm:?tcti=device:/dev/tpmrm0"))
        .flatten()
        .into_iter()
        .collect()
}

/// This build has no TPM driver.
#[cfg(not(feature = "tpm"))]
pub fn tpms() -> Vec<Token> {
    Vec::new()
}

/// The tokens of all modules that could be started, and the errors of the others.
pub fn tokens(modules: Vec<Module>) -> (Vec<Token>, Vec<Error>) {
    let (mut tokens, mut errors) = (Vec::new(), Vec::new());
    for module in modules {
        match module.tokens {
            Ok(found) => tokens.extend(found),
            Err(error) => errors.push(error),
        }
    }
    (tokens, errors)
}

/// The device that was named, or the only one found, with its module pinned.
pub fn named_or_only(uri: Option<&str>, operation: &'static str, yes: bool) -> Result<DeviceUri> {
    with_module(match uri {
        Some(uri) => DeviceUri::parse(uri)?,
        None => propose(operation, yes)?,
    })
}

/// The only device found, if the user agrees.
pub fn propose(operation: &'static str, yes: bool) -> Result<DeviceUri> {
    let (tokens, errors) = tokens(modules());
    let others = yubikeys().into_iter().chain(tpms());
    let ready: Vec<_> = tokens.into_iter().chain(others).filter(|token| token.ready).collect();
    let usage = |message: String, hint: String| Error::new(Kind::Usage, operation, message).with_hint(hint);
    match ready.as_slice() {
        // A broken module is only one possible reason, and it may not be needed at all.
        [] => Err(usage(
            format!("no device was named, and none that is ready was found{}", failed_modules(&errors)),
            "name one with --device; `strongroom doctor` says what is missing".into(),
        )),
        [only] if yes || Terminal::open().is_some() => {
            let identity = &only.identity;
            let serial = if identity.serial.is_empty() {
                String::new()
            } else {
                format!(", serial {}", identity.serial)
            };
            let what = format!("{} {}{serial}", identity.maker, identity.model);
            confirm::confirm(yes, operation, &format!("Found {}: {what}. Use it?", only.uri))?;
            DeviceUri::parse(&only.uri)
        }
        [only] => Err(usage(
            "no device was named, and there is no terminal to ask on".into(),
            format!("give --yes to use the only one found, or name it: --device '{}'", only.uri),
        )),
        several => {
            let uris: Vec<_> = several.iter().map(|token| format!("--device '{}'", token.uri)).collect();
            Err(usage(
                "no device was named, and there are several".into(),
                format!("name one: {}", uris.join("  or  ")),
            ))
        }
    }
}

fn failed_modules(errors: &[Error]) -> String {
    let each = |error: &Error| format!("; {}: {}", error.target().unwrap_or("a module"), error.message());
    errors.iter().map(each).collect()
}

/// The URI with its module pinned, so that later commands neither search for it nor take another.
pub fn with_module(uri: DeviceUri) -> Result<DeviceUri> {
    #[cfg(feature = "pkcs11")]
    if uri.scheme() == strongroom::uri::Scheme::Pkcs11 && uri.module_path().is_none() {
        let module = strongroom::device::pkcs11::module_of(&uri)?;
        return uri.with("module-path", &module.display().to_string());
    }
    Ok(uri)
}
