//! Well signed, not allowed: recorded and shown, without any effect, and nobody is stopped by it.

use strongroom::ledger::body::{
    Anchor, Counter, Destroy, Grant, Put, Rename, Repair, Retire, Role, Roles, State, StateChange, Target,
    Ungrant,
};
use strongroom::ledger::judge::LedgerView;
use strongroom::ledger::verify::Chain;
use strongroom::ledger::{Body, GrantId, Hash, TokenId};
use strongroom::vault::{PutOptions, Vault};
use test_support::forged_batch::{Draft, put, sealed, token};
use test_support::test_store::{Actor, NOW, TestStore, all_roles, name, secret};

/// The id of a living token.
fn id(vault: &Vault, name: &str) -> TokenId {
    vault.replica().find(name).unwrap().unwrap().id
}

fn state(token: TokenId, version: u64, state: State) -> Body {
    Body::State(StateChange { token, version, state, reason: "because".into() })
}

fn grant(number: u8, target: Target) -> Body {
    let (to, ops) = ("user:mallory".into(), vec!["get".into()]);
    Body::Grant(Grant { grant: GrantId([number; 16]), target, to, ops, until: None, alias: None })
}

fn ungrant(number: u8, target: Target) -> Body {
    Body::Ungrant(Ungrant { grant: GrantId([number; 16]), target })
}

fn retire(actor: &Actor) -> Body {
    Body::Retire(Retire { device: actor.id, compromised: true, reason: "gone".into() })
}

fn roles(actor: &Actor, roles: Vec<Role>) -> Body {
    Body::Roles(Roles { device: actor.id, roles: strongroom::ledger::sorted_roles(roles) })
}

fn destroy(token: TokenId, name: &str, version: u64) -> Body {
    Body::Destroy(Destroy { token, name: name.into(), version, reason: String::new() })
}

fn rename(token: TokenId, from: &str, to: &str) -> Body {
    Body::Rename(Rename { token, from: from.into(), to: to.into() })
}

#[test]
fn a_device_that_only_opens() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    let (opener, db) = (&test_store.opener, id(&vault, "prod/db"));
    let bytes = sealed(test_store.id, token(1), 1, "mine", &[opener]);
    let new = |name: &str| Body::Put(Box::new(put(token(1), name, 1, &bytes, &[opener])));
    let next = Body::Put(Box::new(put(db, "prod/db", 3, b"sealed", &[opener])));
    let prefix = |prefix: &str| Target::Prefix(prefix.into());
    let stranger = Actor::named("stranger");
    test_store.each_is_ineffective(vec![
        (opener, new("w/mine"), "`write` role"),
        (opener, new("mine"), "`write` role"),
        (opener, next, "`write` role"),
        (opener, state(db, 1, State::Revoked), "`write` role"),
        (opener, state(db, 0, State::Suspended), "`write` role"),
        (opener, rename(db, "prod/db", "mine"), "`write` role"),
        (opener, destroy(db, "prod/db", 0), "`admin` role"),
        (opener, grant(1, Target::Token(db)), "`grant` role"),
        (opener, grant(2, prefix("")), "`grant` role"),
        (opener, grant(3, prefix("w")), "`grant` role"),
        (opener, retire(&test_store.admin), "`admin` role"),
        (opener, retire(opener), "`admin` role"),
        (opener, roles(opener, all_roles()), "`admin` role"),
        (opener, stranger.enrolment(all_roles()), "`admin` role"),
        (opener, Body::Repair(Repair { kept: 1, chain: Hash::ZERO, reason: String::new() }), "`admin` role"),
    ]);
}

