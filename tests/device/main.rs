//! Devices: one conformance suite for all drivers, and what goes wrong with each.
#![cfg(feature = "pkcs11")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::print_stdout)]

#[path = "../common/authority.rs"]
mod authority;
#[path = "../common/softhsm.rs"]
mod softhsm;
#[cfg(feature = "piv")]
#[path = "../common/yubikey.rs"]
mod yubikey;

mod calls;
mod certificates;
mod conformance;
mod keys;
mod modules;
mod pins;
#[cfg(feature = "piv")]
mod piv;
mod prompter;
mod shim;
mod simulators;
mod start;
mod storage;
mod worker;
#[cfg(feature = "piv")]
mod ykcs11;
