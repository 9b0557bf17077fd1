//! Reseals and anchors: only an admin's count, no bytes are taken twice, and what was replaced does not come back.

use rusqlite::params;
use strongroom::Kind;
use strongroom::ledger::body::{Anchor, Counter, Reseal, Seal};
use strongroom::ledger::judge::LedgerView;
use strongroom::ledger::{Body, Hash, Prefix, TokenId, sha256};
use strongroom::replica::VersionRow;
use strongroom::vault::{PutOptions, RetireOptions, Vault};
use test_support::forged_batch::{Draft, put, sealed, token};
use test_support::test_store::{Actor, TestStore, all_roles, name, secret};

fn version(vault: &Vault, token: &str, version: u64) -> (TokenId, VersionRow) {
    let row = vault.replica().find(token).unwrap().unwrap();
    (row.id, vault.replica().version_row(&row, version).unwrap().unwrap())
}

/// Puts one seal in the place of all that the version has.
fn reseal(vault: &Vault, token: TokenId, version: u64, bytes: &[u8], recipients: &[&Actor]) -> Body {
    let mut recipients: Vec<_> = recipients.iter().map(|actor| actor.id).collect();
    recipients.sort();
    let drop = vault.replica().seals(&token, version).unwrap().iter().map(|seal| seal.digest).collect();
    let add = vec![Seal { digest: sha256(bytes), length: bytes.len() as u64, recipients }];
    Body::Reseal(Reseal { token, version, threshold: 1, drop, add })
}

/// The digest of the only seal of a version.
fn digest_of(row: &VersionRow) -> Hash {
    let [seal] = row.seals.as_slice() else { panic!("one seal: {:?}", row.seals) };
    seal.digest
}

fn bytes_of(test_store: &TestStore, digest: &Hash) -> Vec<u8> {
    strongroom::store::open(&test_store.url()).unwrap().sealed(digest).unwrap().unwrap()
}

/// A store in which `prod/db@1` was resealed, and the digest that it had before.
fn resealed() -> (TestStore, Hash, Vec<u8>) {
    let test_store = TestStore::populated();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    let (db, row) = version(&vault, "prod/db", 1);
    let old = bytes_of(&test_store, &digest_of(&row));
    let fresh = sealed(test_store.id, db, 1, "one", &[&test_store.admin, &test_store.opener]);
    let draft = Draft::on(
        &vault,
        &test_store.admin,
        [reseal(&vault, db, 1, &fresh, &[&test_store.admin, &test_store.opener])],
    );
    let n = test_store.append(&draft, &[&fresh]);
    vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    assert_eq!(vault.replica().ineffective(n).unwrap(), None);
    assert_eq!(vault.get(&name("prod/db"), Some(1)).unwrap().expose(), b"one");
    (test_store, digest_of(&row), old)
}

#[test]
fn only_an_admin_reseals() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    let (db, own) = (version(&vault, "prod/db", 1).0, version(&vault, "w/own", 1).0);
    let (writer, opener) = (&test_store.writer, &test_store.opener);
    let theirs = sealed(test_store.id, own, 1, "planted", &[opener]);
    let counter = Some(Counter { index: 0x0180_0000, start: 0 });
    test_store.each_is_ineffective(vec![
        // Not even of the token that it may write.
        (writer, reseal(&vault, own, 1, &theirs, &[opener]), "`admin` role"),
        (writer, reseal(&vault, db, 1, &theirs, &[opener]), "`admin` role"),
        (opener, reseal(&vault, db, 1, &theirs, &[opener]), "`admin` role"),
        (opener, Body::Anchor(Anchor { device: opener.id, counter }), "`admin` role"),
        (writer, Body::Anchor(Anchor { device: test_store.admin.id, counter: None }), "`admin` role"),
    ]);
}

