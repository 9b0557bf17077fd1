//! Resealing: sealing existing versions to the devices that should open them now.
//!
//! A version that was put for all devices with the role `open` is resealed to all that have it now. A version that was
//! put for some only (`--only`) stays theirs: retired devices are dropped, and a successor takes its predecessor's
//! place. The ledger tells which is which: docs/reference/format.md, section 3.
//!
//! One transaction removes the old sealed bytes and adds the new ones with their statement, so that some device can
//! open the version at every moment. Each batch is independent: after a kill, run it again to reseal the rest.

use crate::device::PublicKey;
use crate::error::{Error, Kind, Result};
use crate::ledger::body::{Body, Reseal, State};
use crate::ledger::{DeviceId, Prefix, sha256};
use crate::replica::{DeviceRow, SealedRow, VersionRow};
use crate::seal::{self, Context};
use crate::secret::Secret;
use crate::vault::Vault;
use crate::vault::ledger::submit::{Draft, RequiredRole};
use crate::vault::tokens::put::{as_recipients, on_all_cores};
use std::collections::HashMap;
use std::sync::Arc;

/// The most versions read at once, and stated under one signature.
const PAGE: u32 = 500;

/// The most sealed bytes held in memory at once.
const MAX_BYTES: u64 = 8 << 20;

/// Progress: versions done, and versions in all.
pub type ResealProgress<'a> = &'a mut dyn FnMut(u64, u64);

/// What was resealed, and what was not.
#[derive(Debug, Default)]
pub struct ResealReport {
    /// Versions that were resealed.
    pub resealed: u64,
    /// Signatures made.
    pub batches: u64,
    /// Versions that could not be resealed here.
    pub left: Vec<Unresealed>,
}

/// A version that could not be resealed here. It is unchanged.
#[derive(Debug)]
pub struct Unresealed {
    /// The token's name.
    pub name: String,
    /// The version.
    pub version: u64,
    /// Why, and what to do.
    pub error: Error,
}

/// Who should open what.
pub(crate) struct RecipientPlan {
    openers: Vec<DeviceRow>,
    /// For each device, its latest successor: mostly itself.
    successors: HashMap<DeviceId, DeviceId>,
    without: Option<DeviceId>,
}

impl RecipientPlan {
    /// The devices that a version should be sealed to, sorted by id; none if all of its devices are gone.
    pub(crate) fn devices_for(&self, version: &VersionRow) -> Vec<DeviceRow> {
        let stays = |device: &&DeviceRow| match version.explicit_recipients {
            false => true,
            true => version.recipients.iter().any(|id| self.successors.get(id) == Some(&device.id)),
        };
        let here = |device: &&DeviceRow| Some(device.id) != self.without;
        self.openers.iter().filter(stays).filter(here).cloned().collect()
    }

    fn is_met(&self, version: &VersionRow) -> bool {
        self.devices_for(version).iter().map(|device| device.id).eq(version.recipients.iter().copied())
    }
}

impl Vault {
    /// Reseals every version under `prefix` that is neither revoked nor destroyed.
    ///
    /// Needs a device here that opens it, and an admin device here that signs. The report lists what could not be
    /// opened.
    ///
    /// # Errors
    /// `Refused` without the role `admin`; the devices' and the store's. Everything that `progress` has reported is
    /// stored.
    pub fn reseal(&mut self, prefix: &Prefix, progress: ResealProgress<'_>) -> Result<ResealReport> {
        self.sync(&mut |_, _| {})?;
        self.author("reseal", RequiredRole::Admin)?;
        self.reseal_those(prefix, None, &|_| true, progress)
    }

    /// Counts the versions under `prefix` whose recipients are not the devices that should open them now.
    ///
    /// # Errors
    /// As [`Vault::refresh`].
    pub fn count_stale(&mut self, prefix: &Prefix) -> Result<u64> {
        self.refresh()?;
        let targets = self.targets(None)?;
        self.count_openable(prefix, |row| !targets.is_met(&row.version))
    }

