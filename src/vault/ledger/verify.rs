//! `verify`: checks everything from genesis, without trusting the replica.

use crate::error::{Kind, Result};
use crate::ledger::body::Seal;
use crate::ledger::verify::Chain;
use crate::ledger::{AccessHead, Hash, sha256};
use crate::replica::Replica;
use crate::seal::{Context, Sealed};
use crate::store::Store;
use crate::vault::Vault;
use crate::vault::ledger::witnesses::{Standing, Witness, WitnessView};
use std::path::Path;

/// Sealed tokens per progress call.
const PAGE: u32 = 500;

/// Cache for the temporary replica in KiB: all of `verify` stays under 64 MiB.
pub(crate) const CACHE: u32 = 24 << 10;

/// A problem that `verify` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Table and row, or position.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

/// What `verify` checked and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Statements whose signatures, roles and order were verified.
    pub statements: u64,
    /// Statements among them without effect.
    pub ineffective: u64,
    /// Sealed tokens whose bytes were verified.
    pub sealed: u64,
    /// Rows of the access log.
    pub accesses: u64,
    /// Rows that were dropped before them.
    pub dropped_accesses: u64,
    /// The witnesses' checkpoints.
    pub witnesses: Vec<WitnessView>,
    /// The problems; empty if all is well.
    pub problems: Vec<Problem>,
}

/// Progress: the part being verified, the amount done, the total.
pub type VerifyProgress<'a> = &'a mut dyn FnMut(&'static str, u64, u64);

impl Vault {
    /// Verifies signatures, roles and chain, the replica against the store, every sealed token's bytes, and the access
    /// log's chain.
    ///
    /// # Errors
    /// Only what stops it: an unreadable store, no disk space. What it finds is in the report.
    pub fn verify(&mut self, progress: VerifyProgress<'_>) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let file = crate::replica::scratch(self.replica.path(), "verify")?;
        let verified = self.verify_ledger(&file, &mut report, progress);
        let removed = std::fs::remove_file(&file);
        verified?;
        if removed.is_err() {
            self.notices.push(format!(
                "{} could not be removed",
                crate::error::printable(&file.display().to_string())
            ));
        }
        match verify_sealed(&mut *self.store, &self.replica, &mut report, progress) {
            Err(error) if error.kind() == Kind::Tampered => report.add("replica", error.message()),
            sealed => sealed?,
        }
        verify_accesses(&mut *self.store, &mut report)?;
        match self.verify_witnesses(&mut report) {
            Err(error) if error.kind() == Kind::Tampered => {
                report.add(error.target().unwrap_or("the checkpoints"), error.message());
            }
            verified => verified?,
        }
        Ok(report)
    }

    fn verify_ledger(
        &mut self,
        file: &Path,
        report: &mut VerifyReport,
        progress: VerifyProgress<'_>,
    ) -> Result<()> {
        let mut fresh = Replica::temporary(file, self.pin.store, CACHE)?;
        verify_ledger(&mut *self.store, &mut fresh, (self.clock)(), report, progress)?;
        if !report.problems.is_empty() {
            return Ok(());
        }
        match self.with_snapshot(|vault| vault.compare_with(&fresh, report)) {
            Err(error) if error.kind() == Kind::Tampered => report.add("replica", error.message()),
            compared => compared?,
        }
        Ok(())
    }

    /// What witnesses say of the ledger, and of their lines of the access log.
    fn verify_witnesses(&mut self, report: &mut VerifyReport) -> Result<()> {
        for witness in self.witnesses()? {
            let place = format!("the checkpoint of {}", witness.name);
            match witness.standing {
                Standing::Forked => report.add(&place, "the witness verified another history"),
                Standing::Withheld => report.add(&place, "the witness verified more than the store holds"),
                _ => {
                    if let Err(what) = self.verify_witnessed_accesses(&witness)? {
                        report.add(&place, &what);
                    }
                }
            }
            report.witnesses.push(WitnessView::from(&witness));
        }
        Ok(())
    }

    fn verify_witnessed_accesses(&mut self, witness: &Witness) -> Result<std::result::Result<(), String>> {
        let AccessHead { count, chain } = witness.accesses;
        // The report says how many were dropped.
        if count < self.store.dropped_accesses(&witness.device)?.count {
            return Ok(Ok(()));
        }
        let found = match count {
            0 => Some(Hash::ZERO),
            count => match self.store.access_chain_at(&witness.device, count) {
                Err(error) if error.kind() == Kind::Tampered => None,
                found => found?,
            },
        };
        Ok(match found {
            Some(found) if found == chain => Ok(()),
            Some(_) => Err(format!("the access log's first {count} lines of this device were altered")),
            None => Err(format!("the access log has fewer than {count} lines of this device")),
        })
    }

    fn compare_with(&mut self, fresh: &Replica, report: &mut VerifyReport) -> Result<()> {
        let ours = self.replica.position();
        // Another process may have appended meanwhile: compare the common part.
        if fresh.chain_at(ours.n)? != Some(ours.chain) {
            report
                .add(self.store.location(), "the chain does not lead through what was verified here before");
        } else if fresh.position() == ours {
            match self.replica.damage() {
                Ok(damage) => damage.into_iter().for_each(|what| report.add("replica", &what)),
                Err(error) => report.add("replica", error.message()),
            }
            match self.replica.differences(fresh) {
                Ok(differences) => {
                    report.problems.extend(differences.into_iter().map(|difference| Problem {
                        place: format!("replica, table `{}`", difference.table),
                        what: format!("row {}", difference.row),
                    }))
                }
                Err(error) => report.add("replica", error.message()),
            }
        }
        Ok(())
    }
}

/// Verifies all of a store by itself. `fresh` is an empty replica, and holds what was verified afterwards.
///
/// # Errors
/// As [`Vault::verify`].
pub(crate) fn verify_store(
    store: &mut dyn Store,
    fresh: &mut Replica,
    now: u64,
    progress: VerifyProgress<'_>,
) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    verify_ledger(store, fresh, now, &mut report, progress)?;
    verify_sealed(store, fresh, &mut report, progress)?;
    verify_accesses(store, &mut report)?;
    Ok(report)
}

