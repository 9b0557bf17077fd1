//! Tokens: put, look up, open, change their state, list and show them.

pub(crate) mod age_file;
pub(crate) mod cache_label;
pub(crate) mod candidate;
pub(crate) mod import;
pub(crate) mod lookup;
pub(crate) mod open;
pub(crate) mod open_outcome;
pub(crate) mod policy;
pub(crate) mod put;
pub(crate) mod seals;
pub(crate) mod state;
pub(crate) mod unchanged;
pub(crate) mod views;
pub(crate) mod watch;
