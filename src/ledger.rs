//! The ledger: statements, the batches that sign them, the chain that orders them, and the rules that judge them.
//!
//! Pure: no device, no store, no clock. The bytes are specified in `docs/reference/format.md`.

pub mod batch;
pub mod body;
mod body_codec;
mod cbor;
pub mod checkpoint;
mod envelope;
pub mod error;
pub mod id;
pub mod judge;
pub mod merkle;
pub mod name;
mod signature;
pub mod statement;
mod subject;
pub mod verify;

pub use batch::{Batch, SignedBatch};
pub use body::Body;
pub use body_codec::sorted_roles;
pub use checkpoint::{AccessHead, Checkpoint, SignedCheckpoint};
pub use envelope::{Envelope, MAX_SIGN1_BYTES, Signed};
pub use error::{Ineffective, Tampering};
pub use id::{DeviceId, GrantId, Hash, StoreId, TokenId};
pub use name::{Name, Prefix};
pub use signature::SignatureAlgorithm;
pub use statement::Statement;
pub use subject::Subject;

use sha2::{Digest, Sha256};

/// The message for a version, kind or value that this program does not know.
pub const NEWER_FORMAT: &str = cbor::NEWER.0;

/// The most statements that one signature covers.
pub const MAX_BATCH: usize = 10_000;

/// The most bytes of all statements in a batch, which a reader holds in memory.
pub const MAX_BATCH_BYTES: usize = 16 << 20;

/// The most bytes of one encoded statement.
pub const MAX_STATEMENT_BYTES: usize = 1 << 20;

/// The most devices that one seal is for.
pub const MAX_RECIPIENTS: usize = 254;

/// The most seals that a version has.
pub const MAX_SEALS: usize = 64;

/// The most bytes of material that a key is enrolled with.
pub const MAX_MATERIAL_BYTES: usize = 16 << 10;

/// The most sealed bytes of one version: 1 MiB of token, and room for age's header.
pub const MAX_SEALED_BYTES: u64 = (1 << 20) + (64 << 10);

/// A statement's hash: its RFC 6962 leaf hash, SHA-256(0x00 ‖ bytes).
pub fn leaf(statement: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(statement).finalize().into())
}

/// chain(n) = SHA-256(chain(n − 1) ‖ hash of statement n); chain(0) is [`Hash::ZERO`].
pub fn link(previous: Hash, leaf: Hash) -> Hash {
    Hash(Sha256::new().chain_update(previous.0).chain_update(leaf.0).finalize().into())
}

/// SHA-256, as used for sealed bytes.
pub fn sha256(bytes: &[u8]) -> Hash {
    Hash(Sha256::digest(bytes).into())
}

/// A position on a chain: the number of statements, and the chain's value there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// Statements so far; 0 before genesis.
    pub n: u64,
    /// chain(n).
    pub chain: Hash,
}

impl LogPosition {
    /// Before the first statement.
    pub const START: Self = Self { n: 0, chain: Hash::ZERO };

    /// The position after one more statement.
    #[must_use]
    pub fn after(self, leaf: Hash) -> Self {
        Self { n: self.n + 1, chain: link(self.chain, leaf) }
    }
}
