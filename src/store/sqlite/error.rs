//! SQLite's errors as messages with a hint.

use crate::error::{Error, Kind, printable};
use crate::store::rules::ALTERED;
use rusqlite::{ErrorCode, ffi};

const DAMAGED: &str =
    "keep a copy of the file, then restore a backup; `strongroom verify` says what is missing";

/// The error for SQLite's failure on `table`.
pub(super) fn decode(
    to: &'static str,
    location: &str,
    table: Option<&'static str>,
    answer: &rusqlite::Error,
) -> Error {
    let place = table.map(|table| format!("table `{table}`: ")).unwrap_or_default();
    let (kind, what, hint) = match answer {
        rusqlite::Error::SqliteFailure(code, message) => meaning(*code, message.as_deref()),
        rusqlite::Error::SqlInputError { error, msg, .. } => meaning(*error, Some(msg)),
        other => (Kind::Store, other.to_string(), DAMAGED),
    };
    Error::new(kind, to, format!("{place}{what}")).with_target(location).with_hint(hint)
}

fn meaning(code: ffi::Error, message: Option<&str>) -> (Kind, String, &'static str) {
    let says = printable(message.unwrap_or_else(|| ffi::code_to_str(code.extended_code)));
    match code.code {
        ErrorCode::DiskFull => full(),
        // The shared memory of the log is a file too.
        ErrorCode::SystemIoFailure if code.extended_code == ffi::SQLITE_IOERR_SHMSIZE => full(),
        ErrorCode::SystemIoFailure => (
            Kind::Store,
            format!("the disk reported an error ({})", ffi::code_to_str(code.extended_code)),
            "nothing that was acknowledged is lost; look at the kernel's messages with `dmesg`, then try again",
        ),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => (
            Kind::Store,
            "another process has held it locked for 30 seconds".into(),
            "find it with `fuser` and wait for it or end it; nothing was changed",
        ),
        ErrorCode::ReadOnly => (Kind::Store, READ_ONLY.into(), MAKE_WRITABLE),
        ErrorCode::DatabaseCorrupt => (Kind::Store, format!("the file is damaged ({says})"), DAMAGED),
        ErrorCode::NotADatabase => (
            Kind::Store,
            "it is not an SQLite database, or its first page is damaged".into(),
            "check the path, or restore a backup",
        ),
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied => (
            Kind::Store,
            format!("it cannot be opened ({says})"),
            "check the path, its permissions, and the limit on open files",
        ),
        ErrorCode::TooBig => {
            (Kind::Tampered, "a row is larger than any that Strongroom writes".into(), ALTERED)
        }
        ErrorCode::ConstraintViolation | ErrorCode::Unknown => {
            (Kind::Tampered, format!("the tables are not as Strongroom makes them ({says})"), ALTERED)
        }
        _ => (Kind::Store, says, DAMAGED),
    }
}

fn full() -> (Kind, String, &'static str) {
    let what = "the disk is full; nothing was changed and nothing is lost";
    (Kind::Store, what.into(), "free space where the store lies and try again")
}

const READ_ONLY: &str = "it is read-only here: the file, its directory or the medium";
const MAKE_WRITABLE: &str = "make it writable for this user; reading works as it is";

pub(super) fn read_only(to: &'static str, location: &str) -> Error {
    Error::new(Kind::Store, to, READ_ONLY).with_target(location).with_hint(MAKE_WRITABLE)
}

/// Whether an insert failed because its key exists.
pub(super) fn is_taken(answer: &rusqlite::Error) -> bool {
    let taken =
        [ffi::SQLITE_CONSTRAINT_PRIMARYKEY, ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_CONSTRAINT_ROWID];
    answer.sqlite_error().is_some_and(|e| taken.contains(&e.extended_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(code: i32) -> Error {
        decode(
            "read",
            "sqlite:///s",
            Some("heads"),
            &rusqlite::Error::SqliteFailure(ffi::Error::new(code), None),
        )
    }

    #[test]
    fn every_answer_says_what_it_was_and_what_to_do() {
        for (code, kind, says) in [
            (ffi::SQLITE_FULL, Kind::Store, "the disk is full"),
            (ffi::SQLITE_IOERR_SHMSIZE, Kind::Store, "the disk is full"),
            (ffi::SQLITE_IOERR_FSYNC, Kind::Store, "the disk reported an error"),
            (ffi::SQLITE_BUSY, Kind::Store, "locked for 30 seconds"),
            (ffi::SQLITE_BUSY_RECOVERY, Kind::Store, "locked for 30 seconds"),
            (ffi::SQLITE_READONLY_DIRECTORY, Kind::Store, "read-only"),
            (ffi::SQLITE_CORRUPT_INDEX, Kind::Store, "damaged"),
            (ffi::SQLITE_NOTADB, Kind::Store, "not an SQLite database"),
            (ffi::SQLITE_TOOBIG, Kind::Tampered, "larger than any"),
            (ffi::SQLITE_ERROR, Kind::Tampered, "not as Strongroom makes them"),
        ] {
            let error = decoded(code);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(
                error.message().starts_with("table `heads`: ") && error.message().contains(says),
                "{error}"
            );
            assert!(error.hint().is_some(), "{error}");
        }
    }
}
