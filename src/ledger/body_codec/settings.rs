//! Settings and proposals.

use super::enrolled_key::{read_level, write_level};
use super::seals::{read_devices, write_devices};
use crate::ledger::body::{Body, Propose, Settings, Witnesses};
use crate::ledger::cbor::{Decoded, Malformed, NEWER, Reader, Writer};

pub(super) fn write_settings(w: &mut Writer, b: &Settings) {
    w.array(5).uint(b.quorum);
    match b.witnesses {
        Some(witnesses) => w.array(2).uint(witnesses.count).uint(witnesses.max_age),
        None => w.null(),
    };
    write_level(w, b.evidence);
    write_devices(w, &b.recovery);
    w.array(b.thresholds.len());
    for (prefix, threshold) in &b.thresholds {
        w.array(2).text(prefix).uint(*threshold);
    }
}

pub(super) fn read_settings(r: &mut Reader<'_>) -> Decoded<Settings> {
    r.array_of(5, "settings")?;
    let settings = Settings {
        quorum: r.uint("a quorum")?,
        witnesses: r.maybe(|r| {
            r.array_of(2, "witnesses")?;
            Ok(Witnesses { count: r.uint("witnesses")?, max_age: r.uint("an age")? })
        })?,
        evidence: read_level(r)?,
        recovery: read_devices(r)?,
        thresholds: r.list("thresholds", |r| {
            r.array_of(2, "a threshold")?;
            Ok((r.text("a prefix")?, r.uint("a threshold")?))
        })?,
    };
    let sorted = settings.thresholds.is_sorted_by(|a, b| a.0 < b.0);
    if sorted { Ok(settings) } else { Err(Malformed("thresholds out of order")) }
}

pub(super) fn write_propose(w: &mut Writer, b: &Propose) {
    w.array(3).uint(b.until).uint(b.change.kind());
    b.change.write(w);
}

pub(super) fn read_propose(r: &mut Reader<'_>) -> Decoded<Propose> {
    r.array_of(3, "a proposal")?;
    let (until, kind) = (r.uint("a time")?, r.uint("a kind")?);
    match kind {
        1..=3 | 14 => Ok(Propose { until, change: Body::read(kind, r)? }),
        0..=17 => Err(Malformed("a proposal of a change that needs none")),
        _ => Err(NEWER),
    }
}
