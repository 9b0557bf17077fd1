//! The documents: their links lead somewhere, and what they tell people to type works.
#![cfg(all(feature = "pkcs11", feature = "tpm", feature = "piv"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod api;
mod commands;
mod config;
mod home;
mod json;
mod links;
mod names;
mod page;
mod rust;
mod second_implementation;
mod shell;
