//! Devices whose keys are bound to what was measured at boot: as enrolled, as it is now, as it may be.

use crate::device::{Measurement, Prediction};
use crate::error::{Error, Kind, Result};
use crate::replica::DeviceRow;
use crate::vault::Vault;
use crate::vault::devices::connections::opening_key;

impl Vault {
    /// What the opening keys at hand are bound to, or that of the device with this name. Predicted values take the place of those of
    /// now. `None` for a key that is bound to nothing.
    ///
    /// # Errors
    /// `NotFound`; `DeviceGone` when the named device is not at hand; the device's.
    pub fn measure(
        &mut self,
        name: Option<&str>,
        predicted: &[Prediction],
    ) -> Result<Vec<(DeviceRow, Option<Measurement>)>> {
        const TRIED: &str = "compare what was measured";
        let named = name.map(|name| self.active_device(name, TRIED)).transpose()?;
        let (here, mut failures) = self.devices.enrolled(&self.replica)?;
        let mut rows: Vec<_> = here
            .into_iter()
            .filter(|row| named.as_ref().map_or(row.retired.is_none(), |named| named.id == row.id))
            .collect();
        // Two URIs may lead to one device.
        let mut seen = std::collections::HashSet::new();
        rows.retain(|row| seen.insert(row.id));
        if rows.is_empty() {
            return Err(match failures.pop() {
                Some(error) => error,
                None => Error::new(Kind::DeviceGone, TRIED, "the device is not configured here")
                    .with_hint("name it with --device"),
            });
        }
        let measured = rows.into_iter().map(|row| {
            let (worker, prompter) = self.devices.get(&row.id)?;
            let (key, predicted) = (opening_key(&row), predicted.to_vec());
            let measurement = worker.call("read what was measured", prompter, move |device, _| {
                device.measured().map_or(Ok(None), |measured| measured.measure(&key, &predicted))
            })?;
            Ok((row, measurement))
        });
        measured.collect()
    }
}
