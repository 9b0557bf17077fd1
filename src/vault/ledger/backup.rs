//! Backups: a verified copy of the store in one file, with the trust anchor in a file beside it.

use crate::error::{Error, Kind, Result, printable};
use crate::ledger::verify::Chain;
use crate::ledger::{StoreId, leaf};
use crate::partial_file::{PartialFile, occupied, with_suffix};
use crate::replica::{Replica, StorePin, TrustAnchor};
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::vault::ledger::verify::{CACHE, VerifyProgress, VerifyReport, verify_store};
use crate::vault::{Setup, Vault, counted};
use std::io::Write;
use std::path::{Path, PathBuf};

const BACKUP: &str = "back the store up";
const CHECK: &str = "check the backup";

/// The longest file with a trust anchor that is read.
const MAX_LINE_BYTES: u64 = 4096;

/// What a copy of a store holds, verified from its first statement on.
#[derive(Clone, Debug)]
pub struct CheckedCopy {
    /// Its file.
    pub file: PathBuf,
    /// Its id and where it ends.
    pub head: TrustAnchor,
    /// The newest plausible time in its ledger (ms).
    pub newest: u64,
    /// How many tokens it has.
    pub tokens: u64,
    /// What was verified.
    pub report: VerifyReport,
}

/// A copy that was checked, and what it was compared with.
#[derive(Clone, Debug)]
pub struct BackupCheck {
    /// What it holds.
    pub copy: CheckedCopy,
    /// The line beside it, or the one that was given.
    pub line: Option<TrustAnchor>,
    /// How far this machine has verified the same store; none if it never did.
    pub verified_here: Option<u64>,
}

impl Vault {
    /// Copies the store into `file` while others use it, verifies the copy from its first statement on and against what
    /// was verified here, and only then gives it its name. The trust anchor goes into [`line_file`].
    ///
    /// With `replace`, takes the place of an older backup, which is a file with a trust anchor beside it.
    ///
    /// # Errors
    /// `Conflict` if something is there; `Tampered` if the store does not verify; `Store` and `Io`.
    pub fn backup(
        &mut self,
        file: &Path,
        replace: bool,
        progress: VerifyProgress<'_>,
    ) -> Result<CheckedCopy> {
        let replaced = replace && std::fs::symlink_metadata(file).is_ok();
        expect_room(file, replace)?;
        self.refresh()?;
        let (partial, line) =
            (PartialFile::beside(file, BACKUP)?, PartialFile::beside(&line_file(file), BACKUP)?);
        self.store.copy_to(partial.path(), &mut |done, total| progress("copying", done, total))?;
        let known = self.head();
        let scratch = crate::replica::scratch(self.replica.path(), "verify")?;
        let checked = check_copy(partial.path(), &scratch, &[known], (self.clock)(), progress);
        let mut checked = checked.map_err(|error| self.not_backed_up(error))?;
        checked.file = file.into();
        write_line(line.path(), &checked.head)?;
        // The new backup agrees with the old line, the old one not with the new line.
        partial.put_in_place(replaced)?;
        line.put_in_place(replace)?;
        Ok(checked)
    }

    /// What is wrong with a copy is wrong with the store.
    fn not_backed_up(&self, error: Error) -> Error {
        let hint = match error.kind() {
            Kind::Tampered | Kind::RolledBack => {
                "`strongroom verify` lists what is wrong with the store. Keep the older backups"
            }
            _ => return error,
        };
        Error::new(error.kind(), BACKUP, error.message().to_owned())
            .with_target(self.location().to_owned())
            .with_hint(hint)
    }
}

/// Verifies a backup from its first statement on, and compares it with `line`, or with the line in the file beside it,
/// and with what this machine has verified of the store at the setup's location.
///
/// # Errors
/// `RolledBack` or `Tampered` if it does not lead to the line; `Tampered` if it does not verify; `Store` and `Io`.
pub fn check_backup(
    setup: &Setup,
    file: &Path,
    line: Option<TrustAnchor>,
    progress: VerifyProgress<'_>,
) -> Result<BackupCheck> {
    let line = match line {
        Some(line) => Some(line),
        None => read_line(file)?,
    };
    crate::paths::make_private(&setup.state)?;
    let scratch = crate::replica::scratch(&setup.state.join("backup"), "verify")?;
    let lines: Vec<TrustAnchor> = line.clone().into_iter().collect();
    let copy = check_copy(file, &scratch, &lines, (setup.clock)(), progress)?;
    let location = crate::store::location(&setup.store)?;
    let pin = StorePin::load(&setup.state, &location)?.filter(|pin| pin.store == copy.head.store);
    Ok(BackupCheck { copy, line, verified_here: pin.map(|pin| pin.position.n) })
}

