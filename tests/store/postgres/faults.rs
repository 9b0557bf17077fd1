//! Faults of the database and of the way to it. Each says what was tried, on what, what came back, and what to do.

use crate::change::first_of;
use crate::store_factory::{Postgres as Factory, StoreFactory};
use strongroom::error::{Error, Kind};
use strongroom::store::{create, open};
use test_support::postgres::{Database, Postgres};

/// What an error shows; it must not show a password.
fn said(error: &Error) -> String {
    let said = format!("{error} → {}", error.hint().unwrap());
    assert!(!said.contains("hunter2"), "{said}");
    said
}

fn refused(url: &str, kind: Kind, words: &[&str]) {
    let error = open(url).err().unwrap_or_else(|| panic!("{url}: it opens"));
    let said = said(&error);
    assert_eq!(error.kind(), kind, "{said}");
    assert!(said.contains("postgres://"), "the target is not named: {said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

fn password_file(text: &str) -> (tempfile::TempDir, String) {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let path = path.display().to_string();
    (dir, path)
}

#[test]
fn passwords_that_are_wrong_and_databases_that_are_not_there() {
    if !Factory::available() {
        return;
    }
    let factory = Factory::new();
    let name = &factory.database.name;
    factory.database.sql(&format!("CREATE ROLE app_{name} LOGIN PASSWORD 'right'"));
    let url = factory.database.url_for(&format!("app_{name}"));
    let (_dir, wrong) = password_file("hunter2\n");
    refused(
        &format!("{url}?password-source={wrong}"),
        Kind::Refused,
        &["28P01", "password authentication failed", "pgpass"],
    );
    refused(&url, Kind::Store, &["password missing", "pgpass"]);
    let (_dir, right) = password_file("right\n");
    // It is let in, and has no rights.
    refused(&format!("{url}?password-source={right}"), Kind::Refused, &["42501", "grant-sql"]);
    let none = factory.database.url().replace(name.as_str(), "nosuch");
    refused(&none, Kind::Store, &["3D000", "createdb"]);
    let empty = Postgres::database().unwrap();
    refused(&empty.url(), Kind::Store, &["no store in this database", "strongroom init"]);
    let nowhere = "postgres://postgres@%2Fnosuch/x";
    refused(nowhere, Kind::Store, &["pg_isready"]);
    factory.database.sql(&format!("DROP OWNED BY app_{name}; DROP ROLE app_{name}"));
}

#[test]
fn certificates_that_are_expired_or_of_another_host() {
    let Some(server) = Postgres::with_tls() else { return };
    server.sql("CREATE DATABASE tokens");
    server.sql("CREATE ROLE owner LOGIN PASSWORD 'right'; ALTER DATABASE tokens OWNER TO owner");
    let (_dir, password) = password_file("right\n");
    let ca = server.dir.join("ca.pem").display().to_string();
    let url = |host: &str, options: &str| {
        format!("postgres://owner@{host}:{}/tokens?password-source={password}{options}", server.port)
    };
    let verified = format!("&sslmode=verify-full&sslrootcert={ca}");
    // SCRAM is bound to the server's certificate.
    drop(create(&url("127.0.0.1", &format!("{verified}&channel_binding=require"))).unwrap());
    open(&url("127.0.0.1", &verified)).unwrap();
    // On this machine TLS may be left out.
    open(&url("127.0.0.1", "")).unwrap();
    refused(&url("localhost", &verified), Kind::Store, &["certificate", "its name is the host"]);
    let other = Postgres::with_tls().unwrap();
    let strange = format!("&sslmode=verify-full&sslrootcert={}", other.dir.join("ca.pem").display());
    refused(&url("127.0.0.1", &strange), Kind::Store, &["certificate", "sslrootcert"]);
    server.expire_certificate();
    let expired = || open(&url("127.0.0.1", &verified)).is_err();
    assert!(test_support::eventually::eventually(std::time::Duration::from_secs(20), expired));
    refused(&url("127.0.0.1", &verified), Kind::Store, &["xpired", "in date"]);
}

#[test]
fn schemas_of_other_versions() {
    if !Factory::available() {
        return;
    }
    let factory = Factory::new();
    factory.database.sql("UPDATE strongroom.format SET version = 2");
    refused(&factory.database.url(), Kind::Store, &["version 2", "newer Strongroom"]);
    factory.database.sql("UPDATE strongroom.format SET version = 0");
    refused(&factory.database.url(), Kind::Store, &["version 0"]);
    factory.database.sql("DELETE FROM strongroom.format");
    refused(&factory.database.url(), Kind::Store, &["version 0"]);
}

fn set(database: &Database, setting: &str) {
    database.sql(&format!("ALTER DATABASE {} SET {setting}", database.name));
}

/// A server that takes no changes: what a standby answers, from a setting that has it answer so.
#[test]
fn a_server_that_only_reads() {
    if !Factory::available() {
        return;
    }
    let factory = Factory::new();
    first_of([1]).append(&mut *factory.open()).unwrap();
    set(&factory.database, "default_transaction_read_only = on");
    let mut store = factory.open();
    assert_eq!(store.tail().unwrap().n, 1);
    let error = first_of([2]).append(&mut *store).unwrap_err();
    let said = said(&error);
    assert!(said.contains("25006") && said.contains("target_session_attrs=read-write"), "{said}");
    assert_eq!(store.tail().unwrap().n, 1);
    let url = format!("{}?target_session_attrs=read-write", factory.database.url());
    refused(&url, Kind::Store, &["cannot open the store"]);
}

#[test]
fn a_statement_that_takes_too_long() {
    if !Factory::available() {
        return;
    }
    let factory = Factory::new();
    set(&factory.database, "statement_timeout = 200");
    let mut store = factory.open();
    // Somebody holds the row that every change raises.
    let mut holder = std::process::Command::new("psql");
    holder.args(["-X", "-q", "-h"]).arg(&factory.database.server().dir).args([
        "-U",
        "postgres",
        "-d",
        &factory.database.name,
    ]);
    let hold = "SET statement_timeout = 0; BEGIN; UPDATE strongroom.changes SET n = n; SELECT pg_sleep(3)";
    let mut holder = holder.args(["-c", hold]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(3)' AND wait_event = 'PgSleep'";
    let held = || factory.database.sql(held).trim() == "1";
    assert!(test_support::eventually::eventually(std::time::Duration::from_secs(20), held));
    let error = first_of([1]).append(&mut *store).unwrap_err();
    let said = said(&error);
    assert!(said.contains("57014") && said.contains("statement_timeout"), "{said}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3)' AND datname = current_database() AND pid <> pg_backend_pid()";
    factory.database.sql(end);
    assert_eq!(store.tail().unwrap().n, 0);
    first_of([1]).append(&mut *store).unwrap();
}

/// What a cancelled wait for a standby says: the change is on one server alone.
#[test]
fn a_commit_with_a_warning_is_not_acknowledged() {
    if !Factory::available() {
        return;
    }
    let factory = Factory::new();
    let mut store = factory.open();
    // A constraint that is checked when the transaction commits, and warns then.
    factory.database.sql(
        "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             RAISE WARNING 'canceling wait for synchronous replication'; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER warn AFTER INSERT ON strongroom.batches DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION warn()",
    );
    // Nor where somebody turned warnings off.
    set(&factory.database, "client_min_messages = error");
    for mut store in [factory.open(), std::mem::replace(&mut store, factory.open())] {
        let next = store.tail().unwrap().n;
        let error = first_of([next]).append(&mut *store).unwrap_err();
        let said = said(&error);
        assert!(said.contains("canceling wait") && said.contains("pg_stat_replication"), "{said}");
    }
}

#[test]
fn two_that_create_one_store() {
    if !Factory::available() {
        return;
    }
    for _ in 0..5 {
        let database = Postgres::database().unwrap();
        let answers: Vec<_> = std::thread::scope(|scope| {
            let one = || create(&database.url()).map(drop);
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
        for error in answers.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), Kind::Conflict, "{error}");
        }
        first_of([1]).append(&mut *open(&database.url()).unwrap()).unwrap();
    }
}
