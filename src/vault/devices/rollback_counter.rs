//! Rollback counters: counters in devices that reveal when a whole store was set back (docs/reference/format.md,
//! section 9).
//!
//! A counter is read before tokens are opened and changes are signed, and raised after a change is stored. A process
//! killed in between leaves it one too low; the next change corrects that. A lock keeps two processes from raising it
//! at once: a counter that is too high cannot be taken back.

use crate::device::{DeviceWorker, MonotonicCounter};
use crate::error::{Error, Kind, Result};
use crate::ledger::DeviceId;
use crate::ledger::body::{Anchor, Body, Counter};
use crate::ledger::verify::Chain;
use crate::prompt::BatchPrompter;
use crate::replica::{AnchorRow, DeviceRow};
use crate::vault::Vault;
use crate::vault::devices::connections::opening_key;
use crate::vault::ledger::submit::{Draft, RequiredRole};
use std::fs::File;

/// A device, and the counter in it that the store is anchored to.
type Anchored = (DeviceRow, AnchorRow);

impl Vault {
    /// Anchors the store to a counter in the named device: a new one, or the one it has.
    ///
    /// With `accept_older`, restarts the count for a store that was set back.
    ///
    /// # Errors
    /// `Unsupported` for a device without counters; `Conflict` if it is anchored already; `Refused` without the role
    /// `admin`.
    pub fn anchor(&mut self, name: &str, accept_older: bool) -> Result<Counter> {
        let operation = format!("anchor the store to {}", crate::error::printable(name));
        self.sync(&mut |_, _| {})?;
        let row = self.active_device(name, &operation)?;
        if row.anchor.is_some() && !accept_older {
            let message = "the store is anchored to it already";
            return Err(
                Error::new(Kind::Conflict, operation, message).with_target(self.location().to_owned())
            );
        }
        self.author(&operation, RequiredRole::Admin)?;
        let (worker, _) = self.devices.get(&row.id)?;
        let ((index, start), made) = with_counters(worker, "make a counter", move |counters| {
            match row.anchor.map(|anchor| (anchor.index, counters.read_counter(anchor.index))) {
                // The counter no longer exists. Any other failure may be temporary.
                Some((_, Err(error))) if error.kind() == Kind::KeyMissing => {}
                Some((index, read)) => return Ok(((index, read?), false)),
                None => {}
            }
            Ok((counters.make_counter()?, true))
        })?;
        let counter = Counter { index: index.into(), start };
        self.skip_counter_check = accept_older;
        let anchored = self.state_anchor(&operation, &row, Some(counter));
        self.skip_counter_check = false;
        if anchored.is_err() && made && !self.may_be_stated(&row, index) {
            self.remove_counter(&row.id, index);
        }
        anchored.map(|()| counter)
    }

    /// Removes the anchor to the named device, and the counter if the device is here. Returns whether the counter was
    /// removed.
    ///
    /// # Errors
    /// `NotFound`; `Refused` without the role `admin`; `RolledBack`.
    pub fn unanchor(&mut self, name: &str) -> Result<bool> {
        let operation = format!("untie the store from {}", crate::error::printable(name));
        self.sync(&mut |_, _| {})?;
        let row = self.active_device(name, &operation)?;
        let Some(anchor) = row.anchor else {
            return Err(Error::new(Kind::NotFound, operation, "the store is not anchored to it"));
        };
        self.state_anchor(&operation, &row, None)?;
        Ok(self.remove_counter(&row.id, anchor.index))
    }

    /// Removes an unused counter if its device is here. Returns whether it did.
    pub(crate) fn remove_counter(&mut self, device: &DeviceId, index: u32) -> bool {
        let Ok((worker, _)) = self.devices.get(device) else { return false };
        with_counters(worker, "remove the counter", move |counters| counters.remove_counter(index)).is_ok()
    }

    /// Whether the ledger names this counter: the error may have come after the change was stored.
    fn may_be_stated(&mut self, row: &DeviceRow, index: u32) -> bool {
        let stated = self.sync(&mut |_, _| {}).and_then(|_| {
            let row = self.replica.device_row(&row.id)?.map(|row| self.replica.latest_successor(row));
            Ok(row.transpose()?.and_then(|row| row.anchor))
        });
        stated.map_or(true, |anchor| anchor.is_some_and(|anchor| anchor.index == index))
    }

