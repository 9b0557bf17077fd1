//! The attacks that the formats answer (docs/reference/format.md, docs/explanation/threat-model.md), each made with real signatures where the
//! attacker has a device.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod checkpoints;
mod crashes;
mod edits;
mod equivocation;
mod history;
mod limits;
mod malleability;
mod order;
mod own_changes;
mod processes;
mod quorum;
mod repairs;
mod replicas;
mod reseals;
mod roles;
mod tampering;
mod thresholds;
mod transplant;
mod trust;
