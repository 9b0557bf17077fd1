//! Converting columns to values. A damaged replica must give an error, never a panic.

use crate::ledger::DeviceId;
use crate::ledger::body::{Role, Seal, State};
use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};

pub(super) fn blob<const N: usize>(row: &Row<'_>, column: usize) -> Result<[u8; N]> {
    let bytes = row.get_ref(column)?.as_blob()?;
    bytes.try_into().map_err(|_| damaged(column, "a hash or id of the wrong length"))
}

pub(super) fn damaged(column: usize, what: &str) -> Error {
    Error::FromSqlConversionFailure(column, Type::Blob, what.into())
}

/// `None` is destroyed.
pub(super) fn state_from(row: &Row<'_>, column: usize) -> Result<Option<State>> {
    match row.get::<_, i64>(column)? {
        0 => Ok(Some(State::Staged)),
        1 => Ok(Some(State::Active)),
        2 => Ok(Some(State::Suspended)),
        3 => Ok(Some(State::Revoked)),
        4 => Ok(None),
        _ => Err(damaged(column, "a state")),
    }
}

pub(super) const DESTROYED: i64 = 4;

pub(super) fn state_to(state: State) -> i64 {
    match state {
        State::Staged => 0,
        State::Active => 1,
        State::Suspended => 2,
        State::Revoked => 3,
    }
}

/// One role per line: prefixes hold no line breaks.
pub(super) fn roles_to(roles: &[Role]) -> String {
    let lines: Vec<String> = roles.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

pub(super) fn roles_from(text: &str) -> Option<Vec<Role>> {
    text.lines().map(|line| line.parse().ok()).collect()
}

/// Device ids, joined.
pub(super) fn devices_to(devices: &[DeviceId]) -> Vec<u8> {
    devices.iter().flat_map(|id| id.0).collect()
}

pub(super) fn devices_from(bytes: &[u8]) -> Vec<DeviceId> {
    bytes.chunks_exact(16).filter_map(DeviceId::from_slice).collect()
}

/// The seals of a version as one column, for the version `v` of a query.
pub(super) const SEALS: &str =
    "(SELECT group_concat(hex(s.digest) || ' ' || s.length || ' ' || hex(r.devices))
    FROM seals s JOIN recipients r ON r.row = s.recipients
    WHERE s.token = v.token AND s.version = v.version AND s.live = 1)";

/// Reads [`SEALS`]: sorted by digest.
pub(super) fn seals_from(row: &Row<'_>, column: usize) -> Result<Vec<Seal>> {
    let text = row.get_ref(column)?.as_str_or_null()?.unwrap_or_default();
    let seal = |text: &str| {
        let mut parts = text.split(' ');
        let digest = hex::decode(parts.next()?).ok()?.try_into().ok()?;
        let length = parts.next()?.parse().ok()?;
        let recipients = devices_from(&hex::decode(parts.next()?).ok()?);
        Some(Seal { digest: crate::ledger::Hash(digest), length, recipients })
    };
    let seals: Option<Vec<Seal>> = text.split_terminator(',').map(seal).collect();
    let mut seals = seals.ok_or_else(|| damaged(column, "seals"))?;
    seals.sort_by_key(|seal| seal.digest.0);
    Ok(seals)
}
