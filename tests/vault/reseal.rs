//! Resealing: who gets what, what stays, and what a kill leaves.

use crate::machines::{Place, enrol, name, opened, put, put_only, sealed_to, secret, verifies, version};
use std::path::PathBuf;
use strongroom::Kind;
use strongroom::ledger::body::State;
use strongroom::ledger::{Name, Prefix};
use strongroom::vault::{ImportItem, PutOptions, ResealReport, Vault};
use test_support::soft_device::SoftDevice;
use test_support::subprocess::{FAILPOINTS, killed_at, rerun};

fn reseal(vault: &mut Vault, prefix: &str) -> ResealReport {
    vault.reseal(&Prefix::parse(prefix).unwrap(), &mut |_, _| {}).unwrap()
}

fn all(vault: &mut Vault) -> (u64, u64) {
    let report = reseal(vault, "");
    assert!(report.left.is_empty(), "{:?}", report.left);
    (report.resealed, report.batches)
}

#[test]
fn what_is_open_or_could_be_is_resealed() {
    let (one, two) = (SoftDevice::named("one"), SoftDevice::named("two"));
    let (place, mut vault) = Place::of(&one);
    put(&mut vault, "a", "first");
    put(&mut vault, "a", "second");
    let staged = PutOptions { staged: true, ..PutOptions::default() };
    vault.put(&name("a"), &secret("staged"), &staged).unwrap();
    put(&mut vault, "suspended", "for now");
    vault.set_state(&name("suspended"), None, State::Suspended, "").unwrap();
    let expired = PutOptions { expiry: Some(1), ..PutOptions::default() };
    vault.put(&name("expired"), &secret("old"), &expired).unwrap();
    put(&mut vault, "dead", "revoked");
    vault.set_state(&name("dead"), None, State::Revoked, "leaked").unwrap();
    put(&mut vault, "gone", "destroyed");
    vault.destroy(&name("gone"), None, "").unwrap();
    enrol(&mut vault, &two, &["open"]);
    let old: Vec<_> = (1..=3).map(|number| version(&vault, "a", number).seals[0].digest).collect();

    assert_eq!(vault.count_stale(&Prefix::default()).unwrap(), 5);
    assert_eq!(all(&mut vault), (5, 1));
    assert_eq!(vault.count_stale(&Prefix::default()).unwrap(), 0);
    let before = vault.head();
    assert_eq!(all(&mut vault), (0, 0));
    assert_eq!(vault.head(), before);

    // The new device has seals of its own beside those there were.
    assert!(old.iter().all(|digest| place.has(digest)));
    assert_eq!(sealed_to(&vault, "dead", 1), ["one"]);
    let mut other = place.meet(&vault, "other", &[&two]);
    assert_eq!(
        (opened(&mut other, "a@1"), opened(&mut other, "a")),
        (Ok("first".into()), Ok("second".into()))
    );
    // Whatever else was said of them is as it was.
    assert!(opened(&mut other, "a@3").unwrap_err().contains("staged"));
    assert!(opened(&mut other, "suspended").unwrap_err().contains("suspended"));
    assert!(opened(&mut other, "expired").unwrap_err().contains("expired"));
    vault.set_state(&name("suspended"), None, State::Active, "").unwrap();
    vault.set_state(&name("a"), Some(3), State::Active, "").unwrap();
    let mut other = place.at("other", &[&two]);
    assert_eq!(opened(&mut other, "suspended"), Ok("for now".into()));
    assert_eq!(opened(&mut other, "a"), Ok("staged".into()));
    verifies(&mut other);
    let outcomes: Vec<_> =
        other.accesses(0, 100).unwrap().into_iter().map(|line| line.access.outcome).collect();
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "resealed").count(), 5);
}