    /// Counts the versions that a device should open and cannot yet.
    ///
    /// # Errors
    /// As [`Vault::refresh`].
    pub fn count_closed_to(&mut self, device: &DeviceId) -> Result<u64> {
        self.refresh()?;
        let targets = self.targets(None)?;
        self.count_openable(&Prefix::default(), |row| {
            let should = targets.devices_for(&row.version).iter().any(|target| target.id == *device);
            should && !row.version.recipients.contains(device)
        })
    }

    fn count_openable(&self, prefix: &Prefix, counts: impl Fn(&SealedRow) -> bool) -> Result<u64> {
        let (mut count, mut after) = (0, (0, 0));
        loop {
            let page = self.replica.openable_page(prefix, after, PAGE)?;
            let Some(last) = page.last() else { return Ok(count) };
            after = last.at;
            count += page.iter().filter(|row| counts(row)).count() as u64;
        }
    }

    pub(crate) fn targets(&self, without: Option<DeviceId>) -> Result<RecipientPlan> {
        let devices = self.replica.devices()?.into_iter();
        let successors = devices.map(|device| Ok((device.id, self.replica.latest_successor(device)?.id)));
        Ok(RecipientPlan {
            openers: self.replica.openers()?,
            successors: successors.collect::<Result<_>>()?,
            without,
        })
    }

    /// Reseals the chosen versions under `prefix` to all devices that should open them, except one.
    pub(crate) fn reseal_those(
        &mut self,
        prefix: &Prefix,
        without: Option<DeviceId>,
        wanted: &dyn Fn(&SealedRow) -> bool,
        progress: ResealProgress<'_>,
    ) -> Result<ResealReport> {
        let targets = self.targets(without)?;
        let stale = |row: &SealedRow| wanted(row) && !targets.is_met(&row.version);
        let total = self.count_openable(prefix, stale)?;
        let (mut report, mut done, mut after) = (ResealReport::default(), 0, (0, 0));
        while done < total {
            let mut page = self.replica.openable_page(prefix, after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.at;
            page.retain(stale);
            for rows in portions(page) {
                done += rows.len() as u64;
                self.reseal_rows(rows, without, &mut report)?;
                progress(done.min(total), total);
            }
        }
        Ok(report)
    }

    fn reseal_rows(
        &mut self,
        rows: Vec<SealedRow>,
        without: Option<DeviceId>,
        report: &mut ResealReport,
    ) -> Result<()> {
        let targets = self.targets(without)?;
        let (rows, orphans): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| !targets.devices_for(&row.version).is_empty());
        report.left.extend(orphans.iter().map(|row| unresealed(row, nobody_left(row))));
        let opened = self.open_to_reseal(rows, report)?;
        let resealed = self.submit("reseal", RequiredRole::Admin, |vault| {
            let jobs = vault.still_to_do(&opened, &vault.targets(without)?)?;
            let mut draft = Draft::default();
            for (job, sealed) in jobs.iter().zip(vault.seal_each(&jobs)?) {
                draft.bodies.push(Body::Reseal(job.statement(&sealed)));
                draft.destroyed.push(job.row.version.digest);
                draft.sealed.push((sha256(&sealed), sealed));
            }
            let count = draft.bodies.len() as u64;
            Ok((draft, count))
        })?;
        report.resealed += resealed;
        report.batches += u64::from(resealed > 0);
        Ok(())
    }

    /// Opens what can be opened here.
    fn open_to_reseal(
        &mut self,
        rows: Vec<SealedRow>,
        report: &mut ResealReport,
    ) -> Result<Vec<(SealedRow, Secret)>> {
        let (mut sealed, mut found) = (Vec::new(), Vec::new());
        for row in rows {
            match self.sealed_token(&row) {
                Ok(token) => {
                    sealed.push(Arc::new(token));
                    found.push(row);
                }
                Err(error) if self.is_as_before(&row)? => report.left.push(unresealed(&row, error)),
                // Another process resealed or destroyed it since the last sync.
                Err(_) => {}
            }
        }
        self.check_anchors("reseal")?;
        let outcomes = self.open_on_devices(&sealed);
        self.record(found.iter().map(|row| row.name.as_str()).zip(&outcomes), "resealed");
        let mut tokens = Vec::new();
        for (row, outcome) in found.into_iter().zip(outcomes) {
            match outcome.token {
                Ok(token) => tokens.push((row, token)),
                Err(error) => report.left.push(unresealed(&row, error)),
            }
        }
        Ok(tokens)
    }

