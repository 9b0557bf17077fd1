//! Checkpoints that are old, foreign, forged or of those who are no witnesses, and stores that witnesses give away.

use rusqlite::params;
use strongroom::ledger::body::{Retire, Role, Roles, Settings, State, Witnesses};
use strongroom::ledger::checkpoint::MAX_AHEAD;
use strongroom::ledger::verify::Chain;
use strongroom::ledger::{
    AccessHead, Body, Checkpoint, DeviceId, Hash, LogPosition, SignatureAlgorithm, StoreId, sorted_roles,
};
use strongroom::replica::StorePin;
use strongroom::vault::{PutOptions, Setup, Standing, TokenBackend, TokenRef, Vault};
use strongroom::{Error, Kind};
use test_support::forged_batch::{AAD, Cose, Draft};
use test_support::test_store::{Actor, NOW, TestStore, name, secret};

const MAX_AGE: u64 = 60_000;

/// The external_aad of a checkpoint.
const CHECKPOINT_AAD: &[u8] = b"strongroom/checkpoint/1";

/// A store with two witnesses, which asks for one fresh checkpoint, and the witnesses.
fn witnessed() -> (TestStore, [Actor; 2]) {
    let test_store = TestStore::populated();
    let witnesses = ["one", "two"].map(Actor::named);
    for witness in &witnesses {
        by_admin(&test_store, witness.enrolment(vec![Role::Witness]));
    }
    let asked = Some(Witnesses { count: 1, max_age: MAX_AGE });
    by_admin(&test_store, Body::Settings(Box::new(Settings { witnesses: asked, ..Settings::default() })));
    (test_store, witnesses)
}

fn by_admin(test_store: &TestStore, body: Body) {
    let vault = test_store.client("admin", &[]).unwrap();
    let n = test_store.append(&Draft::on(&vault, &test_store.admin, [body]), &[]);
    let vault = test_store.client("admin", &[]).unwrap();
    assert_eq!(vault.replica().ineffective(n).unwrap(), None);
}

/// What an honest witness signs on what `vault` has verified.
fn honest(vault: &Vault, witness: &Actor) -> Checkpoint {
    let replica = vault.replica();
    let (position, root) = (replica.position(), replica.root());
    Checkpoint {
        store: replica.store(),
        witness: witness.id,
        position,
        root,
        time: NOW,
        accesses: AccessHead::EMPTY,
    }
}

fn now(test_store: &TestStore, witness: &Actor) -> Checkpoint {
    honest(&test_store.client("admin", &[]).unwrap(), witness)
}

fn sign(checkpoint: &Checkpoint, by: &Actor) -> Vec<u8> {
    let signature = by.device.sign_digest(&checkpoint.digest(SignatureAlgorithm::Es256));
    checkpoint.clone().sign_with(SignatureAlgorithm::Es256, &signature).unwrap().encode()
}

/// Puts bytes into a device's row, as somebody who can write to the file.
fn plant(test_store: &TestStore, device: &DeviceId, sign1: &[u8]) {
    let sql = "INSERT OR REPLACE INTO checkpoints VALUES (?1, ?2)";
    test_store.db().execute(sql, params![device.0, sign1]).unwrap();
}

fn plant_signed(test_store: &TestStore, checkpoint: &Checkpoint, by: &Actor) {
    plant(test_store, &checkpoint.witness, &sign(checkpoint, by));
}

fn reader(test_store: &TestStore) -> Vault {
    test_store.client("reader", &[&test_store.opener]).unwrap()
}

fn opens(vault: &mut Vault) -> Result<(), Error> {
    vault.get(&name("prod/db"), None).map(|token| assert!(!token.expose().is_empty()))
}

fn refused(test_store: &TestStore, kind: Kind, words: &str) {
    let error = opens(&mut reader(test_store)).expect_err(words);
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(words), "{words}: {error}");
}

/// At another time than the tests' usual one.
fn reader_at(test_store: &TestStore, clock: fn() -> u64) -> Vault {
    Vault::open(Setup { clock, ..test_store.setup("reader", &[&test_store.opener]) }).unwrap()
}

