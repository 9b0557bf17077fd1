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
use crate::ledger::body::{Body, Reseal, Role, Seal, Settings, State};
use crate::ledger::judge::LedgerView;
use crate::ledger::{DeviceId, Hash, Prefix};
use crate::replica::{DeviceRow, SealedRow};
use crate::seal::{self, Context};
use crate::secret::Secret;
use crate::vault::Vault;
use crate::vault::ledger::submit::{Draft, RequiredRole};
use crate::vault::tokens::open_outcome::RESEALED;
use crate::vault::tokens::seals::{NewSeals, as_recipients, in_portions, on_all_cores};
use std::collections::HashMap;
use std::sync::Arc;

/// The most versions read at once, and stated under one signature.
const PAGE: u32 = 500;

/// The most sealed bytes held in memory at once.
const MAX_BYTES: u64 = 8 << 20;

/// From so many seals on, a reseal makes fewer of them. A version has at most [`crate::ledger::MAX_SEALS`].
const COMPACT_FROM: usize = 48;

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
    settings: Settings,
}

impl RecipientPlan {
    /// The devices that a version should be sealed to, sorted by id; none if all of its devices are gone.
    pub(crate) fn devices_for(&self, row: &SealedRow) -> Vec<DeviceRow> {
        let before = row.version.recipients();
        let stays = |device: &&DeviceRow| match row.version.only {
            false => true,
            true => {
                self.settings.recovery.contains(&device.id)
                    || before.iter().any(|id| self.successors.get(id) == Some(&device.id))
            }
        };
        let here = |device: &&DeviceRow| {
            Some(device.id) != self.without && device.opens(&row.name) && device.opens(&row.version.name)
        };
        self.openers.iter().filter(here).filter(stays).cloned().collect()
    }

    /// How many devices open a version together once it is resealed: never fewer than before, and as many as the settings
    /// ask for if there are so many. A device that left goes also where there are not.
    fn threshold_for(&self, row: &SealedRow) -> u64 {
        match self.falls_short(row) {
            true => row.version.threshold,
            false => self.wanted_threshold(row),
        }
    }

    fn wanted_threshold(&self, row: &SealedRow) -> u64 {
        row.version.threshold.max(self.settings.threshold_for(&row.name))
    }

    /// Whether fewer devices may open a version than the settings have open it together.
    fn falls_short(&self, row: &SealedRow) -> bool {
        (self.devices_for(row).len() as u64) < self.wanted_threshold(row)
    }

    fn is_met(&self, row: &SealedRow) -> bool {
        row.version.threshold == self.threshold_for(row)
            && self.devices_for(row).iter().map(|device| device.id).eq(row.version.recipients())
    }

    /// Why a version cannot be sealed as it should be.
    fn hindrance(&self, row: &SealedRow) -> Option<Error> {
        let devices = self.devices_for(row).len();
        match devices {
            0 => Some(nobody_left(row)),
            _ if (devices as u64) < row.version.threshold || self.is_met(row) && self.falls_short(row) => {
                Some(too_few_left(row, devices, self.wanted_threshold(row)))
            }
            _ => None,
        }
    }

    /// What to change so that the version is sealed to the devices it should be for: digests of seals that name others
    /// and go, and the devices that need a seal. Seals for none but these devices stay, unless there are too many, or several
    /// devices open the version together: then it has one seal.
    fn change_for(&self, row: &SealedRow) -> (Vec<Hash>, Vec<DeviceRow>) {
        let mut devices = self.devices_for(row);
        let should = |id: &DeviceId| devices.iter().any(|device| device.id == *id);
        let (stay, go): (Vec<&Seal>, Vec<&Seal>) =
            row.version.seals.iter().partition(|seal| seal.recipients.iter().all(should));
        if stay.len() >= COMPACT_FROM || self.threshold_for(row) > 1 {
            return (row.version.seals.iter().map(|seal| seal.digest).collect(), devices);
        }
        devices.retain(|device| !stay.iter().any(|seal| seal.recipients.contains(&device.id)));
        (go.iter().map(|seal| seal.digest).collect(), devices)
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
        self.count_openable(prefix, |row| !targets.is_met(row))
    }

