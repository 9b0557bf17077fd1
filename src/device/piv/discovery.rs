//! Lists plugged-in YubiKeys without logging in.

use super::card::Card;
use super::error::{DriverError, catch_malformed};
use super::find::{self, OLDEST};
use super::slots::{fit_for, name};
use crate::device::{PATIENCE, Purpose, within};
use crate::error::Result;
use yubikey::YubiKey;
use yubikey::piv::{self, ManagementSlotId, SlotId};

/// A reader and its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderInfo {
    /// The reader's name.
    pub reader: String,
    /// The YubiKey in it, or why none was found.
    pub yubikey: Result<YubiKeyInfo, String>,
}

/// What a YubiKey reports without a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YubiKeyInfo {
    /// Serial number.
    pub serial: u32,
    /// Firmware, `5.7.1`.
    pub firmware: String,
    /// The state of its PIV application; `None` when its firmware is too old for Strongroom.
    pub piv: Option<PivInfo>,
}

/// The state of the PIV application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PivInfo {
    /// The PIN: tries left, and whether it is the factory default.
    pub pin: ReferenceInfo,
    /// The PUK.
    pub puk: ReferenceInfo,
    /// The management key is the factory default.
    pub factory_management_key: bool,
    /// Empty slots for opening keys: `9d`, `82` …
    pub free_for_opening: Vec<String>,
    /// Empty slots for signing keys.
    pub free_for_signing: Vec<String>,
}

/// The state of the PIN or the PUK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferenceInfo {
    /// Tries left.
    pub tries: u8,
    /// It is the factory default.
    pub factory: bool,
}

/// Every reader that pcscd knows.
///
/// # Errors
/// `DeviceGone` when pcscd does not answer; `Device` when a card does not.
pub fn discover() -> Result<Vec<ReaderInfo>> {
    within(PATIENCE, ("YubiKeys", "look at what is plugged in"), || {
        let info = |(reader, opened)| ReaderInfo { reader, yubikey: info(opened) };
        Ok(find::settled_readers()?.into_iter().map(info).collect())
    })
}

fn info(opened: yubikey::Result<YubiKey>) -> Result<YubiKeyInfo, String> {
    let yubikey = opened.map_err(|error| match error {
        yubikey::Error::PcscError { inner: Some(error) } => error.to_string(),
        other => format!("no YubiKey with PIV: {other}"),
    })?;
    let (serial, version) = (yubikey.serial().0, yubikey.version());
    let mut card = Card::new(yubikey);
    let mut asked =
        || catch_malformed(|| read_piv(&mut card)).unwrap_or(Err(DriverError::Malformed)).map(Some);
    let piv = if version >= OLDEST { asked() } else { Ok(None) };
    card.close();
    let piv =
        piv.map_err(|fault| fault.into_error("ask the YubiKey", &serial.to_string()).message().to_owned())?;
    Ok(YubiKeyInfo { serial, firmware: version.to_string(), piv })
}

fn read_piv(card: &mut Card) -> Result<PivInfo, DriverError> {
    let mut reference = |which| {
        let metadata = piv::metadata(card.yubikey(), SlotId::Management(which))
            .map_err(super::error::from_call("GET METADATA"))?;
        let tries = metadata.retries.map_or(0, |retries| retries.remaining_count);
        Ok::<_, DriverError>(ReferenceInfo { tries, factory: metadata.default == Some(true) })
    };
    let (pin, puk) = (reference(ManagementSlotId::Pin)?, reference(ManagementSlotId::Puk)?);
    let management = reference(ManagementSlotId::Management)?;
    let mut free = |purpose| Ok::<_, DriverError>(free_slots(card, purpose)?.into_iter().map(name).collect());
    Ok(PivInfo {
        pin,
        puk,
        factory_management_key: management.factory,
        free_for_opening: free(Purpose::Open)?,
        free_for_signing: free(Purpose::Sign)?,
    })
}

/// The slots for a purpose that hold neither a key nor a certificate.
pub fn free_slots(card: &mut Card, purpose: Purpose) -> Result<Vec<SlotId>, DriverError> {
    let mut free = Vec::new();
    for slot in fit_for(purpose) {
        if card.slot(slot)?.is_none() && card.certificate(slot)?.is_none() {
            free.push(slot);
        }
    }
    Ok(free)
}