#[test]
fn nothing_opens_without_witnesses_and_all_else_goes_on() {
    let (test_store, [one, _]) = witnessed();
    refused(&test_store, Kind::Stale, "it needs 1 checkpoint not older than 1m, and has none");
    let mut vault = reader(&test_store);
    let wanted = TokenRef { name: name("prod/key"), version: None };
    assert_eq!(vault.open_all(&[wanted.clone(), wanted]).len(), 2);
    assert_eq!(vault.replica().count().unwrap(), 3);
    let mut admin = test_store.client("admin", &[&test_store.admin]).unwrap();
    admin
        .put(&name("prod/db"), &secret("three"), &PutOptions { staged: true, ..PutOptions::default() })
        .unwrap();
    assert_eq!(admin.get_staged(&name("prod/db")).unwrap_err().kind(), Kind::Stale);
    assert_eq!(admin.verify(&mut |_, _, _| {}).unwrap().problems, []);
    plant_signed(&test_store, &now(&test_store, &one), &one);
    opens(&mut vault).unwrap();
    assert_eq!(admin.get_staged(&name("prod/db")).unwrap().expose(), b"three");
}

#[test]
fn a_checkpoint_replayed() {
    let (test_store, [one, _]) = witnessed();
    let before = now(&test_store, &one);
    let mut vault = test_store.client("writer", &[&test_store.writer]).unwrap();
    vault.put(&name("w/own"), &secret("newer"), &PutOptions::default()).unwrap();
    let after = now(&test_store, &one);
    // One that names what was there is as good as its time.
    plant_signed(&test_store, &before, &one);
    opens(&mut reader(&test_store)).unwrap();
    // What was taken once is not taken back, by a machine that begins with it either.
    plant_signed(&test_store, &after, &one);
    opens(&mut reader(&test_store)).unwrap();
    plant_signed(&test_store, &before, &one);
    refused(&test_store, Kind::Stale, "one: it is older than one that was seen before");
    // A replica that is built anew remembers; one that trusts anew does not.
    let mut rebuilt =
        Vault::open_rebuilt(test_store.setup("reader", &[&test_store.opener]), &mut |_, _| {}).unwrap();
    assert_eq!(opens(&mut rebuilt).unwrap_err().kind(), Kind::Stale);
    let anchor = StorePin::from_store(test_store.id);
    let setup = test_store.setup("reader", &[&test_store.opener]);
    opens(&mut Vault::trust(setup, &anchor, true, &mut |_, _| {}).unwrap()).unwrap();
}

#[test]
fn an_old_checkpoint_and_a_clock_that_is_ahead() {
    let (test_store, [one, _]) = witnessed();
    let at = |time: u64| {
        plant_signed(&test_store, &Checkpoint { time, ..now(&test_store, &one) }, &one);
        opens(&mut reader(&test_store)).map_err(|error| error.message().to_owned())
    };
    assert_eq!(at(NOW - MAX_AGE), Ok(()));
    assert!(at(NOW - MAX_AGE - 1).unwrap_err().contains("one: 1m old"));
    assert_eq!(at(NOW + MAX_AHEAD), Ok(()));
    assert!(at(NOW + MAX_AHEAD + 1).unwrap_err().contains("ahead of this machine's"));
    assert!(at(u64::MAX).unwrap_err().contains("ahead of this machine's"));
    // Whoever sets this machine's clock back gains nothing: the ledger has seen a later time.
    assert_eq!(at(NOW - MAX_AGE), Ok(()));
    let mut back = reader_at(&test_store, || NOW - MAX_AGE);
    opens(&mut back).unwrap();
    plant_signed(&test_store, &Checkpoint { time: NOW - MAX_AGE - 1, ..now(&test_store, &one) }, &one);
    assert_eq!(opens(&mut back).unwrap_err().kind(), Kind::Stale);
    // Time passes, and nothing else.
    plant_signed(&test_store, &now(&test_store, &one), &one);
    opens(&mut reader_at(&test_store, || NOW + MAX_AGE)).unwrap();
    assert_eq!(opens(&mut reader_at(&test_store, || NOW + MAX_AGE + 1)).unwrap_err().kind(), Kind::Stale);
}

