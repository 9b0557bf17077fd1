//! A client never signs what it would not accept itself, and a change lands only where its author saw it land.

use std::fs;
use strongroom::ledger::Body;
use strongroom::ledger::body::{Grant, Role, State, Target};
use strongroom::ledger::{GrantId, TokenId};
use strongroom::vault::{GrantOn, Grantee, InitOptions, LogOrder, PutOptions, Revoked, Setup, Vault};
use strongroom::{Error, Kind};
use test_support::forged_batch::Draft;
use test_support::soft_device::SoftDevice;
use test_support::test_store::{Actor, TestStore, name, secret};

#[test]
fn what_readers_would_refuse_is_not_signed() {
    let test_store = TestStore::populated();
    let before = test_store.tail();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    let labels = ["1", "2"].map(|value| ("a".to_owned(), value.to_owned())).to_vec();
    let twice = PutOptions { labels: Some(labels), ..PutOptions::default() };
    let error = vault.put(&name("prod/new"), &secret("x"), &twice).unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::Usage, "the label `a` is given twice"));
    // 1 MiB and more of roles, of a token's texts, and of one statement in a batch.
    let roles: Vec<_> = (0..40_000).map(|i| Role::Write(format!("{i:0>32}"))).collect();
    let error = vault.set_roles("writer", &roles).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage, "{error}");
    let long = PutOptions { description: Some("x".repeat(2 << 20)), ..PutOptions::default() };
    let error = vault.put(&name("prod/new"), &secret("x"), &long).unwrap_err();
    assert!(matches!(error.kind(), Kind::Usage | Kind::Refused), "{error}");
    assert_eq!(test_store.tail(), before);
    test_store.goes_on();
}

#[test]
fn more_grants_than_a_batch_holds_are_revoked() {
    let test_store = TestStore::populated();
    let token = test_store.client("admin", &[]).unwrap().replica().find("prod/db").unwrap().unwrap().id;
    let mut count = 0_u64;
    for size in [10_000, 7] {
        let vault = test_store.client("admin", &[]).unwrap();
        let grants = (0..size).map(|_| {
            count += 1;
            Body::Grant(grant(count, token))
        });
        test_store.append(&Draft::on(&vault, &test_store.admin, grants.collect::<Vec<_>>()), &[]);
    }
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    assert_eq!(vault.grants(None).unwrap().len(), 10_007);
    let (on, to) = (GrantOn::Token(name("prod/db")), Grantee::User("deploy".into()));
    let revoked = vault.ungrant(&Revoked::Of(on.clone(), to.clone())).unwrap();
    assert_eq!((revoked.len(), vault.grants(None).unwrap().len()), (10_007, 0));
    assert_eq!(vault.ungrant(&Revoked::Of(on, to)).unwrap_err().kind(), Kind::NotFound);
}

fn grant(number: u64, token: TokenId) -> Grant {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let (to, ops) = ("user:deploy".into(), vec!["get".into()]);
    Grant { grant: GrantId(id), target: Target::Token(token), to, ops, until: None, alias: None }
}

fn with_device(test_store: &TestStore, client: &str, device: SoftDevice) -> Setup {
    let actor = Actor { device, ..test_store.admin.clone() };
    test_store.setup(client, &[&actor])
}

/// A store with a tail that nobody can verify.
fn with_a_planted_tail() -> TestStore {
    let test_store = TestStore::populated();
    test_store.client("slow-admin", &[]).unwrap();
    let mut vault = test_store.client("writer", &[&test_store.writer]).unwrap();
    vault.put(&name("w/own"), &secret("late"), &PutOptions::default()).unwrap();
    let n = test_store.tail().n;
    test_store.db().execute("UPDATE statements SET bytes = x'80' WHERE n = ?1", [n]).unwrap();
    test_store
}

