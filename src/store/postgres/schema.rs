//! The tables in the database, and their version.

use super::connection::{Connection, Failure, Session};
use crate::error::{Error, Kind, Result};
use crate::store::rules::Columns;

/// The tables and functions.
const SCHEMA: &str = include_str!("schema.sql");

/// The version of the tables.
const VERSION: u64 = 1;

/// Completes "cannot …".
const CREATE: &str = "create the store";

/// Creates the tables, all or none.
pub(super) fn create(connection: &mut Connection) -> Result<()> {
    connection.run(CREATE, |session| {
        if exists(session)? {
            return Err(occupied(session.at.location).into());
        }
        session.begin_writing()?;
        match session.batch(SCHEMA) {
            // Another process came first, and only a moment ago.
            Err(Failure::Server(answer))
                if answer.code().is_some_and(|code| matches!(code.code(), "42P06" | "23505")) =>
            {
                return Err(occupied(session.at.location).into());
            }
            done => done?,
        }
        session.forget_warnings();
        session.commit()?;
        session.expect_no_warning()
    })
}

fn exists(session: &mut Session<'_>) -> Result<bool, Failure> {
    let sql = "SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'strongroom'";
    Ok(session.first("format", sql, &[], |row| row.uint(0))? != Some(0))
}

fn occupied(location: &str) -> Error {
    Error::new(Kind::Conflict, CREATE, "the database has a schema `strongroom` already")
        .with_target(location)
        .with_hint("use that store, or name another database")
}

/// Refuses tables of another version.
pub(super) fn expect_ours(connection: &mut Connection) -> Result<()> {
    connection.run("open the store", |session| {
        let sql = "SELECT version FROM strongroom.format ORDER BY version DESC LIMIT 1";
        match session.first("format", sql, &[], |row| row.uint(0))?.unwrap_or(0) {
            VERSION => Ok(()),
            version => Err(other_version(session.at.location, version).into()),
        }
    })
}

fn other_version(location: &str, version: u64) -> Error {
    let (message, hint) = match version {
        newer if newer > VERSION => (
            format!("its tables are of version {newer}, written by a newer Strongroom"),
            "install that version on this machine too",
        ),
        older => (
            format!("its tables are of version {older}, which no Strongroom writes"),
            "restore a backup of the database",
        ),
    };
    Error::new(Kind::Store, "open the store", message).with_target(location).with_hint(hint)
}

/// Removes the tables of a store that came to nothing.
pub(super) fn remove(connection: &mut Connection) -> Result<()> {
    connection.run("remove the empty store", |session| {
        session.begin_writing()?;
        session.batch("UPDATE strongroom.changes SET n = n + 1 WHERE part = 'ledger'")?;
        if super::ledger::tail(session)?.n > 0 {
            let error = Error::new(Kind::Conflict, session.at.to, "it is not empty any more");
            return Err(error.with_target(session.at.location).into());
        }
        session.batch("DROP SCHEMA strongroom CASCADE")?;
        session.commit()
    })
}