/// It may be the very witness: its word says nothing that this machine does not know.
#[test]
fn a_device_of_the_reader_that_cannot_be_identified() {
    let (test_store, [one, two]) = witnessed();
    plant_signed(&test_store, &now(&test_store, &one), &one);
    let gone = || {
        let mut setup = test_store.setup("reader", &[&test_store.opener]);
        setup.devices.push(("pkcs11:token=gone?module-path=/nonexistent.so".parse().unwrap(), None));
        Vault::open(setup).unwrap()
    };
    opens(&mut reader(&test_store)).unwrap();
    let error = opens(&mut gone()).unwrap_err();
    assert_eq!(error.kind(), Kind::Stale, "{error}");
    assert!(error.message().contains("pkcs11:token=gone"), "{error}");
    assert!(error.hint().unwrap().contains("take it out of the configuration"), "{error:?}");
    // It can be one of them only.
    plant_signed(&test_store, &now(&test_store, &two), &two);
    opens(&mut gone()).unwrap();
    // One that is identified, and no device of this store, is no witness.
    drop(gone());
    std::fs::remove_dir_all(test_store.dir.path().join("reader")).unwrap();
    plant(&test_store, &two.id, &[]);
    let stranger = Actor::named("stranger");
    opens(&mut test_store.client("reader", &[&test_store.opener, &stranger]).unwrap()).unwrap();
    opens(&mut test_store.client("reader", &[&test_store.opener, &one]).unwrap()).unwrap_err();
}

/// What a machine verified while its clock was ahead does not shut it out once the clock is right.
#[test]
fn a_clock_that_was_ahead() {
    let (test_store, [one, _]) = witnessed();
    const AHEAD: u64 = NOW + 365 * 86_400_000;
    // This machine writes and reads with the wrong clock.
    let setup = |clock: fn() -> u64| Setup {
        clock,
        ..test_store.setup("reader", &[&test_store.admin, &test_store.opener])
    };
    reader(&test_store);
    let mut ahead = Vault::open(setup(|| AHEAD)).unwrap();
    let until = PutOptions { expiry: Some(NOW + 86_400_000), ..PutOptions::default() };
    test_store
        .client("admin", &[&test_store.admin])
        .unwrap()
        .put(&name("prod/key"), &secret("x"), &until)
        .unwrap();
    ahead.put(&name("prod/db"), &secret("later"), &PutOptions::default()).unwrap();
    drop(ahead);
    plant_signed(&test_store, &now(&test_store, &one), &one);
    let error = opens(&mut Vault::open(setup(|| NOW)).unwrap()).unwrap_err();
    assert_eq!(error.kind(), Kind::Stale);
    for said in [
        "this machine's clock says",
        &strongroom::timestamp::rfc3339_secs(AHEAD),
        &strongroom::timestamp::rfc3339_secs(NOW),
    ] {
        assert!(error.message().contains(said), "{said}: {error}");
    }
    assert!(error.hint().unwrap().contains("strongroom verify --rebuild"));
    // Without witnesses, expiry is judged by the same time.
    by_admin(&test_store, Body::Settings(Box::default()));
    let wanted = |vault: &mut Vault| vault.get(&name("prod/key"), None).map(drop);
    let error = wanted(&mut Vault::open(setup(|| NOW)).unwrap()).unwrap_err();
    assert!(error.message().contains("this machine's clock says"), "{error}");
    assert!(error.hint().unwrap().contains("strongroom verify --rebuild"));
    // The command helps, and forgets nothing else.
    wanted(&mut Vault::open_rebuilt(setup(|| NOW), &mut |_, _| {}).unwrap()).unwrap();
    wanted(&mut Vault::open(setup(|| NOW)).unwrap()).unwrap();
}

#[test]
fn a_checkpoint_of_those_who_are_no_witnesses() {
    let (test_store, [one, two]) = witnessed();
    for (signer, row) in [
        (&test_store.writer, &test_store.writer),
        (&test_store.admin, &test_store.admin),
        (&test_store.writer, &one),
        (&Actor::named("stranger"), &Actor::named("stranger")),
    ] {
        // In its own name, and in the witness's.
        plant(&test_store, &row.id, &sign(&now(&test_store, signer), signer));
        refused(&test_store, Kind::Stale, "has none");
        plant(&test_store, &row.id, &sign(&now(&test_store, row), signer));
        refused(&test_store, Kind::Stale, "has none");
    }
    // A witness's in another's row counts for neither.
    plant(&test_store, &two.id, &sign(&now(&test_store, &one), &one));
    refused(&test_store, Kind::Stale, "two: it cannot be read");
    plant(&test_store, &two.id, b"garbage");
    refused(&test_store, Kind::Stale, "two: it cannot be read");
    test_store.db().execute("UPDATE checkpoints SET sign1 = zeroblob(100000)", []).unwrap();
    refused(&test_store, Kind::Stale, "two: it cannot be read");
    plant_signed(&test_store, &now(&test_store, &two), &two);
    opens(&mut reader(&test_store)).unwrap();
}

