//! PostgreSQL's errors as messages with a hint: its SQLSTATE codes (PostgreSQL's manual, appendix A) in words.

use crate::error::{Error, Kind, printable};
use crate::store::rules::ALTERED;
use postgres::error::{DbError, Severity, SqlState};

const LOOK: &str = "look at the database's log, then try again; nothing that was acknowledged is lost";

const RIGHTS: &str = "have the database's owner run the SQL that `strongroom store grant-sql` prints for this user and its device";

/// The error for what the server, or the way to it, answered.
pub(super) fn decode(to: &str, location: &str, answer: &postgres::Error) -> Error {
    let (kind, what, hint) = match answer.as_db_error() {
        Some(db) => meaning(db),
        None => unreached(&chain_of(answer)),
    };
    Error::new(kind, to, what).with_target(location).with_hint(hint)
}

fn meaning(db: &DbError) -> (Kind, String, &'static str) {
    let code = db.code();
    let what = format!("{} (SQLSTATE {})", printable(db.message()), code.code());
    match code.code() {
        "28P01" | "28000" => (
            Kind::Refused,
            what,
            "check the user in the URI, its password in ~/.pgpass or in the file of `password-source`, and pg_hba.conf",
        ),
        "3D000" => (
            Kind::Store,
            what,
            "create it with `createdb`, or correct the URI; docs/howto/fleet.md shows how",
        ),
        "42501" => (Kind::Refused, what, RIGHTS),
        "42P01" | "3F000" | "42883" => (
            Kind::Store,
            format!("there is no store in this database, or not a whole one: {what}"),
            "check the URI; `strongroom init` creates a store in an empty database",
        ),
        "25006" => (
            Kind::Store,
            format!("the server takes no changes, as a standby does: {what}"),
            "name the primary; with several hosts in the URI, add target_session_attrs=read-write",
        ),
        "57014" => (
            Kind::Store,
            format!("the server gave the statement up, and nothing was changed: {what}"),
            "raise statement_timeout for this user, or find what the database is busy with; then try again",
        ),
        "53100" => (
            Kind::Store,
            format!("the database's disk is full; nothing was changed and nothing is lost: {what}"),
            "free space on the database's machine and try again",
        ),
        "53300" => {
            (Kind::Store, what, "raise max_connections, or put pgbouncer before the database; then try again")
        }
        "40001" | "40P01" => (
            Kind::Store,
            format!("other changes kept coming first: {what}"),
            "try again; nothing was changed",
        ),
        "57P01" | "57P02" | "57P03" | "58000" | "58030" | "XX000" => (Kind::Store, what, LOOK),
        "XX001" | "XX002" => {
            (Kind::Store, format!("the database is damaged: {what}"), "restore a backup of the database")
        }
        // Said at the door, and not of a table.
        "55000" if db.parsed_severity() == Some(Severity::Fatal) => (Kind::Store, what, LOOK),
        "42703" | "42804" | "42P02" | "22003" | "23502" | "23505" | "23514" | "55000" | "42809" => {
            (Kind::Tampered, format!("the tables are not as Strongroom makes them: {what}"), ALTERED)
        }
        _ => (Kind::Store, what, LOOK),
    }
}

/// The server did not answer, or is not the one that was meant.
fn unreached(what: &str) -> (Kind, String, &'static str) {
    let certificate = ["certificate", "UnknownIssuer", "NotValidForName", "Expired"];
    let hint = if certificate.iter().any(|word| what.contains(word)) {
        "check the server's certificate: its name is the host of the URI, it is in date, and its authority is in the file of `sslrootcert`"
    } else if what.contains("TLS") {
        "turn `ssl` on at the server; only on a network that nobody else uses, say sslmode=disable"
    } else if what.contains("password missing") {
        "put the password into ~/.pgpass (HOST:PORT:DATABASE:USER:PASSWORD, mode 0600), or name a file: ?password-source=FILE"
    } else {
        "check that the database is up and reachable from here: `pg_isready -h HOST`"
    };
    (Kind::Store, printable(what), hint)
}

/// An error and what it was caused by.
pub(super) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        message = format!("{message}: {inner}");
        cause = inner.source();
    }
    message
}

/// Whether the same may succeed if it is tried once more on this connection or another.
pub(super) fn is_transient(answer: &postgres::Error) -> bool {
    match answer.code() {
        Some(code) => is_crossing(code) || matches!(code.code(), "57P01" | "57P02" | "57P03"),
        None => is_broken(answer),
    }
}

fn is_crossing(code: &SqlState) -> bool {
    *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
}

/// Whether the connection is gone.
pub(super) fn is_broken(answer: &postgres::Error) -> bool {
    match answer.code() {
        Some(code) => {
            matches!(code.code(), "57P01" | "57P02" | "57P03" | "25P03" | "57P05")
                || code.code().starts_with("08")
        }
        None => {
            answer.is_closed()
                || std::error::Error::source(answer).is_some_and(|cause| cause.is::<std::io::Error>())
        }
    }
}

/// Which table an insert failed on because its key exists.
pub(super) fn taken(answer: &postgres::Error) -> Option<&str> {
    let db = answer.as_db_error().filter(|db| *db.code() == SqlState::UNIQUE_VIOLATION)?;
    db.table()
}
