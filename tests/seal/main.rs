//! Sealed tokens, against keys in software.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod forge;
mod interop;
mod keys;
mod refusals;
mod round_trip;
mod tampering;
mod vectors;
