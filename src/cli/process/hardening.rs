//! Hardening, before the process handles a secret.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use std::sync::OnceLock;
use strongroom::{Error, Kind};

/// The limit on core files that this process was started with.
static CORE: OnceLock<Rlimit> = OnceLock::new();

/// No core file, and no debugger of the same user: neither may show a token or a PIN.
///
/// A closed pipe needs no care here: Rust ignores SIGPIPE, so it comes as an error, which [`crate::cli::exit`] takes for success.
pub fn apply() -> Result<(), Error> {
    let failed =
        |e: rustix::io::Errno| Error::new(Kind::Io, "keep the process from being dumped", e.to_string());
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed)?;
    let core = *CORE.get_or_init(|| getrlimit(Resource::Core));
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: core.maximum }).map_err(failed)
}

/// Restores the limit for a program that replaces this process.
pub fn restore_core_limit() {
    if let Some(core) = CORE.get() {
        // If it cannot be raised again, the program runs without core files.
        let _ = setrlimit(Resource::Core, *core);
    }
}