/// No digest serves twice: neither another version's, now or before, nor one that this version had.
#[test]
fn a_reseal_points_to_bytes_that_were_somebodys() {
    let (test_store, old_digest, old) = resealed();
    let vault = test_store.client("admin", &[]).unwrap();
    let (db, now) = version(&vault, "prod/db", 1);
    let (key, of_key) = version(&vault, "prod/key", 1);
    let own = version(&vault, "w/own", 1).0;
    let (admin, opener, writer) = (&test_store.admin, &test_store.opener, &test_store.writer);
    let (current, keys) =
        (bytes_of(&test_store, &digest_of(&now)), bytes_of(&test_store, &digest_of(&of_key)));
    assert_eq!(sha256(&old), old_digest);
    let taken = "belong to another version";
    let put_of = |bytes: &[u8]| Body::Put(Box::new(put(own, "w/own", 2, bytes, &[opener])));
    test_store.each_is_ineffective(vec![
        (admin, reseal(&vault, db, 1, &keys, &[opener]), taken),
        (admin, reseal(&vault, db, 1, &current, &[opener]), taken),
        (admin, reseal(&vault, db, 1, &old, &[opener]), taken),
        (admin, reseal(&vault, db, 2, &old, &[opener]), taken),
        (admin, reseal(&vault, key, 1, &old, &[opener]), taken),
        // The writer hopes that what was replaced is nobody's any more.
        (writer, put_of(&old), taken),
        (writer, put_of(&current), taken),
    ]);
}

#[test]
fn a_reseal_against_the_rules() {
    let test_store = TestStore::populated();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    vault.put(&name("gone"), &secret("gone"), &PutOptions::default()).unwrap();
    let gone = version(&vault, "gone", 1).0;
    vault.destroy(&name("gone"), None, "").unwrap();
    vault.destroy(&name("prod/db"), Some(1), "").unwrap();
    let (admin, db, stranger) =
        (&test_store.admin, version(&vault, "prod/db", 2).0, Actor::named("stranger"));
    let of = |token, number, recipients: &[&Actor]| reseal(&vault, token, number, b"fresh bytes", recipients);
    let with_length = |length| match of(db, 2, &[admin]) {
        Body::Reseal(mut body) => {
            body.add[0].length = length;
            Body::Reseal(body)
        }
        other => other,
    };
    test_store.each_is_ineffective(vec![
        (admin, of(gone, 1, &[admin]), "was destroyed"),
        (admin, of(db, 1, &[admin]), "was destroyed"),
        (admin, of(db, 9, &[admin]), "no such version"),
        (admin, of(db, 0, &[admin]), "no such version"),
        (admin, of(token(9), 1, &[admin]), "no such token"),
        (admin, of(db, 2, &[]), "sealed to nobody"),
        (admin, of(db, 2, &[&test_store.writer]), "has no role `open`"),
        (admin, of(db, 2, &[&stranger]), "has no role `open`"),
        (admin, with_length(0), "a length that no sealed token has"),
        (admin, with_length(u64::MAX), "a length that no sealed token has"),
    ]);
}

/// The keeper brings back what a reseal replaced, in every place where it could be looked for.
#[test]
fn earlier_bytes_do_not_open_after_a_reseal() {
    let (test_store, old_digest, old) = resealed();
    let vault = test_store.client("admin", &[]).unwrap();
    let now = version(&vault, "prod/db", 1).1;
    let insert = "INSERT OR REPLACE INTO sealed (digest, destroyed, bytes) VALUES (?1, 0, ?2)";
    test_store.db().execute(insert, params![old_digest.0, old]).unwrap();
    let mut reader = test_store.client("reader", &[&test_store.opener]).unwrap();
    assert_eq!(digest_of(&version(&reader, "prod/db", 1).1), digest_of(&now));
    assert_eq!(reader.get(&name("prod/db"), Some(1)).unwrap().expose(), b"one");
    test_store.db().execute(insert, params![digest_of(&now).0, old]).unwrap();
    let error = reader.get(&name("prod/db"), Some(1)).unwrap_err();
    assert_eq!(error.kind(), Kind::Tampered, "{error}");
    assert!(error.hint().unwrap().contains(&digest_of(&now).to_string()), "{error}");
    let report = reader.verify(&mut |_, _, _| {}).unwrap();
    assert!(report.problems[0].place.contains(&digest_of(&now).to_string()), "{:?}", report.problems);
    assert_eq!(reader.get(&name("prod/db"), None).unwrap().expose(), b"two");
}

