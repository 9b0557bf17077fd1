//! What a module reports on a token: CK_TOKEN_INFO (PKCS#11 v2.40 §3.2).

use crate::device::DeviceIdentity;
use crate::prompt::TriesLeft;
use crate::uri::{DeviceUri, Scheme};
use cryptoki::slot::{Slot, TokenInfo as CkTokenInfo};
use std::ops::RangeInclusive;

/// A token's description (CK_TOKEN_INFO), without types of `cryptoki`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// CK_SLOT_ID.
    pub slot_id: u64,
    /// Label, maker, model, serial, firmware.
    pub identity: DeviceIdentity,
    /// CKF_TOKEN_INITIALIZED.
    pub initialised: bool,
    /// The state of the user PIN.
    pub pin: PinInfo,
}

/// The state of the user PIN in CK_TOKEN_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinInfo {
    /// CKF_LOGIN_REQUIRED.
    pub required: bool,
    /// CKF_USER_PIN_INITIALIZED.
    pub set: bool,
    /// CKF_USER_PIN_LOCKED.
    pub locked: bool,
    /// CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_COUNT_LOW, or nothing.
    pub tries: TriesLeft,
    /// CKF_PROTECTED_AUTHENTICATION_PATH: the PIN is typed on the device.
    pub pad: bool,
    /// Shortest and longest PIN, in bytes.
    pub length: (usize, usize),
}

impl PinInfo {
    /// The lengths of PIN that the module accepts, in bytes. Modules that do not know them report zero or the largest number.
    pub fn lengths(&self) -> RangeInclusive<usize> {
        match self.length {
            (shortest, longest) if (shortest.max(1)..usize::MAX).contains(&longest) => shortest..=longest,
            _ => 1..=usize::MAX,
        }
    }
}

impl TokenInfo {
    /// Distinguishes the tokens of one module. Serial numbers are not unique, and slots may be renumbered.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.slot_id, self.identity.serial, self.identity.label)
    }

    /// From the module's CK_TOKEN_INFO.
    pub fn read(slot: Slot, info: &CkTokenInfo) -> Self {
        let simulator = info.manufacturer_id().contains("SoftHSM") || info.model().contains("SoftHSM");
        Self {
            slot_id: slot.id(),
            identity: DeviceIdentity {
                scheme: Scheme::Pkcs11,
                maker: info.manufacturer_id().into(),
                model: info.model().into(),
                serial: info.serial_number().into(),
                firmware: info.firmware_version().to_string(),
                label: info.label().into(),
                simulator,
            },
            initialised: info.token_initialized(),
            pin: PinInfo {
                required: info.login_required(),
                set: info.user_pin_initialized(),
                locked: info.user_pin_locked(),
                tries: match (info.user_pin_final_try(), info.user_pin_count_low()) {
                    (true, _) => TriesLeft::Last,
                    (_, true) => TriesLeft::Low,
                    _ => TriesLeft::Unknown,
                },
                pad: info.protected_authentication_path(),
                length: (info.min_pin_length(), info.max_pin_length()),
            },
        }
    }

    /// Whether a URI names this token.
    pub fn matches(&self, uri: &DeviceUri) -> bool {
        let agree = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
        self.initialised
            && agree(uri.token(), &self.identity.label)
            && agree(uri.manufacturer(), &self.identity.maker)
            && agree(uri.model(), &self.identity.model)
            && agree(uri.serial(), &self.identity.serial)
    }
}