#[test]
fn a_checkpoint_of_a_retired_witness() {
    let (test_store, [one, two]) = witnessed();
    by_admin(&test_store, Actor::named("three").enrolment(vec![Role::Witness]));
    plant_signed(&test_store, &now(&test_store, &one), &one);
    opens(&mut reader(&test_store)).unwrap();
    let retire = Retire { device: one.id, compromised: true, reason: "stolen".into() };
    by_admin(&test_store, Body::Retire(retire));
    refused(&test_store, Kind::Stale, "two: it has signed none");
    // Nor does what it signs afterwards count, good or bad.
    plant_signed(&test_store, &now(&test_store, &one), &one);
    refused(&test_store, Kind::Stale, "two: it has signed none");
    let forked = LogPosition { chain: Hash([9; 32]), ..now(&test_store, &one).position };
    plant_signed(&test_store, &Checkpoint { position: forked, ..now(&test_store, &one) }, &one);
    plant_signed(&test_store, &now(&test_store, &two), &two);
    opens(&mut reader(&test_store)).unwrap();
}

/// A witness that lies stops opening, and nothing else: admins take the role from it.
#[test]
fn a_witness_that_lies() {
    let (test_store, [one, two]) = witnessed();
    by_admin(&test_store, Actor::named("three").enrolment(vec![Role::Witness]));
    plant_signed(&test_store, &now(&test_store, &two), &two);
    let good = now(&test_store, &one);
    let beyond = |n: u64| Checkpoint { position: LogPosition { n, chain: Hash([9; 32]) }, ..good.clone() };
    for n in [good.position.n + 1, u64::MAX] {
        plant_signed(&test_store, &beyond(n), &one);
        refused(&test_store, Kind::RolledBack, "newer statements are withheld");
        refused(&test_store, Kind::RolledBack, &format!("one verified statement {n}"));
    }
    let mut admin = test_store.client("admin", &[&test_store.admin]).unwrap();
    let problems = admin.verify(&mut |_, _, _| {}).unwrap().problems;
    assert!(problems.iter().any(|problem| problem.place == "the checkpoint of one"), "{problems:?}");
    admin.set_state(&name("prod/key"), None, State::Suspended, "it goes on").unwrap();
    by_admin(&test_store, Body::Roles(Roles { device: one.id, roles: Vec::new() }));
    opens(&mut reader(&test_store)).unwrap();
    // What was taken from it before stays taken.
    by_admin(&test_store, Body::Roles(Roles { device: one.id, roles: sorted_roles(vec![Role::Witness]) }));
    plant_signed(&test_store, &now(&test_store, &one), &one);
    let standing = reader(&test_store).witnesses().unwrap()[0].standing;
    assert_eq!(standing, Standing::Missing("it is older than one that was seen before"));
}

#[test]
fn another_history_or_root() {
    let (test_store, [one, _]) = witnessed();
    let good = now(&test_store, &one);
    let chain = LogPosition { chain: Hash([9; 32]), ..good.position };
    for forged in [
        Checkpoint { position: chain, ..good.clone() },
        Checkpoint { root: Hash([9; 32]), ..good.clone() },
        Checkpoint { position: LogPosition { n: 2, ..good.position }, ..good.clone() },
    ] {
        plant_signed(&test_store, &forged, &one);
        refused(&test_store, Kind::Tampered, "it was forked");
        std::fs::remove_dir_all(test_store.dir.path().join("reader")).unwrap();
    }
    // A position in the midst of a batch, or before the first, is none.
    for n in [0, 1] {
        let position = LogPosition { n, chain: Hash::ZERO };
        plant_signed(&test_store, &Checkpoint { position, ..good.clone() }, &one);
        refused(&test_store, Kind::Stale, "one: it names no end of a batch");
    }
}