/// An admin's reseal, too, has to be of the place that it names.
#[test]
fn a_reseal_for_another_place() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    let (db, key) = (version(&vault, "prod/db", 1).0, version(&vault, "prod/key", 1).0);
    let stray = sealed(test_store.id, key, 1, "another's", &[&test_store.opener]);
    let body = reseal(&vault, db, 1, &stray, &[&test_store.opener]);
    test_store.append(&Draft::on(&vault, &test_store.admin, [body]), &[&stray]);
    let mut reader = test_store.client("reader", &[&test_store.opener]).unwrap();
    let error = reader.get(&name("prod/db"), Some(1)).unwrap_err();
    assert!(error.kind() == Kind::Tampered && error.message().contains("another token"), "{error}");
    let report = reader.verify(&mut |_, _, _| {}).unwrap();
    assert!(
        report.problems.iter().any(|problem| problem.place.contains("prod/db@1")),
        "{:?}",
        report.problems
    );
}

/// A put and a reseal that were signed on the same head: whichever comes first is the one that counts.
#[test]
fn a_put_and_a_reseal_cross() {
    for reseal_first in [false, true] {
        let test_store = TestStore::populated();
        let vault = test_store.client("admin", &[]).unwrap();
        let own = version(&vault, "w/own", 1).0;
        let next = sealed(test_store.id, own, 2, "next", &[&test_store.admin, &test_store.opener]);
        let fresh = sealed(test_store.id, own, 1, "own", &[&test_store.admin, &test_store.opener]);
        let everybody = [&test_store.admin, &test_store.opener];
        let put = Body::Put(Box::new(put(own, "w/own", 2, &next, &everybody)));
        let put = (Draft::on(&vault, &test_store.writer, [put]), &next);
        let reseal =
            (Draft::on(&vault, &test_store.admin, [reseal(&vault, own, 1, &fresh, &everybody)]), &fresh);
        let [first, second] = if reseal_first { [reseal, put] } else { [put, reseal] };
        test_store.append(&first.0, &[first.1]);
        let before = test_store.answers("admin");
        let n = test_store.append(&second.0, &[second.1]);
        test_store.ineffective(&before, n, &["came first"]);
    }
}

/// A reseal that was once right is not right again, nor one that was signed before its recipient went.
#[test]
fn a_reseal_is_replayed_or_comes_late() {
    let test_store = TestStore::populated();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    let db = version(&vault, "prod/db", 1).0;
    let [one, two] =
        ["1", "2"].map(|_| sealed(test_store.id, db, 1, "one", &[&test_store.admin, &test_store.opener]));
    let everybody = [&test_store.admin, &test_store.opener];
    let replayed = Draft::on(&vault, &test_store.admin, [reseal(&vault, db, 1, &one, &everybody)]);
    let late = Draft::on(&vault, &test_store.admin, [reseal(&vault, db, 1, &two, &everybody)]);
    test_store.append(&replayed, &[&one]);
    vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    vault.retire("opener", &RetireOptions::default(), &mut |_, _| {}).unwrap();
    let before = test_store.answers("admin");
    let n = test_store.append(&replayed, &[]);
    let last = test_store.append(&late, &[&two]);
    let vault = test_store.client("admin", &[]).unwrap();
    for (n, words) in [(n, "earlier state"), (last, "earlier state")] {
        let why = vault.replica().ineffective(n).unwrap().expect("without effect");
        assert!(why.contains(words), "{why}");
    }
    assert_eq!(test_store.answers("admin"), before);
    assert_eq!(version(&vault, "prod/db", 1).1.recipients(), [test_store.admin.id]);
}

/// What a new device should open is resealed by honest clients, and every reader follows.
#[test]
fn readers_of_every_sort_follow_a_reseal() {
    let test_store = TestStore::populated();
    let mut stale = test_store.client("reader", &[&test_store.opener]).unwrap();
    let vault = test_store.client("admin", &[]).unwrap();
    let late = Actor::named("late");
    test_store.append(&Draft::on(&vault, &test_store.admin, [late.enrolment(all_roles())]), &[]);
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    let report = vault.reseal(&Prefix::default(), &mut |_, _| {}).unwrap();
    assert_eq!((report.resealed, report.left.len()), (4, 0));
    // One that has not followed yet finds that the bytes are gone, and follows.
    assert_eq!(stale.get(&name("prod/db"), None).unwrap().expose(), b"two");
    let mut newcomer = test_store.client("newcomer", &[&late]).unwrap();
    assert_eq!(newcomer.get(&name("prod/db"), Some(1)).unwrap().expose(), b"one");
    assert_eq!(newcomer.verify(&mut |_, _, _| {}).unwrap().problems, []);
    test_store.goes_on();
}
