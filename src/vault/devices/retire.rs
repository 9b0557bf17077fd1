//! Retiring a device, and listing what it could open.

use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::ledger::body::{Body, Retire, Role};
use crate::ledger::judge::LedgerView;
use crate::ledger::{DeviceId, Prefix};
use crate::replica::{DeviceRow, GrantRow, SealedRow};
use crate::vault::Vault;
use crate::vault::devices::reseal::{ResealProgress, ResealReport};
use crate::vault::ledger::submit::{Draft, RequiredRole};
use std::collections::HashSet;

/// Versions per page.
const PAGE: u32 = 500;

/// The most names in an error.
const NAMED: usize = 5;

/// Options for retiring a device.
#[derive(Clone, Debug, Default)]
pub struct RetireOptions {
    /// Its keys may be in the wrong hands.
    pub compromised: bool,
    /// The reason, for the ledger.
    pub reason: String,
    /// Retire it even if versions are lost that only it opens.
    pub force: bool,
}

/// What `retire` did.
#[derive(Debug)]
pub struct RetireReport {
    /// The device.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// Versions that were resealed, and versions that could not be.
    pub reseal: ResealReport,
}

impl Vault {
    /// Retires a device and reseals its tokens to the others, as far as that is possible here. Versions that only it
    /// opens are resealed first, with the device itself.
    ///
    /// # Errors
    /// `NotFound`; `Refused` without the role `admin`, for the last admin, and if versions would be lost.
    pub fn retire(
        &mut self,
        name: &str,
        options: &RetireOptions,
        progress: ResealProgress<'_>,
    ) -> Result<RetireReport> {
        let operation = format!("retire the device {}", crate::error::printable(name));
        self.sync(&mut |_, _| {})?;
        let device = self.active_device(name, &operation)?;
        self.author(&operation, RequiredRole::Admin)?;
        self.expect_another_admin(&device, &operation)?;
        // If no other admin is here to sign afterwards, reseal everything first.
        let alone = self.author(&operation, RequiredRole::AdminBut(device.id)).is_err();
        let first = |row: &SealedRow| row.version.is_for(&device.id);
        let mut report = match alone {
            // Until other admins agree, the device keeps what it opens.
            _ if self.settings()?.quorum > 1 => ResealReport::default(),
            true => self.reseal_those(&Prefix::default(), Some(device.id), &first, progress)?,
            false => self.reseal_sole(&device, progress)?,
        };
        failpoint::reach("retire.resealed");
        self.submit(&operation, RequiredRole::Admin, |vault| {
            // By id: another device may have taken the name, and a put may just have been sealed to this device alone.
            let device = vault.still_active(&device.id, &operation)?;
            vault.expect_others_open(&device, options.force, "--force retires it", &operation)?;
            let device = device.id;
            let (compromised, reason) = (options.compromised, options.reason.clone());
            let body = Body::Retire(Retire { device, compromised, reason });
            Ok((Draft { bodies: vec![body], ..Draft::default() }, ()))
        })?;
        if !alone {
            let rest = self.reseal_those(&Prefix::default(), None, &first, progress)?;
            report.resealed += rest.resealed;
            report.batches += rest.batches;
            report.left = rest.left;
        }
        failpoint::reach("retire.rest");
        self.note_thresholds_out_of_reach()?;
        if let Some(anchor) = device.anchor {
            self.remove_counter(&device.id, anchor.index);
        }
        Ok(RetireReport { device: device.id, name: device.enrolment.name, reseal: report })
    }

