//! Explains response codes: the code, the command, the part of the command it refers to, and what to do about it.
//!
//! TPM 2.0 part 2 §6.6 (TPM_RC) and the TSS 2.0 Overview and Common Structures specification, §3 (layers above the TPM).

use crate::error::{Error, Kind};
use std::fmt;
use tss_esapi::constants::response_code::Tss2ResponseCode;

/// A TSS2_RC: a layer in bits 16–23, below it the layer's own code. Layer 0 is the TPM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

/// The layers that carry the TPM's own codes: the TPM, and the two of a resource manager.
const TPM_LAYERS: [u32; 3] = [0, 11, 12];
const ESYS: u32 = 7;
const SYS: u32 = 8;
const TCTI: u32 = 10;

/// How to recover from a failed command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Repeat the command a little later.
    Wait,
    /// Repeat it soon: other programs use all slots.
    Queue,
    /// Load keys and sessions again: they were lost.
    Reload,
    /// Reconnect: the connection is broken.
    Reconnect,
    /// Do not repeat it, but reconnect to flush loaded objects: what was loaded is not known, and tpm2-tss accepts no more commands on
    /// this connection (TSS2_ESYS_RC_BAD_SEQUENCE).
    Renew,
    /// Do not repeat it: it would fail again.
    None,
}

impl Code {
    /// The code in a library error; `None` when the library itself failed.
    pub fn from_error(error: &tss_esapi::Error) -> Option<Self> {
        match error {
            tss_esapi::Error::Tss2Error(Tss2ResponseCode::FormatZero(code)) => Some(Self(code.0)),
            tss_esapi::Error::Tss2Error(Tss2ResponseCode::FormatOne(code)) => Some(Self(code.0)),
            _ => None,
        }
    }

    fn layer(self) -> u32 {
        (self.0 >> 16) & 0xff
    }

    /// The TPM's code without the number of the parameter, handle or session; `None` for other layers.
    pub fn tpm(self) -> Option<u32> {
        let code = self.0 & 0xffff;
        let base = if code & 0x80 == 0 { code } else { code & 0xbf };
        TPM_LAYERS.contains(&self.layer()).then_some(base)
    }

    /// `parameter 1`, `handle 2`, `session 1`: the part of the command that a format-one code refers to.
    fn part(self) -> Option<String> {
        let (code, number) = (self.0 & 0xffff, (self.0 >> 8) & 0xf);
        if !TPM_LAYERS.contains(&self.layer()) || code & 0x80 == 0 || number == 0 {
            return None;
        }
        Some(match (code & 0x40 != 0, number) {
            (true, n) => format!("parameter {n}"),
            (false, n) if n < 8 => format!("handle {n}"),
            (false, n) => format!("session {}", n - 8),
        })
    }

    /// What to do before the next attempt.
    pub fn remedy(self) -> Remedy {
        match self.tpm() {
            Some(0x908 | 0x909 | 0x90a | 0x920 | 0x922) => Remedy::Wait,
            Some(0x902..=0x906) => Remedy::Queue,
            // TPM_RC_REFERENCE_…, TPM_RC_HANDLE, TPM_RC_VALUE for a handle that a reset removed.
            Some(0x910..=0x91e | 0x8b) => Remedy::Reload,
            Some(_) => Remedy::None,
            None if self.layer() == TCTI || self.0 == 0x7_0007 => Remedy::Reconnect,
            None => Remedy::Renew,
        }
    }

    /// Whether the response was not authenticated with the session's key, by the TPM or by an interposer.
    pub fn is_forged(self) -> bool {
        // TSS2_BASE_RC_RSP_AUTH_FAILED, TSS2_BASE_RC_MALFORMED_RESPONSE.
        [ESYS, SYS].contains(&self.layer()) && matches!(self.0 & 0xffff, 0x1b | 0x11)
    }

    fn name(self) -> String {
        let name = match self.tpm() {
            Some(base) => TPM_CODES.iter().find(|(code, ..)| *code == base).map(|(_, name, ..)| *name),
            None => TSS_CODES.get((self.0 & 0xffff) as usize).copied(),
        };
        match (name, self.layer()) {
            (Some(name), 0) => name.into(),
            (Some(name), layer) => format!("{name} ({})", layer_name(layer)),
            (None, 0) => "an unknown code".into(),
            (None, layer) => format!("an unknown code ({})", layer_name(layer)),
        }
    }

