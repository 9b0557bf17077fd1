//! An admin drops a tail that nobody can verify: those who verified no more go on, those who did refuse.

use rusqlite::params;
use strongroom::Kind;
use strongroom::ledger::Body;
use strongroom::ledger::verify::Chain;
use strongroom::vault::{LogOrder, PutOptions, Vault};
use test_support::forged_batch::{Cose, Draft, Signed, put, sealed, token};
use test_support::test_store::{TestStore, answers, name, secret};

/// A put of the writer's with a signature that is nobody's.
fn unverifiable(test_store: &TestStore) -> Signed {
    let vault = test_store.client("admin", &[]).unwrap();
    let bytes = sealed(test_store.id, token(1), 1, "planted", &[&test_store.opener]);
    let body = Body::Put(Box::new(put(token(1), "w/planted", 1, &bytes, &[&test_store.opener])));
    let signed = Draft::on(&vault, &test_store.writer, [body]).sign().with(&bytes);
    let mut cose = Cose::of(&signed.sign1);
    cose.signature[7] ^= 1;
    Signed { sign1: cose.encode(), ..signed }
}

fn repair(test_store: &TestStore, client: &str) -> strongroom::Result<(Vault, u64)> {
    Vault::repair(test_store.setup(client, &[&test_store.admin]), "somebody wrote to the file")
}