    fn state_anchor(&mut self, operation: &str, row: &DeviceRow, counter: Option<Counter>) -> Result<()> {
        self.submit(operation, RequiredRole::Admin, |_| {
            let body = Body::Anchor(Anchor { device: row.id, counter });
            Ok((Draft { bodies: vec![body], ..Draft::default() }, ()))
        })
    }

    /// Verifies what is new in the store, and refuses a store that a counter shows to be set back.
    ///
    /// # Errors
    /// `RolledBack`; the store's and the devices'.
    pub fn check_counters(&mut self, operation: &str) -> Result<()> {
        self.refresh()?;
        self.check_anchors(operation)
    }

    /// Refuses a store that ends before the changes that a counter has counted.
    pub(crate) fn check_anchors(&mut self, operation: &str) -> Result<()> {
        // Nothing has changed since the last check.
        if self.skip_counter_check || self.anchored == Some(self.replica.position()) {
            return Ok(());
        }
        let (anchors, failures) = self.anchors_here()?;
        let mut asked_all = failures.is_empty();
        for error in failures {
            // Its counter may be the one that would tell.
            self.note_unchecked(error.target().unwrap_or("a device"), error.message());
        }
        for (row, anchor) in anchors {
            match self.read_anchor(&row, &anchor)? {
                Ok(stands) => self.expect_not_set_back(operation, &row, anchor, stands)?,
                Err(error) => {
                    asked_all = false;
                    self.note_unchecked(&row.enrolment.name, error.message());
                }
            }
        }
        self.anchored = asked_all.then(|| self.replica.position());
        Ok(())
    }

    fn note_unchecked(&mut self, device: &str, why: &str) {
        let notice = format!("whether the store was set back was not checked: {device}: {why}");
        if !self.notices.contains(&notice) {
            self.notices.push(notice);
        }
    }

    /// A counter's value. The inner error means that its device is not here, which must not stop the others.
    fn read_anchor(&mut self, row: &DeviceRow, anchor: &AnchorRow) -> Result<Result<u64>> {
        let worker = match self.devices.get(&row.id) {
            Ok((worker, _)) => worker,
            Err(error) => return Ok(Err(error)),
        };
        match read_counter(worker, anchor.index) {
            Err(error) if error.kind() == Kind::DeviceGone => Ok(Err(error)),
            Err(error) if error.kind() == Kind::KeyMissing => match self.is_enrolled_device(row)? {
                true => Err(removed(row, error).with_target(self.location().to_owned())),
                false => Ok(Err(another_device(row))),
            },
            read => read.map(Ok),
        }
    }

    /// Whether a device that is configured under an id still has that device's key: it may have been replaced.
    fn is_enrolled_device(&mut self, row: &DeviceRow) -> Result<bool> {
        let (key, (worker, prompter)) = (opening_key(row), self.devices.get(&row.id)?);
        worker.call("look for the key", prompter, move |device, prompter| device.has_key(&key, prompter))
    }

    fn expect_not_set_back(
        &mut self,
        operation: &str,
        row: &DeviceRow,
        anchor: AnchorRow,
        stands: u64,
    ) -> Result<()> {
        let fits = |anchor: &AnchorRow, due| (anchor.start..=due).contains(&stands);
        if fits(&anchor, self.replica.expected_count(&anchor)) {
            return Ok(());
        }
        // Another process may have made and counted a change since the last sync.
        self.sync(&mut |_, _| {})?;
        let now = match self.replica.device_row(&row.id)?.and_then(|row| row.anchor) {
            Some(now) if now.index == anchor.index => now,
            // The anchor was removed meanwhile.
            _ => return Ok(()),
        };
        let (name, due) = (&row.enrolment.name, self.replica.expected_count(&now));
        if !fits(&now, due) && !self.is_enrolled_device(row)? {
            self.note_unchecked(name, another_device(row).message());
            return Ok(());
        }
        let message = match stands {
            _ if fits(&now, due) => return Ok(()),
            _ if stands < now.start => {
                format!("the counter of {name} stands at {stands}, and stood at {} before", now.start)
            }
            _ => {
                let changes = crate::vault::counted(stands - due, "change", "changes");
                format!("the store was set back: {name} counted {changes} that it does not hold")
            }
        };
        Err(Error::new(Kind::RolledBack, operation, message)
            .with_target(self.location().to_owned())
            .with_hint(HINT))
    }