fn verify_ledger(
    store: &mut dyn Store,
    fresh: &mut Replica,
    now: u64,
    report: &mut VerifyReport,
    progress: VerifyProgress<'_>,
) -> Result<()> {
    let mut ledger_progress = |done, total| progress("ledger", done, total);
    match fresh.load(store, now, &mut ledger_progress) {
        Ok(followed) => report.ineffective = followed.ineffective,
        Err(error) if error.kind() == Kind::Tampered => report.add(store.location(), error.message()),
        Err(error) => return Err(error),
    }
    report.statements = fresh.position().n;
    if !report.problems.is_empty() {
        return Ok(());
    }
    verify_chain(store, fresh, report)?;
    verify_heads(store, report)
}

/// Checks the chain values that the store keeps beside its batches: clients compare the one at their position.
fn verify_chain(store: &mut dyn Store, fresh: &Replica, report: &mut VerifyReport) -> Result<()> {
    let mut after = 0;
    loop {
        let ends = fresh.batch_ends(after, PAGE)?;
        let Some(last) = ends.last() else { return Ok(()) };
        after = last.n;
        for end in ends {
            let place = || format!("table `batches`, the batch that ends at {}", end.n);
            match store.chain_at(end.n) {
                Ok(Some(chain)) if chain == end.chain => {}
                Ok(_) => report.add(&place(), "`chain` is not the value that follows from the statements"),
                Err(error) if error.kind() == Kind::Tampered => report.add(&place(), error.message()),
                Err(error) => return Err(error),
            }
        }
    }
}

fn verify_sealed(
    store: &mut dyn Store,
    replica: &Replica,
    report: &mut VerifyReport,
    progress: VerifyProgress<'_>,
) -> Result<()> {
    let total = replica.count_sealed()?;
    let mut after = (0, 0);
    loop {
        let page = replica.sealed_page(after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.at;
        for row in page {
            let context =
                Context { store: replica.store().0, token: row.token.0, version: row.version.version };
            for seal in &row.version.seals {
                if let Err(what) = verify_seal(store, &context, row.version.threshold, seal)? {
                    let (name, version) = (&row.name, row.version.version);
                    let place = format!("{name}@{version}, table `sealed`, row {}", seal.digest);
                    report.problems.push(Problem { place, what });
                }
            }
            report.sealed += 1;
        }
        progress("sealed tokens", report.sealed, total);
    }
}

fn verify_seal(
    store: &mut dyn Store,
    context: &Context,
    threshold: u64,
    seal: &Seal,
) -> Result<std::result::Result<(), String>> {
    let sealed = match store.sealed(&seal.digest) {
        Ok(Some(sealed)) => sealed,
        Ok(None) => return Ok(Err("the sealed bytes are missing".into())),
        Err(error) if error.kind() == Kind::Tampered => return Ok(Err(error.message().to_owned())),
        Err(error) => return Err(error),
    };
    if sealed.len() as u64 != seal.length || sha256(&sealed) != seal.digest {
        return Ok(Err("the sealed bytes are not those that were put".into()));
    }
    let stated = Sealed::parse(&sealed).and_then(|parsed| parsed.is_what_was_stated(context, threshold));
    Ok(stated.map_err(|error| error.message().to_owned()))
}

/// Planted rows would keep others from changing what they name.
fn verify_heads(store: &mut dyn Store, report: &mut VerifyReport) -> Result<()> {
    match store.check_heads() {
        Err(error) if error.kind() == Kind::Tampered => report.add("table `heads`", error.message()),
        checked => checked?,
    }
    Ok(())
}

fn verify_accesses(store: &mut dyn Store, report: &mut VerifyReport) -> Result<()> {
    match store.check_accesses() {
        Ok(count) => (report.accesses, report.dropped_accesses) = (count.kept, count.dropped),
        Err(error) if error.kind() == Kind::Tampered => report.add("table `access`", error.message()),
        Err(error) => return Err(error),
    }
    Ok(())
}

impl VerifyReport {
    fn add(&mut self, place: &str, what: &str) {
        self.problems.push(Problem { place: place.into(), what: what.into() });
    }
}
