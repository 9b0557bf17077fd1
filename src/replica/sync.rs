//! Synchronization: verifies the batches after the last verified position and applies them.

use super::{Partial, Replica, StorePin};
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::ledger::error::{Ineffective, Tampering};
use crate::ledger::judge::{DeviceState, LedgerView, judge};
use crate::ledger::verify::{CheckedBatch, Fault, StoredBatch, check_batch};
use crate::ledger::{Hash, Statement, StoreId};
use crate::store::Store;
use rusqlite::params;

/// About how many bytes of statements to verify in one transaction.
const PAGE_BYTES: usize = 4 << 20;

/// From this many statements on, a first contact loads into a new file: in bulk that is faster.
const BULK: u64 = 1_000;

/// The result of a sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// How many statements were new.
    pub new: u64,
    /// The number of them without effect.
    pub ineffective: u64,
}

/// The result of applying a page of batches.
#[derive(Default)]
struct Page {
    ineffective: u64,
    tampering: Option<Error>,
}

/// Called with the verified position and the store's last position.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

impl Replica {
    /// Verifies all batches after this replica's position and applies them. Writes nothing if nothing is new.
    ///
    /// `now` is this client's clock in milliseconds: the upper limit for authors' times.
    ///
    /// # Errors
    /// `RolledBack` when the store ends before the pin or this replica; `Tampered` when its history differs at the
    /// verified position, or a new batch has no valid signature of an enrolled device; `Untrusted` when it is another
    /// store.
    pub fn sync(
        &mut self,
        store: &mut dyn Store,
        pin: &StorePin,
        now: u64,
        progress: Progress<'_>,
    ) -> Result<Followed> {
        let tail = self.check_claims(store, pin)?;
        if tail.n == self.position.n {
            return Ok(Followed::default());
        }
        // What does not lead through the pin must not become the replica.
        if self.position.n == 0 && (pin.position.n > 0 || tail.n > BULK) {
            return self.rebuild(store, &[pin], Partial::Keep, now, progress);
        }
        let followed = self.apply_new(store, now, progress)?;
        self.check_reached(pin, store.location())?;
        Ok(followed)
    }

    /// Verifies new batches, one page per transaction, so that verified pages stay if a later one fails.
    fn apply_new(&mut self, store: &mut dyn Store, now: u64, progress: Progress<'_>) -> Result<Followed> {
        let (followed, tampering) = self.apply_pages(store, progress, |replica, batches, location| {
            replica.in_transaction(|replica| replica.apply_page(batches, now, location))
        })?;
        tampering.map_or(Ok(followed), Err)
    }

    /// As `apply_new`, for a temporary file: in one transaction, since each commit would write most of the indexes.
    pub(crate) fn load(
        &mut self,
        store: &mut dyn Store,
        now: u64,
        progress: Progress<'_>,
    ) -> Result<Followed> {
        let (followed, tampering) = self.in_transaction(|replica| {
            replica.apply_pages(store, progress, |replica, batches, location| {
                replica.apply_page(batches, now, location)
            })
        })?;
        tampering.map_or(Ok(followed), Err)
    }

    /// Advances to the end, or up to the first tampering, which it returns.
    fn apply_pages(
        &mut self,
        store: &mut dyn Store,
        progress: Progress<'_>,
        take: impl Fn(&mut Self, &[StoredBatch], &str) -> Result<Page>,
    ) -> Result<(Followed, Option<Error>)> {
        let mut followed = Followed::default();
        loop {
            // Read the end first, so that a later append does not look like a gap. If the end cannot be read, verify as
            // far as possible.
            let end = store.tail();
            let batches = match next_batches(store, self.position.n) {
                Err(error) if error.kind() == Kind::Tampered => return Ok((followed, Some(error))),
                batches => batches?,
            };
            if batches.is_empty() {
                return match end.and_then(|end| self.expect_end(end.n, store.location())) {
                    Err(error) if error.kind() == Kind::Tampered => Ok((followed, Some(error))),
                    ended => ended.map(|()| (followed, None)),
                };
            }
            let before = self.position.n;
            let page = take(self, &batches, store.location())?;
            followed.new += self.position.n - before;
            followed.ineffective += page.ineffective;
            if page.tampering.is_some() {
                return Ok((followed, page.tampering));
            }
            progress(self.position.n, end.map_or(0, |end| end.n).max(self.position.n));
        }
    }

    fn expect_end(&self, last: u64, location: &str) -> Result<()> {
        if self.position.n >= last {
            return Ok(());
        }
        Err(tampered(&Tampering::Gap { expected: self.position.n + 1, found: last }, location))
    }

