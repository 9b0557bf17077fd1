//! kill -9 between any two writes of repair, retire, trust and init: nothing is half done, and another run does the rest.

use std::path::Path;
use strongroom::ledger::{Body, Prefix};
use strongroom::replica::{StorePin, TrustAnchor};
use strongroom::vault::{InitOptions, LogOrder, PutOptions, RetireOptions, Vault};
use strongroom::{Kind, Result};
use test_support::subprocess::{FAILPOINTS, killed_at, rerun};
use test_support::test_store::{Actor, TestStore, directory, name, secret, setup};

/// What a child is to do: `work|directory|line`.
const WORK: &str = "STRONGROOM_TEST_WORK";

fn killed(work: &str, dir: &Path, line: &TrustAnchor, failpoint: &str) {
    let order = format!("{work}|{}|{line}", dir.display());
    killed_at(rerun("attacks::crashes::child").env(WORK, order), failpoint);
}

/// No test of its own: what the tests below have killed.
#[test]
fn child() {
    let Ok(order) = std::env::var(WORK) else { return };
    let parts: Vec<&str> = order.split('|').collect();
    let [work, dir, line] = parts[..] else { panic!("{order}") };
    run(work, Path::new(dir), &line.parse().unwrap()).unwrap();
}

fn run(work: &str, dir: &Path, line: &TrustAnchor) -> Result<()> {
    let url = format!("sqlite://{}", dir.join("store.sqlite").display());
    let with = |client: &str, devices: &[&Actor]| setup(url.clone(), dir.join(client), devices);
    let [admin, opener] = ["admin", "opener"].map(Actor::named);
    match work {
        "repair" => Vault::repair(with("slow-admin", &[&admin]), "planted").map(drop),
        "retire" => {
            let mut vault = Vault::open(with("admin", &[&admin, &opener]))?;
            vault.retire("opener", &RetireOptions::default(), &mut |_, _| {}).map(drop)
        }
        "trust" => Vault::trust(with("newcomer", &[]), line, false, &mut |_, _| {}).map(drop),
        "replace" => Vault::trust(with("reader", &[]), line, true, &mut |_, _| {}).map(drop),
        "init" => Vault::init(with("first", &[&admin]), &InitOptions::default()).map(drop),
        other => panic!("{other}"),
    }
}

/// A tail that nobody can verify is there, or a statement says that it was set aside.
#[test]
fn a_repair_is_stated_or_drops_nothing() {
    let own = ["repair.signed", "repair.moved", "repair.written", "repair.committed"];
    let shared = FAILPOINTS.into_iter().filter(|point| {
        // It is the quarantine that commits, and the pin moves once.
        !matches!(*point, "submit.signed" | "append.committed")
    });
    for point in own.into_iter().chain(shared) {
        let test_store = TestStore::populated();
        test_store.client("slow-admin", &[]).unwrap();
        let kept = test_store.tail();
        let mut vault = test_store.client("late-writer", &[&test_store.writer]).unwrap();
        vault.put(&name("w/own"), &secret("late"), &PutOptions::default()).unwrap();
        drop(vault);
        test_store.db().execute("UPDATE statements SET bytes = x'80' WHERE n = ?1", [kept.n + 1]).unwrap();
        let line = StorePin::from_store(test_store.id);
        // The replica is committed once before the statement, when the fault is looked for.
        let times = if point.starts_with("replica.") { ":2" } else { "" };
        killed("repair", test_store.dir.path(), &line, &format!("{point}{times}"));
        assert_eq!(test_store.tail().n, kept.n + 1, "{point}: it was dropped without a word");
        run("repair", test_store.dir.path(), &line).unwrap();
        let mut repairs = 0;
        let mut vault = test_store.client("newcomer", &[]).unwrap();
        vault
            .log(LogOrder::OldestFirst, None, |_, entry| {
                repairs += u32::from(matches!(entry.statement.body, Body::Repair(_)));
                Ok(true)
            })
            .unwrap();
        assert_eq!(repairs, 1, "{point}");
        drop(vault);
        test_store.goes_on();
    }
}

