//! The dictionary attack protection: TPM 2.0 part 1 §19.8.

use super::commands::Commands;
use super::error::DriverError;
use crate::error::{Error, Kind, Result};
use crate::prompt::TriesLeft;

/// The operation named in errors.
pub const USE_PIN: &str = "use the PIN";

/// Its state, common to all keys in the TPM, including other programs'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lockout {
    /// The number of failures counted.
    pub failures: u32,
    /// The number of failures at which it locks.
    pub limit: u32,
    /// The seconds until one failure is forgiven; 0 means never.
    pub forgives: u32,
    /// In lockout: no try is allowed now.
    pub locked: bool,
}

/// TPM_PT (part 2 §6.13).
const PERMANENT: u32 = 0x200;
const LOCKOUT_COUNTER: u32 = 0x20e;
const MAX_AUTH_FAIL: u32 = 0x20f;
const LOCKOUT_INTERVAL: u32 = 0x210;

/// TPM_PT_PERMANENT, bit inLockout (part 2 §8.6).
const IN_LOCKOUT: u32 = 1 << 9;

impl Lockout {
    /// Reads it.
    pub fn read<C: Commands + ?Sized>(tpm: &mut C) -> Result<Self, DriverError> {
        let properties = tpm.properties(PERMANENT, 20)?;
        let value = |wanted| properties.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        let permanent = value(PERMANENT).ok_or_else(nonsense)?;
        Ok(Self {
            failures: value(LOCKOUT_COUNTER).unwrap_or(0),
            limit: value(MAX_AUTH_FAIL).unwrap_or(0),
            forgives: value(LOCKOUT_INTERVAL).unwrap_or(0),
            locked: permanent & IN_LOCKOUT != 0,
        })
    }

    /// For a prompt.
    pub fn tries(&self) -> TriesLeft {
        match self.limit.saturating_sub(self.failures) {
            0 => TriesLeft::Unknown,
            1 => TriesLeft::Last,
            n => TriesLeft::Count(n),
        }
    }

    /// Refuses if no try is left.
    ///
    /// # Errors
    /// `PinLocked`.
    pub fn check(&self, device: &str) -> Result<()> {
        if !self.locked {
            return Ok(());
        }
        let message = format!("the TPM is in lockout after {} wrong tries", self.failures);
        Err(Error::new(Kind::PinLocked, USE_PIN, message).with_target(device).with_hint(self.hint()))
    }

    /// A hint on when the lockout ends.
    pub fn hint(&self) -> String {
        let clear =
            "the owner of the lockout authorisation can end it: `tpm2_dictionarylockout --clear-lockout`";
        match self.forgives {
            0 => clear.into(),
            seconds => format!("wait: it forgives one wrong try every {}. Or {clear}", duration(seconds)),
        }
    }
}

/// Adds the number of tries left to a refused PIN, or the end of a lockout.
pub fn report(fault: DriverError, lockout: Option<Lockout>, operation: &str, target: &str) -> Error {
    let error = fault.report(operation, target);
    let Some(lockout) = lockout else { return error };
    match (error.kind(), lockout.locked) {
        (Kind::PinWrong, false) => {
            let left = match lockout.limit.saturating_sub(lockout.failures) {
                1 => "1 try is left".into(),
                n => format!("{n} tries are left"),
            };
            error.with_hint(format!(
                "it is not sent again; {left} before the TPM locks. Check the PIN, then repeat the command"
            ))
        }
        _ => error.with_hint(lockout.hint()),
    }
}

/// `2 hours`, `10 minutes`, `45 seconds`.
pub fn duration(seconds: u32) -> String {
    let (n, unit) = match seconds {
        s if s >= 7200 && s.is_multiple_of(3600) => (s / 3600, "hours"),
        s if s >= 120 && s.is_multiple_of(60) => (s / 60, "minutes"),
        s => (s, "seconds"),
    };
    format!("{n} {unit}")
}

fn nonsense() -> Error {
    Error::new(Kind::Device, "read the TPM's properties", "the response is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Lockout = Lockout { failures: 0, limit: 3, forgives: 1000, locked: false };

    #[test]
    fn the_tries_left_are_counted() {
        assert_eq!(FRESH.tries(), TriesLeft::Count(3));
        FRESH.check("tpm:").unwrap();
        assert_eq!(Lockout { failures: 2, ..FRESH }.tries(), TriesLeft::Last);
    }

    #[test]
    fn a_lockout_says_when_it_ends() {
        let locked = Lockout { failures: 3, locked: true, ..FRESH };
        let error = locked.check("tpm:").unwrap_err();
        assert!(error.hint().unwrap().contains("every 1000 seconds"), "{error}");
        assert_eq!(duration(7200), "2 hours");
        assert_eq!(duration(600), "10 minutes");
    }
}