    /// Counts the versions that a device should open and cannot yet.
    ///
    /// # Errors
    /// As [`Vault::refresh`].
    pub fn count_closed_to(&mut self, device: &DeviceId) -> Result<u64> {
        self.refresh()?;
        let opens = |row: &DeviceRow| row.roles.iter().any(|role| matches!(role, Role::Open(_)));
        if !self.replica.device_row(device)?.is_some_and(|row| opens(&row)) {
            return Ok(0);
        }
        let targets = self.targets(None)?;
        self.count_openable(&Prefix::default(), |row| {
            let should = targets.devices_for(row).iter().any(|target| target.id == *device);
            should && !row.version.is_for(device)
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
            settings: self.replica.settings()?,
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
        let stale = |row: &SealedRow| wanted(row) && (!targets.is_met(row) || targets.falls_short(row));
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
        let (rows, hindered): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| targets.hindrance(row).is_none());
        let hindered = hindered.iter().filter_map(|row| Some(unresealed(row, targets.hindrance(row)?)));
        report.left.extend(hindered);
        // Where others only lose their seal, nothing has to be opened.
        let (rows, closed): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| !targets.change_for(row).1.is_empty());
        let mut opened = self.open_to_reseal(rows, report)?;
        opened.extend(closed.into_iter().map(|row| (row, None)));
        let resealed = self.submit("reseal", RequiredRole::Admin, |vault| {
            let jobs = vault.still_to_do(&opened, &vault.targets(without)?)?;
            let mut draft = Draft::default();
            for (job, made) in jobs.iter().zip(vault.seal_each(&jobs)?) {
                draft.bodies.push(Body::Reseal(job.statement(made.seals)));
                draft.destroyed.extend(&job.drop);
                draft.sealed.extend(made.bytes);
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
    ) -> Result<Vec<(SealedRow, Option<Secret>)>> {
        self.check_anchors("reseal")?;
        let witnessed = match self.check_witnesses("reseal") {
            Ok(witnessed) => witnessed,
            // A device is retired all the same.
            Err(error) => {
                report.left.extend(rows.iter().map(|row| unresealed(row, error.with_context("reseal"))));
                return Ok(Vec::new());
            }
        };
        let (mut sealed, mut found) = (Vec::new(), Vec::new());
        for row in rows {
            match self.sealed_token(&row, witnessed) {
                Ok(token) => {
                    sealed.push(Arc::new(token));
                    found.push(row);
                }
                Err(error) if self.is_as_before(&row)? => report.left.push(unresealed(&row, error)),
                // Another process resealed or destroyed it since the last sync.
                Err(_) => {}
            }
        }
        let outcomes = self.open_on_devices(&sealed);
        self.record(found.iter().map(|row| row.name.as_str()).zip(&outcomes), RESEALED);
        let mut tokens = Vec::new();
        for (row, outcome) in found.into_iter().zip(outcomes) {
            match outcome.token {
                Ok(token) => tokens.push((row, Some(token))),
                Err(error) => report.left.push(unresealed(&row, error)),
            }
        }
        Ok(tokens)
    }

    fn is_as_before(&mut self, row: &SealedRow) -> Result<bool> {
        self.sync(&mut |_, _| {})?;
        let now = self.replica.sealed_row(row.at)?.map(|now| now.version);
        Ok(now.is_some_and(|now| now.seals == row.version.seals && now.state.is_some()))
    }

    /// Leaves out what others have resealed or closed meanwhile.
    fn still_to_do<'a>(
        &self,
        opened: &'a [(SealedRow, Option<Secret>)],
        targets: &RecipientPlan,
    ) -> Result<Vec<Job<'a>>> {
        let mut jobs = Vec::new();
        for (row, token) in opened {
            let now = self.replica.sealed_row(row.at)?;
            let Some(now) = now.filter(|now| now.version.seals == row.version.seals) else { continue };
            let open = now.version.state.is_some_and(|state| state != State::Revoked);
            if open && targets.hindrance(&now).is_none() && !targets.is_met(&now) {
                let (drop, devices) = targets.change_for(&now);
                let threshold = targets.threshold_for(&now);
                // Another device came meanwhile: the next reseal opens it.
                if devices.is_empty() || token.is_some() {
                    jobs.push(Job { row, token: token.as_ref(), drop, devices, threshold });
                }
            }
        }
        Ok(jobs)
    }

    fn seal_each(&mut self, jobs: &[Job<'_>]) -> Result<Vec<NewSeals>> {
        let symmetric = |device: &DeviceRow| matches!(device.enrolment.opening.key, PublicKey::Aes256 { .. });
        if jobs.iter().flat_map(|job| &job.devices).any(symmetric) {
            // A symmetric key needs its device, one token after the other.
            let mut seal = |job: &Job<'_>| {
                let context = self.context(job.row.token, job.row.version.version);
                job.seal(|token, portion| self.seal_to(token, &context, portion, job.threshold))
            };
            return jobs.iter().map(&mut seal).collect();
        }
        let store = self.pin.store.0;
        on_all_cores(jobs, |job| {
            let context = Context { store, token: job.row.token.0, version: job.row.version.version };
            job.seal(|token, portion| {
                let recipients = as_recipients(portion);
                seal::seal(token, &context, &recipients, job.threshold, &mut seal::without_device)
            })
        })
    }
}

/// A version to seal to other devices.
struct Job<'a> {
    row: &'a SealedRow,
    /// Its bytes; none where nothing has to be sealed.
    token: Option<&'a Secret>,
    /// The digests of the seals that go, sorted.
    drop: Vec<Hash>,
    /// The devices that need a seal; none if others only lose theirs.
    devices: Vec<DeviceRow>,
    /// How many of them open it together.
    threshold: u64,
}

