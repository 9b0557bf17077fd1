//! Sealed tokens, against keys in software.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod keys;
mod round_trip;
