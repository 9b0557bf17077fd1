//! The store's settings, and proposals: changes that several admins must agree to (docs/reference/format.md, section 3).

use super::Body;
use crate::device::EvidenceLevel;
use crate::ledger::{DeviceId, Hash};

/// The store's settings, all at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many admins must agree to a change of devices, roles or settings.
    pub quorum: u64,
    /// Whose checkpoints opening needs, if any.
    pub witnesses: Option<Witnesses>,
    /// The lowest level at which a key may be enrolled.
    pub evidence: EvidenceLevel,
    /// Devices that everything is sealed to, sorted.
    pub recovery: Vec<DeviceId>,
    /// How many devices must open together what lies under a prefix; sorted by prefix.
    pub thresholds: Vec<(String, u64)>,
}

/// How many fresh checkpoints a reader asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witnesses {
    /// From so many devices.
    pub count: u64,
    /// None older than this (ms).
    pub max_age: u64,
}

impl Default for Settings {
    /// The settings before the first statement about them.
    fn default() -> Self {
        Self {
            quorum: 1,
            witnesses: None,
            evidence: EvidenceLevel::Simulator,
            recovery: Vec::new(),
            thresholds: Vec::new(),
        }
    }
}

impl Settings {
    /// How many devices must open this name together, 1 if nothing is said: the longest prefix decides.
    pub fn threshold_for(&self, name: &str) -> u64 {
        let covering = self.thresholds.iter().filter(|(prefix, _)| crate::ledger::name::covers(prefix, name));
        covering.max_by_key(|(prefix, _)| prefix.len()).map_or(1, |(_, threshold)| *threshold)
    }
}

/// A change that waits until enough admins agree to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propose {
    /// When it expires. Milliseconds since 1970.
    pub until: u64,
    /// The change: one that [`Body::needs_quorum`].
    pub change: Body,
}

/// An admin agrees to a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approve {
    /// The hash of its statement.
    pub proposal: Hash,
}

/// An admin does not agree to a proposal, or takes it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The hash of its statement.
    pub proposal: Hash,
    /// In the admin's words.
    pub reason: String,
}
