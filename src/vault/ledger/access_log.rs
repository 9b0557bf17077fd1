//! The access log: who read what, when, with what outcome.

use crate::error::Result;
use crate::store::RecordedAccess;
use crate::vault::Vault;
use crate::vault::tokens::open_outcome::OpenOutcome;

/// The process that reads, as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accessor {
    /// Real user id.
    pub uid: u32,
    /// Process id.
    pub pid: u32,
    /// Program.
    pub exe: String,
}

impl Accessor {
    /// This process.
    pub fn this_process() -> Self {
        let exe = std::fs::read_link("/proc/self/exe").unwrap_or_default();
        Self {
            uid: rustix::process::getuid().as_raw(),
            pid: std::process::id(),
            exe: exe.display().to_string(),
        }
    }
}

impl Vault {
    /// Records the outcomes of opening tokens; `done` is the word for success. If the log cannot be written, the user
    /// is warned and the read goes on: reading must work when the store's disk is full or read-only.
    pub(crate) fn record<'a>(
        &mut self,
        outcomes: impl Iterator<Item = (&'a str, &'a OpenOutcome)>,
        done: &str,
    ) {
        let now = (self.clock)();
        let lines: Vec<_> =
            outcomes.map(|(name, outcome)| outcome.access(now, &self.reader, name, done)).collect();
        if let Err(error) = self.store.record(&lines) {
            self.notices.push(format!("this read is not in the access log: {}", error.message()));
        }
    }

    /// Up to `limit` rows of the access log before row `before` (0: from the newest), newest first.
    ///
    /// # Errors
    /// `Store`.
    pub fn accesses(&mut self, before: u64, limit: u32) -> Result<Vec<RecordedAccess>> {
        self.store.accesses(before, limit)
    }
}
