//! The ledger: show it, verify it, trust it, repair it, back it up.

pub mod audit;
pub mod backup;
mod cef;
pub mod checkpoint;
pub mod head;
pub mod log;
mod log_filter;
pub mod repair;
pub mod trust;
pub mod verify;