impl Job<'_> {
    fn seal(&self, mut seal: impl FnMut(&Secret, &[DeviceRow]) -> Result<Vec<u8>>) -> Result<NewSeals> {
        match self.token.filter(|_| !self.devices.is_empty()) {
            Some(token) => in_portions(&self.devices, self.threshold, |portion| seal(token, portion)),
            None => Ok(NewSeals::default()),
        }
    }

    fn statement(&self, add: Vec<Seal>) -> Reseal {
        let (token, version) = (self.row.token, self.row.version.version);
        Reseal { token, version, threshold: self.threshold, drop: self.drop.clone(), add }
    }
}

/// Splits rows into portions that fit into memory.
fn portions(rows: Vec<SealedRow>) -> Vec<Vec<SealedRow>> {
    let (mut portions, mut bytes) = (Vec::<Vec<SealedRow>>::new(), 0);
    for row in rows {
        bytes += length_of(&row);
        match portions.last_mut() {
            Some(portion) if bytes <= MAX_BYTES => portion.push(row),
            _ => {
                bytes = length_of(&row);
                portions.push(vec![row]);
            }
        }
    }
    portions
}

fn length_of(row: &SealedRow) -> u64 {
    row.version.seals.iter().map(|seal| seal.length).sum()
}

fn unresealed(row: &SealedRow, error: Error) -> Unresealed {
    Unresealed { name: row.name.clone(), version: row.version.version, error }
}

fn nobody_left(row: &SealedRow) -> Error {
    let operation = format!("reseal {}@{}", row.name, row.version.version);
    let message = match row.version.only {
        true => "it was put for certain devices only, and none of them opens any more",
        false => "no device has the role `open`",
    };
    Error::new(Kind::Refused, operation, message)
        .with_hint(format!("put it anew: `strongroom put {}`", row.name))
}

fn too_few_left(row: &SealedRow, devices: usize, threshold: u64) -> Error {
    let operation = format!("reseal {}@{}", row.name, row.version.version);
    let message = format!("{threshold} devices must open it together, and only {devices} may open it");
    Error::new(Kind::Refused, operation, message)
        .with_hint(
            "enrol another device first (`strongroom device add URI --role open`); where the settings ask for so many, \
             `strongroom settings --threshold PREFIX=NUMBER` asks for fewer",
        )
}