    /// Raises the counters to the expected count. The change is stored already: a failure here is reported, and
    /// corrected by the next change.
    pub(crate) fn raise_anchors(&mut self) {
        if let Err(error) = self.try_to_raise() {
            self.notices.push(format!(
                "the change is stored, but not counted yet ({}); the next change makes that good",
                error.message()
            ));
        }
    }

    fn try_to_raise(&mut self) -> Result<()> {
        let (anchors, _) = self.anchors_here()?;
        if anchors.is_empty() {
            return Ok(());
        }
        let _alone = self.alone_with_counters()?;
        for (row, anchor) in anchors {
            let due = self.replica.expected_count(&anchor);
            let (worker, _) = self.devices.get(&row.id)?;
            with_counters(worker, "raise the counter", move |counters| {
                let mut stands = counters.read_counter(anchor.index)?;
                // At most once per change, whatever start value an admin signed.
                for _ in anchor.start..due {
                    if stands < anchor.start || stands >= due {
                        break;
                    }
                    stands = counters.raise_counter(anchor.index)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The anchors whose devices are here, and why other devices with anchors could not be reached.
    fn anchors_here(&mut self) -> Result<(Vec<Anchored>, Vec<Error>)> {
        if !self.replica.is_anchored()? {
            return Ok((Vec::new(), Vec::new()));
        }
        let (here, mut failures) = self.devices.enrolled(&self.replica)?;
        let away = |row: &DeviceRow| row.anchor.is_some() && !here.iter().any(|other| other.id == row.id);
        if !self.replica.devices()?.iter().any(away) {
            failures.clear();
        }
        // A device that is not enrolled has no counter for this store.
        failures.retain(|error| error.kind() != Kind::Refused);
        Ok((here.into_iter().filter_map(|row| row.anchor.map(|anchor| (row, anchor))).collect(), failures))
    }

    /// While it is held, no other process raises a counter for this store.
    fn alone_with_counters(&self) -> Result<File> {
        self.lock_on_this_machine("counter.lock", "lock the counter")
    }
}

/// The counter of an enrolled device that is here is gone: nobody can tell any more whether the store was set back.
fn removed(row: &DeviceRow, error: Error) -> Error {
    let name = &row.enrolment.name;
    let message =
        format!("the counter of {name} was removed, so nothing shows whether the store was set back");
    Error::new(Kind::KeyMissing, "check the rollback counter", message).caused_by(error).with_hint(format!(
        "compare the store with a copy that you trust; an admin then makes a new counter with \
         `strongroom device anchor {name} --accept-older`"
    ))
}

fn another_device(row: &DeviceRow) -> Error {
    let name = &row.enrolment.name;
    let message = format!(
        "this is not the TPM that was enrolled, or it was cleared; if that one is lost, an admin retires it with \
         `strongroom device retire {name}`"
    );
    Error::new(Kind::DeviceGone, "read the counter", message).with_target(name.clone())
}

/// Runs `job` with the device's counters.
///
/// # Errors
/// `Unsupported` when it has none.
fn with_counters<T: Send + 'static>(
    worker: &DeviceWorker,
    operation: &str,
    mut job: impl FnMut(&mut dyn MonotonicCounter) -> Result<T> + Send + 'static,
) -> Result<T> {
    let name = worker.name().to_owned();
    worker.call(operation, &mut BatchPrompter, move |device, _| match device.monotonic_counter() {
        Some(counters) => job(counters),
        None => Err(Error::new(
            Kind::Unsupported,
            "use its counter",
            "the device has no counters that only go up",
        )
        .with_target(name.as_str())
        .with_hint("only TPMs have them: leave --anti-rollback out, or anchor the store to another device")),
    })
}

/// An error for a device without counters.
pub(crate) fn expect_counters(worker: &DeviceWorker) -> Result<()> {
    with_counters(worker, "use its counter", |_| Ok(()))
}

/// Where a counter stands.
pub(crate) fn read_counter(worker: &DeviceWorker, index: u32) -> Result<u64> {
    with_counters(worker, "read the counter", move |counters| counters.read_counter(index))
}

const HINT: &str = "restore the newest copy of the store; nothing is opened from this one. If that is lost for good, \
     an admin goes on from here with `strongroom device anchor NAME --accept-older`";