/// Every token opens all the while, and another run does what is left.
#[test]
fn a_retirement_is_resumed() {
    let own = ["retire.resealed", "retire.rest"];
    // First the retirement, then the reseal of what is left.
    let each = |point: &'static str| (1..=2).map(move |times| format!("{point}:{times}"));
    let points = own.map(str::to_owned).into_iter().chain(FAILPOINTS.into_iter().flat_map(each));
    for point in points {
        let test_store = TestStore::populated();
        test_store.client("reader", &[]).unwrap();
        let line = StorePin::from_store(test_store.id);
        killed("retire", test_store.dir.path(), &line, &point);
        let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
        assert_eq!(vault.get(&name("prod/db"), None).unwrap().expose(), b"two", "{point}");
        match vault.retire("opener", &RetireOptions::default(), &mut |_, _| {}) {
            Ok(report) => assert!(report.reseal.left.is_empty(), "{point}"),
            // It is retired already.
            Err(error) => assert_eq!(error.kind(), Kind::NotFound, "{point}: {error}"),
        }
        vault.reseal(&Prefix::default(), &mut |_, _| {}).unwrap();
        assert_eq!(vault.count_stale(&Prefix::default()).unwrap(), 0, "{point}");
        for (token, plaintext) in [("prod/db", "two"), ("prod/key", "key"), ("w/own", "own")] {
            assert_eq!(vault.get(&name(token), None).unwrap().expose(), plaintext.as_bytes(), "{point}");
        }
        let report = test_store.client("reader", &[]).unwrap().verify(&mut |_, _, _| {}).unwrap();
        assert_eq!((report.problems, report.ineffective), (vec![], 0), "{point}");
    }
}

/// The points of a first contact, which loads the replica into a new file.
const CONTACT: [&str; 8] = [
    "replica.written",
    "replica.committed",
    "replica.built",
    "replica.removed",
    "replica.renamed",
    "trust.verified",
    "pin.written",
    "pin.renamed",
];

#[test]
fn a_first_contact_is_repeated() {
    let test_store = TestStore::populated();
    let line = test_store.client("admin", &[]).unwrap().head();
    for point in CONTACT {
        killed("trust", test_store.dir.path(), &line, point);
        let setup = || test_store.setup("newcomer", &[&test_store.opener]);
        match Vault::open(setup()) {
            Ok(vault) => assert_eq!((vault.head(), point), (line.clone(), "pin.renamed")),
            Err(error) => assert_eq!(error.kind(), Kind::Untrusted, "{point}: {error}"),
        }
        run("trust", test_store.dir.path(), &line).unwrap();
        assert_eq!(Vault::open(setup()).unwrap().head(), line, "{point}");
        std::fs::remove_dir_all(test_store.dir.path().join("newcomer")).unwrap();
    }
}

/// Until the end, the client believes the history that it knew, and none other.
#[test]
fn a_replacement_is_whole_or_not_at_all() {
    for point in CONTACT {
        let test_store = TestStore::populated();
        test_store.checkpoint();
        let older = test_store.path().with_extension("older");
        std::fs::copy(test_store.path(), &older).unwrap();
        let line = test_store.client("admin", &[]).unwrap().head();
        let mut admin = test_store.client("admin", &[&test_store.admin]).unwrap();
        admin.put(&name("prod/db"), &secret("three"), &PutOptions::default()).unwrap();
        drop(admin);
        let known = test_store.client("reader", &[]).unwrap().head();
        test_store.checkpoint();
        let newer = test_store.path().with_extension("newer");
        std::fs::copy(test_store.path(), &newer).unwrap();
        let lay = |file: &Path| {
            test_store.checkpoint();
            std::fs::copy(file, test_store.path()).unwrap();
        };
        lay(&older);
        killed("replace", test_store.dir.path(), &line, point);
        let opened = Vault::open(test_store.setup("reader", &[]));
        if point == "pin.renamed" {
            assert_eq!(opened.unwrap().head(), line);
        } else {
            let error = opened.err().unwrap_or_else(|| panic!("{point}: it forgot what it knew"));
            assert_eq!(error.kind(), Kind::RolledBack, "{point}: {error}");
            lay(&newer);
            assert_eq!(Vault::open(test_store.setup("reader", &[])).unwrap().head(), known, "{point}");
            lay(&older);
        }
        run("replace", test_store.dir.path(), &line).unwrap();
        assert_eq!(Vault::open(test_store.setup("reader", &[])).unwrap().head(), line, "{point}");
    }
}

/// A killed `init` is repeated, or its store is there.
#[test]
fn an_init_is_repeated() {
    let own = ["init.created", "init.pinned"];
    let shared = FAILPOINTS.into_iter().filter(|point| !point.starts_with("submit."));
    for point in own.into_iter().chain(shared) {
        let dir = directory();
        let line = StorePin::from_store(strongroom::ledger::StoreId([0; 32]));
        killed("init", dir.path(), &line, point);
        match run("init", dir.path(), &line) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), Kind::Conflict, "{point}: {error}"),
        }
        let url = format!("sqlite://{}", dir.path().join("store.sqlite").display());
        let admin = Actor::named("admin");
        let mut vault = Vault::open(setup(url, dir.path().join("first"), &[&admin])).unwrap();
        vault.put(&name("a"), &secret("a"), &PutOptions::default()).unwrap();
        assert_eq!(vault.verify(&mut |_, _, _| {}).unwrap().problems, [], "{point}");
    }
}
