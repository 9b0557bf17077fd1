//! Where two admins must agree: what one of them, a retired one, or a keeper with old votes can do, which is nothing.

use strongroom::ledger::body::{
    Approve, Grant, Propose, Reject, Reseal, Retire, Role, Roles, Seal, Settings, Target, Ungrant,
};
use strongroom::ledger::judge::LedgerView;
use strongroom::ledger::{Body, GrantId, Hash, Statement, TokenId, sha256};
use strongroom::vault::Vault;
use test_support::forged_batch::{Draft, put, sealed, token};
use test_support::test_store::{Actor, NOW, TestStore, all_roles};

/// A store of three admins, of whom two must agree.
struct Quorum {
    store: TestStore,
    bob: Actor,
    carol: Actor,
}

impl Quorum {
    fn new() -> Self {
        let (store, [bob, carol]) = (TestStore::populated(), ["bob", "carol"].map(Actor::named));
        let quorum = Self { store, bob, carol };
        for admin in [&quorum.bob, &quorum.carol] {
            quorum.effective(&quorum.store.admin, admin.enrolment(all_roles()));
        }
        quorum.effective(&quorum.store.admin, settings(2));
        quorum
    }

    fn reader(&self) -> Vault {
        self.store.client("admin", &[]).unwrap()
    }

    /// Signs a change on top of what is true. Answers its position and its hash.
    fn states(&self, author: &Actor, body: Body) -> (u64, Hash) {
        let draft = Draft::on(&self.reader(), author, [body]);
        (self.store.append(&draft, &[]), draft.statements[0].hash())
    }

    fn effective(&self, author: &Actor, body: Body) -> Hash {
        let (n, hash) = self.states(author, body);
        assert_eq!(self.reader().replica().ineffective(n).unwrap(), None);
        hash
    }

    /// Nobody takes it for more than a line in the ledger.
    fn ineffective(&self, author: &Actor, body: Body, words: &str) {
        let n = self.states(author, body).0;
        for client in ["admin", "reader", "newcomer"] {
            let vault = self.store.client(client, &[]).unwrap();
            let why = vault.replica().ineffective(n).unwrap().unwrap_or_else(|| panic!("{words}"));
            assert!(why.contains(words), "{why}");
        }
    }

    fn is_active(&self, device: &Actor) -> bool {
        self.reader().replica().device(&device.id).unwrap().is_some_and(|device| !device.retired)
    }
}

fn settings(quorum: u64) -> Body {
    Body::Settings(Box::new(Settings { quorum, ..Settings::default() }))
}

fn retire(device: &Actor) -> Body {
    Body::Retire(Retire { device: device.id, compromised: true, reason: String::new() })
}

fn propose(change: Body) -> Body {
    Body::Propose(Box::new(Propose { until: NOW + 1000, change }))
}

fn approve(proposal: Hash) -> Body {
    Body::Approve(Approve { proposal })
}

#[test]
fn one_admin_alone() {
    let quorum = Quorum::new();
    let (alice, writer) = (&quorum.store.admin, &quorum.store.writer);
    let roles = Roles { device: writer.id, roles: vec![Role::Admin] };
    for change in
        [retire(&quorum.bob), Actor::named("mallory").enrolment(all_roles()), Body::Roles(roles), settings(1)]
    {
        quorum.ineffective(alice, change.clone(), "other admins must agree");
        // Nor by agreeing with itself, or with a device that is no admin.
        let proposal = quorum.effective(alice, propose(change));
        quorum.ineffective(alice, approve(proposal), "agreed or rejected before");
        quorum.ineffective(writer, approve(proposal), "`admin` role");
        quorum.effective(alice, Body::Reject(Reject { proposal, reason: String::new() }));
        quorum.ineffective(&quorum.bob, approve(proposal), "no such proposal is open");
    }
    assert!(quorum.is_active(&quorum.bob));
}

