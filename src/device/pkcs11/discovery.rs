//! Finds the PKCS#11 modules of a machine and the one that a URI names.

use super::module::ModuleUse;
use super::slots;
use super::token_info::TokenInfo;
use crate::error::{Error, Kind, Result};
use crate::uri::DeviceUri;
use std::path::{Path, PathBuf};

/// Environment variables that name a module. Ours precedes the one that other tools read.
const VARIABLES: [&str; 2] = ["STRONGROOM_PKCS11_MODULE", "PKCS11_MODULE_PATH"];

/// p11-kit's registries: one file per module, with a line `module: PATH`.
const REGISTRIES: [&str; 2] = ["/etc/pkcs11/modules", "/usr/share/p11-kit/modules"];

/// The directories in which distributions and vendors install modules.
const DIRECTORIES: [&str; 10] = [
    "/usr/lib/x86_64-linux-gnu/pkcs11",
    "/usr/lib/aarch64-linux-gnu/pkcs11",
    "/usr/lib64/pkcs11",
    "/usr/lib/pkcs11",
    "/usr/lib/softhsm",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
];

/// File names of known modules.
const MODULES: [&str; 9] = [
    "libsofthsm2.so",
    "softhsm/libsofthsm2.so",
    "opensc-pkcs11.so",
    "libykcs11.so",
    "libykcs11.so.2",
    "libtpm2_pkcs11.so",
    "libtpm2_pkcs11.so.1",
    "yubihsm_pkcs11.so",
    "libCryptoki2_64.so",
];

/// The modules in p11-kit's registries and the usual directories, without duplicates, in a stable order.
pub fn well_known_modules() -> Vec<PathBuf> {
    let fixed = ["/opt/nfast/toolkits/pkcs11/libcknfast.so", "/opt/cloudhsm/lib/libcloudhsm_pkcs11.so"]
        .map(PathBuf::from);
    let usual =
        DIRECTORIES.iter().flat_map(|directory| MODULES.map(|module| Path::new(directory).join(module)));
    let mut found: Vec<PathBuf> = Vec::new();
    for path in registered().into_iter().chain(usual).chain(fixed) {
        // Distributions link modules into several directories.
        let Ok(path) = path.canonicalize() else { continue };
        if !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

/// The modules to search for the token when the URI names no module.
pub fn candidate_modules() -> Vec<PathBuf> {
    named_by_environment().map_or_else(well_known_modules, |(_, path)| vec![path])
}

/// The tokens in a module, initialised or not.
///
/// # Errors
/// The module's, when it does not load or start.
pub fn tokens_of(module: &Path) -> Result<Vec<TokenInfo>> {
    if has_no_store(module) {
        return Ok(Vec::new());
    }
    let shared = ModuleUse::open(module)?;
    let _turn = shared.start_lock();
    let live = shared.start()?;
    Ok(slots::all(&live, &module.display().to_string())?.into_iter().map(|(_, token)| token).collect())
}

/// Whether a module is tpm2-pkcs11 without a store, which it would make when it starts.
fn has_no_store(module: &Path) -> bool {
    let is_tpm2_pkcs11 =
        module.file_name().is_some_and(|name| name.to_string_lossy().contains("tpm2_pkcs11"));
    let own = std::env::home_dir().map(|home| home.join(".tpm2_pkcs11"));
    let named = std::env::var_os("TPM2_PKCS11_STORE").map(PathBuf::from);
    let stores = [named, Some("/etc/tpm2_pkcs11".into()), own];
    is_tpm2_pkcs11 && !stores.into_iter().flatten().any(|store| store.join("tpm2_pkcs11.sqlite3").exists())
}

/// The module that a URI names.
pub fn module_of(uri: &DeviceUri) -> Result<PathBuf> {
    if let Some(path) = uri.module_path() {
        return absolute(path, "module-path");
    }
    if let Some(name) = uri.module_name() {
        return by_name(name).ok_or_else(|| {
            no_module(
                uri,
                format!(
                    "no installed module is called `{name}`; there are {}",
                    listed(&well_known_modules())
                ),
            )
        });
    }
    match named_by_environment() {
        Some((variable, path)) => absolute(&path, variable),
        None => only_matching(uri),
    }
}

fn named_by_environment() -> Option<(&'static str, PathBuf)> {
    VARIABLES
        .iter()
        .find_map(|name| Some((*name, std::env::var_os(name).filter(|path| !path.is_empty())?.into())))
}

/// A relative path would load a file from the current directory.
fn absolute(path: &Path, from: &str) -> Result<PathBuf> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    Err(Error::new(Kind::Usage, "load the PKCS#11 module", format!("the path in {from} is not absolute"))
        .with_target(path.display().to_string())
        .with_hint("write the absolute path, beginning with /"))
}

/// RFC 7512 §2.3: `module-name` has neither directory, nor `lib`, nor `.so`.
fn by_name(name: &str) -> Option<PathBuf> {
    let matches = |path: &PathBuf| {
        let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = file.split_once(".so").map_or(file.as_str(), |(stem, _)| stem);
        stem == name || stem.strip_prefix("lib") == Some(name)
    };
    well_known_modules().into_iter().find(matches)
}

/// The only installed module that has the token, when the URI names no module.
fn only_matching(uri: &DeviceUri) -> Result<PathBuf> {
    let modules = well_known_modules();
    let find = |path: &PathBuf| {
        if has_no_store(path) {
            return Err(no_module(uri, "it has no store".into()));
        }
        let module = ModuleUse::open(path)?;
        let _turn = module.start_lock();
        let live = module.start()?;
        slots::find(&live, uri, &uri.display_name()).map(drop)
    };
    // `connect` reports several matching tokens in one module.
    let has_it = |path: &&PathBuf| find(path).map_or_else(|e| e.kind() == Kind::Usage, |()| true);
    let mut matching: Vec<_> = modules.iter().filter(has_it).collect();
    match matching.len() {
        1 => Ok(matching.remove(0).clone()),
        0 if modules.is_empty() => {
            Err(no_module(uri, "no PKCS#11 module is installed in the usual directories".into()))
        }
        0 => Err(no_module(
            uri,
            format!("no installed module has a matching token; searched: {}", listed(&modules)),
        )),
        _ => Err(no_module(
            uri,
            format!("several installed modules have a matching token: {}", listed(matching)),
        )),
    }
}

fn no_module(uri: &DeviceUri, message: String) -> Error {
    Error::new(Kind::DeviceGone, "find the PKCS#11 module", message)
        .with_target(uri.display_name())
        .with_hint("name it in the URI: ?module-path=/path/to/module.so")
}

fn listed<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> String {
    paths.into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The paths in p11-kit's module files (pkcs11.conf(5)).
fn registered() -> Vec<PathBuf> {
    let files =
        REGISTRIES.iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten().flatten();
    let mut files: Vec<_> =
        files.map(|entry| entry.path()).filter(|path| path.extension() == Some("module".as_ref())).collect();
    files.sort();
    files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .flat_map(|text| module_lines(&text))
        .collect()
}

/// A relative path is relative to a directory set when p11-kit was built. Tries all likely ones.
fn module_lines(text: &str) -> Vec<PathBuf> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("module:")).map(str::trim);
    lines.flat_map(|path| DIRECTORIES.map(|directory| Path::new(directory).join(path))).collect()
}