#[test]
fn a_writer_stays_within_its_names() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    let (writer, db, own) = (&test_store.writer, id(&vault, "prod/db"), id(&vault, "w/own"));
    let new = |name: &str| Body::Put(Box::new(put(token(1), name, 1, b"sealed", &[&test_store.opener])));
    let prefix = |prefix: &str| Target::Prefix(prefix.into());
    // Somebody else's token, under a name of one's own.
    let stolen = Body::Put(Box::new(put(db, "w/db", 3, b"sealed", &[&test_store.opener])));
    test_store.each_is_ineffective(vec![
        (writer, new("prod/new"), "`write` role"),
        (writer, new("wide"), "`write` role"),
        (writer, new("w-2/x"), "`write` role"),
        (writer, new("w/../prod/db"), "no segment `..`"),
        (writer, new("w/"), "empty segment"),
        (writer, new("w//x"), "empty segment"),
        (writer, new("w/\u{202e}x"), "U+202E"),
        (writer, new("w/x\u{1b}[2J"), "U+001B"),
        (writer, stolen, "another name"),
        (writer, state(db, 2, State::Revoked), "`write` role"),
        (writer, state(db, 1, State::Active), "`write` role"),
        (writer, rename(own, "w/own", "prod/own"), "`write` role"),
        (writer, rename(db, "prod/db", "w/db"), "`write` role"),
        (writer, rename(db, "w/own", "w/db"), "`write` role"),
        (writer, destroy(own, "w/own", 0), "`admin` role"),
        (writer, destroy(own, "w/own", 1), "`admin` role"),
        (writer, grant(1, Target::Token(db)), "`grant` role"),
        (writer, grant(2, prefix("")), "`grant` role"),
        (writer, grant(3, prefix("prod")), "`grant` role"),
        (writer, grant(4, prefix("wide")), "`grant` role"),
        (writer, grant(5, prefix("w/")), "trailing /"),
        (writer, roles(writer, vec![Role::Write(String::new())]), "`admin` role"),
        (writer, roles(writer, vec![Role::Open(String::new()), Role::Write("w".into())]), "`admin` role"),
        (writer, Actor::named("second-writer").enrolment(vec![Role::Write("w".into())]), "`admin` role"),
        (writer, writer.enrolment(all_roles()), "`admin` role"),
    ]);
}

#[test]
fn not_even_an_admin() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    let (admin, position) = (&test_store.admin, vault.replica().position());
    let twin_key = {
        // A new device id over a signing key that is enrolled.
        let Body::Enrol(mut enrol) = test_store.writer.enrolment(all_roles()) else { unreachable!() };
        (enrol.device, enrol.name) = (Actor::named("other").id, "other".into());
        Body::Enrol(enrol)
    };
    let one_key = {
        let Body::Enrol(mut enrol) = Actor::named("single").enrolment(vec![]) else { unreachable!() };
        enrol.opening.key = enrol.signing.key.clone();
        Body::Enrol(enrol)
    };
    let shared_key = {
        let Body::Enrol(opener) = test_store.opener.enrolment(vec![]) else { unreachable!() };
        let Body::Enrol(mut enrol) = Actor::named("shadow").enrolment(all_roles()) else { unreachable!() };
        enrol.opening.key = opener.opening.key;
        Body::Enrol(enrol)
    };
    let same_name = {
        let Body::Enrol(mut enrol) = Actor::named("third").enrolment(vec![]) else { unreachable!() };
        enrol.name = "opener".into();
        Body::Enrol(enrol)
    };
    let loud = {
        let Body::Enrol(mut enrol) = Actor::named("loud").enrolment(vec![]) else { unreachable!() };
        enrol.serial = "1\u{7}".into();
        Body::Enrol(enrol)
    };
    let repair = |kept, chain| Body::Repair(Repair { kept, chain, reason: "so I say".into() });
    test_store.each_is_ineffective(vec![
        (admin, retire(admin), "last device with the role admin"),
        (admin, roles(admin, vec![Role::Open(String::new())]), "last device with the role admin"),
        (admin, roles(admin, vec![]), "last device with the role admin"),
        (admin, retire(&Actor::named("nobody")), "no such device"),
        (admin, twin_key, "signing key was enrolled before"),
        (admin, test_store.opener.enrolment(all_roles()), "device id was enrolled before"),
        (admin, one_key, "one key for both"),
        (admin, shared_key, "another device has this opening key"),
        (admin, same_name, "called opener already"),
        (admin, loud, "U+0007"),
        (admin, roles(&test_store.writer, vec![Role::Write("a//b".into())]), "empty segment"),
        (admin, repair(1, Hash::ZERO), "right after what it kept"),
        (admin, repair(position.n, Hash([9; 32])), "right after what it kept"),
    ]);
}