/// One admin cannot take a version from the others, whose devices it may be the last to reach.
#[test]
fn one_admin_takes_a_version_for_itself() {
    let quorum = Quorum::new();
    let (alice, opener) = (&quorum.store.admin, &quorum.store.opener);
    let id = token(1);
    let all = sealed(quorum.store.id, id, 1, "value", &[alice, opener]);
    let draft = Draft::on(
        &quorum.reader(),
        alice,
        [Body::Put(Box::new(put(id, "shared", 1, &all, &[alice, opener])))],
    );
    quorum.store.append(&draft, &[&all]);
    let own = sealed(quorum.store.id, id, 1, "value", &[alice]);
    let add = vec![Seal { digest: sha256(&own), length: own.len() as u64, recipients: vec![alice.id] }];
    let reseal = Reseal { token: id, version: 1, threshold: 1, drop: vec![sha256(&all)], add };
    quorum.ineffective(alice, Body::Reseal(reseal), "takes the version from the device");
}

#[test]
fn a_retired_admins_vote() {
    let quorum = Quorum::new();
    let (alice, bob, carol) = (&quorum.store.admin, &quorum.bob, &quorum.carol);
    let stranger = Actor::named("stranger");
    // Carol votes in time, before and after.
    let hers = quorum.effective(carol, propose(stranger.enrolment(all_roles())));
    let kept = quorum.reader();
    let early = Draft::on(&kept, carol, [approve(hers)]);
    let against = quorum.effective(alice, propose(retire(carol)));
    quorum.effective(bob, approve(against));
    assert!(!quorum.is_active(carol));
    // Her proposal went with her, and what she signed before is no vote.
    quorum.ineffective(bob, approve(hers), "no such proposal is open");
    let again = quorum.effective(alice, propose(stranger.enrolment(all_roles())));
    quorum.ineffective(carol, approve(again), "retired");
    let n = quorum.store.append(&early, &[]);
    assert!(quorum.reader().replica().ineffective(n).unwrap().is_some());
    assert!(!quorum.is_active(&stranger));
}

#[test]
fn an_old_proposal_is_revived() {
    let quorum = Quorum::new();
    let (alice, bob, carol) = (&quorum.store.admin, &quorum.bob, &quorum.carol);
    let writer = &quorum.store.writer;
    let admin = |device: &Actor| Body::Roles(Roles { device: device.id, roles: vec![Role::Admin] });
    // Alice proposed that the writer becomes an admin. Another change of the writer was made since.
    let old = quorum.effective(alice, propose(admin(writer)));
    let since = quorum.effective(bob, propose(retire(writer)));
    quorum.effective(carol, approve(since));
    quorum.ineffective(bob, approve(old), "no such proposal is open");
    // One that has expired.
    let late = Propose { until: NOW, change: admin(&quorum.store.opener) };
    let late = quorum.effective(alice, Body::Propose(Box::new(late)));
    let mut draft = Draft::on(&quorum.reader(), bob, [approve(late)]);
    draft.statements[0].time = NOW + 1;
    let n = quorum.store.append(&draft, &[]);
    assert!(quorum.reader().replica().ineffective(n).unwrap().unwrap().contains("expired"));
}

/// The keeper plants votes where they were not given.
#[test]
fn a_vote_in_another_place() {
    let quorum = Quorum::new();
    let (alice, bob) = (&quorum.store.admin, &quorum.bob);
    let opener = &quorum.store.opener;
    let change = || Body::Roles(Roles { device: opener.id, roles: vec![Role::Admin] });
    let first = quorum.effective(alice, propose(change()));
    let vote = Draft::on(&quorum.reader(), bob, [approve(first)]);
    quorum.effective(alice, Body::Reject(Reject { proposal: first, reason: String::new() }));
    // Bob's vote of before, for a proposal that says the same.
    quorum.effective(alice, propose(change()));
    let n = quorum.store.append(&vote, &[]);
    assert!(quorum.reader().replica().ineffective(n).unwrap().is_some());
    // In a fork of the store: the same devices, and another ledger.
    let elsewhere = Quorum::new();
    let there = elsewhere.effective(&elsewhere.store.admin, propose(change()));
    let vote = Draft::on(&elsewhere.reader(), bob, [approve(there)]);
    let first = quorum.store.plant(&vote.sign());
    quorum.store.refused("on another chain");
    quorum.store.unplant(first);
    // A vote by somebody else's device under Bob's id.
    let forged =
        Draft { signer: quorum.store.writer.clone(), ..Draft::on(&quorum.reader(), bob, [approve(there)]) };
    let first = quorum.store.plant(&forged.sign());
    quorum.store.refused("is not that of");
    quorum.store.unplant(first);
}

