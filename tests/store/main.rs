//! Every kind of store, held to the same conformance suite; then what can go wrong with each one's storage.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod change;
mod store_factory;
#[macro_use]
mod conformance;
mod sqlite;

conformance!(sqlite_conforms, crate::store_factory::Sqlite);
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
conformance!(postgres_conforms, crate::store_factory::Postgres);
