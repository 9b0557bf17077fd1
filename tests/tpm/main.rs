//! The TPM driver on swtpm: what every driver promises, and what goes wrong with a TPM.
#![cfg(feature = "tpm")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::print_stdout)]

mod counters;
mod evidence;
mod faults;
mod interposer;
mod on_swtpm;
mod pcrs;
mod pins;
mod sharing;
