//! The TPM driver on swtpm: what every driver promises, and what goes wrong with a TPM.
#![cfg(feature = "tpm")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::print_stdout)]

#[path = "../common/authority.rs"]
mod authority;
#[path = "../device/conformance.rs"]
mod conformance;
#[path = "../common/endorsed.rs"]
mod endorsed;
#[path = "../device/prompter.rs"]
mod prompter;
#[path = "../common/swtpm.rs"]
mod swtpm;

mod bench;
mod counters;
mod crowd;
mod evidence;
mod measured;
mod pins;
mod relay;
mod trouble;
mod wire;
