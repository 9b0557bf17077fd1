//! The virtual YubiKey, as clients of PC/SC see it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

#[path = "../../../common/pcscd.rs"]
mod pcscd;
#[path = "../../../common/yubikey.rs"]
mod yubikey;

mod behind_pcscd;
mod library;
mod sharing;
mod third_party;
