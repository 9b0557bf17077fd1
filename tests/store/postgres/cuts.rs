//! Connections that break, and answers that get lost.

use crate::change::{access, advancing, first_of};
use crate::store_factory::{Postgres, StoreFactory};
use strongroom::ledger::{Hash, sha256};
use strongroom::store::{Store, open};
use test_support::cutting_proxy::CuttingProxy;

fn through(factory: &Postgres) -> (CuttingProxy, Box<dyn Store>) {
    let proxy = CuttingProxy::before(factory.database.server().dir.join(".s.PGSQL.5432"));
    let dir = proxy.dir().to_str().unwrap().replace('/', "%2F");
    let store = open(&format!("postgres://postgres@{dir}/{}", factory.database.name)).unwrap();
    (proxy, store)
}

/// Whatever message is lost, the change is there once, and its author hears of it.
#[test]
fn a_connection_cut_at_every_message_of_an_append() {
    if !Postgres::available() {
        return;
    }
    let factory = Postgres::new();
    let (proxy, mut store) = through(&factory);
    let mut token = 0;
    for answers in [false, true] {
        let mut cuts = 0;
        for message in 0.. {
            if answers {
                proxy.cut_answer(message)
            } else {
                proxy.cut_request(message)
            }
            let sealed = u64::to_be_bytes(token);
            let end = first_of([token])
                .sealing(&sealed)
                .append_on(&mut *store, strongroom::ledger::LogPosition::START);
            token += 1;
            assert_eq!(end.unwrap().n, token, "cut at message {message}, answers: {answers}");
            assert_eq!(factory.open().tail().unwrap().n, token);
            assert!(factory.open().sealed(&sha256(&sealed)).unwrap().is_some());
            if !proxy.has_cut() {
                proxy.cut_answer(-1);
                proxy.cut_request(-1);
                break;
            }
            cuts += 1;
        }
        assert!(cuts >= 3, "{cuts}");
    }
    factory.open().check_heads().unwrap();
}

/// The database's process that serves a writer is ended again and again, in the midst of its work or between.
#[test]
fn a_backend_that_is_ended() {
    if !Postgres::available() {
        return;
    }
    let factory = Postgres::new();
    let mut store = factory.open();
    let mut head = Hash::ZERO;
    for n in 1..=20 {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        factory.database.sql(end);
        assert_eq!(advancing([(1, head)]).append(&mut *store).unwrap().n, n);
        head = crate::change::statement(1, head).hash();
        store.record(&[access()]).unwrap();
    }
    assert_eq!(store.check_accesses().unwrap().kept, 20);
}

/// A writer that was stopped in its transaction comes back to another ledger: it finds that out.
#[test]
fn others_come_first_while_one_waits() {
    if !Postgres::available() {
        return;
    }
    let factory = Postgres::new();
    let (mut one, mut other) = (factory.open(), factory.open());
    for n in 0..10 {
        first_of([2 * n]).append(&mut *one).unwrap();
        first_of([2 * n + 1]).append(&mut *other).unwrap();
    }
    // What an author had read is old by now.
    let sql = "SELECT strongroom.append(0, 21, ARRAY['\\x01'::bytea], '\\x02', '\\x03', '{}', '{}', '{}', '{}', '{}')";
    assert_eq!(factory.database.sql(sql).trim(), "f");
    assert_eq!(one.tail().unwrap().n, 20);
}