    /// The kind of error, and a hint on what to do now.
    fn meaning(self) -> (Kind, &'static str) {
        match self.tpm() {
            Some(base) => TPM_CODES
                .iter()
                .find(|(code, ..)| *code == base)
                .map_or((Kind::Device, ""), |(_, _, kind, hint)| (*kind, *hint)),
            None if self.layer() == TCTI => (Kind::DeviceGone, UNREACHABLE),
            None if self.is_forged() => (Kind::Device, FORGED),
            None => (Kind::Device, ""),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#05x}", self.name(), self.0)?;
        match self.part() {
            Some(part) => write!(f, ", {part})"),
            None => f.write_str(")"),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why an attempt at an operation failed, before deciding whether to try again.
#[derive(Debug)]
pub enum DriverError {
    /// A command failed.
    Call {
        /// As the standard writes it: `TPM2_Load`.
        command: &'static str,
        /// The response code.
        error: tss_esapi::Error,
    },
    /// A command failed that was sent without tpm2-tss.
    Direct {
        /// As the standard writes it.
        command: &'static str,
        /// What came back.
        failure: Failure,
    },
    /// A final error of our own.
    Final(Error),
}

/// Why a command failed that was sent without tpm2-tss.
#[derive(Debug)]
pub enum Failure {
    /// The TPM's response code.
    Response(Code),
    /// The connection broke.
    Connection(std::io::Error),
    /// The response is none to this command, or its HMAC is wrong.
    Unsound,
}

impl DriverError {
    /// The response code, if there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Call { error, .. } => Code::from_error(error),
            Self::Direct { failure: Failure::Response(code), .. } => Some(*code),
            Self::Direct { .. } | Self::Final(_) => None,
        }
    }

    /// What to do before the next attempt.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Direct { failure: Failure::Connection(_), .. } => Remedy::Reconnect,
            Self::Direct { failure: Failure::Unsound, .. } => Remedy::Renew,
            _ => self.code().map_or(Remedy::None, Code::remedy),
        }
    }

    /// Whether a command was sent of which the TPM's response is not known.
    pub fn is_lost(&self) -> bool {
        !matches!(self, Self::Final(_)) && self.code().and_then(Code::tpm).is_none()
    }

    /// TPM_RC_SIGNATURE, or a wrong size: a signature by another key.
    pub fn is_foreign_signature(&self) -> bool {
        self.is(0x9b) || self.is(0x95)
    }

    /// Whether it is this code of the TPM, for any part of the command.
    pub fn is(&self, tpm: u32) -> bool {
        self.code().and_then(Code::tpm) == Some(tpm)
    }

    /// In the library's form.
    pub fn report(self, operation: &str, target: &str) -> Error {
        let new = |(kind, hint): (Kind, &'static str), message: String| {
            let report = Error::new(kind, operation, message).with_target(target);
            if hint.is_empty() { report } else { report.with_hint(hint) }
        };
        match self {
            Self::Final(error) if error.target().is_some() => error,
            Self::Final(error) => error.with_target(target),
            Self::Call { command, error } => match Code::from_error(&error) {
                Some(code) => new(code.meaning(), format!("{code} from {command}")).caused_by(error),
                None => {
                    let message = format!("the response to {command} is malformed: {error}");
                    new((Kind::Device, ""), message).caused_by(error)
                }
            },
            Self::Direct { command, failure } => match failure {
                Failure::Response(code) => new(code.meaning(), format!("{code} from {command}")),
                Failure::Connection(error) => {
                    let message = format!("the connection broke at {command}: {error}");
                    new((Kind::DeviceGone, UNREACHABLE), message).caused_by(error)
                }
                Failure::Unsound => {
                    let message = format!("the response to {command} is malformed, or its HMAC is wrong");
                    new((Kind::Device, FORGED), message)
                }
            },
        }
    }
}

