//! Order and completeness: insertion, dropping, re-ordering, replay, and the races that the heads decide.

use rusqlite::params;
use strongroom::Kind;
use strongroom::ledger::body::{Grant, Retire, Target};
use strongroom::ledger::judge::LedgerView;
use strongroom::ledger::verify::Chain;
use strongroom::ledger::{Body, GrantId, Hash, LogPosition, Subject, leaf};
use strongroom::replica::StorePin;
use strongroom::vault::{ImportItem, PutOptions, Vault};
use test_support::forged_batch::{Draft, Signed, put, sealed, token};
use test_support::test_store::{Actor, TestStore, all_roles, name, secret};

fn retire(actor: &Actor) -> Body {
    Body::Retire(Retire { device: actor.id, compromised: true, reason: "left".into() })
}

pub fn put_by_writer(test_store: &TestStore, vault: &Vault, number: u8, name: &str) -> (Draft, Vec<u8>) {
    let bytes = sealed(test_store.id, token(number), 1, "planted", &[&test_store.opener]);
    let body = Body::Put(Box::new(put(token(number), name, 1, &bytes, &[&test_store.opener])));
    (Draft::on(vault, &test_store.writer, [body]), bytes)
}

/// The batches of the store from `first` on, as they stand.
fn batches(test_store: &TestStore, first: u64) -> Vec<Signed> {
    let mut store = strongroom::store::open(&test_store.url()).unwrap();
    let batches = store.batches_after(first - 1, usize::MAX).unwrap();
    let signed = |batch: strongroom::ledger::verify::StoredBatch| Signed {
        sign1: batch.sign1,
        statements: batch.statements,
        sealed: Vec::new(),
    };
    batches.into_iter().map(signed).collect()
}

/// Puts other batches in place of all from `first` on, with every chain value recomputed.
fn replace_tail(test_store: &TestStore, first: u64, with: impl IntoIterator<Item = Signed>) {
    test_store.unplant(first);
    for signed in with {
        test_store.plant(&signed);
    }
}

#[test]
fn a_put_inserted_before_its_authors_removal() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    let seen = vault.replica().position();
    let (planted, bytes) = put_by_writer(&test_store, &vault, 1, "w/inserted");
    let removal = test_store.append(&Draft::on(&vault, &test_store.admin, [retire(&test_store.writer)]), &[]);
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    vault.put(&name("after"), &secret("after"), &PutOptions::default()).unwrap();
    let anchor = vault.head();
    let true_tail = batches(&test_store, removal);

    // The retired writer knows every byte, signs with its own key what it could have signed then, and has the database.
    let inserted = planted.seeing(seen).sign().with(&bytes);
    replace_tail(&test_store, removal, [inserted].into_iter().chain(true_tail.clone()));
    // Whoever verified the removal sees another statement in its place.
    let error = test_store.client("admin", &[]).err().unwrap();
    assert_eq!(error.kind(), Kind::Tampered);
    assert!(error.message().contains("is not the one that was verified here before"), "{error}");
    // Whoever meets the store sees that the later put was signed on another chain.
    let error = test_store.contact("newcomer", &StorePin::from_store(test_store.id), &[]).err().unwrap();
    assert_eq!(error.kind(), Kind::Tampered);
    assert!(error.message().contains("was signed on another chain"), "{error}");
    assert!(test_store.contact("handed", &anchor, &[]).is_err());

    replace_tail(&test_store, removal, true_tail);
    let mut vault = test_store.client("newcomer", &[&test_store.admin]).unwrap();
    assert_eq!(vault.get(&name("after"), None).unwrap().expose(), b"after");
    assert!(vault.get(&name("w/inserted"), None).is_err());
}