/// Where the trust anchor of a backup is.
pub fn line_file(file: &Path) -> PathBuf {
    with_suffix(file, ".head")
}

/// Verifies all of the store in `file` by itself, with a replica in the file `scratch`, which is removed. Each of `lines`
/// must lie on its chain.
pub(super) fn check_copy(
    file: &Path,
    scratch: &Path,
    lines: &[TrustAnchor],
    now: u64,
    progress: VerifyProgress<'_>,
) -> Result<CheckedCopy> {
    let mut store = SqliteStore::open(file)?;
    let id = match lines {
        [line, ..] => line.store,
        [] => claimed_id(&mut store)?,
    };
    let checked = Replica::temporary(scratch, id, CACHE).and_then(|mut fresh| {
        let report = verify_store(&mut store, &mut fresh, now, progress)?;
        expect_no_problem(&report, store.location())?;
        lines.iter().try_for_each(|line| expect_to_lead_to(&fresh, line, store.location()))?;
        let head = TrustAnchor { store: id, position: fresh.position() };
        let (newest, tokens) = (fresh.newest_time(), fresh.count()?);
        Ok(CheckedCopy { file: file.into(), head, newest, tokens, report })
    });
    let removed = std::fs::remove_file(scratch);
    let checked = checked?;
    removed.map_err(|e| Error::io("remove a temporary file", scratch, e))?;
    Ok(checked)
}

fn claimed_id(store: &mut SqliteStore) -> Result<StoreId> {
    let first = store.batches_after(0, 1)?;
    let genesis = first.first().and_then(|batch| batch.statements.first());
    genesis.map(|genesis| StoreId(leaf(genesis).0)).ok_or_else(|| {
        Error::new(Kind::Store, CHECK, "it has no first statement").with_target(store.location().to_owned())
    })
}

fn expect_no_problem(report: &VerifyReport, location: &str) -> Result<()> {
    let Some(first) = report.problems.first() else { return Ok(()) };
    let (found, what) = (report.problems.len() as u64, &first.what);
    let place = if first.place == location { String::new() } else { format!("{}: ", first.place) };
    let message = format!("{} did not verify: {place}{what}", counted(found, "thing", "things"));
    Err(bad_copy(Kind::Tampered, message, location))
}

fn expect_to_lead_to(copy: &Replica, line: &TrustAnchor, location: &str) -> Result<()> {
    let (ends, n) = (copy.position().n, line.position.n);
    if ends < n {
        let message = format!(
            "it ends at statement {ends}, and the line names statement {n}: it is an older copy, or its end was cut off"
        );
        return Err(bad_copy(Kind::RolledBack, message, location));
    }
    match copy.chain_at(n)? == Some(line.position.chain) {
        true => Ok(()),
        false => {
            let message = format!("its statement {n} is not the one that the line names");
            Err(bad_copy(Kind::Tampered, message, location))
        }
    }
}

fn bad_copy(kind: Kind, message: String, location: &str) -> Error {
    Error::new(kind, CHECK, message)
        .with_target(location.to_owned())
        .with_hint("use another backup, and find out who could write to this one")
}

/// Refuses to write over what is no backup.
fn expect_room(file: &Path, replace: bool) -> Result<()> {
    let line = line_file(file);
    let exists = |path: &Path| std::fs::symlink_metadata(path).is_ok();
    match (exists(file), exists(&line)) {
        (true, false) if replace => Err(occupied(BACKUP, file).with_hint(
            "it is no backup, as it has no .head file beside it: remove it yourself, or name another file",
        )),
        (true, _) if !replace => {
            Err(occupied(BACKUP, file)
                .with_hint("name another file or a directory, or replace it with --force"))
        }
        (false, true) if !replace => Err(occupied(BACKUP, &line)
            .with_hint("it belongs to another backup: name another file, or give --force")),
        _ => Ok(()),
    }
}

fn write_line(file: &Path, head: &TrustAnchor) -> Result<()> {
    let written = std::fs::OpenOptions::new().write(true).open(file);
    written
        .and_then(|mut file| file.write_all(format!("{head}\n").as_bytes()))
        .map_err(|e| Error::io("write the trust anchor", file, e))
}

/// The line beside a backup; none if there is no such file.
pub(super) fn read_line(file: &Path) -> Result<Option<TrustAnchor>> {
    use std::io::Read;
    let path = line_file(file);
    let mut text = String::new();
    let read =
        std::fs::File::open(&path).and_then(|file| file.take(MAX_LINE_BYTES).read_to_string(&mut text));
    match read {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read the trust anchor", &path, e)),
        Ok(_) => {}
    }
    text.trim().parse().map(Some).map_err(|why: String| {
        Error::new(Kind::Tampered, "read the trust anchor", why)
            .with_target(printable(&path.display().to_string()))
            .with_hint("give the line that `strongroom head` printed with --line")
    })
}