impl From<Error> for DriverError {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// Adds the TPM command's name to a library error.
pub trait WithCommand<T> {
    /// With the command's name, as the standard writes it.
    fn with_command(self, command: &'static str) -> Result<T, DriverError>;
}

impl<T> WithCommand<T> for tss_esapi::Result<T> {
    fn with_command(self, command: &'static str) -> Result<T, DriverError> {
        self.map_err(|error| DriverError::Call { command, error })
    }
}

fn layer_name(layer: u32) -> &'static str {
    match layer {
        6 => "feature API of tpm2-tss",
        7 => "ESYS of tpm2-tss",
        8 => "system API of tpm2-tss",
        9 => "marshalling of tpm2-tss",
        10 => "transport to the TPM",
        11 | 12 => "resource manager",
        _ => "an unknown layer",
    }
}

/// A hint for a TPM that does not respond.
pub const UNREACHABLE: &str = "check that the TPM, its simulator or its resource manager is running, and that the URI's tcti= is right; \
    `strongroom doctor` looks for it";

const FORGED: &str = "something between this program and the TPM alters their messages, or impersonates the TPM: \
    find out what it is before you trust this machine";

const LOCKED: &str = "wait until it allows a try again, or have the owner of the lockout authorisation end it: \
    `tpm2_dictionarylockout --clear-lockout`";

const FULL: &str = "other programs use all slots. Use the kernel's resource manager (tpm:?tcti=device:/dev/tpmrm0), or free \
    what dead programs left: `tpm2_flushcontext --transient-object`, `tpm2_flushcontext --loaded-session`";

/// TPM_RC, without numbers of parameters, handles and sessions: code, name, kind, advice.
#[rustfmt::skip]
const TPM_CODES: &[(u32, &str, Kind, &str)] = &[
    (0x01e, "TPM_RC_BAD_TAG", Kind::Unsupported, "this is not a TPM 2.0; a TPM 1.2 cannot be used"),
    (0x100, "TPM_RC_INITIALIZE", Kind::Device, "the TPM was not started (TPM2_Startup), as the firmware does at boot: reboot, or `tpm2_startup --clear`"),
    (0x101, "TPM_RC_FAILURE", Kind::Device, "the TPM is in failure mode: cut its power (a full shutdown), and if that does not help, replace it"),
    (0x103, "TPM_RC_SEQUENCE", Kind::Device, ""),
    (0x10b, "TPM_RC_PRIVATE", Kind::Device, ""),
    (0x119, "TPM_RC_HMAC", Kind::Device, ""),
    (0x120, "TPM_RC_DISABLED", Kind::Unsupported, "the command or hierarchy is disabled in this TPM: see the firmware's setup"),
    (0x121, "TPM_RC_EXCLUSIVE", Kind::Device, ""),
    (0x124, "TPM_RC_AUTH_TYPE", Kind::Device, ""),
    (0x125, "TPM_RC_AUTH_MISSING", Kind::Device, ""),
    (0x126, "TPM_RC_POLICY", Kind::Device, ""),
    (0x127, "TPM_RC_PCR", Kind::Device, ""),
    (0x128, "TPM_RC_PCR_CHANGED", Kind::Device, "a PCR changed during the command: repeat it"),
    (0x12d, "TPM_RC_UPGRADE", Kind::Device, "the TPM is in the middle of a firmware upgrade: finish it"),
    (0x12e, "TPM_RC_TOO_MANY_CONTEXTS", Kind::Device, FULL),
    (0x12f, "TPM_RC_AUTH_UNAVAILABLE", Kind::Device, ""),
    (0x130, "TPM_RC_REBOOT", Kind::Device, "the TPM requires a reboot of the machine"),
    (0x131, "TPM_RC_UNBALANCED", Kind::Device, ""),
    (0x142, "TPM_RC_COMMAND_SIZE", Kind::Device, ""),
    (0x143, "TPM_RC_COMMAND_CODE", Kind::Unsupported, "this TPM does not have the command"),
    (0x144, "TPM_RC_AUTHSIZE", Kind::Device, ""),
    (0x145, "TPM_RC_AUTH_CONTEXT", Kind::Device, ""),
    (0x146, "TPM_RC_NV_RANGE", Kind::Device, ""),
    (0x147, "TPM_RC_NV_SIZE", Kind::Device, ""),
    (0x148, "TPM_RC_NV_LOCKED", Kind::Device, ""),
    (0x149, "TPM_RC_NV_AUTHORIZATION", Kind::Device, ""),
    (0x14a, "TPM_RC_NV_UNINITIALIZED", Kind::Device, ""),
    (0x14b, "TPM_RC_NV_SPACE", Kind::Device, "the TPM's own memory is full: `tpm2_nvreadpublic` and `tpm2_getcap handles-persistent` show what fills it"),
    (0x14c, "TPM_RC_NV_DEFINED", Kind::Conflict, "this index or handle is already in use: choose another"),
    (0x150, "TPM_RC_BAD_CONTEXT", Kind::Device, ""),
    (0x151, "TPM_RC_CPHASH", Kind::Device, ""),
    (0x152, "TPM_RC_PARENT", Kind::Device, ""),
    (0x153, "TPM_RC_NEEDS_TEST", Kind::Device, ""),
    (0x154, "TPM_RC_NO_RESULT", Kind::Device, ""),
    (0x155, "TPM_RC_SENSITIVE", Kind::Device, ""),
    (0x081, "TPM_RC_ASYMMETRIC", Kind::Unsupported, "this TPM has no P-256"),
    (0x082, "TPM_RC_ATTRIBUTES", Kind::Device, ""),
    (0x083, "TPM_RC_HASH", Kind::Unsupported, "this TPM has no SHA-256"),
    (0x084, "TPM_RC_VALUE", Kind::Device, ""),
    (0x085, "TPM_RC_HIERARCHY", Kind::Device, "the owner hierarchy is disabled: see the firmware's setup"),
    (0x087, "TPM_RC_KEY_SIZE", Kind::Unsupported, ""),
    (0x088, "TPM_RC_MGF", Kind::Unsupported, ""),
    (0x089, "TPM_RC_MODE", Kind::Unsupported, ""),
    (0x08a, "TPM_RC_TYPE", Kind::Device, ""),
    (0x08b, "TPM_RC_HANDLE", Kind::Device, ""),
    (0x08c, "TPM_RC_KDF", Kind::Unsupported, ""),
    (0x08d, "TPM_RC_RANGE", Kind::Device, ""),
    (0x08e, "TPM_RC_AUTH_FAIL", Kind::PinWrong, "it is not sent again: the TPM locks after a few wrong PINs. Check the PIN, then repeat the command"),
    (0x08f, "TPM_RC_NONCE", Kind::Device, ""),
    (0x090, "TPM_RC_PP", Kind::Device, ""),
    (0x092, "TPM_RC_SCHEME", Kind::Unsupported, ""),
    (0x095, "TPM_RC_SIZE", Kind::Device, ""),
    (0x096, "TPM_RC_SYMMETRIC", Kind::Unsupported, "this TPM has no AES-128-CFB"),
    (0x097, "TPM_RC_TAG", Kind::Device, ""),
    (0x098, "TPM_RC_SELECTOR", Kind::Device, ""),
    (0x09a, "TPM_RC_INSUFFICIENT", Kind::Device, ""),
    (0x09b, "TPM_RC_SIGNATURE", Kind::Device, ""),
    (0x09c, "TPM_RC_KEY", Kind::Device, ""),
    (0x09d, "TPM_RC_POLICY_FAIL", Kind::Refused, "the key's policy is not satisfied now: compare with `strongroom device pcrs`"),
    (0x09f, "TPM_RC_INTEGRITY", Kind::KeyMissing, "the key belongs to another TPM, or to this one before it was cleared: open with another enrolled device"),
    (0x0a0, "TPM_RC_TICKET", Kind::Device, ""),
    (0x0a1, "TPM_RC_RESERVED_BITS", Kind::Device, ""),
    (0x0a2, "TPM_RC_BAD_AUTH", Kind::Device, "this TPM has an owner password: Strongroom needs it empty to make keys and counters"),
    (0x0a3, "TPM_RC_EXPIRED", Kind::Device, ""),
    (0x0a4, "TPM_RC_POLICY_CC", Kind::Device, ""),
    (0x0a5, "TPM_RC_BINDING", Kind::KeyMissing, "the key's public and private parts do not match"),
    (0x0a6, "TPM_RC_CURVE", Kind::Unsupported, "this TPM has no P-256"),
    (0x0a7, "TPM_RC_ECC_POINT", Kind::Device, ""),
    (0x901, "TPM_RC_CONTEXT_GAP", Kind::Device, FULL),
    (0x902, "TPM_RC_OBJECT_MEMORY", Kind::Device, FULL),
    (0x903, "TPM_RC_SESSION_MEMORY", Kind::Device, FULL),
    (0x904, "TPM_RC_MEMORY", Kind::Device, FULL),
    (0x905, "TPM_RC_SESSION_HANDLES", Kind::Device, FULL),
    (0x906, "TPM_RC_OBJECT_HANDLES", Kind::Device, FULL),
    (0x907, "TPM_RC_LOCALITY", Kind::Device, ""),
    (0x908, "TPM_RC_YIELDED", Kind::Device, "the TPM is busy: repeat the command"),
    (0x909, "TPM_RC_CANCELED", Kind::Device, "the command was cancelled: repeat it"),
    (0x90a, "TPM_RC_TESTING", Kind::Device, "the TPM is testing itself: repeat the command in a minute"),
    (0x910, "TPM_RC_REFERENCE_H0", Kind::Device, "the TPM was reset: repeat the command"),
    (0x911, "TPM_RC_REFERENCE_H1", Kind::Device, "the TPM was reset: repeat the command"),
    (0x912, "TPM_RC_REFERENCE_H2", Kind::Device, "the TPM was reset: repeat the command"),
    (0x918, "TPM_RC_REFERENCE_S0", Kind::Device, "the TPM was reset: repeat the command"),
    (0x919, "TPM_RC_REFERENCE_S1", Kind::Device, "the TPM was reset: repeat the command"),
    (0x91a, "TPM_RC_REFERENCE_S2", Kind::Device, "the TPM was reset: repeat the command"),
    (0x920, "TPM_RC_NV_RATE", Kind::Device, "the TPM limits the rate of writes to protect its memory: repeat the command in a minute"),
    (0x921, "TPM_RC_LOCKOUT", Kind::PinLocked, LOCKED),
    (0x922, "TPM_RC_RETRY", Kind::Device, "the TPM is busy: repeat the command"),
    (0x923, "TPM_RC_NV_UNAVAILABLE", Kind::Device, "the TPM cannot write to its own memory now: repeat the command"),
];

/// TSS2_BASE_RC, by value.
const TSS_CODES: &[&str] = &[
    "TSS2_RC_SUCCESS",
    "TSS2_BASE_RC_GENERAL_FAILURE",
    "TSS2_BASE_RC_NOT_IMPLEMENTED",
    "TSS2_BASE_RC_BAD_CONTEXT",
    "TSS2_BASE_RC_ABI_MISMATCH",
    "TSS2_BASE_RC_BAD_REFERENCE",
    "TSS2_BASE_RC_INSUFFICIENT_BUFFER",
    "TSS2_BASE_RC_BAD_SEQUENCE",
    "TSS2_BASE_RC_NO_CONNECTION",
    "TSS2_BASE_RC_TRY_AGAIN",
    "TSS2_BASE_RC_IO_ERROR",
    "TSS2_BASE_RC_BAD_VALUE",
    "TSS2_BASE_RC_NOT_PERMITTED",
    "TSS2_BASE_RC_INVALID_SESSIONS",
    "TSS2_BASE_RC_NO_DECRYPT_PARAM",
    "TSS2_BASE_RC_NO_ENCRYPT_PARAM",
    "TSS2_BASE_RC_BAD_SIZE",
    "TSS2_BASE_RC_MALFORMED_RESPONSE",
    "TSS2_BASE_RC_INSUFFICIENT_CONTEXT",
    "TSS2_BASE_RC_INSUFFICIENT_RESPONSE",
    "TSS2_BASE_RC_INCOMPATIBLE_TCTI",
    "TSS2_BASE_RC_NOT_SUPPORTED",
    "TSS2_BASE_RC_BAD_TCTI_STRUCTURE",
    "TSS2_BASE_RC_MEMORY",
    "TSS2_BASE_RC_BAD_TR",
    "TSS2_BASE_RC_MULTIPLE_DECRYPT_SESSIONS",
    "TSS2_BASE_RC_MULTIPLE_ENCRYPT_SESSIONS",
    "TSS2_BASE_RC_RSP_AUTH_FAILED",
];

#[cfg(test)]
mod tests;
