//! The access log's chains, which every kind of store reads, verifies and drops alike.

use super::rules::Columns;
use super::{Access, RecordedAccess};
use crate::error::Result;
use crate::ledger::{AccessHead, Hash};
use minicbor::Encoder;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// The longest text in the access log, a program's path, with room for what is written in place of its odd bytes.
const MAX_TEXT_BYTES: usize = 16 << 10;

/// Longer than a device's id in hex.
const MAX_DEVICE_BYTES: usize = 64;

/// More devices than a store has. Each takes memory while the chains are checked.
const MAX_DEVICES: usize = 1 << 16;

/// So many lines are dropped in one transaction: others wait for it.
const DROPPED_AT_ONCE: u64 = 10_000;

/// SHA-256(`previous` ‖ the line as a CBOR array).
pub(super) fn link(previous: Hash, access: &Access) -> Hash {
    let mut line = Encoder::new(Vec::with_capacity(256));
    // Writing into a vector cannot fail.
    let _ = line
        .array(8)
        .and_then(|w| w.u64(access.time))
        .and_then(|w| w.str(&access.device))
        .and_then(|w| w.u32(access.uid))
        .and_then(|w| w.u32(access.pid))
        .and_then(|w| w.str(&access.exe))
        .and_then(|w| w.str(&access.name))
        .and_then(|w| w.u64(access.version))
        .and_then(|w| w.str(&access.outcome))
        .map(|_| ());
    Hash(Sha256::new().chain_update(previous.0).chain_update(line.into_writer()).finalize().into())
}

/// A line: n, time, device, uid, pid, exe, name, version, outcome, chain.
pub(super) fn read_line(row: &impl Columns) -> Result<RecordedAccess> {
    let access = Access {
        time: row.uint(1)?,
        device: row.text(2, MAX_DEVICE_BYTES)?,
        uid: row.small(3)?,
        pid: row.small(4)?,
        exe: row.text(5, MAX_TEXT_BYTES)?,
        name: row.text(6, MAX_TEXT_BYTES)?,
        version: row.uint(7)?,
        outcome: row.text(8, MAX_TEXT_BYTES)?,
    };
    Ok(RecordedAccess { n: row.uint(0)?, access, chain: row.hash(9)? })
}

/// What was dropped of a device: its id, count, chain.
pub(super) fn read_head(row: &impl Columns) -> Result<AccessHead> {
    Ok(AccessHead { count: row.uint(1)?, chain: row.hash(2)? })
}

/// Where the chain of each device has come to.
#[derive(Default)]
pub(super) struct Ends(HashMap<String, AccessHead>);

impl Ends {
    /// Takes the end of what was dropped of a device, as [`read_head`] reads it. False when there are more than a store has.
    pub(super) fn start(&mut self, row: &impl Columns) -> Result<bool> {
        self.0.insert(row.text(0, MAX_DEVICE_BYTES)?, read_head(row)?);
        Ok(self.0.len() <= MAX_DEVICES)
    }

    /// How many lines lead to these ends.
    pub(super) fn count(&self) -> u64 {
        self.0.values().fold(0, |sum, end| sum.saturating_add(end.count))
    }

    /// Recomputes the chain over one more line, as [`read_line`] reads it.
    ///
    /// # Errors
    /// `Tampered` for a line that does not follow.
    pub(super) fn follow(&mut self, row: &impl Columns) -> Result<()> {
        let RecordedAccess { access, chain, .. } = read_line(row)?;
        let end = self.0.get(&access.device).copied().unwrap_or(AccessHead::EMPTY);
        if link(end.chain, &access) != chain {
            return Err(row.wrong(9, "does not follow from the rows before it"));
        }
        self.0.insert(access.device, AccessHead { count: end.count.saturating_add(1), chain });
        match self.0.len() > MAX_DEVICES {
            true => Err(row.wrong(2, "is one of more devices than a store has")),
            false => Ok(()),
        }
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (String, AccessHead)> {
        self.0.into_iter()
    }
}

/// The number before which lines are dropped, so that about `most` are left of `first` to `last`; `None` for nothing to drop.
pub(super) fn drop_before(first: u64, last: u64, most: u64) -> Option<u64> {
    // One more makes room for the line that says so.
    let before =
        last.saturating_add(2).saturating_sub(most.max(1)).min(first.saturating_add(DROPPED_AT_ONCE));
    (last - first >= most && before > first).then_some(before)
}

/// The line that says how many were dropped.
pub(super) fn dropped_line(dropped: u64, by: &Access) -> Access {
    Access { outcome: format!("dropped {dropped} lines"), ..by.clone() }
}
