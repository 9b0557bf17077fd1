//! What was taken from witnesses' checkpoints: for each device the greatest position, so that none is taken back.

use super::Replica;
use super::rows::blob;
use crate::error::Result;
use crate::ledger::body::Role;
use crate::ledger::{DeviceId, Hash};
use rusqlite::params;
use std::sync::Arc;

impl Replica {
    /// The RFC 6962 root over all verified statements.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The active devices with the role `witness`, in the order of their enrolment, each with its name.
    ///
    /// # Errors
    /// Those of reading them.
    pub fn active_witnesses(&self) -> Result<Arc<[(DeviceId, String)]>> {
        if let Some(known) = &self.cache.borrow().witnesses {
            return Ok(Arc::clone(known));
        }
        // A retired device has no roles.
        let witnesses = self.devices()?.into_iter().filter(|row| row.roles.contains(&Role::Witness));
        let witnesses: Arc<[_]> = witnesses.map(|row| (row.id, row.enrolment.name)).collect();
        self.cache.borrow_mut().witnesses = Some(Arc::clone(&witnesses));
        Ok(witnesses)
    }

    /// The greatest position that was taken from this device's checkpoints; 0 if none was.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn taken_from(&self, device: &DeviceId) -> Result<u64> {
        Ok(self
            .one("SELECT n FROM witnesses WHERE device = ?1", [&device.0[..]], |row| row.get(0))?
            .unwrap_or(0))
    }

    /// Remembers a position that was taken from this device's checkpoint.
    pub(crate) fn take_from(&self, device: &DeviceId, n: u64) -> Result<()> {
        // No store reaches SQLite's limit. A device that claims more is not believed anyway.
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        let sql = "INSERT INTO witnesses VALUES (?1, ?2) ON CONFLICT DO UPDATE SET n = max(n, excluded.n)";
        self.run(sql, params![&device.0[..], n]).map(drop)
    }

    /// Forgets what was taken from one device: it takes its word back.
    pub(crate) fn forget_witness(&self, device: &DeviceId) -> Result<()> {
        self.run("DELETE FROM witnesses WHERE device = ?1", [&device.0[..]]).map(drop)
    }

    /// Forgets all of them: the store may begin again at an earlier state.
    pub(crate) fn forget_witnesses(&self) -> Result<()> {
        self.run("DELETE FROM witnesses", []).map(drop)
    }

    /// Takes over what another replica of the same store remembered. If that one is damaged, checkpoints' times alone
    /// tell old ones.
    pub(super) fn take_over_from(&self, old: &Self) -> Result<()> {
        for (device, n) in old.all_taken().unwrap_or_default() {
            self.take_from(&device, n)?;
        }
        Ok(())
    }

    fn all_taken(&self) -> rusqlite::Result<Vec<(DeviceId, u64)>> {
        let mut query = self.db.prepare("SELECT device, n FROM witnesses")?;
        query.query_map([], |row| Ok((DeviceId(blob(row, 0)?), row.get(1)?)))?.collect()
    }
}
