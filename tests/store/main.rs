//! Every kind of store, held to the same conformance suite; then what can go wrong with each one's storage.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod bench;
mod change;
#[macro_use]
mod conformance;
mod sqlite;

conformance!(sqlite_conforms, crate::bench::Sqlite);
