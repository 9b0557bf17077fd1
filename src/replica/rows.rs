//! Converting columns to values. A damaged replica must give an error, never a panic.

use crate::ledger::body::{Role, State};
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
