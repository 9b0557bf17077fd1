//! The ledger: show it, verify it, trust it, repair it.

pub mod log;
pub mod trust;
pub mod verify;
