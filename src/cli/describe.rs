//! Tokens and versions in words, for people and for programs.

use super::time;
use serde::Serialize;
use std::collections::BTreeMap;
use strongroom::Vault;
use strongroom::ledger::DeviceId;
use strongroom::ledger::body::State;
use strongroom::replica::{TokenRow, VersionRow};

/// What a listing says about a version: its state, and whether its time has come or is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shown {
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

impl Shown {
    /// Of one version of a token.
    pub fn of(vault: &Vault, token: &TokenRow, row: &VersionRow) -> Self {
        match row.state {
            None => Self::Destroyed,
            Some(State::Revoked) => Self::Revoked,
            Some(State::Staged) => Self::Staged,
            Some(State::Suspended) => Self::Suspended,
            Some(State::Active) if token.suspended => Self::Suspended,
            Some(State::Active) if row.expiry.is_some_and(|at| at <= vault.latest_time()) => Self::Expired,
            Some(State::Active) if row.not_before.is_some_and(|at| at > vault.latest_time()) => Self::Early,
            Some(State::Active) => Self::Active,
        }
    }

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
            Self::Staged => "staged",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::Destroyed => "destroyed",
        }
    }
}

/// What stands for nothing in a column.
pub const NOTHING: &str = "-";

/// A time in a column.
pub fn time_or_nothing(at: Option<u64>) -> String {
    at.map_or_else(|| NOTHING.into(), time::person)
}

/// Labels in a column: `env=prod,team=web`.
pub fn labels(row: &VersionRow) -> String {
    let labels: Vec<_> = row.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if labels.is_empty() { NOTHING.into() } else { labels.join(",") }
}

/// A device by what people call it; by its id where it has no name here.
pub fn device(vault: &Vault, id: &DeviceId) -> String {
    match vault.replica().device_row(id) {
        Ok(Some(row)) => row.enrolment.name,
        _ => id.to_string(),
    }
}

/// Devices by what people call them, in that order.
pub fn devices(vault: &Vault, ids: &[DeviceId]) -> Vec<String> {
    let mut names: Vec<_> = ids.iter().map(|id| device(vault, id)).collect();
    names.sort();
    names
}

/// So many of something: `1 token`, `2 tokens`.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A time in JSON.
pub fn time_json(at: Option<u64>) -> Option<String> {
    at.map(time::program)
}

/// A version in JSON.
#[derive(Serialize)]
pub struct VersionJson<'a> {
    name: &'a str,
    version: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    expires: Option<String>,
    not_before: Option<String>,
    labels: BTreeMap<&'a str, &'a str>,
    description: &'a str,
    keep: Option<u64>,
    put: Option<String>,
    by: String,
    recipients: Vec<String>,
    length: u64,
    digest: String,
    n: u64,
}

impl<'a> VersionJson<'a> {
    /// One version of a token.
    pub fn of(vault: &Vault, token: &'a TokenRow, row: &'a VersionRow) -> Self {
        Self {
            name: &token.name,
            version: row.version,
            state: Shown::of(vault, token, row).word(),
            reason: &row.reason,
            expires: time_json(row.expiry),
            not_before: time_json(row.not_before),
            labels: row.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            description: &row.description,
            keep: row.keep,
            put: time_json(Some(row.time)),
            by: device(vault, &row.author),
            recipients: devices(vault, &row.recipients),
            length: row.length,
            digest: row.digest.to_string(),
            n: row.n,
        }
    }
}
