//! The rules for tokens: put, state, destroy, rename, reseal.

use super::{DeviceState, LedgerView, Verdict, VersionState, devices::active, living, refuse, rule, text};
use crate::error::Result;
use crate::ledger::body::{Destroy, Put, Rename, Reseal, Seal, State, StateChange};
use crate::ledger::error::Ineffective;
use crate::ledger::name::{MAX_LABEL_BYTES, MAX_LABELS, MAX_TEXT_BYTES, Name, check_short, check_text};
use crate::ledger::{DeviceId, MAX_RECIPIENTS, MAX_SEALED_BYTES, MAX_SEALS, TokenId};
use std::collections::HashSet;

fn may_write(author: &DeviceState, name: &str) -> std::result::Result<(), Ineffective> {
    if author.writes(name) { Ok(()) } else { Err(Ineffective::Role("write")) }
}

pub(super) fn put(b: &Put, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    check!(put_in_form(b));
    check!(may_write(author, &b.name));
    match view.token(&b.token)? {
        None if b.version != 1 => return rule("the first version of a token is 1"),
        None if view.name_taken(&b.name)? => return rule("another token has this name"),
        None => {}
        Some(token) if token.destroyed => return rule("the token was destroyed"),
        Some(token) if token.name != b.name => return rule("the token has another name"),
        Some(token) if b.version != token.latest + 1 => return rule("the version is not the next one"),
        Some(_) => {}
    }
    if b.threshold < view.settings()?.threshold_for(&b.name) {
        return rule("the settings ask for more devices that open it together");
    }
    // Most puts are a token's first, which has none before: this is asked for every statement of a ledger.
    if b.version > 1 && !author.is_admin() {
        let before = view.version(&b.token, b.version - 1)?;
        if before.is_some_and(|before| b.threshold < before.threshold) {
            return rule("only an admin lets fewer devices open it than the version before");
        }
    }
    check!(seals_in_form(&b.seals, b.threshold));
    check!(for_recovery(&b.seals, view)?);
    new_seals(&b.seals, &[&b.name], view)
}

fn put_in_form(b: &Put) -> std::result::Result<(), String> {
    Name::parse(&b.name)?;
    check_text(&b.description, MAX_TEXT_BYTES)?;
    pairs_in_form(&b.labels)?;
    match b.state {
        State::Staged | State::Active => {}
        State::Suspended | State::Revoked => return Err("a new version is staged or active".into()),
    }
    match b.keep {
        Some(0) => Err("keep is at least 1".into()),
        _ => Ok(()),
    }
}

/// Labels, or the parameters of a policy.
pub(super) fn pairs_in_form(pairs: &[(String, String)]) -> std::result::Result<(), String> {
    if pairs.len() > MAX_LABELS {
        return Err(format!("at most {MAX_LABELS} labels"));
    }
    pairs.iter().try_for_each(|(key, value)| {
        check_short(key)?;
        check_text(value, MAX_LABEL_BYTES)
    })
}

/// All seals of a version together.
fn seals_in_form(seals: &[Seal], threshold: u64) -> std::result::Result<(), String> {
    if !(1..=MAX_SEALS).contains(&seals.len()) {
        return Err(format!("sealed to nobody, or more than {MAX_SEALS} times"));
    }
    let mut devices = HashSet::new();
    for seal in seals {
        if !(1..=MAX_RECIPIENTS).contains(&seal.recipients.len()) {
            return Err(format!("sealed to nobody, or to more than {MAX_RECIPIENTS} devices at once"));
        }
        if !(1..=MAX_SEALED_BYTES).contains(&seal.length) {
            return Err("a length that no sealed token has".into());
        }
        if !seal.recipients.iter().all(|device| devices.insert(device)) {
            return Err("sealed to a device twice".into());
        }
    }
    match threshold {
        0 => Err("a threshold is at least 1".into()),
        1 => Ok(()),
        _ if seals.len() > 1 => Err("with a threshold there is one seal".into()),
        _ if threshold > devices.len() as u64 => Err("a threshold of more devices than there are".into()),
        _ => Ok(()),
    }
}

/// A device's name, or its id if it was never enrolled.
fn name_of(device: &DeviceId, view: &impl LedgerView) -> Result<String> {
    Ok(view.device(device)?.map_or_else(|| format!("device {device}"), |known| known.name))
}

/// Checks that a version is for every recovery device that can open it.
fn for_recovery(seals: &[Seal], view: &impl LedgerView) -> Verdict {
    for device in view.settings()?.recovery {
        let named = seals.iter().any(|seal| seal.recipients.contains(&device));
        if !named && active(&device, view)?.is_some_and(|device| device.opens("")) {
            let name = name_of(&device, view)?;
            return rule(format!("the settings ask that it is for the recovery device {name}"));
        }
    }
    Ok(Ok(()))
}

/// Checks that seals are for devices that may open all of these names, and that no version ever had these sealed bytes.
fn new_seals(seals: &[Seal], names: &[&str], view: &impl LedgerView) -> Verdict {
    for seal in seals {
        for recipient in &seal.recipients {
            if !may_open(recipient, names, view)? {
                return rule(format!("{} has no role `open` for it", name_of(recipient, view)?));
            }
        }
        if view.digest_recorded(&seal.digest)? {
            return rule("these sealed bytes belong to another version");
        }
    }
    Ok(Ok(()))
}