#[test]
fn a_planted_tail() {
    let test_store = TestStore::populated();
    let before = test_store.answers("admin");
    let kept = test_store.tail();
    for _ in 0..3 {
        test_store.plant(&unverifiable_at(&test_store, kept.n));
    }
    test_store.refused("is not that of");
    // Who is no admin changes nothing.
    for devices in [&[][..], &[&test_store.writer], &[&test_store.opener]] {
        let error = Vault::repair(test_store.setup("reader", devices), "").err().unwrap();
        assert_eq!(error.kind(), Kind::Refused, "{error}");
        assert_eq!(test_store.tail().n, kept.n + 3);
    }
    let (mut vault, dropped) = repair(&test_store, "admin").unwrap();
    assert_eq!(dropped, 3);
    let mut newest = None;
    vault
        .log(LogOrder::NewestFirst, None, |_, entry| {
            newest = Some(entry);
            Ok(false)
        })
        .unwrap();
    let newest = newest.unwrap();
    assert_eq!((newest.n, newest.ineffective), (kept.n + 1, None));
    let Body::Repair(said) = newest.statement.body else { panic!("{:?}", newest.statement) };
    assert_eq!(
        (said.kept, said.chain, said.reason.as_str()),
        (kept.n, kept.chain, "somebody wrote to the file")
    );
    drop(vault);
    for client in ["admin", "reader", "newcomer"] {
        assert_eq!(test_store.answers(client), before, "{client}");
    }
    // What was set aside stays for whoever investigates.
    let aside = |table: &str| -> i64 {
        test_store
            .db()
            .query_row(&format!("SELECT count(*) FROM set_aside_{table}"), [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!((aside("statements"), aside("batches")), (3, 3));
    test_store.goes_on();
}

/// The same bytes again and again.
fn unverifiable_at(test_store: &TestStore, n: u64) -> Signed {
    let planted = test_store.tail().n - n;
    let mut signed = match planted {
        0 => unverifiable(test_store),
        _ => Signed {
            sign1: vec![planted as u8],
            statements: vec![vec![planted as u8; 9]],
            sealed: Vec::new(),
        },
    };
    if planted == 2 {
        signed.statements.clear();
        signed.statements.push(Vec::new());
    }
    signed
}

#[test]
fn rows_that_belong_to_nothing() {
    let test_store = TestStore::populated();
    let before = test_store.answers("admin");
    let tail = test_store.tail();
    let db = test_store.db();
    for (sql, planted) in [
        ("INSERT INTO statements VALUES (?1 + 1, x'00')", true),
        ("INSERT INTO statements VALUES (?1 + 99, x'00')", false),
        ("INSERT INTO batches VALUES (?1 + 1, ?1 + 1, zeroblob(32), x'00')", true),
        ("INSERT INTO batches VALUES (?1 + 5, ?1 + 3, x'', x'')", true),
        ("INSERT INTO batches VALUES (-3 - 0 * ?1, -1, x'', x'')", false),
        ("INSERT INTO heads SELECT x'01', zeroblob(32), ?1 + 1", false),
    ] {
        db.execute(sql, [tail.n]).unwrap();
        let put = || {
            test_store.client("admin", &[&test_store.admin])?.put(
                &name("after"),
                &secret("x"),
                &PutOptions::default(),
            )
        };
        if planted {
            assert_eq!(put().unwrap_err().kind(), Kind::Tampered, "{sql}");
        }
        if sql.contains("INTO heads") {
            let report = test_store.client("admin", &[]).unwrap().verify(&mut |_, _, _| {}).unwrap();
            assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
            assert_eq!(report.problems[0].place, "table `heads`");
        }
        repair(&test_store, "admin").unwrap();
        let report = put().unwrap();
        assert_eq!(report.version, 1, "{sql}");
        let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
        vault.destroy(&name("after"), None, "").unwrap();
        drop(vault);
        let now = answers(&mut test_store.client("admin", &[&test_store.admin, &test_store.opener]).unwrap());
        assert!(now.starts_with(before.lines().next().unwrap()), "{sql}");
        test_store.reset_to(&db, tail.n);
    }
}

/// The fault lies below what some have verified: for them a repair is one more alteration.
#[test]
fn a_client_that_verified_more() {
    let test_store = TestStore::populated();
    test_store.client("slow-admin", &[]).unwrap();
    let kept = test_store.tail().n;
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    for i in 0..3 {
        vault.put(&name("prod/db"), &secret(&format!("later {i}")), &PutOptions::default()).unwrap();
    }
    let ahead = vault.head();
    drop(vault);
    let sql = "UPDATE statements SET bytes = x'80' WHERE n = ?1";
    test_store.db().execute(sql, [kept + 1]).unwrap();
    // Who verified it all will not drop what it verified; it is told which row was altered.
    let error = repair(&test_store, "admin").err().unwrap();
    assert_eq!(error.kind(), Kind::Tampered);
    assert!(error.message().contains(&format!("table `statements`, row {}", kept + 1)), "{error}");
    assert_eq!(test_store.tail(), ahead.position);
    // Who had not come so far cannot know better.
    let (mut vault, dropped) = repair(&test_store, "slow-admin").unwrap();
    assert_eq!(dropped, 3);
    assert_eq!(vault.get(&name("prod/db"), None).unwrap().expose(), b"two");
    assert_eq!(vault.verify(&mut |_, _, _| {}).unwrap().problems, []);
    drop(vault);
    // Others that had not either go on; the one that had does not, nor one that it told.
    test_store.client("newcomer", &[]).unwrap();
    for _ in 0..4 {
        let error = test_store.client("admin", &[&test_store.admin]).err().unwrap();
        assert!(matches!(error.kind(), Kind::RolledBack | Kind::Tampered), "{error}");
        let error = test_store.contact("told", &ahead, &[]).err().unwrap();
        assert!(matches!(error.kind(), Kind::RolledBack | Kind::Tampered), "{error}");
        let error = repair(&test_store, "admin").err().unwrap();
        assert!(matches!(error.kind(), Kind::RolledBack | Kind::Tampered), "{error}");
        let mut vault = test_store.client("slow-admin", &[&test_store.admin]).unwrap();
        vault.put(&name("prod/db"), &secret("goes on"), &PutOptions::default()).unwrap();
    }
}

#[test]
fn what_repair_leaves_alone() {
    let test_store = TestStore::populated();
    let tail = test_store.tail();
    // A sound store.
    assert_eq!(repair(&test_store, "admin").unwrap().1, 0);
    assert_eq!(test_store.tail(), tail);
    // A statement of a newer Strongroom, signed by an admin's device.
    let vault = test_store.client("admin", &[]).unwrap();
    let body = Body::Put(Box::new(put(token(1), "w/newer", 1, b"sealed", &[&test_store.opener])));
    let draft = Draft::on(&vault, &test_store.admin, [body]);
    let mut bytes = draft.encoded().remove(0);
    bytes[1] = 2;
    let n = test_store.plant(&draft.sign_over(vec![bytes]));
    assert_eq!(repair(&test_store, "admin").err().unwrap().kind(), Kind::Unsupported);
    assert_eq!(test_store.tail().n, n);
    test_store.unplant(n);
    // Statements that are only without effect.
    let own = Draft::on(
        &vault,
        &test_store.opener,
        [test_store.opener.enrolment(test_support::test_store::all_roles())],
    );
    let n = test_store.append(&own, &[]);
    assert_eq!(repair(&test_store, "admin").unwrap().1, 0);
    assert_eq!(test_store.tail().n, n);
    // A store that ends too early.
    test_store.unplant(n - 1);
    assert_eq!(repair(&test_store, "admin").err().unwrap().kind(), Kind::RolledBack);
    // A store that nobody here knows.
    assert_eq!(repair(&test_store, "stranger").err().unwrap().kind(), Kind::Untrusted);
}

/// The fault is in the client's own copy: then nothing is dropped from the store.
#[test]
fn a_damaged_replica_is_no_reason_to_repair() {
    let test_store = TestStore::populated();
    test_store.client("slow-admin", &[]).unwrap();
    let mut vault = test_store.client("writer", &[&test_store.writer]).unwrap();
    vault.put(&name("w/own"), &secret("newest"), &PutOptions::default()).unwrap();
    let tail = test_store.tail();
    let replica =
        test_store.dir.path().join("slow-admin").join(test_store.id.to_string()).join("replica.sqlite");
    let db = rusqlite::Connection::open(replica).unwrap();
    db.execute("DELETE FROM devices WHERE id = ?1", params![test_store.writer.id.0]).unwrap();
    drop(db);
    let error = test_store.client("slow-admin", &[]).err().unwrap();
    assert!(error.message().contains("was never enrolled"), "{error}");
    let (vault, dropped) = repair(&test_store, "slow-admin").unwrap();
    assert_eq!((dropped, vault.replica().position()), (0, tail));
    drop(vault);
    assert_eq!(test_store.tail(), tail);
    test_store.goes_on();
}

/// A row that no reader takes, right behind sound ones that this admin has not seen yet.
#[test]
fn sound_statements_before_an_unreadable_row_are_kept() {
    for (table, sql) in [
        ("statements", "UPDATE statements SET bytes = zeroblob(70000) WHERE n = ?1"),
        ("batches", "UPDATE batches SET chain = x'01' WHERE first = ?1"),
        ("batches", "UPDATE batches SET last = -1 WHERE first = ?1"),
    ] {
        let test_store = TestStore::populated();
        test_store.client("slow-admin", &[]).unwrap();
        let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
        vault.put(&name("prod/db"), &secret("sound"), &PutOptions::default()).unwrap();
        vault.put(&name("w/own"), &secret("sound, too"), &PutOptions::default()).unwrap();
        drop(vault);
        let before = test_store.answers("admin");
        let kept = test_store.tail();
        let n = test_store.plant(&unverifiable(&test_store));
        test_store.db().execute(sql, [n]).unwrap();
        for client in ["slow-admin", "reader", "newcomer"] {
            let error = test_store.client(client, &[]).err().unwrap();
            assert_eq!(error.kind(), Kind::Tampered, "{error}");
            let says = error.message().contains(&format!("table `{table}`, row {n}"));
            assert!(says || error.message().contains(&format!("{n}")), "{error}");
        }
        let (vault, dropped) = repair(&test_store, "slow-admin").unwrap();
        assert_eq!((dropped, vault.replica().position().n), (1, kept.n + 1), "{sql}");
        drop(vault);
        for client in ["admin", "reader", "newcomer"] {
            assert_eq!(test_store.answers(client), before, "{sql}: {client}");
        }
        test_store.goes_on();
    }
}
