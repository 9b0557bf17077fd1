//! The `strongroom` command, from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[cfg(feature = "piv")]
mod doctor;
mod pcscd;
#[cfg(feature = "tpm")]
mod tpm;

mod process;
mod redact;
mod report;
mod run;
mod secrets;
mod signing_keys;
mod terminal;
mod transcript;
#[cfg(feature = "piv")]
mod yubikeys;
