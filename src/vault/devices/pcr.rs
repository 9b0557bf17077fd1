//! PCR bindings: the values a key was bound to, those of now, and predicted ones.

use crate::device::{Measurement, Prediction};
use crate::error::{Error, Kind, Result};
use crate::replica::DeviceRow;
use crate::vault::Vault;
use crate::vault::devices::connections::opening_key;

impl Vault {
    /// The PCR bindings of the opening keys here, or of the named device's. Predicted values replace current ones.
    /// `None` for a key without a binding.
    ///
    /// # Errors
    /// `NotFound`; `DeviceGone` if the named device is not here; the device's.
    pub fn measure(
        &mut self,
        name: Option<&str>,
        predicted: &[Prediction],
    ) -> Result<Vec<(DeviceRow, Option<Measurement>)>> {
        const OPERATION: &str = "compare what was measured";
        self.refresh()?;
        let named = name.map(|name| self.active_device(name, OPERATION)).transpose()?;
        let (here, mut failures) = self.devices.enrolled(&self.replica)?;
        let mut rows: Vec<_> = here
            .into_iter()
            .filter(|row| named.as_ref().map_or(row.retired.is_none(), |named| named.id == row.id))
            .collect();
        // Two URIs may name one device.
        let mut seen = std::collections::HashSet::new();
        rows.retain(|row| seen.insert(row.id));
        if rows.is_empty() {
            return Err(match failures.pop() {
                Some(error) => error,
                None => Error::new(Kind::DeviceGone, OPERATION, "the device is not configured here")
                    .with_hint("name it with --device"),
            });
        }
        let measured = rows.into_iter().map(|row| {
            let (worker, prompter) = self.devices.get(&row.id)?;
            let (key, predicted) = (opening_key(&row), predicted.to_vec());
            let measurement = worker.call("read what was measured", prompter, move |device, _| {
                device.pcr_binding().map_or(Ok(None), |measured| measured.measure(&key, &predicted))
            })?;
            Ok((row, measurement))
        });
        measured.collect()
    }
}
