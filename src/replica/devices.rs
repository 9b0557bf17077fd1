//! The enrolled devices, their anchors and their successors.

use super::Replica;
use super::rows::{blob, damaged, roles_from};
use crate::error::Result;
use crate::ledger::body::{Body, Enrol, Role};
use crate::ledger::judge::{LedgerView, Proposal};
use crate::ledger::{DeviceId, Hash};
use rusqlite::Row;

/// A device, active or retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRow {
    /// Its id.
    pub id: DeviceId,
    /// As enrolled.
    pub enrolment: Enrol,
    /// Its roles now.
    pub roles: Vec<Role>,
    /// The reason for its retirement, and whether it was compromised.
    pub retired: Option<(bool, String)>,
    /// The position of its retirement.
    pub gone: Option<u64>,
    /// The device's counter for this store.
    pub anchor: Option<AnchorRow>,
    /// The position of its enrolment.
    pub n: u64,
    /// The time its enrolment claims (ms).
    pub time: u64,
    /// Who enrolled it.
    pub author: DeviceId,
}

/// A proposal that is open (docs/reference/format.md, section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposalRow {
    /// The hash of its statement.
    pub hash: Hash,
    /// The position of its statement.
    pub n: u64,
    /// The change, and who voted how.
    pub proposal: Proposal,
}

/// A device's anchor (docs/reference/format.md, section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnchorRow {
    /// Its NV index.
    pub index: u32,
    /// The counter's value when the anchor was set.
    pub start: u64,
    /// The number of batches with counted changes by then, including the one that set it.
    pub(super) after: u64,
}

impl DeviceRow {
    /// Whether new versions under this name are sealed to it.
    pub fn opens(&self, name: &str) -> bool {
        self.roles.iter().any(|role| role.opens(name))
    }

    /// Whether it opens anything.
    pub fn is_opener(&self) -> bool {
        self.roles.iter().any(|role| matches!(role, Role::Open(_)))
    }
}

impl Replica {
    /// All devices, in the order of their enrolment.
    pub fn devices(&self) -> Result<Vec<DeviceRow>> {
        self.many(&format!("{DEVICE} ORDER BY n"), [], device_from)
    }

    /// One device.
    pub fn device_row(&self, id: &DeviceId) -> Result<Option<DeviceRow>> {
        if let Some(known) = self.cache.borrow().rows.get(id) {
            return Ok(Some(known.clone()));
        }
        let found = self.one(&format!("{DEVICE} WHERE id = ?1"), [&id.0[..]], device_from)?;
        if let Some(row) = &found {
            self.cache.borrow_mut().rows.insert(*id, row.clone());
        }
        Ok(found)
    }

    /// The devices that open anything, sorted by id.
    pub fn openers(&self) -> Result<Vec<DeviceRow>> {
        let mut openers = self.devices()?;
        openers.retain(DeviceRow::is_opener);
        openers.sort_by_key(|device| device.id);
        Ok(openers)
    }

    /// The device that was enrolled in the place of a retired one.
    pub fn successor(&self, retired: &DeviceRow) -> Result<Option<DeviceRow>> {
        self.one(&format!("{DEVICE} WHERE replaces = ?1"), [&retired.id.0[..]], device_from)
    }

    /// The retired device that this one succeeds.
    pub fn predecessor(&self, device: &DeviceRow) -> Result<Option<DeviceRow>> {
        device.enrolment.replaces.map_or(Ok(None), |id| self.device_row(&id))
    }

    /// The latest successor of this device; itself if it has none.
    pub fn latest_successor(&self, mut device: DeviceRow) -> Result<DeviceRow> {
        while let Some(next) = self.successor(&device)? {
            device = next;
        }
        Ok(device)
    }

    /// The active device of this name or id.
    pub fn active_device(&self, name: &str) -> Result<Option<DeviceRow>> {
        let active = self.devices()?.into_iter().filter(|row| row.retired.is_none());
        Ok(active.into_iter().find(|row| row.enrolment.name == name || row.id.to_string() == name))
    }

    /// The proposals that are neither carried out nor closed, oldest first.
    pub fn open_proposals(&self) -> Result<Vec<ProposalRow>> {
        let sql = "SELECT hash, n FROM proposals WHERE closed IS NULL ORDER BY n";
        let open: Vec<(Hash, u64)> = self.many(sql, [], |row| Ok((Hash(blob(row, 0)?), row.get(1)?)))?;
        let row = |(hash, n)| Ok(self.proposal(&hash)?.map(|proposal| ProposalRow { hash, n, proposal }));
        open.into_iter().filter_map(|found| row(found).transpose()).collect()
    }

    /// The change of a proposal, open or not.
    pub fn proposed_change(&self, proposal: &Hash) -> Result<Option<Body>> {
        let sql = "SELECT change FROM proposals WHERE hash = ?1";
        self.one(sql, [&proposal.0[..]], |row| {
            Body::from_bytes(row.get_ref(0)?.as_blob()?).ok_or_else(|| damaged(0, "a change"))
        })
    }

    /// The value that an anchor's counter should have.
    pub fn expected_count(&self, anchor: &AnchorRow) -> u64 {
        anchor.start.saturating_add(self.counted_changes.saturating_sub(anchor.after))
    }

    /// Whether any device has an anchor.
    pub fn is_anchored(&self) -> Result<bool> {
        Ok(self.one("SELECT 1 FROM devices WHERE anchor IS NOT NULL", [], |_| Ok(()))?.is_some())
    }

    /// The number of batches with counted changes so far.
    pub(super) fn counted_changes(&self) -> u64 {
        self.counted_changes
    }
}

const DEVICE: &str = "SELECT id, roles, retired, reason, n, enrolment, gone, anchor, anchor_start,
                      anchor_after, time, author FROM devices";

fn device_from(row: &Row<'_>) -> rusqlite::Result<DeviceRow> {
    let Some(Body::Enrol(enrolment)) = Body::from_bytes(row.get_ref(5)?.as_blob()?) else {
        return Err(damaged(5, "an enrolment"));
    };
    let roles = roles_from(row.get_ref(1)?.as_str()?).ok_or_else(|| damaged(1, "roles"))?;
    let retired = match row.get::<_, i64>(2)? {
        0 => None,
        compromised => Some((compromised == 2, row.get(3)?)),
    };
    let (id, n) = (DeviceId(blob(row, 0)?), row.get(4)?);
    let anchor = row
        .get::<_, Option<u32>>(7)?
        .map(|index| Ok::<_, rusqlite::Error>(AnchorRow { index, start: row.get(8)?, after: row.get(9)? }));
    Ok(DeviceRow {
        id,
        enrolment: *enrolment,
        roles,
        retired,
        gone: row.get(6)?,
        anchor: anchor.transpose()?,
        n,
        time: row.get(10)?,
        author: DeviceId(blob(row, 11)?),
    })
}
