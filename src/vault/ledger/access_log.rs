//! The access log: who read what, when, with what outcome.

use crate::error::{Kind, Result};
use crate::ledger::DeviceId;
use crate::store::{Access, RecordedAccess};
use crate::vault::Vault;

/// Who reads: as the kernel names it.
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
    /// Records reads. A log that cannot be written is reported, and does not stop the read: reading must go on when the
    /// store's disk is full or read-only.
    pub(crate) fn record(&mut self, accesses: &[Access]) {
        if let Err(error) = self.store.record(accesses) {
            self.notices.push(format!("this read is not in the access log: {}", error.message()));
        }
    }

    /// A line of the access log.
    pub(crate) fn access(&self, name: &str, version: u64, device: Option<DeviceId>, outcome: &str) -> Access {
        Access {
            time: (self.clock)(),
            device: device.map(|id| id.to_string()).unwrap_or_default(),
            uid: self.reader.uid,
            pid: self.reader.pid,
            exe: self.reader.exe.clone(),
            name: name.into(),
            version,
            outcome: outcome.into(),
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

/// A word for the access log.
pub(crate) fn outcome(kind: Kind) -> &'static str {
    match kind {
        Kind::NotFound => "not found",
        Kind::Refused => "refused",
        Kind::Tampered => "tampered",
        Kind::PinWrong | Kind::PinLocked | Kind::PinUnavailable => "no PIN",
        Kind::DeviceGone | Kind::Device | Kind::KeyMissing => "device failed",
        _ => "failed",
    }
}