/// Where the removal is the last thing there is, an insertion before it is as silent as dropping it: only who knows of it
/// can tell, and everybody who does, does.
#[test]
fn a_put_inserted_before_a_removal_that_nobody_built_on() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    let (planted, bytes) = put_by_writer(&test_store, &vault, 1, "w/inserted");
    let removal = test_store.append(&Draft::on(&vault, &test_store.admin, [retire(&test_store.writer)]), &[]);
    let anchor = test_store.client("admin", &[]).unwrap().head();
    let true_tail = batches(&test_store, removal);
    replace_tail(&test_store, removal, [planted.sign().with(&bytes)].into_iter().chain(true_tail));
    assert_eq!(test_store.client("admin", &[]).err().unwrap().kind(), Kind::Tampered);
    assert_eq!(test_store.contact("handed", &anchor, &[]).err().unwrap().kind(), Kind::Tampered);
    let vault = test_store.contact("told-the-id", &StorePin::from_store(test_store.id), &[]).unwrap();
    // The removal stands for them, too; the put that came before it does as well.
    assert_eq!(vault.replica().ineffective(removal + 1).unwrap(), None);
    assert!(vault.replica().device(&test_store.writer.id).unwrap().unwrap().retired);
}

#[test]
fn a_retired_device_signs_into_the_past() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    let (past, bytes) = put_by_writer(&test_store, &vault, 1, "w/late");
    let also_admin = Draft::on(&vault, &test_store.writer, [Actor::named("friend").enrolment(all_roles())]);
    test_store.append(&Draft::on(&vault, &test_store.admin, [retire(&test_store.writer)]), &[]);
    let now = test_store.client("admin", &[]).unwrap();
    let (position, head) = (now.replica().position(), now.replica().admin_head());
    let before = answers_without_writer(&test_store);
    let mut first = None;
    // As it was signed then; with today's position; with today's admin head; both.
    for (seen, admin_head) in
        [(past.seen, past.admin_head), (position, past.admin_head), (past.seen, head), (position, head)]
    {
        let draft = Draft { seen, admin_head, ..past.clone() };
        first.get_or_insert(test_store.append(&draft, &[&bytes]));
    }
    test_store.append(&also_admin, &[]);
    for client in ["admin", "reader", "newcomer"] {
        let vault = test_store.client(client, &[]).unwrap();
        for n in first.unwrap()..first.unwrap() + 5 {
            let why = vault.replica().ineffective(n).unwrap().expect("a retired device's statement");
            assert!(why.contains("retired"), "{why}");
        }
    }
    assert_eq!(answers_without_writer(&test_store), before);
}

fn answers_without_writer(test_store: &TestStore) -> String {
    test_store.answers("admin")
}

#[test]
fn two_admins_removing_each_other() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    let second = Actor::named("second-admin");
    test_store.append(&Draft::on(&vault, &test_store.admin, [second.enrolment(all_roles())]), &[]);
    let vault = test_store.client("admin", &[]).unwrap();
    let ours = Draft::on(&vault, &test_store.admin, [retire(&second)]);
    let theirs = Draft::on(&vault, &second, [retire(&test_store.admin)]);
    let n = test_store.append(&ours, &[]);
    let late = test_store.append(&theirs, &[]);
    // On a copy somebody shows them the other way round.
    let whole = batches(&test_store, 1);
    for client in ["admin", "reader", "newcomer"] {
        let vault = test_store.client(client, &[]).unwrap();
        assert_eq!(vault.replica().ineffective(n).unwrap(), None);
        assert!(vault.replica().ineffective(late).unwrap().unwrap().contains("retired"));
        let device = |actor: &Actor| vault.replica().device(&actor.id).unwrap().unwrap();
        assert!(device(&test_store.admin).is_admin() && device(&second).retired);
    }
    // Signed again on the new position, it is no more allowed.
    let vault = test_store.client("admin", &[]).unwrap();
    test_store.append(&Draft::on(&vault, &second, [retire(&test_store.admin)]), &[]);
    test_store.goes_on();
    let (one, other) = (whole[n as usize - 2].clone(), whole[late as usize - 2].clone());
    assert_eq!((one.statements.len(), other.statements.len()), (1, 1));
    replace_tail(&test_store, n, [other, one]);
    for client in ["admin", "reader"] {
        assert!(matches!(
            test_store.client(client, &[]).err().unwrap().kind(),
            Kind::Tampered | Kind::RolledBack
        ));
    }
}

