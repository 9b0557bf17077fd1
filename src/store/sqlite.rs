//! stub
pub struct SqliteStore;
impl SqliteStore { pub fn create(_: &std::path::Path) -> crate::error::Result<Self> { unimplemented!() } pub fn open(_: &std::path::Path) -> crate::error::Result<Self> { unimplemented!() } }
impl super::Store for SqliteStore {
    fn location(&self) -> &str { todo!() }
    fn tail(&mut self) -> crate::Result<crate::ledger::Position> { todo!() }
    fn chain_at(&mut self, _n: u64) -> crate::Result<Option<crate::ledger::Hash>> { todo!() }
    fn batches_after(&mut self, _n: u64, _budget: usize) -> crate::Result<Vec<crate::ledger::verify::StoredBatch>> { todo!() }
    fn batch_of(&mut self, _n: u64) -> crate::Result<Option<crate::ledger::verify::StoredBatch>> { todo!() }
    fn append(&mut self, _append: &super::Append<'_>) -> crate::Result<crate::ledger::Position> { todo!() }
    fn sealed(&mut self, _digest: &crate::ledger::Hash) -> crate::Result<Option<Vec<u8>>> { todo!() }
    fn check_accesses(&mut self) -> crate::Result<u64> { todo!() }
    fn set_aside_after(&mut self, _n: u64) -> crate::Result<u64> { todo!() }
    fn record(&mut self, _access: &super::Access) -> crate::Result<()> { todo!() }
    fn accesses(&mut self, _before: u64, _limit: u32) -> crate::Result<Vec<super::RecordedAccess>> { todo!() }
}