/// People settled on this history: the witnesses of another one take their word back, each on its machine.
#[test]
fn witnesses_of_another_history_take_their_word_back() {
    let (test_store, [one, two]) = witnessed();
    let good = now(&test_store, &one);
    let forked = LogPosition { chain: Hash([9; 32]), ..good.position };
    let beyond = LogPosition { n: good.position.n + 1, ..forked };
    plant_signed(&test_store, &Checkpoint { position: forked, ..good.clone() }, &one);
    plant_signed(&test_store, &Checkpoint { position: beyond, ..now(&test_store, &two) }, &two);
    let mut first = test_store.client("first", &[&one]).unwrap();
    let error = first.checkpoint().unwrap_err();
    assert_eq!(error.kind(), Kind::Tampered);
    assert!(error.hint().unwrap().contains("strongroom checkpoint --replace"), "{error:?}");
    assert_eq!(first.checkpoint_anew().unwrap().position, good.position);
    // The other still contradicts: nobody opens, nor signs by itself.
    refused(&test_store, Kind::RolledBack, "two verified statement");
    assert_eq!(first.checkpoint().unwrap_err().kind(), Kind::RolledBack);
    let mut second = test_store.client("second", &[&two]).unwrap();
    let error = second.checkpoint().unwrap_err();
    assert!(error.hint().unwrap().contains("strongroom checkpoint --replace"), "{error:?}");
    second.checkpoint_anew().unwrap();
    // And both go on as before.
    opens(&mut reader(&test_store)).unwrap();
    first.checkpoint().unwrap();
    second.checkpoint().unwrap();
    opens(&mut reader(&test_store)).unwrap();
}

/// The store's keeper shows two histories to two groups. A witness in one of them gives it away in the other.
#[test]
fn a_fork_with_a_witness_on_one_side() {
    let (test_store, [one, _]) = witnessed();
    plant_signed(&test_store, &now(&test_store, &one), &one);
    opens(&mut reader(&test_store)).unwrap();
    test_store.checkpoint();
    let fork = test_store.path().with_extension("fork");
    std::fs::copy(test_store.path(), &fork).unwrap();
    let put = |client: &str, value: &str| {
        let mut vault = test_store.client(client, &[&test_store.admin]).unwrap();
        vault.put(&name("prod/db"), &secret(value), &PutOptions::default()).unwrap();
        honest(&vault, &one)
    };
    let theirs = put("their-admin", "theirs");
    test_store.checkpoint();
    std::fs::copy(&fork, test_store.path()).unwrap();
    let ours = put("our-admin", "ours");
    assert_eq!(ours.position.n, theirs.position.n);
    // Kept on the side without the witness, a reader only has its old word, which ends.
    opens(&mut reader(&test_store)).unwrap();
    let late = opens(&mut reader_at(&test_store, || NOW + MAX_AGE + 1)).unwrap_err();
    assert_eq!(late.kind(), Kind::Stale, "{late}");
    // Its new word shows the fork.
    plant_signed(&test_store, &theirs, &one);
    refused(&test_store, Kind::Tampered, "one verified statement");
    plant_signed(&test_store, &ours, &one);
    opens(&mut reader(&test_store)).unwrap();
}

#[test]
fn withheld_news() {
    let (test_store, [one, _]) = witnessed();
    plant_signed(&test_store, &now(&test_store, &one), &one);
    opens(&mut reader(&test_store)).unwrap();
    test_store.checkpoint();
    let old = test_store.path().with_extension("old");
    std::fs::copy(test_store.path(), &old).unwrap();
    let mut admin = test_store.client("admin", &[&test_store.admin]).unwrap();
    admin.set_state(&name("prod/db"), None, State::Revoked, "leaked").unwrap();
    let newer = honest(&admin, &one);
    drop(admin);
    test_store.checkpoint();
    // The reader is kept on the store of before. It opens what was revoked, until the witness's word is old.
    std::fs::copy(&old, test_store.path()).unwrap();
    opens(&mut reader(&test_store)).unwrap();
    assert_eq!(opens(&mut reader_at(&test_store, || NOW + MAX_AGE + 1)).unwrap_err().kind(), Kind::Stale);
    // The witness's new word cannot stand beside the old store.
    plant_signed(&test_store, &newer, &one);
    refused(&test_store, Kind::RolledBack, "newer statements are withheld");
    // Taking it away again does not bring the old one back.
    std::fs::copy(&old, test_store.path()).unwrap();
    refused(&test_store, Kind::Stale, "it is older than one that was seen before");
}

