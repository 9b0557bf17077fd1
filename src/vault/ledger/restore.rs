//! Restoring a store from a backup, where there is none.

use crate::error::{Error, Kind, Result, printable};
use crate::ledger::verify::Chain;
use crate::partial_file::{PartialFile, occupied, with_suffix};
use crate::replica::{LedgerChange, Replica, StorePin, TrustAnchor};
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::vault::ledger::backup::{CheckedCopy, check_copy, read_line};
use crate::vault::ledger::verify::VerifyProgress;
use crate::vault::{Setup, counted, replica_path};
use std::path::Path;

const RESTORE: &str = "restore the store";

/// How many things that a backup lacks are named.
const NAMED: u32 = 20;

/// How to restore.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// The line that the backup must lead to; by default the one beside it, if there is one.
    pub line: Option<TrustAnchor>,
    /// Also where this machine has verified more.
    pub older: bool,
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct RestoreReport {
    /// What the backup holds.
    pub copy: CheckedCopy,
    /// Where the store is now.
    pub location: String,
    /// What this machine knew of it.
    pub known: Known,
}

/// What this machine knew of a store before it was restored.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// How far this machine had verified it; none if it never did.
    pub verified_here: Option<u64>,
    /// How many statements the backup lacks that this machine has verified.
    pub behind: u64,
    /// The first of what they did, as far as the replica tells.
    pub lacks: Vec<String>,
}

/// Puts a copy of the backup in `file` where the setup's store is to be, after verifying it. Changes neither replica nor
/// pin: a store that this machine has never verified has to be trusted first, and an older one again.
///
/// # Errors
/// `Conflict` if there is a store; `RolledBack` if this machine has verified more, unless the options accept that;
/// `Tampered` if the backup does not verify or is not of the history that was verified here; `Store` and `Io`.
pub fn restore(
    setup: &Setup,
    file: &Path,
    options: &RestoreOptions,
    progress: VerifyProgress<'_>,
) -> Result<RestoreReport> {
    let place = crate::store::sqlite_path(&setup.store)?;
    expect_no_store(&place)?;
    let mut backup = SqliteStore::open(file)?;
    let directory = place.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory.map_or(Ok(()), crate::paths::make_private)?;
    let partial = PartialFile::beside(&place, RESTORE)?;
    backup.copy_to(partial.path(), &mut |done, total| progress("copying", done, total))?;

    let line = match &options.line {
        Some(line) => Some(line.clone()),
        None => read_line(file)?,
    };
    let lines: Vec<TrustAnchor> = line.into_iter().collect();
    crate::paths::make_private(&setup.state)?;
    let scratch = crate::replica::scratch(&setup.state.join("restore"), "verify")?;
    let mut copy = check_copy(partial.path(), &scratch, &lines, (setup.clock)(), progress)
        .map_err(|error| error.with_target(printable(&file.display().to_string())))?;
    copy.file = file.into();

    let location = crate::store::location(&setup.store)?;
    let known = compare_with_pin(setup, &location, &copy, partial.path())?;
    if known.behind > 0 && !options.older {
        return Err(older(&copy, &known));
    }
    expect_no_store(&place)?;
    partial.put_in_place(false)?;
    Ok(RestoreReport { copy, location, known })
}

/// Neither a store nor what SQLite left of one: it would take an old log for the new file's own.
fn expect_no_store(place: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let path = with_suffix(place, suffix);
        if std::fs::symlink_metadata(&path).is_ok() {
            let hint = "move it away, with its -wal and -shm files; keep it until the restored store is proven, or restore elsewhere with --store";
            return Err(occupied(RESTORE, &path).with_hint(hint));
        }
    }
    Ok(())
}

/// How far this machine has verified the store at `location`, and what of that the copy lacks.
fn compare_with_pin(setup: &Setup, location: &str, copy: &CheckedCopy, file: &Path) -> Result<Known> {
    let Some(pin) = StorePin::load(&setup.state, location)? else { return Ok(Known::default()) };
    if pin.store != copy.head.store {
        return Err(crate::replica::other_store(location, pin.store));
    }
    let (ours, theirs) = (pin.position.n, copy.head.position.n);
    let verified_here = Some(ours);
    if theirs >= ours {
        let mut store = SqliteStore::open(file)?;
        let same = ours == 0 || store.chain_at(ours)? == Some(pin.position.chain);
        return match same {
            true => Ok(Known { verified_here, ..Known::default() }),
            false => Err(other_history(copy, ours)),
        };
    }
    let mut known = Known { verified_here, behind: ours - theirs, lacks: Vec::new() };
    let path = replica_path(&setup.state, pin.store);
    // Without the replica nothing is known but the count.
    if path.exists() {
        let replica = Replica::open(&path, pin.store)?;
        if replica.position().n >= ours && replica.chain_at(theirs)? != Some(copy.head.position.chain) {
            return Err(other_history(copy, theirs));
        }
        known.lacks = replica.changes_since(theirs, NAMED)?.into_iter().map(words).collect();
    }
    Ok(known)
}

fn words(change: LedgerChange) -> String {
    match change {
        LedgerChange::Version(name, version) => format!("{name}@{version}"),
        LedgerChange::Change(name) => format!("a change of {name}"),
        LedgerChange::Enrolled(name) => format!("the enrolment of {name}"),
        LedgerChange::Retired(name) => format!("the retirement of {name}"),
        LedgerChange::Grant(on, to) => format!("a grant on {on} to {to}"),
    }
}

fn older(copy: &CheckedCopy, known: &Known) -> Error {
    let named = if known.lacks.is_empty() { String::new() } else { format!(": {}", known.lacks.join(", ")) };
    let message = format!(
        "it ends at statement {}, and this machine has verified {} more{named}",
        copy.head.position.n,
        counted(known.behind, "statement", "statements"),
    );
    Error::new(Kind::RolledBack, RESTORE, message)
        .with_target(printable(&copy.file.display().to_string()))
        .with_hint(
            "restore a newer copy, from another machine or another backup; if there is none, give --older",
        )
}

fn other_history(copy: &CheckedCopy, n: u64) -> Error {
    let message = format!("its statement {n} is not the one that was verified here before");
    Error::new(Kind::Tampered, RESTORE, message)
        .with_target(printable(&copy.file.display().to_string()))
        .with_hint("it is no older copy, but another history: use another backup, and find out who could write to it")
}
