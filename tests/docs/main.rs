//! The documents: their links lead somewhere, and what they tell people to type works.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod links;
