//! A store in memory that believes everything: what it is given, it hands out. For tests of the verifying side.

use std::collections::BTreeMap;
use strongroom::Result;
use strongroom::ledger::verify::StoredBatch;
use strongroom::ledger::{AccessHead, DeviceId, Hash, LogPosition, leaf};
use strongroom::store::{Access, AccessCount, Append, Lease, RecordedAccess, Store};

/// Batches as they were pushed, sealed bytes by digest.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    /// In their order.
    pub batches: Vec<StoredBatch>,
    /// By digest.
    pub sealed: BTreeMap<Hash, Vec<u8>>,
    /// By device.
    pub checkpoints: BTreeMap<DeviceId, Vec<u8>>,
}

impl MemoryStore {
    /// A store of these batches.
    pub fn of(batches: &[StoredBatch]) -> Self {
        Self { batches: batches.to_vec(), ..Self::default() }
    }

    /// The end of every batch.
    fn ends(&self) -> impl Iterator<Item = LogPosition> {
        let leaves =
            |batch: &StoredBatch| batch.statements.iter().map(|bytes| leaf(bytes)).collect::<Vec<_>>();
        self.batches.iter().map(leaves).scan(LogPosition::START, |position, leaves| {
            *position = leaves.into_iter().fold(*position, LogPosition::after);
            Some(*position)
        })
    }
}

impl Store for MemoryStore {
    fn location(&self) -> &str {
        "memory"
    }

    fn tail(&mut self) -> Result<LogPosition> {
        Ok(self.ends().last().unwrap_or(LogPosition::START))
    }

    fn chain_at(&mut self, n: u64) -> Result<Option<Hash>> {
        Ok(self.ends().find(|end| end.n == n).map(|end| end.chain))
    }

    fn batches_after(&mut self, n: u64, budget: usize) -> Result<Vec<StoredBatch>> {
        let mut left = budget;
        let batches = self.batches.iter().filter(|batch| batch.first > n).take_while(|batch| {
            let any = left > 0;
            left = left.saturating_sub(batch.statements.iter().map(Vec::len).sum());
            any
        });
        Ok(batches.cloned().collect())
    }

    fn batch_of(&mut self, n: u64) -> Result<Option<StoredBatch>> {
        Ok(self.batches.iter().rev().find(|batch| batch.first <= n).cloned())
    }

    fn append(&mut self, append: &Append<'_>) -> Result<LogPosition> {
        let first = self.tail()?.n + 1;
        let (sign1, statements) = (append.sign1.to_vec(), append.statements.to_vec());
        self.batches.push(StoredBatch { first, sign1, statements });
        self.sealed.extend(append.sealed.iter().cloned());
        append.destroyed.iter().for_each(|digest| drop(self.sealed.remove(digest)));
        self.tail()
    }

    fn release(&mut self, _: &[(Vec<u8>, Hash)], _: LogPosition) -> Result<()> {
        Ok(())
    }

    fn sealed(&mut self, digest: &Hash) -> Result<Option<Vec<u8>>> {
        Ok(self.sealed.get(digest).cloned())
    }

    fn count_after(&mut self, n: u64) -> Result<u64> {
        Ok(self.tail()?.n.saturating_sub(n))
    }

    fn quarantine_after(
        &mut self,
        kept: LogPosition,
        _: Option<LogPosition>,
        repair: Option<&Append<'_>>,
    ) -> Result<u64> {
        let quarantined = self.count_after(kept.n)?;
        self.batches.retain(|batch| batch.first <= kept.n);
        if let Some(repair) = repair {
            self.append(repair)?;
        }
        Ok(quarantined)
    }

    fn record(&mut self, _: &[Access]) -> Result<()> {
        Ok(())
    }

    fn accesses(&mut self, _: u64, _: u32) -> Result<Vec<RecordedAccess>> {
        Ok(Vec::new())
    }

    fn take_lease(&mut self, _: &Lease, _: u64) -> Result<Option<Lease>> {
        Ok(None)
    }

    fn end_lease(&mut self, _: &[u8; 16], _: &str) -> Result<()> {
        Ok(())
    }

    fn checkpoint(&mut self, device: &DeviceId) -> Result<Option<Vec<u8>>> {
        Ok(self.checkpoints.get(device).cloned())
    }

    fn put_checkpoint(&mut self, device: &DeviceId, sign1: &[u8]) -> Result<()> {
        self.checkpoints.insert(*device, sign1.to_vec());
        Ok(())
    }

    fn access_head(&mut self, _: &DeviceId) -> Result<AccessHead> {
        Ok(AccessHead::EMPTY)
    }

    fn access_chain_at(&mut self, _: &DeviceId, _: u64) -> Result<Option<Hash>> {
        Ok(None)
    }

    fn check_heads(&mut self) -> Result<()> {
        Ok(())
    }

    fn drop_accesses(&mut self, _: u64, _: &Access) -> Result<u64> {
        Ok(0)
    }

    fn dropped_accesses(&mut self, _: &DeviceId) -> Result<AccessHead> {
        Ok(AccessHead::EMPTY)
    }

    fn check_accesses(&mut self) -> Result<AccessCount> {
        Ok(AccessCount::default())
    }
}
