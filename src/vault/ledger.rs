//! The ledger: sign and submit changes, read, verify and repair it; the access log.

pub(crate) mod access_log;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod checkpoint;
pub(crate) mod encoded_batch;
pub(crate) mod log;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod submit;
pub(crate) mod verify;
pub(crate) mod views;
pub(crate) mod witnesses;
