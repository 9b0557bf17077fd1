//! The ledger: show it, verify it, trust it, repair it.

pub mod head;
pub mod log;
pub mod repair;
pub mod trust;
pub mod verify;