#[test]
fn versions_states_and_recipients() {
    let test_store = TestStore::populated();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    vault.set_state(&name("prod/key"), Some(1), State::Revoked, "leaked").unwrap();
    vault.put(&name("gone"), &secret("gone"), &PutOptions::default()).unwrap();
    let gone = id(&vault, "gone");
    vault.destroy(&name("gone"), None, "").unwrap();
    let (writer, admin) = (&test_store.writer, &test_store.admin);
    let (db, own, key) = (id(&vault, "prod/db"), id(&vault, "w/own"), id(&vault, "prod/key"));
    let put_of = |change: &dyn Fn(&mut Put)| {
        let mut body = put(own, "w/own", 2, b"sealed", &[&test_store.opener]);
        change(&mut body);
        Body::Put(Box::new(body))
    };
    let stranger = Actor::named("stranger");
    test_store.each_is_ineffective(vec![
        (writer, put_of(&|put| put.version = 3), "version is not the next one"),
        (writer, put_of(&|put| put.version = 1), "version is not the next one"),
        (writer, put_of(&|put| put.version = 0), "version is not the next one"),
        (writer, put_of(&|put| put.version = u64::MAX), "version is not the next one"),
        (writer, put_of(&|put| put.seals[0].recipients = vec![writer.id]), "has no role `open`"),
        (writer, put_of(&|put| put.seals[0].recipients = vec![stranger.id]), "has no role `open`"),
        (writer, put_of(&|put| put.seals[0].recipients = vec![]), "sealed to nobody"),
        (writer, put_of(&|put| put.state = State::Revoked), "staged or active"),
        (writer, put_of(&|put| put.state = State::Suspended), "staged or active"),
        (writer, put_of(&|put| put.seals[0].length = 0), "a length that no sealed token has"),
        (writer, put_of(&|put| put.seals[0].length = 1 << 40), "a length that no sealed token has"),
        (writer, put_of(&|put| put.keep = Some(0)), "keep is at least 1"),
        (writer, put_of(&|put| put.description = "\u{1b}]0;x\u{7}".into()), "U+001B"),
        (writer, put_of(&|put| put.labels = vec![("a b".into(), String::new())]), "U+0020"),
        (writer, put_of(&|put| put.labels = vec![("a".into(), "\n".into())]), "U+000A"),
        (writer, put_of(&|put| put.token = token(2)), "first version of a token is 1"),
        (admin, state(key, 1, State::Active), "revoked is final"),
        (admin, state(key, 1, State::Suspended), "revoked is final"),
        (admin, state(db, 0, State::Staged), "cannot go back to staged"),
        (admin, state(db, 9, State::Revoked), "no such version"),
        (admin, state(db, u64::MAX, State::Revoked), "no such version"),
        (admin, state(token(9), 0, State::Revoked), "no such token"),
        (admin, state(gone, 0, State::Active), "was destroyed"),
        (admin, destroy(gone, "gone", 0), "was destroyed"),
        (admin, destroy(db, "prod/key", 0), "another name"),
        (admin, destroy(db, "prod/db", 7), "no such version"),
        (admin, rename(db, "prod/db", "prod/key"), "another token has the new name"),
        (admin, rename(db, "prod/db", "prod/db"), "another token has the new name"),
        (admin, rename(db, "prod/key", "prod/x"), "another name"),
        (admin, rename(gone, "gone", "back"), "was destroyed"),
        (admin, grant(1, Target::Token(gone)), "was destroyed"),
        (admin, ungrant(1, Target::Token(db)), "no such grant"),
    ]);
}

