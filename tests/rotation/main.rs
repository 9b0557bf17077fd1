//! Rotation: the engine, the hooks, and what survives when everything dies.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod crashes;
mod engine;
mod exec;
mod file;
mod leases;
mod machine;
mod postgres;