#[test]
fn a_repair_that_is_not_signed_drops_nothing() {
    let test_store = with_a_planted_tail();
    let rows = |test_store: &TestStore| -> Vec<(i64, Vec<u8>)> {
        let db = test_store.db();
        let mut rows = db.prepare("SELECT n, bytes FROM statements ORDER BY n").unwrap();
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    let before = rows(&test_store);
    let refuses = || Err(Error::new(Kind::PinWrong, "sign", "a wrong PIN"));
    let device = test_store.admin.device.clone().signing_after(refuses);
    let error = Vault::repair(with_device(&test_store, "slow-admin", device), "planted").err().unwrap();
    assert_eq!(error.kind(), Kind::PinWrong, "{error}");
    assert_eq!(rows(&test_store), before);
    let (_, dropped) =
        Vault::repair(test_store.setup("slow-admin", &[&test_store.admin]), "planted").unwrap();
    assert_eq!(dropped, 1);
    test_store.client("newcomer", &[]).unwrap();
}

/// What was written while the admin typed a PIN is not dropped, and the repair is stated once.
#[test]
fn a_repair_that_meets_another() {
    let test_store = with_a_planted_tail();
    let setup = test_store.setup("other-admin", &[&test_store.admin]);
    let pin = strongroom::replica::StorePin::from_store(test_store.id);
    assert!(Vault::trust(test_store.setup("other-admin", &[]), &pin, false, &mut |_, _| {}).is_err());
    std::fs::create_dir_all(test_store.dir.path().join("other-admin")).unwrap();
    pin.keep(&test_store.dir.path().join("other-admin"), &test_store.url()).unwrap();
    let other = std::sync::Mutex::new(Some(setup));
    let device = test_store.admin.device.clone().signing_after(move || {
        let setup = other.lock().unwrap().take();
        setup.map_or(Ok(()), |setup| Vault::repair(setup, "the other").map(drop))
    });
    let (mut vault, dropped) = Vault::repair(with_device(&test_store, "slow-admin", device), "mine").unwrap();
    assert_eq!(dropped, 0);
    let mut repairs = 0;
    vault
        .log(LogOrder::OldestFirst, None, |_, entry| {
            repairs += u32::from(matches!(entry.statement.body, Body::Repair(_)));
            Ok(true)
        })
        .unwrap();
    assert_eq!(repairs, 1);
}

/// An older copy takes the store's place while a PIN is typed: the change is not added to it.
#[test]
fn a_store_replaced_while_a_change_is_signed() {
    let test_store = TestStore::populated();
    test_store.checkpoint();
    let older = test_store.path().with_extension("older");
    fs::copy(test_store.path(), &older).unwrap();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    vault.set_state(&name("prod/key"), None, State::Suspended, "").unwrap();
    drop(vault);
    let path = test_store.path();
    let device = test_store.admin.device.clone().signing_after(move || {
        // As a backup is restored: into the file, under the writer's feet.
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute("ATTACH ?1 AS older", [older.to_str().unwrap()]).unwrap();
        for table in ["batches", "statements", "heads", "sealed"] {
            let sql =
                format!("DELETE FROM main.{table}; INSERT INTO main.{table} SELECT * FROM older.{table};");
            db.execute_batch(&sql).unwrap();
        }
        Ok(())
    });
    let mut vault = Vault::open(with_device(&test_store, "admin", device)).unwrap();
    let error = vault.put(&name("prod/db"), &secret("late"), &PutOptions::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::RolledBack, "{error}");
    drop(vault);
    let n = test_store.tail().n;
    let mut newcomer = test_store.client("newcomer", &[&test_store.opener]).unwrap();
    assert_eq!(
        (newcomer.head().position.n, newcomer.verify(&mut |_, _, _| {}).unwrap().problems),
        (n, vec![])
    );
}

/// A vault that stays open hears of what others change, before each use.
#[test]
fn a_vault_that_stays_open() {
    let test_store = TestStore::populated();
    let mut long = test_store.client("reader", &[&test_store.opener, &test_store.admin]).unwrap();
    assert_eq!(long.get(&name("prod/key"), None).unwrap().expose(), b"key");
    let mut admin = test_store.client("admin", &[&test_store.admin]).unwrap();
    admin.set_state(&name("prod/key"), None, State::Revoked, "leaked").unwrap();
    assert_eq!(long.get(&name("prod/key"), None).unwrap_err().kind(), Kind::Refused);
    admin.put(&name("prod/new"), &secret("new"), &PutOptions::default()).unwrap();
    assert_eq!(long.shown(&name("prod/new"), None, "show").unwrap().versions.len(), 1);
    admin.put(&name("prod/newer"), &secret("newer"), &PutOptions::default()).unwrap();
    assert_eq!(long.history(&name("prod/newer")).unwrap().len(), 1);
    let (on, to) = (GrantOn::Token(name("prod/db")), Grantee::User("deploy".into()));
    admin.grant(&on, &to, &Default::default()).unwrap();
    assert_eq!(long.grants(Some(&on)).unwrap().len(), 1);
    admin.put(&name("prod/newest"), &secret("newest"), &PutOptions::default()).unwrap();
    let last = admin.head().position.n;
    let mut newest = 0;
    long.log(LogOrder::NewestFirst, None, |_, entry| {
        newest = entry.n;
        Ok(false)
    })
    .unwrap();
    assert_eq!(newest, last);
}

#[test]
fn a_failed_init_leaves_nothing_behind() {
    let dir = test_support::test_store::directory();
    let url = format!("sqlite://{}", dir.path().join("stores/store.sqlite").display());
    let device = SoftDevice::named("first");
    let setup = |device: SoftDevice| {
        let actor = Actor { device, ..Actor::named("first") };
        test_support::test_store::setup(url.clone(), dir.path().join("state"), &[&actor])
    };
    let refuses = || Err(Error::new(Kind::PinWrong, "sign", "a wrong PIN"));
    for _ in 0..2 {
        let device = device.clone().signing_after(refuses);
        // The self-test of the keys signs as well.
        let error = Vault::init(setup(device), &InitOptions::default()).err().unwrap();
        assert_eq!(error.kind(), Kind::PinWrong, "{error}");
        assert_eq!(fs::read_dir(dir.path().join("stores")).unwrap().count(), 0);
    }
    let (vault, report) = Vault::init(setup(device.clone()), &InitOptions::default()).unwrap();
    assert_eq!(vault.head().store, report.store);
    drop(vault);
    assert_eq!(Vault::init(setup(device), &InitOptions::default()).err().unwrap().kind(), Kind::Conflict);
}

/// Two at once: one makes the store, and the pin is that store's.
#[test]
fn two_inits_at_once() {
    let dir = test_support::test_store::directory();
    let url = format!("sqlite://{}", dir.path().join("store.sqlite").display());
    let second = std::sync::Arc::new(std::sync::Mutex::new(None));
    let setup = |device: SoftDevice| {
        let actor = Actor { device, ..Actor::named("first") };
        test_support::test_store::setup(url.clone(), dir.path().join("state"), &[&actor])
    };
    let other = std::sync::Mutex::new(Some(setup(SoftDevice::named("second"))));
    let answer = std::sync::Arc::clone(&second);
    let device = SoftDevice::named("first").signing_after(move || {
        if let Some(setup) = other.lock().unwrap().take() {
            *answer.lock().unwrap() = Some(Vault::init(setup, &InitOptions::default()).map(drop));
        }
        Ok(())
    });
    let (vault, _) = Vault::init(setup(device), &InitOptions::default()).unwrap();
    let head = vault.head();
    drop(vault);
    let answer = second.lock().unwrap().take().unwrap();
    assert_eq!(answer.unwrap_err().kind(), Kind::Conflict);
    let vault = Vault::open(setup(SoftDevice::named("first"))).unwrap();
    assert_eq!(vault.head(), head);
}
