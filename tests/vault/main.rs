//! The library without the command line: on a real PKCS#11 module, and on devices in software.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod backup;
mod checkpoints;
mod devices;
mod frozen_store;
mod lifecycle;
mod machines;
mod open_path;
mod policies;
mod renew;
mod reseal;
mod rollback_counter;
mod staged;
mod thresholds;