/// `keep` closes what it says and nothing else, and what it closed stays closed.
#[test]
fn keep_prunes_for_ever() {
    let test_store = TestStore::populated();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    let pruning = PutOptions { keep: Some(2), ..PutOptions::default() };
    for version in 3..=5 {
        vault.put(&name("prod/db"), &secret(&format!("{version}")), &pruning).unwrap();
    }
    let states = |vault: &Vault| {
        let token = vault.replica().find("prod/db").unwrap().unwrap();
        vault.replica().versions(&token).unwrap().iter().map(|row| row.state.unwrap()).collect::<Vec<_>>()
    };
    use State::{Active, Revoked};
    assert_eq!(states(&vault), [Revoked, Revoked, Revoked, Active, Active]);
    let db = id(&vault, "prod/db");
    test_store.each_is_ineffective(vec![(
        &test_store.admin,
        state(db, 1, State::Active),
        "revoked is final",
    )]);
    let vault = test_store.client("newcomer", &[]).unwrap();
    assert_eq!(states(&vault)[..3], [Revoked, Revoked, Revoked]);
}

/// A change of devices is seen by everything that follows it, in the same batch too.
#[test]
fn roles_are_those_at_the_statements_position() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    let second = Actor::named("second-admin");
    let n = test_store.append(&Draft::on(&vault, &test_store.admin, [second.enrolment(all_roles())]), &[]);
    assert_eq!(test_store.client("admin", &[]).unwrap().replica().ineffective(n).unwrap(), None);
    let vault = test_store.client("admin", &[]).unwrap();
    let third = Actor::named("third-admin");
    // The second admin gives its role back and enrols somebody on the way out.
    let draft = Draft::on(
        &vault,
        &second,
        [roles(&second, vec![Role::Open(String::new())]), third.enrolment(all_roles())],
    );
    let first = test_store.append(&draft, &[]);
    for client in ["admin", "reader", "newcomer"] {
        let vault = test_store.client(client, &[]).unwrap();
        assert_eq!(vault.replica().ineffective(first).unwrap(), None);
        let why = vault.replica().ineffective(first + 1).unwrap().expect("an admin that was none");
        assert!(why.contains("`admin` role"), "{why}");
        assert_eq!(vault.replica().device_row(&third.id).unwrap(), None);
    }
    test_store.goes_on();
}

#[test]
fn an_admin_batch_comes_alone() {
    let test_store = TestStore::populated();
    let before = test_store.answers("admin");
    let vault = test_store.client("admin", &[]).unwrap();
    let stranger = Actor::named("stranger");
    let bytes = sealed(test_store.id, token(1), 1, "mixed", &[&test_store.opener]);
    let mixed = [
        stranger.enrolment(all_roles()),
        Body::Put(Box::new(put(token(1), "w/mixed", 1, &bytes, &[&test_store.opener]))),
    ];
    let alone = "must come alone";
    let first = test_store.append(&Draft::on(&vault, &test_store.admin, mixed), &[&bytes]);
    test_store.ineffective(&before, first, &[alone, alone]);
}

/// Signed before another change, and landing after it. An anchor states what a counter showed, so it has to come next.
#[test]
fn an_admin_is_not_starved_by_a_writer() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    let anchor =
        Body::Anchor(Anchor { device: test_store.admin.id, counter: Some(Counter { index: 1, start: 7 }) });
    let anchor = Draft::on(&vault, &test_store.admin, [anchor]);
    let noise =
        |number| Draft::on(&vault, &test_store.opener, [grant(number, Target::Prefix(String::new()))]);
    test_store.append(&noise(1), &[]);
    let before = test_store.answers("admin");
    let n = test_store.append(&anchor, &[]);
    test_store.ineffective(&before, n, &["directly after"]);
    let vault = test_store.client("admin", &[]).unwrap();
    let removal = Draft::on(&vault, &test_store.admin, [retire(&test_store.writer)]);
    test_store.append(&noise(2), &[]);
    let n = test_store.append(&removal, &[]);
    for client in ["admin", "reader", "newcomer"] {
        let vault = test_store.client(client, &[]).unwrap();
        assert_eq!(vault.replica().ineffective(n).unwrap(), None, "{client}");
        assert!(vault.replica().device(&test_store.writer.id).unwrap().unwrap().retired, "{client}");
    }
}