#[test]
fn a_checkpoint_of_another_store() {
    let (test_store, [one, _]) = witnessed();
    let (other, [same, _]) = (TestStore::bare(7), ["one", "two"].map(Actor::named));
    let vault = other.client("admin", &[]).unwrap();
    other.plant(&Draft::on(&vault, &other.admin, [same.enrolment(vec![Role::Witness])]).sign());
    let foreign = honest(&other.client("admin", &[]).unwrap(), &same);
    assert_ne!(foreign.store, test_store.id);
    plant_signed(&test_store, &foreign, &one);
    refused(&test_store, Kind::Stale, "one: it belongs to another store");
    // Under this store's id it is another history.
    plant_signed(&test_store, &Checkpoint { store: test_store.id, ..foreign }, &one);
    let error = opens(&mut reader(&test_store)).unwrap_err();
    assert!(matches!(error.kind(), Kind::Tampered | Kind::Stale), "{error}");
    let nobodys = Checkpoint { store: StoreId::ZERO, ..now(&test_store, &one) };
    plant_signed(&test_store, &nobodys, &one);
    assert!(opens(&mut reader(&test_store)).is_err());
}

/// What is signed as the one is not taken for the other, whatever it says.
#[test]
fn a_batch_taken_for_a_checkpoint_and_the_reverse() {
    let (test_store, [one, _]) = witnessed();
    // A checkpoint's payload, signed as a batch is.
    let as_batch = Cose::of(&sign(&now(&test_store, &one), &one)).signed_by(&one, "Signature1", AAD);
    plant(&test_store, &one.id, &as_batch.encode());
    refused(&test_store, Kind::Stale, "one: its signature is not the device's");
    // A batch, as it lies in the store.
    let vault = test_store.client("admin", &[]).unwrap();
    let draft = Draft::on(&vault, &one, [Body::Settings(Box::default())]);
    plant(&test_store, &one.id, &draft.sign().sign1);
    refused(&test_store, Kind::Stale, "one: it cannot be read");
    plant_signed(&test_store, &now(&test_store, &one), &one);
    opens(&mut reader(&test_store)).unwrap();
    // A batch's payload, signed as a checkpoint is, and a checkpoint in its place.
    let draft = Draft::on(&vault, &test_store.admin, [Body::Settings(Box::default())]);
    let mut forged = draft.sign();
    let own = now(&test_store, &test_store.admin);
    for sign1 in [
        Cose::of(&forged.sign1).signed_by(&test_store.admin, "Signature1", CHECKPOINT_AAD).encode(),
        sign(&own, &test_store.admin),
    ] {
        forged.sign1 = sign1;
        let n = test_store.plant(&forged);
        let error = test_store.client("reader", &[]).err().unwrap();
        assert_eq!(error.kind(), Kind::Tampered, "{error}");
        test_store.unplant(n);
    }
    let vault = test_store.client("reader", &[]).unwrap();
    assert_eq!(vault.settings().unwrap().witnesses.unwrap().count, 1);
}

/// The witness has signed how its lines of the access log stood.
#[test]
fn the_access_log_that_was_witnessed() {
    let (test_store, [one, _]) = witnessed();
    by_admin(
        &test_store,
        Body::Roles(Roles {
            device: one.id,
            roles: sorted_roles(vec![Role::Open(String::new()), Role::Witness]),
        }),
    );
    let mut vault = test_store.client("one", &[&one]).unwrap();
    let mut admin = test_store.client("admin", &[&test_store.admin]).unwrap();
    admin.put(&name("own"), &secret("x"), &PutOptions::default()).unwrap();
    let mut two = test_store.client("two", &[&Actor::named("two")]).unwrap();
    two.checkpoint().unwrap();
    (0..3).for_each(|_| drop(vault.get(&name("own"), None).unwrap()));
    assert_eq!(vault.checkpoint().unwrap().accesses.count, 3);
    drop(vault.get(&name("own"), None).unwrap());
    assert_eq!(admin.verify(&mut |_, _, _| {}).unwrap().problems, []);
    let mut after = |sql: &str| {
        test_store.db().execute(sql, [one.id.to_string()]).unwrap();
        let problems = admin.verify(&mut |_, _, _| {}).unwrap().problems;
        problems.into_iter().find(|problem| problem.place == "the checkpoint of one").unwrap().what
    };
    let what = after(
        "UPDATE access SET chain = zeroblob(32) WHERE n = (SELECT max(n) - 1 FROM access WHERE device = ?1)",
    );
    assert!(what.contains("the access log's first 3 lines of this device were altered"), "{what}");
    let what = after("DELETE FROM access WHERE device = ?1");
    assert!(what.contains("the access log has fewer than 3 lines of this device"), "{what}");
}
