//! Who is at the other end of a socket: the process, its systemd unit and its program, as the kernel tells them.

pub mod peer;
pub mod pidfd_cache;
pub mod program;
pub mod systemd_unit;

use crate::ledger::Hash;
use peer::Peer;
use std::sync::Arc;

/// A client, with all that is known about it so far.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The process.
    pub peer: Arc<Peer>,
    /// The digest of its program, when some grant names one.
    pub digest: Option<Hash>,
}
