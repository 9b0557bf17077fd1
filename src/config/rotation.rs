//! `[agent.rotation]`: the agent rotates by itself what is due.

use super::Period;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How the agent rotates. What is not set has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RotationSettings {
    /// How often it looks for what is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Period>,
    /// The most by which each rotation is put off, so that machines and tokens do not all come at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Period>,
    /// The longest time between two attempts at a token that fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_max: Option<Period>,
    /// A program with arguments that is told what became of a rotation, as JSON on standard input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<String>,
}

impl RotationSettings {
    /// How often it looks for what is due, and the first time between two attempts.
    pub fn every(&self) -> Duration {
        self.every.map_or(Duration::from_secs(60), |period| period.0).max(Duration::from_secs(1))
    }

    /// The most by which a rotation is put off.
    pub fn jitter(&self) -> Duration {
        self.jitter.map_or(Duration::from_secs(300), |period| period.0)
    }

    /// The longest time between two attempts.
    pub fn retry_max(&self) -> Duration {
        self.retry_max.map_or(Duration::from_secs(3600), |period| period.0).max(self.every())
    }
}
