//! The ledger: show it, verify it, trust it, repair it, back it up.

pub mod backup;
pub mod head;
pub mod log;
pub mod repair;
pub mod trust;
pub mod verify;