    /// Every version that a device opens, or could once open, except destroyed ones; `each` returns whether to go on.
    ///
    /// # Errors
    /// The replica's, and those of `each`.
    pub fn opened_by(
        &self,
        device: &DeviceId,
        mut each: impl FnMut(SealedRow) -> Result<bool>,
    ) -> Result<()> {
        let mut after = (0, 0);
        loop {
            let page = self.replica.opened_by_page(device, after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.at;
            for row in page {
                if !each(row)? {
                    return Ok(());
                }
            }
        }
    }

    /// The versions that a device put and that are neither revoked nor destroyed, and the grants that it made and that
    /// stand.
    ///
    /// # Errors
    /// The replica's; `Tampered`.
    pub fn authored_by(&mut self, device: &DeviceId) -> Result<(Vec<SealedRow>, Vec<GrantRow>)> {
        let (mut puts, mut after) = (Vec::new(), (0, 0));
        loop {
            let page = self.replica.put_by_page(device, after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.at;
            puts.extend(page);
        }
        let mut grants = self.replica.all_grants()?;
        let mut positions: Vec<u64> = grants.iter().map(|grant| grant.n).collect();
        positions.sort_unstable();
        let entries = self.entries_at(&positions)?;
        let own: HashSet<u64> =
            entries.iter().filter(|entry| entry.statement.author == *device).map(|entry| entry.n).collect();
        grants.retain(|grant| own.contains(&grant.n));
        Ok((puts, grants))
    }

    /// Says where fewer devices are left than the settings have open a token together: nothing can be put there.
    fn note_thresholds_out_of_reach(&mut self) -> Result<()> {
        for (prefix, threshold, count) in self.thresholds_out_of_reach(&self.settings()?)? {
            let (of, to) = match prefix.as_str() {
                "" => ("every token".to_owned(), count.max(1).to_string()),
                prefix => (prefix.to_owned(), format!("{prefix}={}", count.max(1))),
            };
            self.notices.push(format!(
                "the settings have {threshold} devices open {of} together, and {count} are left: nothing can be put there. \
                 Enrol another (`strongroom device add URI --role open`), or ask for fewer (`strongroom settings \
                 --threshold {to}`)"
            ));
        }
        Ok(())
    }

    fn expect_another_admin(&self, device: &DeviceRow, operation: &str) -> Result<()> {
        let admin = self.replica.device(&device.id)?.is_some_and(|state| state.is_admin());
        let admins = self.replica.active_with(&Role::Admin)?;
        if !admin || admins.iter().any(|other| *other != device.id) {
            return Ok(());
        }
        Err(Error::new(Kind::Refused, operation, "it is the last device with the role admin")
            .with_target(self.location().to_owned())
            .with_hint("give another device the role first: `strongroom device add URI --role admin …`, or `device roles`"))
    }

    /// Reseals what only this device opens to the others.
    pub(crate) fn reseal_sole(
        &mut self,
        device: &DeviceRow,
        progress: ResealProgress<'_>,
    ) -> Result<ResealReport> {
        let others = self.others(device)?;
        let sole = |row: &SealedRow| is_sole(row, device, &others);
        self.reseal_those(&Prefix::default(), Some(device.id), &sole, progress)
    }

    /// The other active devices.
    fn others(&self, device: &DeviceRow) -> Result<Vec<DeviceId>> {
        let devices = self.replica.devices()?.into_iter();
        let others = devices.filter(|other| other.retired.is_none() && other.id != device.id);
        Ok(others.map(|other| other.id).collect())
    }

    /// The versions that the other active devices do not open.
    ///
    /// # Errors
    /// The replica's.
    pub fn lost_with(&self, device: &DeviceRow) -> Result<Vec<SealedRow>> {
        self.sole_to(device, usize::MAX)
    }

    /// Up to `limit` versions that the other active devices do not open.
    pub(crate) fn sole_to(&self, device: &DeviceRow, limit: usize) -> Result<Vec<SealedRow>> {
        let (others, mut sole, mut after) = (self.others(device)?, Vec::new(), (0, 0));
        while sole.len() < limit {
            let page = self.replica.openable_page(&Prefix::default(), after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.at;
            sole.extend(page.into_iter().filter(|row| is_sole(row, device, &others)));
        }
        sole.truncate(limit);
        Ok(sole)
    }

    /// A device's current row, if it is still active.
    ///
    /// # Errors
    /// `Conflict` if it is no longer active.
    pub(crate) fn still_active(&self, id: &DeviceId, operation: &str) -> Result<DeviceRow> {
        let row = self.replica.device_row(id)?.filter(|row| row.retired.is_none());
        row.ok_or_else(|| {
            let message = "it was retired or renewed in the meantime";
            Error::new(Kind::Conflict, operation, message).with_target(self.location().to_owned())
        })
    }

    /// Refuses to lose versions that only this device opens, unless forced; `forcing` is the option that forces it.
    pub(crate) fn expect_others_open(
        &self,
        device: &DeviceRow,
        force: bool,
        forcing: &str,
        operation: &str,
    ) -> Result<()> {
        let sole = self.sole_to(device, NAMED + 1)?;
        if sole.is_empty() || force {
            return Ok(());
        }
        let mut names: Vec<_> =
            sole.iter().map(|row| format!("{}@{}", row.name, row.version.version)).collect();
        if names.len() > NAMED {
            names.truncate(NAMED);
            names.push("…".into());
        }
        let who = match sole.iter().all(|row| row.version.threshold == 1) {
            true => "no other device opens",
            false => "too few other devices open",
        };
        let message = format!("{who} {}", names.join(", "));
        let Some((name, version)) = sole.first().map(|row| (&row.name, row.version.version)) else {
            return Ok(());
        };
        Err(Error::new(Kind::Refused, operation, message).with_target(self.location().to_owned()).with_hint(format!(
            "where this device is at hand, put each for other devices (`strongroom get {name}@{version} | strongroom put \
             {name}`) and revoke the version (`strongroom revoke {name}@{version} --reason …`); if no other device opens, \
             enrol one first (`strongroom device add URI`). {forcing} all the same, and these tokens are lost"
        )))
    }
}

/// Whether the other devices do not open it, or are too few to open it together.
fn is_sole(row: &SealedRow, device: &DeviceRow, others: &[DeviceId]) -> bool {
    let openers = others.iter().filter(|other| row.version.is_for(other)).count();
    row.version.is_for(&device.id) && (openers as u64) < row.version.threshold
}
