//! The outcome of opening one token, for its reader and for the access log.

use crate::error::{Kind, Result};
use crate::ledger::DeviceId;
use crate::seal::Share;
use crate::secret::Secret;
use crate::store::Access;
use crate::vault::Accessor;
use crate::vault::tokens::lookup::{Opened, SealedToken};

/// Between the word for success and the other devices that opened a token, in the access log.
pub(crate) const WITH: &str = " with ";

/// So many ids fit into a text of the access log.
const MAX_OTHERS: usize = 30;

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
    /// The device that opened it, or the first that failed. Where several open it together, the last of them.
    pub device: Option<DeviceId>,
    /// The devices that opened a share of it, in turn.
    pub sharers: Vec<DeviceId>,
    /// Their shares, until they are enough.
    pub shares: Vec<Share>,
    /// Why the caller was not to have it, if that is so.
    pub denial: Option<Denial>,
    /// The bytes, or the failure to report.
    pub token: Result<Secret>,
}

impl OpenOutcome {
    /// The outcome before any device was asked.
    pub fn unopened(version: u64, token: Result<Secret>) -> Self {
        Self { version, device: None, sharers: Vec::new(), shares: Vec::new(), denial: None, token }
    }

    /// The caller is not to have it.
    pub fn denied(denial: Denial, error: crate::Error) -> Self {
        Self { denial: Some(denial), ..Self::unopened(0, Err(error)) }
    }

    /// Whether a device opened it.
    pub fn is_open(&self) -> bool {
        self.token.is_ok()
    }

    /// Adds a device's answer. The first device's failure is reported, unless the token opens in spite of it.
    pub fn take_answer(&mut self, sealed: &SealedToken, device: DeviceId, answer: Result<Opened>) {
        let answer = match answer {
            Ok(Opened::Token(token)) => Some(Ok(token)),
            Ok(Opened::Share(share)) => {
                self.sharers.push(device);
                self.shares.push(share);
                sealed.combine(&self.shares)
            }
            Err(error) => Some(Err(error)),
        };
        if let Some(answer) = answer.filter(|answer| answer.is_ok() || self.device.is_none()) {
            (self.device, self.token) = (Some(device), answer);
        }
        if self.is_open() {
            self.shares.clear();
        }
    }

    /// Its line in the access log; `done` is the word for success. `time` is in milliseconds since 1970.
    pub fn access(&self, time: u64, accessor: &Accessor, name: &str, done: &str) -> Access {
        let outcome = match (&self.token, self.denial) {
            (Ok(_), _) => self.with_others(done),
            (Err(_), Some(Denial::NoGrant)) => "denied".into(),
            (Err(_), Some(Denial::NotConfirmed)) => "not confirmed".into(),
            (Err(error), None) => failure(error.kind()).into(),
        };
        Access {
            time,
            device: self.device.map(|id| id.to_string()).unwrap_or_default(),
            uid: accessor.uid,
            pid: accessor.pid,
            exe: accessor.exe.clone(),
            name: name.into(),
            version: self.version,
            outcome,
        }
    }

    /// The word for success, and the ids of the other devices that opened it together with this one.
    fn with_others(&self, done: &str) -> String {
        let others = self.sharers.iter().filter(|id| Some(**id) != self.device);
        let others: Vec<String> = others.take(MAX_OTHERS).map(DeviceId::to_string).collect();
        if others.is_empty() { done.into() } else { format!("{done}{WITH}{}", others.join(" ")) }
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