/// A batch of four.
fn half_a_world() -> (TestStore, u64) {
    let test_store = TestStore::populated();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    let item = |i| {
        Ok(ImportItem {
            name: name(&format!("import/{i}")),
            token: secret(&format!("token {i}")),
            options: PutOptions::default(),
        })
    };
    let first = vault.replica().position().n + 1;
    vault.import((0..4).map(item), &mut |_| {}).unwrap();
    (test_store, first)
}

#[test]
fn half_a_batch() {
    let (test_store, first) = half_a_world();
    let whole = batches(&test_store, first).remove(0);
    assert_eq!(whole.statements.len(), 4);
    let with = |statements: Vec<Vec<u8>>| Signed { statements, ..whole.clone() };
    let all = &whole.statements;
    let pick = |indices: &[usize]| with(indices.iter().map(|i| all[*i].clone()).collect());
    let forgeries = [
        pick(&[0, 1, 2]),
        pick(&[1, 2, 3]),
        pick(&[0, 1, 3]),
        pick(&[0]),
        pick(&[1, 0, 2, 3]),
        pick(&[3, 2, 1, 0]),
        pick(&[0, 1, 2, 3, 3]),
        pick(&[0, 1, 2, 2]),
        pick(&[0, 0, 1, 2, 3]),
        with(vec![all.concat()]),
        // The inner nodes of the tree in place of two leaves: a second preimage where leaves are not told from nodes.
        with(vec![[leaf(&all[0]).0, leaf(&all[1]).0].concat(), [leaf(&all[2]).0, leaf(&all[3]).0].concat()]),
    ];
    for (i, forgery) in forgeries.iter().enumerate() {
        replace_tail(&test_store, first, [forgery.clone()]);
        // Newcomers, and clients that had not seen it yet.
        for client in ["reader", "newcomer"] {
            let error =
                test_store.client(client, &[]).err().unwrap_or_else(|| panic!("{i}: {client} goes on"));
            assert_eq!(error.kind(), Kind::Tampered, "{i}: {error}");
            assert!(error.message().contains("are not those that were signed"), "{i}: {error}");
            assert!(error.message().contains(&format!("batch at {first}")), "{i}: {error}");
        }
        assert!(matches!(
            test_store.client("admin", &[]).err().unwrap().kind(),
            Kind::Tampered | Kind::RolledBack
        ));
    }
    // What follows an incomplete batch does not count either, and no row pretends to be complete.
    for sql in [
        "DELETE FROM statements WHERE n = ?1 + 1",
        "UPDATE batches SET last = last - 1 WHERE first = ?1",
        "UPDATE batches SET last = last + 1 WHERE first = ?1",
        "DELETE FROM statements WHERE n = ?1 + 3",
    ] {
        replace_tail(&test_store, first, [whole.clone()]);
        test_store.db().execute(sql, [first]).unwrap();
        assert_eq!(test_store.client("newcomer", &[]).err().unwrap().kind(), Kind::Tampered, "{sql}");
    }
    replace_tail(&test_store, first, [whole]);
    test_store.goes_on();
}

#[test]
fn two_first_statements_of_one_subject() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    // Two puts that both say: nothing came before.
    let (one, bytes) = put_by_writer(&test_store, &vault, 1, "w/one");
    let (two, other) = put_by_writer(&test_store, &vault, 1, "w/two");
    let n = test_store.append(&one, &[&bytes]);
    assert_eq!(test_store.client("admin", &[]).unwrap().replica().ineffective(n).unwrap(), None);
    let before = test_store.answers("admin");
    let n = test_store.append(&two, &[&other]);
    test_store.ineffective(&before, n, &["came first"]);
    // Two in one batch.
    let vault = test_store.client("admin", &[]).unwrap();
    let (mut one, bytes) = put_by_writer(&test_store, &vault, 2, "w/three");
    let (two, _) = put_by_writer(&test_store, &vault, 2, "w/four");
    one.statements.extend(two.statements);
    let n = test_store.append(&one, &[&bytes]);
    let vault = test_store.client("newcomer", &[]).unwrap();
    assert_eq!(vault.replica().ineffective(n).unwrap(), None);
    assert!(vault.replica().ineffective(n + 1).unwrap().unwrap().contains("came first"));
    assert_eq!(vault.replica().find("w/four").unwrap(), None);
    test_store.goes_on();
}

