//! Whether a store is an older copy, or another history, than what was verified before.

use super::{Replica, StorePin};
use crate::error::{Error, Kind, Result};
use crate::ledger::verify::Chain;
use crate::ledger::{Hash, LogPosition};
use crate::store::Store;

impl Replica {
    /// Compares what the store claims with the pin and with this replica, before anything is verified. Returns its
    /// tail.
    pub(crate) fn check_claims(&mut self, store: &mut dyn Store, pin: &StorePin) -> Result<LogPosition> {
        let tail = store.tail()?;
        self.check_pin(pin, store.location())?;
        self.check_position(store, tail, pin)?;
        Ok(tail)
    }

    /// Checks that the replica lies on the pinned chain.
    fn check_pin(&mut self, pin: &StorePin, location: &str) -> Result<()> {
        let kept = if self.position.n == 0 { Some(Hash::ZERO) } else { self.boundary(self.position.n)? };
        if kept != Some(self.position.chain) {
            return Err(self
                .damaged("it does not agree with itself where it stands")
                .with_target(location.to_owned()));
        }
        if pin.position.n > self.position.n || self.chain_at(pin.position.n)? == Some(pin.position.chain) {
            return Ok(());
        }
        Err(self.damaged("it is not on the chain that was pinned").with_target(location.to_owned()))
    }

    fn check_position(&mut self, store: &mut dyn Store, tail: LogPosition, pin: &StorePin) -> Result<()> {
        // The last verified position: the replica's, or the pin's if the replica was lost.
        let verified = if pin.position.n > self.position.n { pin.position } else { self.position };
        if tail.n < verified.n {
            return Err(rolled_back(store.location(), tail.n, verified.n));
        }
        if tail == self.position {
            return Ok(());
        }
        let theirs = if verified.n == 0 { Some(Hash::ZERO) } else { store.chain_at(verified.n)? };
        if theirs == Some(verified.chain) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Tampered,
            "sync with the store",
            format!("its statement {} is not the one that was verified here before", verified.n),
        )
        .with_target(store.location().to_owned())
        .with_hint("somebody replaced the store or its history: restore the right one, and find out who could write to it"))
    }

    /// Checks that the store's chain passes through the pinned position.
    pub(crate) fn check_reached(&self, pin: &StorePin, location: &str) -> Result<()> {
        if self.chain_at(pin.position.n)? == Some(pin.position.chain) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Tampered,
            "sync with the store",
            format!("what it holds does not lead to statement {}, which was verified before", pin.position.n),
        )
        .with_target(location.to_owned())
        .with_hint(
            "somebody rewrote the store's history: restore the right one, and find out who could write to it",
        ))
    }
}

fn rolled_back(location: &str, theirs: u64, ours: u64) -> Error {
    Error::new(
        Kind::RolledBack,
        "sync with the store",
        format!("it ends at statement {theirs}, but statement {ours} was verified here before: it is an older copy, or its end was cut off"),
    )
    .with_target(location.to_owned())
    .with_hint(
        "restore the newest copy of the store; nothing is opened from this one. If that is lost for good, \
         `strongroom trust STORE-ID --replace` goes on from here",
    )
}
