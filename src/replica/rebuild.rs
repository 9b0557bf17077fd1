//! Rebuilding: a replica is loaded into a new file, which replaces the old one when it has been verified.

use super::sync::Progress;
use super::{Followed, Replica, StorePin, io, remove, schema};
use crate::error::{Kind, Result};
use crate::failpoint;
use crate::store::Store;
use std::path::Path;

/// Cache for a first contact in KiB: as much as the indexes of a million tokens take.
const REBUILD_CACHE: u32 = 256 << 10;

/// What becomes of the verified beginning of a store that was tampered with further on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partial {
    /// It becomes the replica: `repair` starts there.
    Keep,
    /// The replica stays as it was.
    Discard,
}

impl Replica {
    /// Rebuilds this replica from the store, in a temporary file. The replica stays as it is if the store does not lead
    /// through all `pins`.
    ///
    /// # Errors
    /// As [`Replica::sync`].
    pub fn rebuild(
        &mut self,
        store: &mut dyn Store,
        pins: &[&StorePin],
        partial: Partial,
        now: u64,
        progress: Progress<'_>,
    ) -> Result<Followed> {
        let temporary = super::scratch(&self.path, "new")?;
        let mut fresh = Self::temporary(&temporary, self.store, REBUILD_CACHE)?;
        // What the store's statements do not say.
        fresh.take_over_from(self)?;
        let followed = fresh.load(store, now, progress);
        let location = store.location();
        let reached = pins.iter().try_for_each(|pin| fresh.check_reached(pin, location));
        let keep = match &followed {
            Ok(_) => reached.is_ok(),
            Err(error) => {
                let some = error.kind() == Kind::Tampered && fresh.position.n > 0 && reached.is_ok();
                some && partial == Partial::Keep
            }
        };
        fresh.db.close().map_err(|(_, e)| schema::failed(&temporary, e))?;
        match keep {
            true => self.replace_by(&temporary)?,
            false => remove(&temporary)?,
        }
        followed.and_then(|followed| reached.map(|()| followed))
    }

    fn replace_by(&mut self, file: &Path) -> Result<()> {
        let _alone = super::lock_exclusive(&self.path)?;
        // Close the old connection first, so that its journals are gone before the new file arrives.
        let placeholder = rusqlite::Connection::open_in_memory().map_err(|e| self.failed(e))?;
        drop(std::mem::replace(&mut self.db, placeholder));
        failpoint::reach("replica.built");
        remove(&self.path)?;
        failpoint::reach("replica.removed");
        std::fs::rename(file, &self.path).map_err(|e| io(&self.path, e))?;
        failpoint::reach("replica.renamed");
        self.db = match schema::open(&self.path) {
            Ok(db) => db,
            Err(schema::Unusable::Unreachable(error)) => return Err(error),
            Err(_) => return Err(self.damaged("it could not be opened after it was built")),
        };
        self.db.pragma_update(None, "journal_mode", "WAL").map_err(|e| self.failed(e))?;
        self.forget();
        self.reload()
    }
}
