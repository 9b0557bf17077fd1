//! Reading the ledger: what was stated, by whom, with what effect. Every entry lies on the verified chain.

use crate::error::{Error, Kind, Result};
use crate::ledger::error::Tampering;
use crate::ledger::verify::{Chain, StoredBatch};
use crate::ledger::{Hash, LogPosition, Name, Statement, leaf};
use crate::replica::tampered;
use crate::vault::Vault;

/// One statement of the ledger.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Its position.
    pub n: u64,
    /// Its hash.
    pub hash: Hash,
    /// What it says.
    pub statement: Statement,
    /// Why it has no effect, if it has none.
    pub ineffective: Option<String>,
}

/// The order of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOrder {
    /// Newest first.
    NewestFirst,
    /// Oldest first.
    OldestFirst,
}

/// About how many bytes of statements to read at once.
const PAGE_BYTES: usize = 1 << 20;

impl Vault {
    /// Walks the verified ledger from one end, or from `beyond` (exclusive). `each` gets the vault, to look names up,
    /// and returns whether to go on.
    ///
    /// # Errors
    /// `Tampered` if a statement is not the one that was verified.
    pub fn log(
        &mut self,
        order: LogOrder,
        beyond: Option<u64>,
        mut each: impl FnMut(&Self, LogEntry) -> Result<bool>,
    ) -> Result<()> {
        let last = self.refresh()?.n;
        match order {
            LogOrder::OldestFirst => self.log_forward(beyond.unwrap_or(0), last, &mut each),
            LogOrder::NewestFirst => {
                let last = beyond.map_or(last, |beyond| last.min(beyond.saturating_sub(1)));
                self.log_backward(last, &mut each)
            }
        }
    }

    fn log_forward(
        &mut self,
        beyond: u64,
        last: u64,
        each: &mut dyn FnMut(&Self, LogEntry) -> Result<bool>,
    ) -> Result<()> {
        // Batches are read whole.
        let mut after = match beyond < last {
            true => {
                let batch = self.store.batch_of(beyond + 1)?;
                let before = batch.and_then(|batch| batch.first.checked_sub(1));
                before.ok_or_else(|| self.altered(beyond + 1))?
            }
            false => last,
        };
        while after < last {
            let batches = self.store.batches_after(after, PAGE_BYTES)?;
            if batches.is_empty() {
                return Err(self.altered(after + 1));
            }
            for batch in batches {
                if after == last {
                    break;
                }
                if batch.first != after + 1 {
                    return Err(self.altered(after + 1));
                }
                let entries = self.entries(&batch)?;
                after += entries.len() as u64;
                for entry in entries.into_iter().filter(|entry| entry.n > beyond) {
                    if !each(self, entry)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn log_backward(
        &mut self,
        last: u64,
        each: &mut dyn FnMut(&Self, LogEntry) -> Result<bool>,
    ) -> Result<()> {
        let mut n = last;
        while n > 0 {
            let batch = self.store.batch_of(n)?.ok_or_else(|| self.altered(n))?;
            let entries = self.entries(&batch)?;
            let end = entries.last().map_or(0, |entry| entry.n);
            // `beyond` may lie within a batch.
            if end < n || end > n && n != last {
                return Err(self.altered(batch.first));
            }
            n = batch.first - 1;
            for entry in entries.into_iter().rev().filter(|entry| entry.n <= last) {
                if !each(self, entry)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The statements that changed a token, oldest first. If several tokens had the name, those of all of them.
    ///
    /// # Errors
    /// `NotFound`; `Tampered`.
    pub fn history(&mut self, name: &Name) -> Result<Vec<LogEntry>> {
        self.refresh()?;
        let mut tokens = self.replica.tokens_ever_named(name.as_str())?;
        if tokens.is_empty() {
            tokens = vec![self.token(name, &format!("show the history of {name}"))?];
        }
        let mut positions = Vec::new();
        for token in &tokens {
            positions.extend(self.replica.history(token)?);
        }
        positions.sort_unstable();
        self.entries_at(&positions)
    }

    /// The statements at these positions, which are sorted.
    pub(crate) fn entries_at(&mut self, positions: &[u64]) -> Result<Vec<LogEntry>> {
        let (mut found, mut page) = (Vec::new(), Vec::<LogEntry>::new());
        for n in positions {
            if !page.iter().any(|entry| entry.n == *n) {
                let batch = self.store.batch_of(*n)?.ok_or_else(|| self.altered(*n))?;
                page = self.entries(&batch)?;
            }
            found.extend(page.iter().find(|entry| entry.n == *n).cloned());
        }
        Ok(found)
    }

    /// A batch's statements, checked against the verified positions around them.
    fn entries(&self, batch: &StoredBatch) -> Result<Vec<LogEntry>> {
        let before = batch.first.checked_sub(1).ok_or_else(|| self.altered(batch.first))?;
        let start = self.replica.chain_at(before)?.ok_or_else(|| self.altered(batch.first))?;
        let leaves: Vec<Hash> = batch.statements.iter().map(|bytes| leaf(bytes)).collect();
        let end = leaves.iter().fold(LogPosition { n: before, chain: start }, |at, leaf| at.after(*leaf));
        if leaves.is_empty() || self.replica.chain_at(end.n)? != Some(end.chain) {
            return Err(self.altered(batch.first));
        }
        let lines = (batch.first..).zip(leaves.into_iter().zip(&batch.statements));
        lines
            .map(|(n, (hash, bytes))| {
                let statement = Statement::decode(bytes)
                    .map_err(|e| tampered(&Tampering::Statement { n, what: e.0 }, self.location()))?;
                Ok(LogEntry { n, hash, statement, ineffective: self.replica.ineffective(n)? })
            })
            .collect()
    }

    /// The error for statements that are not those that were verified.
    pub(crate) fn altered(&self, n: u64) -> Error {
        let message = format!("the statements from {n} on are not those that were verified");
        Error::new(Kind::Tampered, "read the ledger", message)
            .with_target(self.location().to_owned())
            .with_hint("run `strongroom verify` to learn which row was touched, and restore the store")
    }
}
