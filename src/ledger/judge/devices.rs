//! The rules for changes of devices and roles.

use super::{DeviceState, LedgerView, Verdict, refuse, rule, text};
use crate::error::Result;
use crate::ledger::body::{Anchor, Enrol, Retire, Role, Roles};
use crate::ledger::name::{MAX_LABEL_BYTES, MAX_TEXT_BYTES, check_prefix, check_short, check_text};
use crate::ledger::{DeviceId, MAX_MATERIAL_BYTES};

/// The rules for enrolments that need no state; they hold for the first one too.
pub(in crate::ledger) fn enrolment_in_form(b: &Enrol) -> std::result::Result<(), String> {
    check_short(&b.name)?;
    for text in [&b.model, &b.serial, &b.opening.uri, &b.signing.uri] {
        check_text(text, MAX_TEXT_BYTES)?;
    }
    if b.opening.material.len().max(b.signing.material.len()) > MAX_MATERIAL_BYTES {
        return Err(format!("more than {MAX_MATERIAL_BYTES} bytes of material"));
    }
    for (claim, _) in b.opening.evidence.claims.iter().chain(&b.signing.evidence.claims) {
        check_text(claim, MAX_LABEL_BYTES)?;
    }
    if b.opening.key.is_same_key(&b.signing.key) {
        return Err("one key for both opening and signing".into());
    }
    roles_in_form(&b.roles)
}

pub(super) fn roles_in_form(roles: &[Role]) -> std::result::Result<(), String> {
    roles.iter().filter_map(Role::prefix).try_for_each(check_prefix)
}

pub(super) fn enrol(b: &Enrol, view: &impl LedgerView) -> Verdict {
    check!(enrolment_in_form(b));
    let lowest = b.opening.evidence.level.min(b.signing.evidence.level);
    if lowest < view.settings()?.evidence {
        return rule("the settings ask for stronger evidence");
    }
    if let Some(replaced) = &b.replaces {
        let retired = view.device(replaced)?.filter(|device| device.retired && !device.compromised);
        if retired.is_none() || view.is_replaced(replaced)? {
            return rule("it replaces no retired device, or one that was compromised or replaced before");
        }
    }
    if view.device(&b.device)?.is_some() {
        return rule("this device id was enrolled before");
    }
    if view.signing_key_known(&b.signing.key)? {
        return rule("this signing key was enrolled before");
    }
    if view.opening_key_active(&b.opening.key)? {
        return rule("another device has this opening key");
    }
    if view.device_name_taken(&b.name)? {
        return rule(format!("a device is called {} already", b.name));
    }
    Ok(Ok(()))
}

pub(super) fn active(id: &DeviceId, view: &impl LedgerView) -> Result<Option<DeviceState>> {
    Ok(view.device(id)?.filter(|device| !device.retired))
}

/// Checks that enough admins and witnesses stay when this device has no roles but these.
fn enough_stay(device: &DeviceState, id: &DeviceId, roles: &[Role], view: &impl LedgerView) -> Verdict {
    let settings = view.settings()?;
    // A witness's own machine needs the others.
    let witnesses = settings.witnesses.map_or(0, |witnesses| witnesses.count + 1);
    for (role, needed) in [(Role::Admin, settings.quorum), (Role::Witness, witnesses)] {
        if !device.roles.contains(&role) || roles.contains(&role) {
            continue;
        }
        let others = view.active_with(&role)?.into_iter().filter(|other| other != id).count() as u64;
        if others < needed {
            return rule(match needed {
                1 => format!("the last device with the role {role} must keep it"),
                _ => format!("{needed} devices must keep the role {role}"),
            });
        }
    }
    Ok(Ok(()))
}

pub(super) fn retire(b: &Retire, view: &impl LedgerView) -> Verdict {
    check!(text(&b.reason));
    match active(&b.device, view)? {
        None => rule("no such device, or it was retired before"),
        Some(device) => enough_stay(&device, &b.device, &[], view),
    }
}

pub(super) fn roles(b: &Roles, view: &impl LedgerView) -> Verdict {
    check!(roles_in_form(&b.roles));
    match active(&b.device, view)? {
        None => rule("no such device, or it was retired"),
        Some(device) => enough_stay(&device, &b.device, &b.roles, view),
    }
}

pub(super) fn anchor(b: &Anchor, view: &impl LedgerView) -> Verdict {
    if active(&b.device, view)?.is_none() {
        return rule("no such device, or it was retired");
    }
    match b.counter {
        Some(counter) if u32::try_from(counter.index).is_err() => rule("an index of more than 32 bits"),
        Some(counter) if i64::try_from(counter.start).is_err() => rule("a counter that no device has"),
        _ => Ok(Ok(())),
    }
}
