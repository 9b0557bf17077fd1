//! PKCS#11 return values in words: the code, the call it came from, and what to do about it.

use crate::error::{Error, Kind};
use cryptoki::context::Function;
use cryptoki::error::{Error as CallError, RvError};

/// Why an attempt at an operation failed, before deciding whether to try again.
#[derive(Debug)]
pub enum DriverError {
    /// The module answered a call with an error.
    Call(CallError),
    /// A search found no object of a key that is expected here.
    Missing {
        /// The CKA_LABEL that was looked for.
        label: String,
    },
    /// The module was reinitialised after this session was opened.
    Stale,
    /// A final error of our own.
    Final(Error),
}

impl From<CallError> for DriverError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<Error> for DriverError {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// The return value of a failed call, if it has one.
pub fn code(error: &CallError) -> Option<RvError> {
    match error {
        CallError::Pkcs11(code, _) => Some(*code),
        _ => None,
    }
}

/// A PKCS#11 error in the library's form.
pub fn decode(error: CallError, operation: &str, target: &str) -> Error {
    let decoded = match &error {
        CallError::Pkcs11(code, function) => {
            let returned = format!("{} from {}", code_name(*code), function_name(*function));
            let message = match in_words(*code) {
                Some(words) => format!("{words} ({returned})"),
                None => returned,
            };
            let (kind, hint) = meaning(*code, *function);
            let decoded = Error::new(kind, operation, message);
            if hint.is_empty() { decoded } else { decoded.with_hint(hint) }
        }
        CallError::NullFunctionPointer | CallError::NotSupported => {
            Error::new(Kind::Unsupported, operation, "the module lacks a function that this operation needs")
        }
        other => Error::new(Kind::Device, operation, format!("the module's response is malformed: {other}")),
    };
    decoded.with_target(target).caused_by(error)
}

/// `C_Login`, as the standard writes it.
fn function_name(function: Function) -> String {
    format!("C_{function:?}")
}

/// `CKR_PIN_INCORRECT`, as the standard writes it.
fn code_name(code: RvError) -> String {
    match code {
        RvError::VendorDefined(value) => format!("vendor-defined error {value:#010x}"),
        RvError::UnknownErrorCode(value) => format!("unknown error {value:#010x}"),
        known => {
            let mut name = String::from("CKR");
            for letter in format!("{known:?}").chars() {
                if letter.is_ascii_uppercase() {
                    name.push('_');
                }
                name.push(letter.to_ascii_uppercase());
            }
            name
        }
    }
}

/// What happened, for codes that everybody meets.
fn in_words(code: RvError) -> Option<&'static str> {
    match code {
        RvError::PinIncorrect => Some("the PIN is wrong"),
        RvError::PinInvalid => Some("the PIN has characters that the device does not take"),
        RvError::PinLenRange => Some("the PIN is too short or too long"),
        RvError::PinLocked => Some("the PIN is locked"),
        RvError::PinExpired => Some("the PIN has expired"),
        RvError::UserPinNotInitialized => Some("the device has no user PIN yet"),
        RvError::DeviceRemoved | RvError::TokenNotPresent => Some("the device was removed"),
        _ => None,
    }
}

/// The kind of error, and a hint on what to do now.
fn meaning(code: RvError, call: Function) -> (Kind, &'static str) {
    match code {
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => (
            Kind::PinWrong,
            "it is not sent again: most devices lock after a few wrong PINs. Check the PIN, then repeat the command",
        ),
        RvError::PinLocked => {
            (Kind::PinLocked, "the device's security officer can set a new PIN with the vendor's tool")
        }
        RvError::PinExpired => (Kind::PinWrong, "set a new PIN with the vendor's tool"),
        RvError::UserPinNotInitialized => (
            Kind::PinUnavailable,
            "set one with the vendor's tool (for SoftHSM: `softhsm2-util --init-token`)",
        ),
        RvError::DeviceRemoved
        | RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::SlotIdInvalid => (Kind::DeviceGone, "plug the device in, then repeat the command"),
        RvError::CryptokiNotInitialized | RvError::SessionHandleInvalid | RvError::SessionClosed => {
            (Kind::DeviceGone, "the module lost its state: repeat the command")
        }
        RvError::ObjectHandleInvalid | RvError::KeyHandleInvalid => (Kind::DeviceGone, STORAGE),
        RvError::MechanismInvalid
        | RvError::MechanismParamInvalid
        | RvError::FunctionNotSupported
        | RvError::CurveNotSupported => (
            Kind::Unsupported,
            "`strongroom doctor` lists what the device can do; another --algorithm may fit it",
        ),
        RvError::UserNotLoggedIn => (
            Kind::Device,
            "the key may want the PIN at every use without saying so (CKA_ALWAYS_AUTHENTICATE): let Strongroom create its own",
        ),
        RvError::UserTypeInvalid if matches!(call, Function::Login) => (
            Kind::Usage,
            "the token has no user of this type. Some tokens have users of types of their own: name theirs with user-type=0x… in the URI, as \
             the vendor's header file has it",
        ),
        RvError::FunctionCanceled | RvError::FunctionRejected => (Kind::Cancelled, ""),
        RvError::SessionCount => {
            (Kind::Device, "the device has no session left: stop other programs that use it")
        }
        RvError::TokenWriteProtected => (Kind::Device, "the device is write-protected"),
        RvError::DeviceMemory => {
            (Kind::Device, "the device is full: delete objects that are no longer needed")
        }
        RvError::UserAnotherAlreadyLoggedIn => {
            (Kind::Device, "another user, perhaps the security officer, is logged in: log out there first")
        }
        _ => (Kind::Device, ""),
    }
}

/// What a missing object may mean. It need not have been deleted.
pub const STORAGE: &str = "the key may be deleted, or the module's storage is gone or unreadable (for SoftHSM: the token \
    directory of $SOFTHSM2_CONF). Check the storage before you believe the key lost; \
    then `strongroom device renew NAME`, with another admin device at hand, makes new ones";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_calls_have_the_standards_names() {
        let error =
            decode(CallError::Pkcs11(RvError::PinIncorrect, Function::Login), "log in", "pkcs11:token=demo");
        assert_eq!(
            error.to_string(),
            "cannot log in: pkcs11:token=demo: the PIN is wrong (CKR_PIN_INCORRECT from C_Login)"
        );
        assert_eq!(error.kind(), Kind::PinWrong);
        assert_eq!(code_name(RvError::RandomNoRng), "CKR_RANDOM_NO_RNG");
        assert_eq!(code_name(RvError::SlotIdInvalid), "CKR_SLOT_ID_INVALID");
        assert_eq!(code_name(RvError::VendorDefined(0x8000_0001)), "vendor-defined error 0x80000001");
    }
}