    /// Runs `work` in one transaction and keeps the position in memory equal to the file's.
    fn in_transaction<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.db.execute_batch("BEGIN IMMEDIATE").map_err(|e| self.failed(e))?;
        let done = self.reload().and_then(|()| work(self));
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        failpoint::reach("replica.written");
        let ended = self.db.execute_batch(end).map_err(|e| self.failed(e));
        failpoint::reach("replica.committed");
        let done = done.and_then(|value| ended.map(|()| value));
        if done.is_err() {
            self.forget();
            self.reload()?;
        }
        done
    }

    /// Applies the batches before the first one that was tampered with.
    fn apply_page(&mut self, batches: &[StoredBatch], now: u64, location: &str) -> Result<Page> {
        let mut page = Page::default();
        // Another process may have applied the first ones already.
        let from = batches.iter().position(|batch| batch.first > self.position.n).unwrap_or(batches.len());
        for stored in &batches[from..] {
            match check_batch(stored, self) {
                Ok(checked) => page.ineffective += self.apply_batch(stored.first, &checked, now)?,
                Err(Fault::View(error)) => return Err(error),
                Err(Fault::Tampering(tampering)) => {
                    page.tampering = Some(tampered(&tampering, location));
                    break;
                }
            }
        }
        self.run(
            "UPDATE position SET n = ?1, chain = ?2, admin_head = ?3, newest = ?4, guarded = ?5, frontier = ?6",
            params![
                self.position.n,
                &self.position.chain.0[..],
                &self.admin_head.0[..],
                self.newest,
                self.counted_changes,
                self.frontier.to_bytes()
            ],
        )?;
        Ok(page)
    }

    fn apply_batch(&mut self, first: u64, checked: &CheckedBatch, now: u64) -> Result<u64> {
        let (mut ineffective, mut guarding, mut author) = (0, false, checked.author.clone());
        for (n, (statement, hash)) in (first..).zip(&checked.statements) {
            // `check_batch` has judged the first two.
            let verdict = match (&checked.verdict, n) {
                (Ok(()), 1 | 2) => Ok(()),
                (Ok(()), _) => judge(statement, &author, self.position, self)?,
                (Err(why), _) => Err(why.clone()),
            };
            match verdict {
                Ok(()) => {
                    self.apply(n, statement, *hash)?;
                    self.newest = self.newest.max(statement.time.min(now));
                    // If a writer's changes counted, a writer could make up for lost ones.
                    guarding |= statement.body.is_guarding() && author.is_admin();
                    if statement.body.is_admin() {
                        // The change may concern the author: roles are judged as of the next statement.
                        author = self.device(&checked.batch.author)?.unwrap_or(author);
                    }
                }
                Err(why) => {
                    ineffective += 1;
                    self.note_ineffective(n, &why)?;
                }
            }
            self.position = self.position.after(*hash);
            self.frontier.push(*hash);
        }
        self.counted_changes += u64::from(guarding);
        let (end, root) = (checked.end, self.frontier.root());
        let boundary = params![end.n, &end.chain.0[..], &root.0[..]];
        self.run("INSERT INTO boundaries VALUES (?1, ?2, ?3)", boundary)?;
        Ok(ineffective)
    }

    /// Why one of these statements would have no effect as the next batch. Changes nothing.
    pub(crate) fn rehearse(
        &mut self,
        author: &DeviceState,
        statements: &[(Statement, Hash)],
    ) -> Result<Option<Ineffective>> {
        let before = (self.position, self.admin_head);
        self.db.execute_batch("SAVEPOINT rehearsal").map_err(|e| self.failed(e))?;
        let rehearsed = self.rehearse_each(author.clone(), statements);
        let undone = self.db.execute_batch("ROLLBACK TO rehearsal; RELEASE rehearsal");
        (self.position, self.admin_head) = before;
        self.forget();
        undone.map_err(|e| self.failed(e))?;
        rehearsed
    }

    fn rehearse_each(
        &mut self,
        mut author: DeviceState,
        statements: &[(Statement, Hash)],
    ) -> Result<Option<Ineffective>> {
        for (statement, hash) in statements {
            if let Err(why) = judge(statement, &author, self.position, self)? {
                return Ok(Some(why));
            }
            self.apply(self.position.n + 1, statement, *hash)?;
            self.position = self.position.after(*hash);
            author = self.device(&statement.author)?.unwrap_or(author);
        }
        Ok(None)
    }

    fn note_ineffective(&self, n: u64, why: &Ineffective) -> Result<()> {
        self.run("INSERT INTO ineffective VALUES (?1, ?2)", params![n, why.to_string()])?;
        Ok(())
    }
}

/// The next page of batches. If a row cannot be read, returns the batches one by one, so that sound ones before it are
/// not hidden.
fn next_batches(store: &mut dyn Store, after: u64) -> Result<Vec<StoredBatch>> {
    match store.batches_after(after, PAGE_BYTES) {
        Err(error) if error.kind() == Kind::Tampered => store.batches_after(after, 1),
        batches => batches,
    }
}

/// The library's error for tampering.
pub(crate) fn tampered(tampering: &Tampering, location: &str) -> Error {
    let newer = matches!(
        tampering,
        Tampering::Statement { what, .. } | Tampering::Batch { what, .. } if *what == crate::ledger::NEWER_FORMAT
    );
    if newer {
        return Error::new(
            Kind::Unsupported,
            "sync with the store",
            format!("written by a newer Strongroom: {tampering}"),
        )
        .with_target(location.to_owned())
        .with_hint("upgrade Strongroom on this machine");
    }
    Error::new(Kind::Tampered, "verify the store", tampering.to_string()).with_target(location.to_owned()).with_hint(
        "restore the store from a sound copy, or let an admin drop what cannot be verified with `strongroom repair`",
    )
}

/// What a first contact rests on.
pub(crate) fn other_store(location: &str, expected: StoreId) -> Error {
    Error::new(Kind::Untrusted, "sync with the store", format!("it is not the store {expected} that is known here"))
        .with_target(location.to_owned())
        .with_hint("if it was replaced on purpose, run `strongroom trust STORE-ID --replace` with the new id, which you have from its owner")
}
