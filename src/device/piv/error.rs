//! Explains failures and what to do about them.
//!
//! PC/SC reports exact causes. The crate distinguishes few of the card's status words, so most refusals by the card only name
//! the refused call.

use crate::error::{Error, Kind};
use pcsc::Error as Pcsc;

/// Why a call on the card failed.
pub enum DriverError {
    /// A call of the crate failed.
    Crate { call: &'static str, error: yubikey::Error },
    /// The card's status word (ISO 7816-4 §5.1.3) for a command of our own.
    Status { call: &'static str, sw: u16 },
    /// The card forgot that the PIN was verified: another program reset it or selected another application.
    Forgotten,
    /// The crate panicked on the card's response, as it does on some that are too short.
    Malformed,
    /// Reported already.
    Reported(Error),
}

impl From<Error> for DriverError {
    fn from(error: Error) -> Self {
        Self::Reported(error)
    }
}

/// Runs code that parses a card's responses; `None` if it panicked. The crate indexes some responses without checking their length.
/// The panic message goes to stderr. Disconnect from the card afterwards.
pub fn catch_malformed<T>(run: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).ok()
}

/// Adds the call's name to an error of the crate.
pub fn from_call(call: &'static str) -> impl Fn(yubikey::Error) -> DriverError {
    move |error| DriverError::Crate { call, error }
}

/// Adds the call's name to a PC/SC error.
pub fn from_pcsc(call: &'static str) -> impl Fn(Pcsc) -> DriverError {
    move |error| DriverError::Crate { call, error: error.into() }
}

impl DriverError {
    /// PC/SC's error, if it is one.
    pub fn pcsc(&self) -> Option<Pcsc> {
        match self {
            Self::Crate { error: yubikey::Error::PcscError { inner }, .. } => *inner,
            _ => None,
        }
    }

    /// Whether a new connection may help: after a reset by another program, a removal, or a restart of pcscd.
    pub fn is_of_the_connection(&self) -> bool {
        matches!(self, Self::Forgotten) || self.pcsc().is_some_and(|error| error != Pcsc::SharingViolation)
    }

    /// The error for the user.
    pub fn into_error(self, operation: &str, name: &str) -> Error {
        if let Some(error) = self.pcsc() {
            return from_reader(error, operation).with_target(name).caused_by(error);
        }
        let device = |message: String| Error::new(Kind::Device, operation, message).with_target(name);
        match self {
            Self::Reported(error) => error,
            Self::Forgotten => {
                device("the YubiKey keeps losing its state: another program may be resetting it".into())
                    .with_hint(
                        "stop the other program that uses it (often scdaemon: `gpgconf --kill scdaemon`)",
                    )
            }
            Self::Malformed => device("the response is malformed".into())
                .with_hint("if it is a YubiKey, unplug it, plug it in again, and repeat the command"),
            Self::Status { call, sw } => device(format!("{} from {call}", status(sw))),
            Self::Crate { call, error } => device(format!("{} from {call}", refusal(error))).caused_by(error),
        }
    }
}

/// A failure of PC/SC.
pub fn from_reader(error: Pcsc, operation: &str) -> Error {
    let failure = |kind, message: &str| Error::new(kind, operation, format!("{message} ({error:?})"));
    match error {
        Pcsc::NoService | Pcsc::ServiceStopped => {
            failure(Kind::DeviceGone, "pcscd, the service for smart cards, does not answer")
                .with_hint("sudo systemctl enable --now pcscd.socket")
        }
        Pcsc::SecurityViolation => {
            failure(Kind::DeviceGone, "pcscd does not allow this user to use smart cards")
                .with_hint("allow org.debian.pcsc-lite.access_card to this user in /etc/polkit-1/rules.d")
        }
        Pcsc::SharingViolation => {
            failure(Kind::Device, "another program has exclusive access to the YubiKey").with_hint(
                "stop that program (often scdaemon: `gpgconf --kill scdaemon`), then repeat the command",
            )
        }
        error if is_absence(error) => {
            failure(Kind::DeviceGone, "it was removed").with_hint("plug it in and repeat the command")
        }
        _ => failure(Kind::Device, "the card reader failed").with_hint(
            "unplug the YubiKey and plug it in again; if that does not help: sudo systemctl restart pcscd",
        ),
    }
}

/// Whether PC/SC reports that the card or its reader is missing.
pub fn is_absence(error: Pcsc) -> bool {
    matches!(
        error,
        Pcsc::NoSmartcard
            | Pcsc::RemovedCard
            | Pcsc::NotTransacted
            | Pcsc::UnknownReader
            | Pcsc::ReaderUnavailable
            | Pcsc::NoReadersAvailable
            | Pcsc::UnpoweredCard
    )
}

/// ISO 7816-4 table 6 and SP 800-73-4 part 2 §3.
fn status(sw: u16) -> String {
    let words = match sw {
        0x6700 => "wrong length",
        0x6982 => "security status not satisfied",
        0x6983 => "blocked",
        0x6985 => "conditions of use not satisfied",
        0x6a80 => "wrong data",
        0x6a82 => "not found",
        0x6a84 => "no room left",
        0x6a86 => "wrong parameters",
        0x6a88 => "key not found",
        0x6d00 => "unknown command",
        _ => return format!("status {sw:04X}"),
    };
    format!("status {sw:04X} ({words})")
}

fn refusal(error: yubikey::Error) -> String {
    match error {
        yubikey::Error::AuthenticationError => status(0x6982),
        yubikey::Error::AlgorithmError => status(0x6a80),
        yubikey::Error::NotFound => "not found".into(),
        yubikey::Error::NotSupported => "not supported by this firmware".into(),
        yubikey::Error::GenericError => "refused".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_too_short_is_an_error() {
        let message: &[u8] = std::hint::black_box(&[]);
        assert_eq!(catch_malformed(|| message[0]), None);
        assert_eq!(catch_malformed(|| message.len()), Some(0));
        let error = DriverError::Malformed.into_error("sign", "piv:serial=1");
        assert_eq!((error.kind(), error.message()), (Kind::Device, "the response is malformed"));
    }
}