/// What was put for some devices only stays with them, whoever comes, and whoever goes.
#[test]
fn what_was_put_for_some_only_stays_theirs() {
    let [one, two, three, four] = ["one", "two", "three", "four"].map(SoftDevice::named);
    let (_place, mut vault) = Place::of(&one);
    put_only(&mut vault, "alone", "when there was one", &["one"]);
    enrol(&mut vault, &two, &["open"]);
    put_only(&mut vault, "both", "for both there were", &["one", "two"]);
    put_only(&mut vault, "narrow", "for one of two", &["one"]);
    put(&mut vault, "wide", "for all");
    enrol(&mut vault, &three, &["open"]);
    // What named every device there was is still what its author chose.
    assert_eq!(all(&mut vault), (1, 1));
    for (token, expected) in [("alone", &["one"][..]), ("both", &["one", "two"]), ("narrow", &["one"])] {
        assert_eq!(sealed_to(&vault, token, 1), expected, "{token}");
    }
    assert_eq!(sealed_to(&vault, "wide", 1), ["one", "three", "two"]);
    // A moment at which the narrow one is sealed to everybody there is does not make it wide.
    put_only(&mut vault, "pair", "for two of three", &["one", "three"]);
    for gone in ["two", "three"] {
        vault.retire(gone, &Default::default(), &mut |_, _| {}).unwrap();
    }
    assert_eq!(
        (sealed_to(&vault, "pair", 1), sealed_to(&vault, "wide", 1)),
        (vec!["one".into()], vec!["one".into()])
    );
    enrol(&mut vault, &four, &["open"]);
    assert_eq!(all(&mut vault).0, 1);
    for (token, expected) in
        [("both", &["one"][..]), ("narrow", &["one"]), ("pair", &["one"]), ("wide", &["four", "one"])]
    {
        assert_eq!(sealed_to(&vault, token, 1), expected, "{token}");
    }
    verifies(&mut vault);
}

#[test]
fn under_a_prefix_and_in_several_batches() {
    let (one, two) = (SoftDevice::named("one"), SoftDevice::named("two"));
    let (place, mut vault) = Place::of(&one);
    let item = |i: u64| {
        let name = Name::parse(&format!("{}/{i}", if i < 510 { "even" } else { "odd" })).unwrap();
        Ok(ImportItem { name, token: secret(&format!("token {i}")), options: PutOptions::default() })
    };
    vault.import((0..520).map(item), &mut |_| {}).unwrap();
    put(&mut vault, "evening", "another name");
    enrol(&mut vault, &two, &["open"]);
    let (mut seen, prefix) = (Vec::new(), Prefix::parse("even").unwrap());
    let report = vault.reseal(&prefix, &mut |done, total| seen.push((done, total))).unwrap();
    assert_eq!((report.resealed, report.left.len()), (510, 0));
    assert!(report.batches >= 2, "{report:?}");
    assert_eq!(seen.last(), Some(&(510, 510)));
    assert_eq!(sealed_to(&vault, "evening", 1), ["one"]);
    assert_eq!(all(&mut vault).0, 11);
    let mut other = place.meet(&vault, "other", &[&two]);
    for i in [0, 499, 509, 510, 519] {
        let token = format!("{}/{i}", if i < 510 { "even" } else { "odd" });
        assert_eq!(opened(&mut other, &token), Ok(format!("token {i}")));
    }
    verifies(&mut other);
}

#[test]
fn what_cannot_be_opened_here_is_left_and_told() {
    let (one, two) = (SoftDevice::named("one"), SoftDevice::named("two"));
    let (place, mut vault) = Place::of(&one);
    put(&mut vault, "a", "token");
    put(&mut vault, "b", "altered");
    enrol(&mut vault, &two, &["open", "admin"]);
    let mut other = place.meet(&vault, "other", &[&two]);
    let report = reseal(&mut other, "");
    assert_eq!((report.resealed, report.left.len()), (0, 2));
    assert!(report.left[0].error.message().contains("sealed to one"), "{:?}", report.left);

    let digest = version(&vault, "b", 1).seals[0].digest;
    let db = rusqlite::Connection::open(place.path()).unwrap();
    db.execute("UPDATE sealed SET bytes = zeroblob(length(bytes)) WHERE digest = ?1", [&digest.0[..]])
        .unwrap();
    let report = reseal(&mut vault, "");
    assert_eq!((report.resealed, report.left.len()), (1, 1));
    assert_eq!((report.left[0].name.as_str(), report.left[0].error.kind()), ("b", Kind::Tampered));
    assert_eq!(opened(&mut other, "a"), Ok("token".into()));

    // Without an admin here, nobody is asked for anything.
    enrol(&mut vault, &SoftDevice::named("three"), &["open"]);
    let mut third = place.meet(&vault, "third", &[&SoftDevice::named("three")]);
    assert_eq!(third.reseal(&Prefix::default(), &mut |_, _| {}).unwrap_err().kind(), Kind::Refused);
}

