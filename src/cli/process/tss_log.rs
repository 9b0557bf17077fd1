//! tpm2-tss writes what it thinks of every failed command to stderr, in words for its own developers, and also where failure is
//! part of the plan. Our own errors say what came back.
//!
//! It asks the environment (`TSS2_LOG`) once, at its first word, and offers no other way. Setting a variable is `unsafe` in
//! this edition, as another thread might read the environment meanwhile; this crate forbids `unsafe`, and starting itself
//! anew with another environment would cost every command some milliseconds. So the variable is set by `dotenvy`, whose function
//! is safe to call by its signature, and sound to call here: before there is a second thread. It leaves a variable alone that
//! the user has set.

use std::process::Command;
use std::sync::OnceLock;

const VARIABLE: &str = "TSS2_LOG";

/// Whether the variable is ours, and not the user's.
static OURS: OnceLock<()> = OnceLock::new();

/// Silences it. To be called first of all.
pub fn silence() {
    #[cfg(feature = "tpm")]
    if std::env::var_os(VARIABLE).is_none() {
        // Where it fails there is more noise, and no harm.
        let _ = dotenvy::from_read(format!("{VARIABLE}=all+NONE").as_bytes());
        let _ = OURS.set(());
    }
}

/// A program that takes over, or is started, does not inherit what the user did not set.
pub fn restore(command: &mut Command) {
    if OURS.get().is_some() {
        command.env_remove(VARIABLE);
    }
}