/// What several admins agreed to is still judged: it may not break a rule that one admin could not break.
#[test]
fn admins_agree_to_what_is_not_allowed() {
    let quorum = Quorum::new();
    let (alice, bob, carol) = (&quorum.store.admin, &quorum.bob, &quorum.carol);
    let gone = quorum.effective(alice, propose(retire(carol)));
    quorum.effective(bob, approve(gone));
    // Two are left, and both must agree: neither may go.
    let proposal = quorum.effective(alice, propose(retire(bob)));
    quorum.ineffective(bob, approve(proposal), "must keep the role admin");
    let taken = quorum.effective(alice, propose(Actor::named("bob").enrolment(all_roles())));
    quorum.ineffective(bob, approve(taken), "");
    assert!(quorum.is_active(bob));
}

/// A proposal holds changes of devices and settings, and nothing else: an admin's vote is for nothing that it cannot see.
#[test]
fn a_proposal_of_something_else() {
    let quorum = Quorum::new();
    let alice = &quorum.store.admin;
    let body = Body::Put(Box::new(put(token(2), "w/x", 1, b"sealed", &[alice])));
    let draft = Draft::on(&quorum.reader(), alice, [propose(settings(1))]);
    let inner = Draft::on(&quorum.reader(), alice, [body]).statements.remove(0);
    let statement = Statement { body: propose(inner.body), ..draft.statements[0].clone() };
    let bytes = statement.encode();
    let first = quorum.store.plant(&draft.sign_over(vec![bytes]));
    quorum.store.refused("not well formed");
    quorum.store.unplant(first);
}

fn alias(number: u8, target: Target, to: &str) -> Body {
    let (to, ops, alias) = (to.into(), vec!["get".into()], Some("db".into()));
    Body::Grant(Grant { grant: GrantId([number; 16]), target, to, ops, until: None, alias })
}

#[test]
fn an_alias_taken_over() {
    let store = TestStore::populated();
    let id = |name: &str| -> TokenId {
        store.client("admin", &[]).unwrap().replica().find(name).unwrap().unwrap().id
    };
    let (honest, own) = (Target::Token(id("prod/db")), Target::Token(id("w/own")));
    let states = |author: &Actor, body: Body| {
        let vault = store.client("admin", &[]).unwrap();
        let n = store.append(&Draft::on(&vault, author, [body]), &[]);
        store.client("newcomer", &[]).unwrap().replica().ineffective(n).unwrap()
    };
    let roles = vec![Role::Write("w".into()), Role::Grant("w".into())];
    let may_grant = Body::Roles(Roles { device: store.writer.id, roles });
    assert_eq!(states(&store.admin, may_grant), None);
    assert_eq!(states(&store.admin, alias(1, honest.clone(), "unit:web.service")), None);
    // The writer grants a token of its own to the same unit, under the alias of the other.
    let why = states(&store.writer, alias(2, own.clone(), "unit:web.service")).unwrap();
    assert!(why.contains("another grant under the alias db"), "{why}");
    // Nor can it take the other grant away, or give its own id to it.
    let ungrant = Body::Ungrant(Ungrant { grant: GrantId([1; 16]), target: honest });
    assert!(states(&store.writer, ungrant).unwrap().contains("`grant` role"));
    let ungrant = Body::Ungrant(Ungrant { grant: GrantId([1; 16]), target: own.clone() });
    assert!(states(&store.writer, ungrant).is_some());
    assert!(states(&store.writer, alias(1, own.clone(), "unit:other.service")).is_some());
    assert_eq!(states(&store.writer, alias(3, own, "unit:other.service")), None);
}
