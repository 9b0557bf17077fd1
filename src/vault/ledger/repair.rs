//! Repair: an admin quarantines a tail that cannot be verified, and signs a statement about it.

use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::ledger::body::{Body, Repair};
use crate::ledger::verify::Chain;
use crate::replica::{Partial, StorePin};
use crate::vault::Vault;
use crate::vault::ledger::submit::{Draft, RequiredRole};

const OPERATION: &str = "repair the store";

impl Vault {
    /// Quarantines everything after the last position that verifies, and states it. Returns how many statements were
    /// quarantined.
    ///
    /// Other clients continue from there, unless they have verified more. What this client can verify is never dropped.
    ///
    /// # Errors
    /// `RolledBack` if the store ends before what was verified here: that is no tail to drop. `Refused` without the
    /// role `admin`.
    pub fn repair(setup: crate::vault::Setup, reason: &str) -> Result<(Self, u64)> {
        let store = crate::store::open(&setup.store)?;
        let Some(pin) = StorePin::load(&setup.state, store.location())? else {
            return Err(crate::vault::first_contact(store));
        };
        let mut vault = Self::assemble(setup, store, pin)?;
        loop {
            match vault.repair_from_here(reason) {
                Err(error) if error.kind() == Kind::Conflict => {}
                done => return done.map(|dropped| (vault, dropped)),
            }
        }
    }

    fn repair_from_here(&mut self, reason: &str) -> Result<u64> {
        // Read the end first: what is appended later may be sound, and must not be dropped unseen.
        let end = self.store.tail().ok();
        self.reach_the_fault()?;
        // Quarantine nothing unless a device here can sign for it.
        let author = self.author(OPERATION, RequiredRole::Admin)?;
        let (kept, pin) = (self.replica.position(), self.pin.position);
        if self.replica.chain_at(pin.n)? != Some(pin.chain) {
            return Err(self.verified_part_is_missing());
        }
        if self.store.count_after(kept.n)? == 0 {
            // Planted rows may hide verified ones.
            return self.store.quarantine_after(kept, end, None);
        }
        // Rollback counters are not compared here: what they counted may lie in the tail that cannot be verified. The
        // next command compares them.
        let prepared = self.with_snapshot(|vault| {
            if vault.replica.position() != kept {
                let message = "another process has verified more in the meantime";
                return Err(Error::new(Kind::Conflict, OPERATION, message));
            }
            let body = Body::Repair(Repair { kept: kept.n, chain: kept.chain, reason: reason.into() });
            vault.prepare(OPERATION, author, Draft { bodies: vec![body], ..Draft::default() })
        })?;
        let signed = self.sign(OPERATION, &prepared)?;
        failpoint::reach("repair.signed");
        let dropped = prepared
            .batch
            .with_append(&signed, |append| self.store.quarantine_after(kept, end, Some(append)))?;
        self.follow_own(OPERATION, prepared.batch.end_after(kept), signed.batch.size)?;
        Ok(dropped)
    }

    fn verified_part_is_missing(&self) -> Error {
        Error::new(Kind::Tampered, OPERATION, "it does not hold what was verified here before")
            .with_target(self.location().to_owned())
            .with_hint("restore the store from a copy that does; repair only drops a tail")
    }

    /// Verifies as far as possible. A fault counts only if a rebuilt replica finds it again.
    fn reach_the_fault(&mut self) -> Result<()> {
        let now = (self.clock)();
        let followed = match self.sync(&mut |_, _| {}) {
            Err(error) if error.kind() == Kind::Tampered => {
                let pins = [&self.pin];
                self.replica.rebuild(&mut *self.store, &pins, Partial::Keep, now, &mut |_, _| {}).map(drop)
            }
            followed => followed,
        };
        match followed {
            Err(error) if error.kind() != Kind::Tampered => Err(error),
            _ => Ok(()),
        }
    }
}