fn may_open(device: &DeviceId, names: &[&str], view: &impl LedgerView) -> Result<bool> {
    Ok(active(device, view)?.is_some_and(|device| names.iter().all(|name| device.opens(name))))
}

/// A version that exists and was not destroyed.
fn existing(
    token: &TokenId,
    version: u64,
    view: &impl LedgerView,
) -> Result<std::result::Result<(VersionState, State), Ineffective>> {
    Ok(match view.version(token, version)? {
        None => Err(Ineffective::Rule("no such version".into())),
        Some(found) => match found.state {
            None => Err(Ineffective::Rule("the version was destroyed".into())),
            Some(state) => Ok((found, state)),
        },
    })
}

pub(super) fn reseal(b: &Reseal, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    if !author.is_admin() {
        return refuse(Ineffective::Role("admin"));
    }
    let token = match living(&b.token, view)? {
        Ok(token) => token,
        Err(why) => return refuse(why),
    };
    let version = match existing(&b.token, b.version, view)? {
        Ok((version, _)) => version,
        Err(why) => return refuse(why),
    };
    if b.drop.is_empty() && b.add.is_empty() {
        return rule("a reseal that changes nothing");
    }
    let mut seals = view.seals(&b.token, b.version)?;
    let dropped: Vec<Seal> = seals.extract_if(.., |seal| b.drop.contains(&seal.digest)).collect();
    if dropped.len() != b.drop.len() {
        return rule("it drops a seal that the version does not have");
    }
    if b.threshold < version.threshold || b.threshold > version.threshold && !seals.is_empty() {
        return rule("a reseal keeps the threshold, or makes all seals anew for a higher one");
    }
    seals.extend(b.add.iter().cloned());
    check!(seals_in_form(&seals, b.threshold));
    check!(for_recovery(&seals, view)?);
    // A new name must not open it to others.
    let names = [token.name.as_str(), &version.name];
    check!(nobody_is_left_out(&dropped, &seals, &names, view)?);
    new_seals(&b.add, &names, view)
}

/// Where admins need a quorum, one of them alone cannot take a version from a device that should open it.
fn nobody_is_left_out(dropped: &[Seal], seals: &[Seal], names: &[&str], view: &impl LedgerView) -> Verdict {
    if view.settings()?.quorum < 2 {
        return Ok(Ok(()));
    }
    for device in dropped.iter().flat_map(|seal| &seal.recipients) {
        if !seals.iter().any(|seal| seal.recipients.contains(device)) && may_open(device, names, view)? {
            return rule(format!("it takes the version from the device {}", name_of(device, view)?));
        }
    }
    Ok(Ok(()))
}

/// The token, which must exist and which the author may write.
fn writable(
    id: &TokenId,
    author: &DeviceState,
    view: &impl LedgerView,
) -> Result<std::result::Result<super::TokenState, Ineffective>> {
    Ok(living(id, view)?.and_then(|token| may_write(author, &token.name).map(|()| token)))
}

pub(super) fn state(b: &StateChange, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    check!(text(&b.reason));
    let token = match writable(&b.token, author, view)? {
        Ok(token) => token,
        Err(why) => return refuse(why),
    };
    if b.state == State::Staged {
        return rule("a version cannot go back to staged");
    }
    if b.version == 0 {
        return Ok(Ok(()));
    }
    match existing(&b.token, b.version, view)? {
        Err(why) => refuse(why),
        Ok((_, State::Revoked)) => rule("revoked is final"),
        Ok((_, State::Staged)) if b.state == State::Suspended => rule("a staged version is not open yet"),
        Ok((version, State::Staged))
            if b.state == State::Active
                && version.threshold < view.settings()?.threshold_for(&token.name) =>
        {
            rule("the settings ask for more devices that open it together")
        }
        Ok(_) => Ok(Ok(())),
    }
}

pub(super) fn destroy(b: &Destroy, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    check!(text(&b.reason));
    if !author.is_admin() {
        return refuse(Ineffective::Role("admin"));
    }
    match living(&b.token, view)? {
        Err(why) => return refuse(why),
        Ok(token) if token.name != b.name => return rule("the token has another name"),
        Ok(_) => {}
    }
    match b.version {
        0 => Ok(Ok(())),
        version => Ok(existing(&b.token, version, view)?.map(|_| ())),
    }
}

pub(super) fn rename(b: &Rename, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    check!(Name::parse(&b.to));
    let token = match writable(&b.token, author, view)? {
        Ok(token) => token,
        Err(why) => return refuse(why),
    };
    check!(may_write(author, &b.to));
    // Grants on prefixes come and go with the name.
    if !author.grants(&b.from) || !author.grants(&b.to) {
        return refuse(Ineffective::Role("grant"));
    }
    if token.name != b.from {
        return rule("the token has another name");
    }
    if view.name_taken(&b.to)? {
        return rule("another token has the new name");
    }
    let needed = view.settings()?.threshold_for(&b.to);
    match view.lowest_threshold(&b.token)? {
        Some(lowest) if lowest < needed => rule("the new name asks for more devices that open it together"),
        _ => Ok(Ok(())),
    }
}
