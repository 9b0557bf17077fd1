//! Taking an enrolled device into use on this machine.

use crate::device::{Device, DeviceWorker};
use crate::error::{Error, Kind, Result};
use crate::prompt::Prompter;
use crate::replica::DeviceRow;
use crate::uri::DeviceUri;
use crate::vault::Vault;
use crate::vault::devices::add::reach;
use crate::vault::devices::connections::{opening_key, recognize, signing_key};

const OPERATION: &str = "take the device into use";

impl Vault {
    /// Recognizes the enrolled device that `uri` names, and uses it from now on. Changes nothing in the store.
    ///
    /// # Errors
    /// `Refused` if none of its keys is enrolled, or if it is retired; `KeyMissing` if it has only one of its two keys;
    /// the device's.
    pub fn adopt(&mut self, uri: &DeviceUri) -> Result<DeviceRow> {
        self.sync(&mut |_, _| {})?;
        let prompter = &mut *self.devices.prompter;
        let worker = reach(uri, None, prompter)?;
        let mut rows = self.replica.devices()?;
        rows.sort_by_key(|row| (row.retired.is_some(), std::cmp::Reverse(row.n)));
        let known = rows.clone();
        let which =
            move |device: &mut dyn Device, prompter: &mut dyn Prompter| recognize(device, &known, prompter);
        let found = worker.call(OPERATION, prompter, which)?;
        let Some(row) = rows.into_iter().find(|row| found == Some(row.id)) else {
            return Err(refused(&worker, "none of its keys is enrolled in this store")
                .with_hint("an admin enrols it: `strongroom device add URI`"));
        };
        if row.retired.is_some() {
            return Err(refused(
                &worker,
                &format!("it was enrolled as {}, which is retired", row.enrolment.name),
            )
            .with_hint("enrol it with other keys: name them with object= in its URI"));
        }
        expect_both_keys(&worker, &row, prompter)?;
        self.devices.attach_device(uri.clone(), row.id, worker);
        Ok(row)
    }
}

fn refused(worker: &DeviceWorker, message: &str) -> Error {
    Error::new(Kind::Refused, OPERATION, message).with_target(worker.name())
}

/// A device that was initialised again, or whose slot was reused, may have kept one key of two.
fn expect_both_keys(worker: &DeviceWorker, row: &DeviceRow, prompter: &mut dyn Prompter) -> Result<()> {
    let keys = [("opening", opening_key(row)), ("signing", signing_key(row))];
    let missing = worker.call(OPERATION, prompter, move |device, prompter| {
        for (which, key) in &keys {
            if !device.has_key(key, prompter)? {
                return Ok(Some(*which));
            }
        }
        Ok(None)
    })?;
    match missing {
        None => Ok(()),
        Some(which) => {
            let message = format!("it is enrolled as {}, and its {which} key is gone", row.enrolment.name);
            let retire = format!(
                "retire it with another admin device: `strongroom device retire {}`",
                row.enrolment.name
            );
            Err(Error::new(Kind::KeyMissing, OPERATION, message).with_target(worker.name()).with_hint(retire))
        }
    }
}
