//! Renewing a device's keys, for example after an update changed the PCR values that they are bound to.

use crate::device::CreateOptions;
use crate::error::{Error, Kind, Result};
use crate::ledger::Prefix;
use crate::ledger::body::{Anchor, Body, Counter, Enrol, Retire, Role};
use crate::replica::DeviceRow;
use crate::vault::devices::add::{EnrolOptions, EnrolReport};
use crate::vault::devices::connections::opening_key;
use crate::vault::devices::keys::{KeySpec, prepare_keys};
use crate::vault::devices::reseal::{ResealProgress, ResealReport};
use crate::vault::devices::rollback_counter::read_counter;
use crate::vault::ledger::submit::{Draft, RequiredRole};
use crate::vault::{Vault, Witnessed};
use std::sync::Arc;

impl Vault {
    /// Creates new keys in an enrolled device, retires it, enrols it again under its name and roles in the same batch,
    /// which another admin device signs, and reseals its tokens. Ignores the name and roles in `options`. Without key
    /// options, the new keys are bound as the old ones were.
    ///
    /// # Errors
    /// `NotFound`; `Refused` if no other device here is an admin, or if tokens that only this device opens would be
    /// lost; the devices' and the store's.
    pub fn renew(
        &mut self,
        name: &str,
        options: &EnrolOptions,
        accept_loss: bool,
        progress: ResealProgress<'_>,
    ) -> Result<(EnrolReport, ResealReport)> {
        let operation = format!("renew the keys of {}", crate::error::printable(name));
        self.sync(&mut |_, _| {})?;
        let old = self.active_device(name, &operation)?;
        if self.settings()?.quorum > 1 {
            let message = "other admins must agree to changes of devices, and new keys cannot wait for them";
            return Err(Error::new(Kind::Refused, operation, message).with_target(self.location().to_owned()).with_hint(
                "enrol the device with new keys under another name (`strongroom device add`), then retire this one",
            ));
        }
        // Do first what can fail and leaves nothing behind, then create the keys.
        self.author(&operation, RequiredRole::AdminBut(old.id))?;
        if options.create.piv.overwrite.is_some() {
            // The new keys overwrite the old ones, so reseal first.
            self.reseal_sole(&old, progress)?;
            self.expect_others_open(&old, accept_loss, "--accept-loss renews it", &operation)?;
        } else if !accept_loss {
            self.expect_openable(&old, &operation)?;
        }
        let (worker, prompter) = self.devices.get(&old.id)?;
        let mut create = options.create.clone();
        // Leaving options out must not make keys weaker.
        if create == CreateOptions::default() {
            let key = opening_key(&old);
            let bound = worker.call("tell what the key is bound to", prompter, move |device, _| {
                device.pcr_binding().map(|measured| measured.bound_alike(&key)).transpose()
            })?;
            create = bound.unwrap_or(create);
        }
        let wanted = KeySpec { algorithm: options.algorithm, create };
        let keys = prepare_keys(worker, Vec::new(), wanted, prompter)?;
        let mut report = EnrolReport::from_device(worker, old.enrolment.name.clone(), keys, Vec::new())?;
        report.roles = self.take_the_place(&old, &report.statement(), &operation)?;
        self.devices.renew(old.id, report.device);
        let was = |row: &crate::replica::SealedRow| row.version.is_for(&old.id);
        let resealed = self.reseal_those(&Prefix::default(), None, &was, progress)?;
        Ok((report, resealed))
    }

    /// What does not open without this device must open now, or it would be lost.
    fn expect_openable(&mut self, old: &DeviceRow, operation: &str) -> Result<()> {
        let Some(row) = self.sole_to(old, 1)?.pop() else { return Ok(()) };
        let token = Arc::new(self.sealed_token(&row, Witnessed::not_needed())?);
        let opened = self.open_on_devices(&[token]).pop().map_or(Ok(()), |outcome| outcome.token.map(drop));
        opened.map_err(|error| {
            let message = format!(
                "{}@{} needs this device, and does not open now: {}",
                row.name,
                row.version.version,
                error.message()
            );
            Error::new(Kind::Refused, operation, message).with_target(old.enrolment.name.clone()).with_hint(
                "bring back the state in which it opens, or say --accept-loss: such tokens are then lost",
            )
        })
    }

    /// Returns the roles, as the old device had them at the end.
    fn take_the_place(&mut self, old: &DeviceRow, enrol: &Enrol, operation: &str) -> Result<Vec<Role>> {
        self.submit(operation, RequiredRole::AdminBut(old.id), |vault| {
            let old = vault.still_active(&old.id, operation)?;
            let enrol = Enrol { roles: old.roles.clone(), replaces: Some(old.id), ..enrol.clone() };
            let retire =
                Retire { device: old.id, compromised: false, reason: "its keys were renewed".into() };
            let mut bodies = vec![Body::Retire(retire), Body::Enrol(Box::new(enrol.clone()))];
            if let Some(anchor) = old.anchor {
                let (worker, _) = vault.devices.get(&old.id)?;
                let start = read_counter(worker, anchor.index)?;
                let counter = Some(Counter { index: anchor.index.into(), start });
                bodies.push(Body::Anchor(Anchor { device: enrol.device, counter }));
            }
            Ok((Draft { bodies, ..Draft::default() }, old.roles))
        })
    }
}
