//! An admin drops a tail that nobody can verify: those who verified no more go on, those who did refuse.

use rusqlite::params;
use strongroom::Kind;
use strongroom::ledger::Body;
use strongroom::ledger::verify::Chain;
use strongroom::vault::{LogOrder, PutOptions, Vault};
use test_support::forged_batch::{Cose, Draft, Signed, put, sealed, token};
use test_support::test_store::{TestStore, answers, name, secret};

/// A put of the writer's with a signature that is nobody's.
fn unverifiable(world: &TestStore) -> Signed {
    let vault = world.client("admin", &[]).unwrap();
    let bytes = sealed(world.id, token(1), 1, "planted", &[&world.opener]);
    let body = Body::Put(Box::new(put(token(1), "w/planted", 1, &bytes, &[&world.opener])));
    let signed = Draft::on(&vault, &world.writer, [body]).sign().with(&bytes);
    let mut cose = Cose::of(&signed.sign1);
    cose.signature[7] ^= 1;
    Signed { sign1: cose.encode(), ..signed }
}

fn repair(world: &TestStore, client: &str) -> strongroom::Result<(Vault, u64)> {
    Vault::repair(world.setup(client, &[&world.admin]), "somebody wrote to the file")
}

#[test]
fn a_planted_tail() {
    let world = TestStore::populated();
    let before = world.answers("admin");
    let kept = world.tail();
    for _ in 0..3 {
        world.plant(&unverifiable_at(&world, kept.n));
    }
    world.refused("is not that of");
    // Who is no admin changes nothing.
    for devices in [&[][..], &[&world.writer], &[&world.opener]] {
        let error = Vault::repair(world.setup("reader", devices), "").err().unwrap();
        assert_eq!(error.kind(), Kind::Refused, "{error}");
        assert_eq!(world.tail().n, kept.n + 3);
    }
    let (mut vault, dropped) = repair(&world, "admin").unwrap();
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
        assert_eq!(world.answers(client), before, "{client}");
    }
    // What was set aside stays for whoever investigates.
    let aside = |table: &str| -> i64 {
        world
            .db()
            .query_row(&format!("SELECT count(*) FROM set_aside_{table}"), [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!((aside("statements"), aside("batches")), (3, 3));
    world.goes_on();
}

/// The same bytes again and again.
fn unverifiable_at(world: &TestStore, n: u64) -> Signed {
    let planted = world.tail().n - n;
    let mut signed = match planted {
        0 => unverifiable(world),
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
    let world = TestStore::populated();
    let before = world.answers("admin");
    let tail = world.tail();
    let db = world.db();
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
            world.client("admin", &[&world.admin])?.put(&name("after"), &secret("x"), &PutOptions::default())
        };
        if planted {
            assert_eq!(put().unwrap_err().kind(), Kind::Tampered, "{sql}");
        }
        if sql.contains("INTO heads") {
            let report = world.client("admin", &[]).unwrap().verify(&mut |_, _, _| {}).unwrap();
            assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
            assert_eq!(report.problems[0].place, "table `heads`");
        }
        repair(&world, "admin").unwrap();
        let report = put().unwrap();
        assert_eq!(report.version, 1, "{sql}");
        let mut vault = world.client("admin", &[&world.admin]).unwrap();
        vault.destroy(&name("after"), None, "").unwrap();
        drop(vault);
        let now = answers(&mut world.client("admin", &[&world.admin, &world.opener]).unwrap());
        assert!(now.starts_with(before.lines().next().unwrap()), "{sql}");
        world.reset_to(&db, tail.n);
    }
}

/// The fault lies below what some have verified: for them a repair is one more alteration.
#[test]
fn a_client_that_verified_more() {
    let world = TestStore::populated();
    world.client("slow-admin", &[]).unwrap();
    let kept = world.tail().n;
    let mut vault = world.client("admin", &[&world.admin]).unwrap();
    for i in 0..3 {
        vault.put(&name("prod/db"), &secret(&format!("later {i}")), &PutOptions::default()).unwrap();
    }
    let ahead = vault.head();
    drop(vault);
    let sql = "UPDATE statements SET bytes = x'80' WHERE n = ?1";
    world.db().execute(sql, [kept + 1]).unwrap();
    // Who verified it all will not drop what it verified; it is told which row was altered.
    let error = repair(&world, "admin").err().unwrap();
    assert_eq!(error.kind(), Kind::Tampered);
    assert!(error.message().contains(&format!("table `statements`, row {}", kept + 1)), "{error}");
    assert_eq!(world.tail(), ahead.position);
    // Who had not come so far cannot know better.
    let (mut vault, dropped) = repair(&world, "slow-admin").unwrap();
    assert_eq!(dropped, 3);
    assert_eq!(vault.get(&name("prod/db"), None).unwrap().expose(), b"two");
    assert_eq!(vault.verify(&mut |_, _, _| {}).unwrap().problems, []);
    drop(vault);
    // Others that had not either go on; the one that had does not, nor one that it told.
    world.client("newcomer", &[]).unwrap();
    for _ in 0..4 {
        let error = world.client("admin", &[&world.admin]).err().unwrap();
        assert!(matches!(error.kind(), Kind::RolledBack | Kind::Tampered), "{error}");
        let error = world.contact("told", &ahead, &[]).err().unwrap();
        assert!(matches!(error.kind(), Kind::RolledBack | Kind::Tampered), "{error}");
        let error = repair(&world, "admin").err().unwrap();
        assert!(matches!(error.kind(), Kind::RolledBack | Kind::Tampered), "{error}");
        let mut vault = world.client("slow-admin", &[&world.admin]).unwrap();
        vault.put(&name("prod/db"), &secret("goes on"), &PutOptions::default()).unwrap();
    }
}

#[test]
fn what_repair_leaves_alone() {
    let world = TestStore::populated();
    let tail = world.tail();
    // A sound store.
    assert_eq!(repair(&world, "admin").unwrap().1, 0);
    assert_eq!(world.tail(), tail);
    // A statement of a newer Strongroom, signed by an enrolled device.
    let vault = world.client("admin", &[]).unwrap();
    let body = Body::Put(Box::new(put(token(1), "w/newer", 1, b"sealed", &[&world.opener])));
    let draft = Draft::on(&vault, &world.writer, [body]);
    let mut bytes = draft.encoded().remove(0);
    bytes[1] = 2;
    let n = world.plant(&draft.sign_over(vec![bytes]));
    assert_eq!(repair(&world, "admin").err().unwrap().kind(), Kind::Unsupported);
    assert_eq!(world.tail().n, n);
    world.unplant(n);
    // Statements that are only without effect.
    let own =
        Draft::on(&vault, &world.opener, [world.opener.enrolment(test_support::test_store::all_roles())]);
    let n = world.append(&own, &[]);
    assert_eq!(repair(&world, "admin").unwrap().1, 0);
    assert_eq!(world.tail().n, n);
    // A store that ends too early.
    world.unplant(n - 1);
    assert_eq!(repair(&world, "admin").err().unwrap().kind(), Kind::RolledBack);
    // A store that nobody here knows.
    assert_eq!(repair(&world, "stranger").err().unwrap().kind(), Kind::Untrusted);
}

/// The fault is in the client's own copy: then nothing is dropped from the store.
#[test]
fn a_damaged_replica_is_no_reason_to_repair() {
    let world = TestStore::populated();
    world.client("slow-admin", &[]).unwrap();
    let mut vault = world.client("writer", &[&world.writer]).unwrap();
    vault.put(&name("w/own"), &secret("newest"), &PutOptions::default()).unwrap();
    let tail = world.tail();
    let replica = world.dir.path().join("slow-admin").join(world.id.to_string()).join("replica.sqlite");
    let db = rusqlite::Connection::open(replica).unwrap();
    db.execute("DELETE FROM devices WHERE id = ?1", params![world.writer.id.0]).unwrap();
    drop(db);
    let error = world.client("slow-admin", &[]).err().unwrap();
    assert!(error.message().contains("was never enrolled"), "{error}");
    let (vault, dropped) = repair(&world, "slow-admin").unwrap();
    assert_eq!((dropped, vault.replica().position()), (0, tail));
    drop(vault);
    assert_eq!(world.tail(), tail);
    world.goes_on();
}

/// A row that no reader takes, right behind sound ones that this admin has not seen yet.
#[test]
fn sound_statements_before_an_unreadable_row_are_kept() {
    for (table, sql) in [
        ("statements", "UPDATE statements SET bytes = zeroblob(70000) WHERE n = ?1"),
        ("batches", "UPDATE batches SET chain = x'01' WHERE first = ?1"),
        ("batches", "UPDATE batches SET last = -1 WHERE first = ?1"),
    ] {
        let world = TestStore::populated();
        world.client("slow-admin", &[]).unwrap();
        let mut vault = world.client("admin", &[&world.admin]).unwrap();
        vault.put(&name("prod/db"), &secret("sound"), &PutOptions::default()).unwrap();
        vault.put(&name("w/own"), &secret("sound, too"), &PutOptions::default()).unwrap();
        drop(vault);
        let before = world.answers("admin");
        let kept = world.tail();
        let n = world.plant(&unverifiable(&world));
        world.db().execute(sql, [n]).unwrap();
        for client in ["slow-admin", "reader", "newcomer"] {
            let error = world.client(client, &[]).err().unwrap();
            assert_eq!(error.kind(), Kind::Tampered, "{error}");
            let says = error.message().contains(&format!("table `{table}`, row {n}"));
            assert!(says || error.message().contains(&format!("{n}")), "{error}");
        }
        let (vault, dropped) = repair(&world, "slow-admin").unwrap();
        assert_eq!((dropped, vault.replica().position().n), (1, kept.n + 1), "{sql}");
        drop(vault);
        for client in ["admin", "reader", "newcomer"] {
            assert_eq!(world.answers(client), before, "{sql}: {client}");
        }
        world.goes_on();
    }
}
