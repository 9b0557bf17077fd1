//! Tokens and versions in words, for people and for programs.

use crate::cli::args::time;
use std::collections::BTreeMap;

/// A cell without a value.
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
