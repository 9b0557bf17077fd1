//! The ledger's formats: vectors that stay for ever, what is refused, and properties that hold for everything.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod arbitrary;
mod batches;
mod checkpoints;
mod fields;
mod files;
mod fuzz_corpus;
mod item;
mod malformed;
mod properties;
mod quorum_store;
mod resealed_store;
mod soft_devices;
mod statements;
mod store_builder;
mod tampering;
mod whole_store;
