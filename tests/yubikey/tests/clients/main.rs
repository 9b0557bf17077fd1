//! The virtual YubiKey, as clients of PC/SC see it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod behind_pcscd;
mod library;
mod sharing;
mod third_party;
