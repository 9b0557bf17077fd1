//! Devices: one conformance suite for all drivers, and what goes wrong with each.
#![cfg(feature = "pkcs11")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::print_stdout)]

mod calls;
mod certificates;
mod keys;
mod logins;
mod modules;
#[cfg(feature = "piv")]
mod other_modules;
#[cfg(feature = "piv")]
mod pcscd;
mod pins;
#[cfg(feature = "piv")]
mod piv;
mod quirks;
mod shim;
mod simulators;
mod start_lock;
mod storage;
mod worker;
#[cfg(feature = "piv")]
mod ykcs11;