    fn is_as_before(&mut self, row: &SealedRow) -> Result<bool> {
        self.sync(&mut |_, _| {})?;
        let now = self.replica.sealed_row(row.at)?.map(|now| now.version);
        Ok(now.is_some_and(|now| now.digest == row.version.digest && now.state.is_some()))
    }

    /// Leaves out what others have resealed or closed meanwhile.
    fn still_to_do<'a>(
        &self,
        opened: &'a [(SealedRow, Secret)],
        targets: &RecipientPlan,
    ) -> Result<Vec<Job<'a>>> {
        let mut jobs = Vec::new();
        for (row, token) in opened {
            let now = self.replica.sealed_row(row.at)?;
            let Some(now) = now.filter(|now| now.version.digest == row.version.digest) else { continue };
            let devices = targets.devices_for(&now.version);
            let open = now.version.state.is_some_and(|state| state != State::Revoked);
            if open && !devices.is_empty() && !targets.is_met(&now.version) {
                jobs.push(Job { row, token, devices });
            }
        }
        Ok(jobs)
    }

    fn seal_each(&mut self, jobs: &[Job<'_>]) -> Result<Vec<Vec<u8>>> {
        let symmetric = |device: &DeviceRow| matches!(device.enrolment.opening.key, PublicKey::Aes256 { .. });
        if jobs.iter().flat_map(|job| &job.devices).any(symmetric) {
            // A symmetric key needs its device, one token after the other.
            let mut seal = |job: &Job<'_>| {
                let context = self.context(job.row.token, job.row.version.version);
                self.seal_to(job.token, &context, &job.devices)
            };
            return jobs.iter().map(&mut seal).collect();
        }
        let store = self.pin.store.0;
        on_all_cores(jobs, |job| {
            let context = Context { store, token: job.row.token.0, version: job.row.version.version };
            seal::seal(job.token, &context, &as_recipients(&job.devices), &mut seal::without_device)
        })
    }
}

/// A version to seal to other devices.
struct Job<'a> {
    row: &'a SealedRow,
    token: &'a Secret,
    devices: Vec<DeviceRow>,
}

impl Job<'_> {
    fn statement(&self, sealed: &[u8]) -> Reseal {
        Reseal {
            token: self.row.token,
            version: self.row.version.version,
            digest: sha256(sealed),
            length: sealed.len() as u64,
            recipients: self.devices.iter().map(|device| device.id).collect(),
        }
    }
}

/// Splits rows into portions that fit into memory.
fn portions(rows: Vec<SealedRow>) -> Vec<Vec<SealedRow>> {
    let (mut portions, mut bytes) = (Vec::<Vec<SealedRow>>::new(), 0);
    for row in rows {
        bytes += row.version.length;
        match portions.last_mut() {
            Some(portion) if bytes <= MAX_BYTES => portion.push(row),
            _ => {
                bytes = row.version.length;
                portions.push(vec![row]);
            }
        }
    }
    portions
}

fn unresealed(row: &SealedRow, error: Error) -> Unresealed {
    Unresealed { name: row.name.clone(), version: row.version.version, error }
}

fn nobody_left(row: &SealedRow) -> Error {
    let operation = format!("reseal {}@{}", row.name, row.version.version);
    let message = match row.version.explicit_recipients {
        true => "it was put for certain devices only, and none of them opens any more",
        false => "no device has the role `open`",
    };
    Error::new(Kind::Refused, operation, message)
        .with_hint(format!("put it anew: `strongroom put {}`", row.name))
}
