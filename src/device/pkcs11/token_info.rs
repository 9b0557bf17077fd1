//! What a module reports on a token: CK_TOKEN_INFO (PKCS#11 v2.40 §3.2).

use crate::device::DeviceIdentity;
use crate::prompt::TriesLeft;
use crate::uri::{DeviceUri, Scheme};
use cryptoki::slot::{Slot, SlotInfo, TokenInfo as CkTokenInfo};
use std::ops::RangeInclusive;

/// A token's description (CK_TOKEN_INFO), without types of `cryptoki`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// CK_SLOT_ID.
    pub slot_id: u64,
    /// Label, maker, model, serial, firmware.
    pub identity: DeviceIdentity,
    /// CK_TOKEN_INFO could be read. Otherwise the label is made up.
    pub described: bool,
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
    /// Distinguishes the tokens of one module and their users, who have PINs of their own. Serial numbers are not unique, and slots may be
    /// renumbered.
    pub fn login_key(&self, uri: &DeviceUri) -> String {
        let user = uri.user_type().unwrap_or_default();
        format!("{}/{}/{}/{user}", self.slot_id, self.identity.serial, self.identity.label)
    }

    /// From the module's CK_TOKEN_INFO.
    pub fn read(slot: Slot, info: &CkTokenInfo) -> Self {
        let (maker, model) = (text(info.manufacturer_id()), text(info.model()));
        Self {
            slot_id: slot.id(),
            identity: DeviceIdentity {
                scheme: Scheme::Pkcs11,
                simulator: is_software(&maker, &model),
                maker,
                model,
                serial: text(info.serial_number()),
                firmware: info.firmware_version().to_string(),
                label: text(info.label()),
            },
            described: true,
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

    /// From CK_SLOT_INFO, when CK_TOKEN_INFO is malformed. Only its slot-id names such a token. It has no model,
    /// so it may be software, and counts as such.
    pub fn from_slot(slot: Slot, info: &SlotInfo) -> Self {
        let (maker, model) = (text(info.manufacturer_id()), text(info.slot_description()));
        Self {
            slot_id: slot.id(),
            identity: DeviceIdentity {
                simulator: true,
                maker,
                model,
                label: format!("slot-{}", slot.id()),
                ..DeviceIdentity::unknown(Scheme::Pkcs11)
            },
            described: false,
            initialised: true,
            pin: PinInfo {
                required: true,
                set: true,
                locked: false,
                tries: TriesLeft::Unknown,
                pad: false,
                length: (0, 0),
            },
        }
    }

    /// Whether a URI names this token.
    pub fn matches(&self, uri: &DeviceUri) -> bool {
        let agree = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
        self.initialised
            && (self.described && agree(uri.token(), &self.identity.label) || uri.token().is_none())
            && agree(uri.manufacturer(), &self.identity.maker)
            && agree(uri.model(), &self.identity.model)
            && agree(uri.serial(), &self.identity.serial)
    }
}

/// A text field without padding. Some modules end it like a string in C, and leave other bytes behind the NUL.
fn text(field: &str) -> String {
    let field = field.split('\0').next().unwrap_or_default();
    field.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned()
}

/// Tokens that keep their keys in files: a word in the maker's name and one in the model's. Their claims about keys are the
/// claims of a program.
const SOFTWARE: [(&str, &str); 9] = [
    ("SoftHSM", ""),
    ("", "SoftHSM"),
    ("Kryoptic", ""),
    ("", "Kryoptic"),
    // opencryptoki's SoftTok.
    ("IBM", "Soft"),
    // tpm2-pkcs11 takes maker and model from the TPM: swtpm's libtpms.
    ("IBM", "SW"),
    ("Mozilla", ""),
    ("Pkcs11Interop", ""),
    ("", "Simulator"),
];

fn is_software(maker: &str, model: &str) -> bool {
    let has = |text: &str, word: &str| text.to_ascii_lowercase().contains(&word.to_ascii_lowercase());
    SOFTWARE.iter().any(|(by, is)| has(maker, by) && has(model, is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_at_a_nul_and_holds_no_control_characters() {
        assert_eq!(text("SW   TPM\0\0\u{1}x"), "SW   TPM");
        assert_eq!(text("a\u{1b}[31mb  "), "a[31mb");
        assert_eq!(text("\0"), "");
    }

    #[test]
    fn software_tokens_are_known() {
        for (maker, model) in [
            ("SoftHSM project", "SoftHSM v2"),
            ("Kryoptic Project", "Kryoptic v1"),
            ("IBM", "Soft"),
            ("IBM", "SW   TPM"),
            ("Utimaco IS GmbH", "CryptoServer Simulator"),
        ] {
            assert!(is_software(maker, model), "{maker} {model}");
        }
        for (maker, model) in [
            ("Yubico (www.yubico.com)", "YubiKey YK5"),
            ("IBM", "EP11"),
            ("STMicro", "ST33TPHF2ESPI"),
            ("SafeNet", "Luna K7"),
        ] {
            assert!(!is_software(maker, model), "{maker} {model}");
        }
    }
}
