//! The two ways a statement can fail (docs/reference/format.md, section 5).

use super::cbor::Malformed;
use super::id::{DeviceId, Hash};
use super::subject::Subject;
use thiserror::Error;

/// The store was altered: it is refused from this position on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Tampering {
    /// Bytes that are no statement.
    #[error("statement {n} is not well formed: {what}")]
    Statement {
        /// Its position.
        n: u64,
        /// The malformed element.
        what: &'static str,
    },
    /// Bytes that are no batch.
    #[error("the batch at {first} is not well formed: {what}")]
    Batch {
        /// Its first position.
        first: u64,
        /// The malformed element.
        what: &'static str,
    },
    /// Positions with a gap.
    #[error("statement {expected} is missing: the store goes on with {found}")]
    Gap {
        /// The position that should come.
        expected: u64,
        /// The position that came.
        found: u64,
    },
    /// Not the statements that were signed.
    #[error("the statements of the batch at {first} are not those that were signed")]
    Contents {
        /// Its first position.
        first: u64,
    },
    /// Made for another store.
    #[error("statement {n} belongs to another store")]
    OtherStore {
        /// Its position.
        n: u64,
    },
    /// Author and signer differ.
    #[error("statement {n} names an author who did not sign it")]
    Author {
        /// Its position.
        n: u64,
    },
    /// Signed by a device that was never enrolled.
    #[error("the batch at {first} is signed by {device}, which was never enrolled")]
    UnknownDevice {
        /// Its first position.
        first: u64,
        /// The `kid`.
        device: DeviceId,
    },
    /// The signature is not the device's.
    #[error("the signature of the batch at {first} is not that of {device}")]
    Signature {
        /// Its first position.
        first: u64,
        /// The `kid`.
        device: DeviceId,
    },
    /// The author had seen another chain.
    #[error("the batch at {first} was signed on another chain: its author had seen {seen} as {chain}")]
    Seen {
        /// Its first position.
        first: u64,
        /// The position the author had seen.
        seen: u64,
        /// The chain value the author had seen.
        chain: Hash,
    },
    /// The store does not begin as a store must.
    #[error("the store does not begin with one genesis statement and its enrolment: {what}")]
    Genesis {
        /// What is wrong.
        what: &'static str,
    },
}

/// Well signed but not allowed: recorded and shown, but without effect.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Ineffective {
    /// Signed before a change of devices or roles that precedes it in the ledger.
    #[error("signed under an earlier state of devices and roles")]
    StaleAdminHead,
    /// An admin batch that holds other statements.
    #[error("changes of devices and roles must come alone")]
    AdminBatch,
    /// An anchor that does not directly follow what its author had seen.
    #[error("an anchor must come directly after what its author had seen")]
    Elsewhere,
    /// The author was retired.
    #[error("its author was retired")]
    Retired,
    /// Another statement came first.
    #[error("another change of {0:?} came first")]
    Stale(Subject),
    /// The author has no role for it.
    #[error("its author has no `{0}` role for it")]
    Role(&'static str),
    /// Against a rule of its kind.
    #[error("{0}")]
    Rule(String),
}

impl From<Malformed> for Ineffective {
    fn from(malformed: Malformed) -> Self {
        Self::Rule(malformed.0.into())
    }
}
