//! Tokens and versions in words, for people and for programs.

use crate::cli::args::time;
use std::collections::BTreeMap;
use strongroom::vault;

/// What a listing can be narrowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StateFilter {
    /// Opens.
    Active,
    /// Closed for now.
    Suspended,
    /// Closed for ever.
    Revoked,
    /// Stored, not yet in use.
    Staged,
    /// Active, and past its time.
    Expired,
    /// Active, and before its time.
    Early,
    /// Its sealed bytes are gone.
    Destroyed,
}

impl StateFilter {
    /// Whether a version is shown so.
    pub fn is(self, shown: vault::EffectiveState) -> bool {
        match self {
            Self::Active => shown == vault::EffectiveState::Active,
            Self::Suspended => shown == vault::EffectiveState::Suspended,
            Self::Revoked => shown == vault::EffectiveState::Revoked,
            Self::Staged => shown == vault::EffectiveState::Staged,
            Self::Expired => shown == vault::EffectiveState::Expired,
            Self::Early => shown == vault::EffectiveState::Early,
            Self::Destroyed => shown == vault::EffectiveState::Destroyed,
        }
    }
}

/// What stands for nothing in a column.
pub const EMPTY_CELL: &str = "-";

/// A time in a column.
pub fn time_cell(at: Option<u64>) -> String {
    at.map_or_else(|| EMPTY_CELL.into(), time::rfc3339_secs)
}

/// Labels in a column: `env=prod,team=web`.
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if labels.is_empty() { EMPTY_CELL.into() } else { labels.join(",") }
}

/// So many of something: `1 token`, `2 tokens`.
pub fn pluralize(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
