//! The agent: run it (`serve`), or talk to the one that runs.

#[cfg(feature = "agent")]
pub mod serve;
pub mod status;
pub mod unlock;