/// Others write meanwhile: the loser composes anew, and no put is undone.
#[test]
fn puts_and_reseals_cross() {
    let (one, two) = (SoftDevice::named("one"), SoftDevice::named("two"));
    let (place, mut vault) = Place::of(&one);
    for i in 0..40 {
        put(&mut vault, &format!("t/{i}"), "old");
    }
    enrol(&mut vault, &two, &["open"]);
    let mut writer = place.meet(&vault, "writer", &[&one]);
    let writing = std::thread::spawn(move || {
        for i in 0..40 {
            put(&mut writer, &format!("t/{i}"), "new");
        }
    });
    let mut sweeper = place.meet(&vault, "sweeper", &[&one]);
    let sweeping = std::thread::spawn(move || all(&mut sweeper).0);
    let here = all(&mut vault).0;
    writing.join().unwrap();
    // What one did, the other left alone, and nothing looked altered to either.
    assert_eq!(here + sweeping.join().unwrap(), 40);
    let mut other = place.meet(&place.at("first", &[&one]), "other", &[&two]);
    for i in 0..40 {
        assert_eq!(opened(&mut other, &format!("t/{i}")), Ok("new".into()));
        assert_eq!(opened(&mut other, &format!("t/{i}@1")), Ok("old".into()));
    }
    verifies(&mut other);
}

/// What a child of the test below is to do: the directory of the store.
const CHILD: &str = "STRONGROOM_TEST_RESEAL_CHILD";

/// Tokens, each resealed under a signature of its own.
const TOKENS: u64 = 40;

/// No test of its own: it reseals one token after the other.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let setup = strongroom::vault::Setup {
        connected: ["one", "two"]
            .map(|name| (SoftDevice::named(name).uri(), Box::new(SoftDevice::named(name)) as _))
            .into(),
        prompter: Box::new(strongroom::prompt::BatchPrompter),
        ..strongroom::vault::Setup::new(
            format!("sqlite://{}", PathBuf::from(&dir).join("store.sqlite").display()),
            Vec::new(),
            PathBuf::from(&dir).join("first"),
        )
    };
    let mut vault = Vault::open(setup).unwrap();
    for i in 0..TOKENS {
        let report = reseal(&mut vault, &format!("t/{i}"));
        assert!(report.left.is_empty(), "{:?}", report.left);
    }
}

/// Between any two writes each token opens with one of the devices, and another run does the rest.
#[test]
fn killed_between_any_two_writes_and_resumed() {
    let (one, two) = (SoftDevice::named("one"), SoftDevice::named("two"));
    let (place, mut vault) = Place::of(&one);
    for i in 0..TOKENS {
        put(&mut vault, &format!("t/{i}"), &format!("token {i}"));
    }
    enrol(&mut vault, &two, &["open"]);
    drop(vault);
    for point in FAILPOINTS {
        killed_at(rerun("vault::reseal::child").env(CHILD, place.dir.path()), &format!("{point}:3"));
        let mut vault = place.at("first", &[&one, &two]);
        for i in 0..TOKENS {
            assert_eq!(opened(&mut vault, &format!("t/{i}")), Ok(format!("token {i}")), "{point}");
        }
    }
    let mut vault = place.at("first", &[&one]);
    assert!(vault.count_stale(&Prefix::default()).unwrap() > 0);
    all(&mut vault);
    let mut other = place.meet(&vault, "other", &[&two]);
    for i in 0..TOKENS {
        assert_eq!(opened(&mut other, &format!("t/{i}")), Ok(format!("token {i}")));
    }
    verifies(&mut other);
}

/// Who only loses a seal of their own costs nobody an opening, and needs nobody who can.
#[test]
fn a_seal_is_dropped_without_opening() {
    let (one, two, three) = (SoftDevice::named("one"), SoftDevice::named("two"), SoftDevice::named("three"));
    let (place, mut vault) = Place::of(&one);
    put(&mut vault, "a", "token");
    enrol(&mut vault, &two, &["open"]);
    assert_eq!(all(&mut vault), (1, 1));
    let own = version(&vault, "a", 1).seals;
    assert_eq!(own.len(), 2);
    enrol(&mut vault, &three, &["admin"]);
    // It opens nothing, and takes the token from the device that leaves all the same.
    let mut admin = place.meet(&vault, "admin", &[&three]);
    let report = admin.retire("two", &Default::default(), &mut |_, _| {}).unwrap();
    assert_eq!((report.reseal.resealed, report.reseal.left.len()), (1, 0));
    let now = version(&admin, "a", 1).seals;
    assert_eq!(now.len(), 1);
    let dropped = own.iter().find(|seal| seal.digest != now[0].digest).unwrap();
    assert!(!place.has(&dropped.digest) && place.has(&now[0].digest));
    let resealed = admin.accesses(0, 100).unwrap().into_iter().filter(|line| line.access.name == "a");
    assert_eq!(
        resealed.filter(|line| line.access.outcome == "resealed").count(),
        1,
        "the first reseal alone"
    );
    assert_eq!(opened(&mut vault, "a"), Ok("token".into()));
    verifies(&mut admin);
}