#[test]
fn a_stale_admin_head() {
    let test_store = TestStore::populated();
    let vault = test_store.client("writer", &[]).unwrap();
    let bytes = sealed(test_store.id, token(1), 1, "late", &[&test_store.opener]);
    let late = Draft::on(
        &vault,
        &test_store.writer,
        [Body::Put(Box::new(put(token(1), "w/late", 1, &bytes, &[&test_store.opener])))],
    );
    // Meanwhile the recipient loses its role.
    let change = Draft::on(&vault, &test_store.admin, [roles(&test_store.opener, vec![])]);
    test_store.append(&change, &[]);
    let before = test_store.answers("admin");
    let n = test_store.append(&late, &[&bytes]);
    let why = test_store.client("admin", &[]).unwrap().replica().ineffective(n).unwrap().unwrap();
    assert!(why.contains("earlier state of devices and roles"), "{why}");
    assert_eq!(test_store.answers("newcomer"), before);
    // Nor does it help to claim the head of now, when the recipients are those of then.
    let vault = test_store.client("writer", &[]).unwrap();
    let mut claimed = late.clone();
    (claimed.admin_head, claimed.seen) = (vault.replica().admin_head(), vault.replica().position());
    let n = test_store.append(&claimed, &[&bytes]);
    let why = test_store.client("admin", &[]).unwrap().replica().ineffective(n).unwrap().unwrap();
    assert!(why.contains("has no role `open`"), "{why}");
    // An invented one is no better.
    claimed.admin_head = Hash([3; 32]);
    test_store.append(&claimed, &[&bytes]);
    assert_eq!(test_store.answers("newcomer"), before);
}

/// Without effect means without any: not even the head of a subject moves, so that nobody is blocked.
#[test]
fn one_bad_statement_blocks_nobody() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    let (db, own) = (id(&vault, "prod/db"), id(&vault, "w/own"));
    let opener = &test_store.opener;
    let squats = [
        Body::Put(Box::new(put(db, "prod/db", 3, b"squat", &[opener]))),
        Body::Put(Box::new(put(own, "w/own", 2, b"squat", &[opener]))),
        Body::Put(Box::new(put(token(7), "after/all", 1, b"squat", &[opener]))),
        retire(&test_store.admin),
    ];
    for body in squats {
        let draft = Draft::on(&vault, opener, [body]);
        let heads: Vec<_> = draft.statements[0].advances.iter().map(|(subject, _)| subject.clone()).collect();
        test_store.append(&draft, &[]);
        let vault = test_store.client("admin", &[]).unwrap();
        for subject in heads {
            assert_ne!(vault.replica().head(&subject).unwrap(), draft.statements[0].hash());
        }
    }
    test_store.goes_on();
}

/// A time is a claim: it does not expire what others put.
#[test]
fn an_authors_clock_moves_nobody_elses() {
    let test_store = TestStore::populated();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    let soon = PutOptions { expiry: Some(NOW + 1), ..PutOptions::default() };
    vault.put(&name("prod/db"), &secret("until soon"), &soon).unwrap();
    for (i, time) in (1..).zip([u64::MAX, NOW + 1, 0]) {
        let bytes = sealed(test_store.id, token(i), 1, "timed", &[&test_store.opener]);
        let body =
            Body::Put(Box::new(put(token(i), &format!("w/timed-{i}"), 1, &bytes, &[&test_store.opener])));
        let mut draft = Draft::on(&test_store.client("admin", &[]).unwrap(), &test_store.writer, [body]);
        draft.statements[0].time = time;
        let n = test_store.append(&draft, &[&bytes]);
        let mut reader = test_store.client("reader", &[&test_store.opener]).unwrap();
        assert_eq!(reader.replica().ineffective(n).unwrap(), None);
        assert_eq!(reader.latest_time(), NOW);
        assert_eq!(reader.get(&name("prod/db"), None).unwrap().expose(), b"until soon");
    }
    test_store.goes_on();
}
