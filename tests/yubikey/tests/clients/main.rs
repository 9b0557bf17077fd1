//! The virtual YubiKey, as clients of PC/SC see it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod library;
mod pcscd;
mod sharing;
mod third_party;