#[test]
fn two_tokens_of_one_name() {
    let test_store = TestStore::populated();
    let before = test_store.answers("admin");
    let vault = test_store.client("admin", &[]).unwrap();
    // As if the name were free: the head says that it is not.
    let (mut blind, bytes) = put_by_writer(&test_store, &vault, 1, "w/own");
    blind.statements[0].advances.iter_mut().for_each(|(_, prev)| *prev = Hash::ZERO);
    let n = test_store.append(&blind, &[&bytes]);
    // On the true head: the rule says so.
    let (open_eyed, bytes) = put_by_writer(&test_store, &vault, 1, "w/own");
    test_store.append(&open_eyed, &[&bytes]);
    test_store.ineffective(&before, n, &["came first", "another token has this name"]);
}

#[test]
fn a_recreated_name_inherits_nothing() {
    let test_store = TestStore::populated();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    let own = name("w/own");
    let old = vault.replica().find("w/own").unwrap().unwrap().id;
    let grant = Body::Grant(Grant {
        grant: GrantId([5; 16]),
        target: Target::Token(old),
        to: "user:web".into(),
        ops: vec!["get".into()],
        until: None,
        alias: None,
    });
    test_store.append(&Draft::on(&vault, &test_store.writer, [grant]), &[]);
    vault
        .put(&own, &secret("second"), &PutOptions { description: Some("old".into()), ..Default::default() })
        .unwrap();
    let late = {
        let bytes = sealed(test_store.id, old, 3, "third", &[&test_store.opener]);
        (
            Draft::on(
                &vault,
                &test_store.writer,
                [Body::Put(Box::new(put(old, "w/own", 3, &bytes, &[&test_store.opener])))],
            ),
            bytes,
        )
    };
    vault.destroy(&own, None, "rotated").unwrap();
    let report = vault.put(&own, &secret("fresh"), &PutOptions::default()).unwrap();
    assert_eq!(report.version, 1);
    assert_ne!(report.token, old);
    let replica = vault.replica();
    assert_eq!(replica.grants(&report.token).unwrap(), []);
    let row = replica.find("w/own").unwrap().unwrap();
    assert_eq!(replica.versions(&row).unwrap().len(), 1);
    assert_eq!(replica.version_row(&row, 1).unwrap().unwrap().description, "");
    assert_eq!(vault.get(&own, Some(2)).unwrap_err().kind(), Kind::NotFound);
    // What was signed for the old one does not reach the new one, nor wake the old one.
    let before = test_store.answers("admin");
    let n = test_store.append(&late.0, &[&late.1]);
    let vault = test_store.client("admin", &[]).unwrap();
    let (mut again, bytes) = late;
    let head = |subject: &Subject| vault.replica().head(subject).unwrap();
    again.statements[0].advances.iter_mut().for_each(|(subject, prev)| *prev = head(subject));
    (again.seen, again.admin_head) = (vault.replica().position(), vault.replica().admin_head());
    test_store.append(&again, &[&bytes]);
    test_store.ineffective(&before, n, &["came first", "was destroyed"]);
}

