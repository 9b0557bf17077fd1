//! The outcome of opening one token, for its reader and for the access log.

use crate::error::{Kind, Result};
use crate::ledger::DeviceId;
use crate::secret::Secret;
use crate::store::Access;
use crate::vault::Accessor;

/// An opened token.
#[derive(Debug)]
pub struct OpenedToken {
    /// The version that was opened.
    pub version: u64,
    /// Its bytes, as they were put.
    pub value: Secret,
}

impl OpenedToken {
    /// The bytes. Named so that a reader of the calling code notices.
    pub fn expose(&self) -> &[u8] {
        self.value.expose()
    }
}

/// Why a caller is not to have a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It has no grant for it.
    NoGrant,
    /// A person was to confirm it, and did not.
    NotConfirmed,
}

/// The outcome of opening one token.
pub struct OpenOutcome {
    /// The version; 0 if the ledger names none.
    pub version: u64,
    /// The device that opened it, or the first that failed.
    pub device: Option<DeviceId>,
    /// Why the caller was not to have it, if that is so.
    pub denial: Option<Denial>,
    /// The bytes, or the failure to report.
    pub token: Result<Secret>,
}

impl OpenOutcome {
    /// The outcome before any device was asked.
    pub fn unopened(version: u64, token: Result<Secret>) -> Self {
        Self { version, device: None, denial: None, token }
    }

    /// The caller is not to have it.
    pub fn denied(denial: Denial, error: crate::Error) -> Self {
        Self { denial: Some(denial), ..Self::unopened(0, Err(error)) }
    }

    /// Whether a device opened it.
    pub fn is_open(&self) -> bool {
        self.token.is_ok()
    }

    /// Adds a device's answer. The first device's failure is reported, unless a later device opens the token.
    pub fn take_answer(&mut self, device: DeviceId, answer: Result<Secret>) {
        if answer.is_ok() || self.device.is_none() {
            (self.device, self.token) = (Some(device), answer);
        }
    }

    /// Its line in the access log; `done` is the word for success. `time` is in milliseconds since 1970.
    pub fn access(&self, time: u64, accessor: &Accessor, name: &str, done: &str) -> Access {
        let outcome = match (&self.token, self.denial) {
            (Ok(_), _) => done,
            (Err(_), Some(Denial::NoGrant)) => "denied",
            (Err(_), Some(Denial::NotConfirmed)) => "not confirmed",
            (Err(error), None) => failure(error.kind()),
        };
        Access {
            time,
            device: self.device.map(|id| id.to_string()).unwrap_or_default(),
            uid: accessor.uid,
            pid: accessor.pid,
            exe: accessor.exe.clone(),
            name: name.into(),
            version: self.version,
            outcome: outcome.into(),
        }
    }

    /// The opened token with its version, or the failure.
    pub fn into_token(self) -> Result<OpenedToken> {
        let version = self.version;
        self.token.map(|value| OpenedToken { version, value })
    }
}

/// A failure as the access log calls it.
fn failure(kind: Kind) -> &'static str {
    match kind {
        Kind::NotFound => "not found",
        Kind::Refused => "refused",
        Kind::Tampered => "tampered",
        Kind::PinWrong | Kind::PinLocked | Kind::PinUnavailable => "no PIN",
        Kind::DeviceGone | Kind::Device | Kind::KeyMissing => "device failed",
        _ => "failed",
    }
}
