//! Which slot a URI means.

use super::error::{code, decode};
use super::module::InitializedModule;
use crate::device::DeviceIdentity;
use crate::error::{Error, Kind, Result};
use crate::prompt::TriesLeft;
use crate::uri::{DeviceUri, Scheme};
use cryptoki::error::RvError;
use cryptoki::slot::{Slot, TokenInfo as CkTokenInfo};

/// A token as its module describes it (CK_TOKEN_INFO), without secrets and without types of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// CK_SLOT_ID.
    pub slot_id: u64,
    /// Label, maker, model, serial, firmware.
    pub identity: DeviceIdentity,
    /// CKF_TOKEN_INITIALIZED.
    pub initialised: bool,
    /// What the module tells about the PIN.
    pub pin: PinInfo,
}

/// The user PIN as CK_TOKEN_INFO tells of it.
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
    /// CKF_PROTECTED_AUTHENTICATION_PATH: typed on the device.
    pub pad: bool,
    /// Shortest and longest PIN, in bytes.
    pub length: (usize, usize),
}

impl TokenInfo {
    /// What tells tokens of one module apart. Serials are not unique, slots may be renumbered.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.slot_id, self.identity.serial, self.identity.label)
    }

    fn read(slot: Slot, info: &CkTokenInfo) -> Self {
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

    fn matches(&self, uri: &DeviceUri) -> bool {
        let agree = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
        self.initialised
            && agree(uri.token(), &self.identity.label)
            && agree(uri.manufacturer(), &self.identity.maker)
            && agree(uri.model(), &self.identity.model)
            && agree(uri.serial(), &self.identity.serial)
    }
}

/// All slots that hold a token, initialised or not.
pub fn all(module: &InitializedModule<'_>, on: &str) -> Result<Vec<(Slot, TokenInfo)>> {
    let slots = module.get_slots_with_token().map_err(|e| decode(e, LIST, on))?;
    slots.into_iter().filter_map(|slot| one(module, slot, on).transpose()).collect()
}

/// One slot's token; `None` when there is none.
fn one(module: &InitializedModule<'_>, slot: Slot, on: &str) -> Result<Option<(Slot, TokenInfo)>> {
    match module.get_token_info(slot) {
        Ok(info) => Ok(Some((slot, TokenInfo::read(slot, &info)))),
        Err(e) => match code(&e) {
            Some(RvError::SlotIdInvalid | RvError::TokenNotPresent | RvError::TokenNotRecognized) => Ok(None),
            _ => Err(decode(e, LIST, on)),
        },
    }
}

/// The one slot that a URI means.
///
/// # Errors
/// `DeviceGone` when none matches, `Usage` when several do; both list what is there.
pub fn find(module: &InitializedModule<'_>, uri: &DeviceUri, on: &str) -> Result<(Slot, TokenInfo)> {
    let slot = uri.slot_id().and_then(|id| Slot::try_from(id).ok());
    let mut matching = match slot {
        Some(slot) => one(module, slot, on)?.into_iter().collect(),
        None => all(module, on)?,
    };
    matching.retain(|(_, token)| token.matches(uri));
    match matching.len() {
        1 => Ok(matching.remove(0)),
        0 => Err(none(&all(module, on)?, uri, on)),
        _ => Err(several(&matching, on)),
    }
}

const LIST: &str = "list the module's slots";
const FIND: &str = "find the device";

fn none(there: &[(Slot, TokenInfo)], uri: &DeviceUri, on: &str) -> Error {
    let gone = |answer: String| Error::new(Kind::DeviceGone, FIND, answer).with_target(on);
    let initialised: Vec<_> = there.iter().filter(|(_, token)| token.initialised).collect();
    if initialised.is_empty() {
        return gone("the module has no initialised token".into()).with_hint(
            "plug the device in; a new one is initialised with the vendor's tool (for SoftHSM: `softhsm2-util --init-token`)",
        );
    }
    if let Some(id) = uri.slot_id().filter(|id| there.iter().all(|(_, token)| token.slot_id != *id)) {
        return gone(format!("there is no slot {id}; there are {}", listed(initialised)));
    }
    gone(format!("no token matches; there are {}", listed(initialised)))
        .with_hint("correct the URI's token, serial, manufacturer, model or slot-id, or plug the device in")
}

fn several(matching: &[(Slot, TokenInfo)], on: &str) -> Error {
    let answer = format!("{} tokens match: {}", matching.len(), listed(matching));
    Error::new(Kind::Usage, FIND, answer)
        .with_target(on)
        .with_hint("add serial= or slot-id= to the URI so that one is meant")
}

/// Tokens as the URI attributes that would name them.
fn listed<'a>(tokens: impl IntoIterator<Item = &'a (Slot, TokenInfo)>) -> String {
    let described = tokens.into_iter().map(|(_, token)| {
        let TokenInfo { slot_id, identity, .. } = token;
        format!("token={:?} serial={:?} slot-id={slot_id}", identity.label, identity.serial)
    });
    described.collect::<Vec<_>>().join(", ")
}
