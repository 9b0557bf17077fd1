//! An error on its way from the agent: a problem (RFC 9457) with the same fields as the command's errors.

use crate::error::{Error, Kind};
use serde::{Deserialize, Serialize};

/// A problem, in JSON.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Problem {
    /// The status in words.
    title: String,
    /// The status.
    status: u16,
    /// As in the command's `--json`: not-found, refused, pin-unavailable, …
    kind: String,
    /// What was tried.
    operation: String,
    /// The device, store or file.
    target: Option<String>,
    /// What came back.
    message: String,
    /// What to do now.
    hint: Option<String>,
}

impl Problem {
    /// `title` and `status` are HTTP's.
    pub fn new(title: impl Into<String>, status: u16, error: &Error) -> Self {
        Self {
            title: title.into(),
            status,
            kind: error.kind().name().into(),
            operation: error.operation().into(),
            target: error.target().map(Into::into),
            message: error.message().into(),
            hint: error.hint().map(Into::into),
        }
    }

    /// The error that it was.
    pub fn into_error(self) -> Error {
        let kind = Kind::named(&self.kind).unwrap_or(Kind::Io);
        let mut error = Error::new(kind, self.operation, self.message);
        if let Some(target) = self.target {
            error = error.with_target(target);
        }
        match self.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}