#[test]
fn a_batch_is_replayed() {
    let test_store = TestStore::populated();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    vault.set_state(&name("prod/db"), Some(1), strongroom::ledger::body::State::Suspended, "").unwrap();
    vault.set_state(&name("prod/db"), Some(1), strongroom::ledger::body::State::Active, "").unwrap();
    vault.set_state(&name("prod/db"), Some(1), strongroom::ledger::body::State::Suspended, "").unwrap();
    let before = test_store.answers("admin");
    let everything = batches(&test_store, 1);
    let first = test_store.tail().n + 1;
    // All but genesis, which is tampering elsewhere than at the start.
    for batch in &everything[1..] {
        test_store.plant(batch);
    }
    let came_first = vec!["came first"; everything.len() - 1 - 2];
    // The two enrolments were signed under an admin head that they moved.
    let reasons: Vec<&str> = ["earlier state"; 2].into_iter().chain(came_first).collect();
    let vault = test_store.client("newcomer", &[]).unwrap();
    for (n, _) in (first..).zip(&reasons) {
        let why = vault.replica().ineffective(n).unwrap().unwrap_or_else(|| panic!("{n} takes effect again"));
        let expected = ["came first", "earlier state"];
        assert!(expected.iter().any(|words| why.contains(words)), "{why}");
    }
    test_store.ineffective(&before, first, &[]);
    let n = test_store.plant(&everything[0]);
    let error = test_store.client("admin", &[]).err().unwrap();
    assert_eq!(error.kind(), Kind::Tampered);
    test_store.unplant(n);
    test_store.goes_on();
}

/// What an author claims to have seen must be the end of a batch of this chain, and must lie before its own.
#[test]
fn what_an_author_has_not_seen() {
    let (test_store, imported) = half_a_world();
    let vault = test_store.client("admin", &[]).unwrap();
    let (draft, bytes) = put_by_writer(&test_store, &vault, 1, "w/new");
    let here = vault.replica().position();
    let inner = {
        // A true chain value, inside a batch.
        let start = vault.replica().chain_at(imported - 1).unwrap().unwrap();
        let statement = &batches(&test_store, imported)[0].statements[0];
        LogPosition { n: imported - 1, chain: start }.after(leaf(statement))
    };
    let own = here.after(draft.statements[0].hash());
    let wrong = [
        LogPosition { n: here.n, chain: Hash([1; 32]) },
        LogPosition { n: here.n - 4, chain: here.chain },
        LogPosition { n: 0, chain: here.chain },
        LogPosition { n: 1, chain: Hash::ZERO },
        LogPosition { n: u64::MAX, chain: here.chain },
        LogPosition { n: here.n + 100, chain: Hash::ZERO },
        inner,
        own,
    ];
    for seen in wrong {
        let first = test_store.plant(&draft.clone().seeing(seen).sign().with(&bytes));
        test_store.refused("was signed on another chain");
        test_store.unplant(first);
    }
    // An older position that is true is a slow author's, and fine.
    let slow = LogPosition { n: 2, chain: vault.replica().chain_at(2).unwrap().unwrap() };
    let n = test_store.plant(&draft.seeing(slow).sign().with(&bytes));
    let mut vault = test_store.client("reader", &[&test_store.opener]).unwrap();
    assert_eq!(vault.replica().ineffective(n).unwrap(), None);
    assert_eq!(vault.get(&name("w/new"), None).unwrap().expose(), b"planted");
    test_store.goes_on();
}

#[test]
fn gaps_and_overlaps() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    let (draft, bytes) = put_by_writer(&test_store, &vault, 1, "w/new");
    let signed = draft.sign().with(&bytes);
    let tail = test_store.tail();
    for gap in [1, 2, 1000] {
        test_store.plant(&signed);
        let db = test_store.db();
        db.execute("UPDATE batches SET first = first + ?2, last = last + ?2 WHERE first > ?1", [tail.n, gap])
            .unwrap();
        db.execute("UPDATE statements SET n = n + ?2 WHERE n > ?1", params![tail.n, gap]).unwrap();
        test_store.refused(&format!("statement {} is missing", tail.n + 1));
        test_store.unplant(tail.n + 1);
    }
    // A batch without statements, and one that only says that it is long.
    let db = test_store.db();
    let row = params![tail.n + 1, tail.n + 9, [0u8; 32], signed.sign1];
    db.execute("INSERT INTO batches VALUES (?1, ?2, ?3, ?4)", row).unwrap();
    test_store.refused("are not those that were signed");
    test_store.unplant(tail.n + 1);
    test_store.goes_on();
}
