//! One error type for the whole library.
//!
//! An error says four things, each in its own field so that no caller has to parse prose: what was tried, on which
//! device or file, what came back (decoded), and what to do now. `Kind` is what programs branch on and what the exit
//! code is made from.

use std::fmt;
use std::path::Path;

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it was. Decides the exit code.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request itself is wrong: a bad name, an empty token, an impossible option.
    Usage,
    /// No such token, version or device.
    NotFound,
    /// The ledger says no: suspended, revoked, expired, not yet valid, or no role for it.
    Refused,
    /// It is sealed to devices, and too few of these are on this machine.
    SealedElsewhere,
    /// The device reported an error.
    Device,
    /// The device or its module is missing, was removed or lost its storage.
    DeviceGone,
    /// The device is there, the key is not, or is not the one that was enrolled.
    KeyMissing,
    /// The key's evidence is too weak to enrol it.
    Evidence,
    /// The PIN was wrong.
    PinWrong,
    /// The PIN is locked, or its last try was not confirmed.
    PinLocked,
    /// No PIN could be had: no terminal, or an unreadable pin-source.
    PinUnavailable,
    /// The store, the replica or the sealed bytes were altered.
    Tampered,
    /// The store is older than what this client has already verified.
    RolledBack,
    /// Too few witnesses have signed lately that the store is as it is here.
    Stale,
    /// This client has never verified the store, or knows another one.
    Untrusted,
    /// Somebody else changed the same thing first.
    Conflict,
    /// The store is missing, unreadable, full or of another format.
    Store,
    /// A file or the operating system.
    Io,
    /// The format, device or build cannot do this.
    Unsupported,
    /// The person said no.
    Cancelled,
    /// No agent is running.
    NoAgent,
    /// A check found something that does not work.
    Degraded,
    /// A change was proposed, and waits for other admins.
    Proposed,
}

/// All kinds, by their names for programs.
const KINDS: [(&str, Kind); 23] = [
    ("usage", Kind::Usage),
    ("not-found", Kind::NotFound),
    ("refused", Kind::Refused),
    ("sealed-elsewhere", Kind::SealedElsewhere),
    ("device", Kind::Device),
    ("device-gone", Kind::DeviceGone),
    ("key-missing", Kind::KeyMissing),
    ("evidence", Kind::Evidence),
    ("pin-wrong", Kind::PinWrong),
    ("pin-locked", Kind::PinLocked),
    ("pin-unavailable", Kind::PinUnavailable),
    ("tampered", Kind::Tampered),
    ("rolled-back", Kind::RolledBack),
    ("stale", Kind::Stale),
    ("untrusted", Kind::Untrusted),
    ("conflict", Kind::Conflict),
    ("store", Kind::Store),
    ("io", Kind::Io),
    ("unsupported", Kind::Unsupported),
    ("cancelled", Kind::Cancelled),
    ("no-agent", Kind::NoAgent),
    ("degraded", Kind::Degraded),
    ("proposed", Kind::Proposed),
];

impl Kind {
    /// Its name for programs: `pin-wrong`.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("io", |(name, _)| name)
    }

    /// All kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(_, kind)| *kind)
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }
}

/// What was tried, on what, what came back, and what to do now.
pub struct Error(Box<Parts>);

struct Parts {
    kind: Kind,
    operation: String,
    target: Option<String>,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// `operation` completes "cannot …"; `message` is what came back.
    pub fn new(kind: Kind, operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            kind,
            operation: operation.into(),
            target: None,
            message: message.into(),
            hint: None,
            source: None,
        }))
    }

    /// The operating system's answer about a file.
    pub fn io(operation: impl Into<String>, path: &Path, error: std::io::Error) -> Self {
        let shown = printable(&path.display().to_string());
        Self::new(Kind::Io, operation, error.to_string()).with_target(shown).caused_by(error)
    }

    /// The device, store or file that answered.
    #[must_use]
    pub fn with_target(mut self, target: impl Into<String>) -> Self {
        self.0.target = Some(target.into());
        self
    }

    /// What the user can do now: a sentence, or the command to type.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The error underneath, for `std::error::Error::source`.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Replaces the operation, where a caller knows the user's words for it.
    #[must_use]
    pub fn with_operation(mut self, operation: impl Into<String>) -> Self {
        self.0.operation = operation.into();
        self
    }

    /// The same failure as the outcome of another operation: for one of several things that failed together.
    #[must_use]
    pub fn with_context(&self, operation: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            kind: self.0.kind,
            operation: operation.into(),
            target: self.0.target.clone(),
            message: self.0.message.clone(),
            hint: self.0.hint.clone(),
            source: None,
        }))
    }

    /// What sort of failure it was.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What was tried.
    pub fn operation(&self) -> &str {
        &self.0.operation
    }

    /// The device, store or file that answered, where there is one.
    pub fn target(&self) -> Option<&str> {
        self.0.target.as_deref()
    }

    /// What came back.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What the user can do now.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.0.operation)?;
        // An operation may have its target in its words: "write the token to /x".
        if let Some(target) = self.target().filter(|target| !self.operation().contains(target)) {
            write!(f, ": {target}")?;
        }
        write!(f, ": {}", self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

/// Text from outside (names, labels of devices, paths) made safe for a terminal: control and bidirectional characters
/// become `\u{…}`.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let steers = c.is_control()
            || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if steers { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names_for_programs() {
        for (name, kind) in KINDS {
            assert_eq!((kind.name(), Kind::named(name)), (name, Some(kind)));
            assert_eq!(format!("{kind:?}").to_lowercase(), name.replace('-', ""));
        }
        assert_eq!(Kind::named("nosuch"), None);
    }
}
