//! Finds the slot that a URI names.

use super::error::{code, decode};
use super::module::InitializedModule;
use super::token_info::TokenInfo;
use crate::error::{Error, Kind, Result};
use crate::uri::DeviceUri;
use cryptoki::error::{Error as CallError, RvError};
use cryptoki::slot::Slot;

/// All slots that hold a token, initialised or not. A token that cannot be described does not hide the others.
///
/// # Errors
/// The first token's error if none can be described.
pub fn all(module: &InitializedModule<'_>, target: &str) -> Result<Vec<(Slot, TokenInfo)>> {
    let slots = module.get_slots_with_token().map_err(|e| decode(e, LIST, target))?;
    let (mut tokens, mut failure) = (Vec::new(), None);
    for slot in slots {
        match one(module, slot, target) {
            Ok(token) => tokens.extend(token),
            Err(error) => {
                log::warn!("slot-id={}: {error}", slot.id());
                failure = failure.or(Some(error));
            }
        }
    }
    match failure {
        Some(error) if tokens.is_empty() => Err(error),
        _ => Ok(tokens),
    }
}

/// One slot's token; `None` when there is none.
fn one(module: &InitializedModule<'_>, slot: Slot, target: &str) -> Result<Option<(Slot, TokenInfo)>> {
    match module.get_token_info(slot) {
        Ok(info) => Ok(Some((slot, TokenInfo::read(slot, &info)))),
        // The crate parses utcTime, which some modules fill with other bytes. Nothing here needs the time.
        Err(CallError::ParseInt(_) | CallError::Utf8(_)) => {
            let info = module.get_slot_info(slot).map_err(|e| decode(e, LIST, target))?;
            Ok(Some((slot, TokenInfo::from_slot(slot, &info))))
        }
        Err(e) => match code(&e) {
            Some(RvError::SlotIdInvalid | RvError::TokenNotPresent | RvError::TokenNotRecognized) => Ok(None),
            _ => Err(decode(e, LIST, target)),
        },
    }
}

/// The one slot that a URI names.
///
/// # Errors
/// `DeviceGone` when none matches, `Usage` when several do. Both list the tokens found.
pub fn find(module: &InitializedModule<'_>, uri: &DeviceUri, target: &str) -> Result<(Slot, TokenInfo)> {
    let slot = uri.slot_id().and_then(|id| Slot::try_from(id).ok());
    let mut matching = match slot {
        Some(slot) => one(module, slot, target)?.into_iter().collect(),
        None => all(module, target)?,
    };
    matching.retain(|(_, token)| token.matches(uri));
    match matching.len() {
        1 => Ok(matching.remove(0)),
        0 => Err(none(&all(module, target)?, uri, target)),
        _ => Err(several(&matching, target)),
    }
}

const LIST: &str = "list the module's slots";
const FIND: &str = "find the device";

fn none(there: &[(Slot, TokenInfo)], uri: &DeviceUri, target: &str) -> Error {
    let gone = |message: String| Error::new(Kind::DeviceGone, FIND, message).with_target(target);
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

fn several(matching: &[(Slot, TokenInfo)], target: &str) -> Error {
    let message = format!("{} tokens match: {}", matching.len(), listed(matching));
    Error::new(Kind::Usage, FIND, message)
        .with_target(target)
        .with_hint("add serial= or slot-id= to the URI so that one is meant")
}

/// Lists tokens by the URI attributes that name them.
fn listed<'a>(tokens: impl IntoIterator<Item = &'a (Slot, TokenInfo)>) -> String {
    let described = tokens.into_iter().map(|(_, token)| {
        let TokenInfo { slot_id, identity, .. } = token;
        format!("token={:?} serial={:?} slot-id={slot_id}", identity.label, identity.serial)
    });
    described.collect::<Vec<_>>().join(", ")
}
