//! The outcome of opening one token, for its reader and for the access log.

use crate::error::{Kind, Result};
use crate::ledger::DeviceId;
use crate::seal::{Opened, Share};
use crate::secret::Secret;
use crate::store::Access;
use crate::vault::Accessor;
use crate::vault::tokens::lookup::SealedToken;

/// The word for a token that was opened for its reader.
pub const OPENED: &str = "opened";

/// The word for a token that was opened only to be sealed anew.
pub(crate) const RESEALED: &str = "resealed";

const DENIED: &str = "denied";
const NOT_CONFIRMED: &str = "not confirmed";

/// The word of a line that says how many older lines are gone. It is nobody's access.
const DROPPED: &str = "dropped";

/// The words with which an outcome in the access log begins.
pub const OUTCOMES: [&str; 12] = [
    OPENED,
    RESEALED,
    DENIED,
    NOT_CONFIRMED,
    "not found",
    "sealed elsewhere",
    "refused",
    "tampered",
    "no PIN",
    "device failed",
    "failed",
    DROPPED,
];

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
            (Err(_), Some(Denial::NoGrant)) => DENIED.into(),
            (Err(_), Some(Denial::NotConfirmed)) => NOT_CONFIRMED.into(),
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
        Kind::SealedElsewhere => "sealed elsewhere",
        Kind::Refused => "refused",
        Kind::Tampered => "tampered",
        Kind::PinWrong | Kind::PinLocked | Kind::PinUnavailable => "no PIN",
        Kind::DeviceGone | Kind::Device | Kind::KeyMissing => "device failed",
        _ => "failed",
    }
}

/// The word of an outcome, without what follows it: `opened` of `opened with safe`, `denied` of `denied 3 more times`.
/// What no release of this program writes is its own word.
pub fn outcome_word(outcome: &str) -> &str {
    let counts = |rest: &str| {
        rest.strip_prefix(' ').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let begins = |word: &&&str| {
        let rest = outcome.strip_prefix(**word);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(WITH) || counts(rest))
    };
    OUTCOMES.iter().find(begins).copied().unwrap_or(outcome)
}

/// Whether an outcome says that the token was opened, for its reader or to be sealed anew.
pub fn is_success(outcome: &str) -> bool {
    [OPENED, RESEALED].contains(&outcome_word(outcome))
}

/// Whether an outcome says that somebody did not get a token.
pub fn is_failure(outcome: &str) -> bool {
    !is_success(outcome) && outcome_word(outcome) != DROPPED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_has_one_word() {
        for (outcome, word, success, failure) in [
            ("opened", "opened", true, false),
            ("opened with safe", "opened", true, false),
            ("resealed", "resealed", true, false),
            ("resealed with safe, web", "resealed", true, false),
            ("denied", "denied", false, true),
            ("denied 3 more times", "denied", false, true),
            ("denied 3 times under other names", "denied", false, true),
            ("not confirmed", "not confirmed", false, true),
            ("device failed", "device failed", false, true),
            ("dropped 12 lines", "dropped", false, false),
            ("opened outcome=success", "opened outcome=success", false, true),
            ("openedness", "openedness", false, true),
            ("", "", false, true),
        ] {
            assert_eq!(outcome_word(outcome), word);
            assert_eq!((is_success(outcome), is_failure(outcome)), (success, failure), "{outcome}");
        }
    }

    #[test]
    fn every_failure_has_a_word_of_the_list() {
        for kind in Kind::all() {
            assert!(OUTCOMES.contains(&failure(kind)), "{kind:?}");
        }
    }
}
