//! The library without the command line, on a real PKCS#11 module.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../common/softhsm.rs"]
mod softhsm;

mod life;
