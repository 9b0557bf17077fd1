//! What this process does to itself before its first secret.

pub mod hardening;
pub mod logging;
pub mod tss_log;
