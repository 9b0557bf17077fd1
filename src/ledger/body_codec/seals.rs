//! Puts and reseals, with the seals they name.

use super::{device_id, read_pairs, read_state, state_number, token_id, write_pairs};
use crate::ledger::body::{Put, Reseal, Seal};
use crate::ledger::cbor::{Decoded, Malformed, Reader, Writer};
use crate::ledger::{DeviceId, Hash};

/// Device ids, sorted.
pub(super) fn write_devices(w: &mut Writer, devices: &[DeviceId]) {
    w.array(devices.len());
    for device in devices {
        w.bytes(&device.0);
    }
}

pub(super) fn read_devices(r: &mut Reader<'_>) -> Decoded<Vec<DeviceId>> {
    let devices = r.list("devices", device_id)?;
    if devices.is_sorted_by(|a, b| a < b) { Ok(devices) } else { Err(Malformed("devices out of order")) }
}

fn write_seals(w: &mut Writer, seals: &[Seal]) {
    w.array(seals.len());
    for seal in seals {
        w.array(3).bytes(&seal.digest.0).uint(seal.length);
        write_devices(w, &seal.recipients);
    }
}

fn read_digest(r: &mut Reader<'_>) -> Decoded<Hash> {
    r.fixed("a digest").map(Hash)
}

fn read_seals(r: &mut Reader<'_>) -> Decoded<Vec<Seal>> {
    let seals = r.list("seals", |r| {
        r.array_of(3, "a seal")?;
        Ok(Seal { digest: read_digest(r)?, length: r.uint("a length")?, recipients: read_devices(r)? })
    })?;
    let sorted = seals.is_sorted_by(|a, b| a.digest.0 < b.digest.0);
    if sorted { Ok(seals) } else { Err(Malformed("seals out of order")) }
}

pub(super) fn write_put(w: &mut Writer, b: &Put) {
    w.array(12).bytes(&b.token.0).text(&b.name).uint(b.version);
    write_seals(w, &b.seals);
    w.uint(b.threshold).bool(b.only).uint(state_number(b.state));
    w.maybe_uint(b.not_before).maybe_uint(b.expiry);
    write_pairs(w, &b.labels);
    w.text(&b.description).maybe_uint(b.keep);
}

pub(super) fn read_put(r: &mut Reader<'_>) -> Decoded<Put> {
    r.array_of(12, "a put")?;
    Ok(Put {
        token: token_id(r)?,
        name: r.text("a name")?,
        version: r.uint("a version")?,
        seals: read_seals(r)?,
        threshold: r.uint("a threshold")?,
        only: r.bool("only")?,
        state: read_state(r)?,
        not_before: r.maybe(|r| r.uint("not-before"))?,
        expiry: r.maybe(|r| r.uint("an expiry"))?,
        labels: read_pairs(r, "labels")?,
        description: r.text("a description")?,
        keep: r.maybe(|r| r.uint("keep"))?,
    })
}

pub(super) fn write_reseal(w: &mut Writer, b: &Reseal) {
    w.array(5).bytes(&b.token.0).uint(b.version).uint(b.threshold).array(b.drop.len());
    for digest in &b.drop {
        w.bytes(&digest.0);
    }
    write_seals(w, &b.add);
}

pub(super) fn read_reseal(r: &mut Reader<'_>) -> Decoded<Reseal> {
    r.array_of(5, "a reseal")?;
    let (token, version, threshold) = (token_id(r)?, r.uint("a version")?, r.uint("a threshold")?);
    let drop = r.list("dropped seals", read_digest)?;
    if !drop.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(Malformed("dropped seals out of order"));
    }
    Ok(Reseal { token, version, threshold, drop, add: read_seals(r)? })
}
