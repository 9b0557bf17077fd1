//! What a store's keeper shows to whom: a shorter ledger to a newcomer, two ledgers to two clients.

use crate::order::put_by_writer;
use strongroom::Kind;
use strongroom::ledger::LogPosition;
use strongroom::ledger::verify::Chain;
use strongroom::replica::StorePin;
use strongroom::vault::PutOptions;
use test_support::test_store::{TestStore, name, secret};

#[test]
fn a_dropped_tail_at_first_contact() {
    let test_store = TestStore::populated();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    let before = vault.head();
    vault.set_state(&name("prod/db"), None, strongroom::ledger::body::State::Revoked, "leaked").unwrap();
    let (head, last) = (vault.head(), vault.replica().position().n);
    test_store.unplant(last);
    // Whoever saw it, or was told of it, misses it.
    assert_eq!(test_store.client("admin", &[]).err().unwrap().kind(), Kind::RolledBack);
    let error = test_store.contact("handed", &head, &[]).err().unwrap();
    assert_eq!(error.kind(), Kind::RolledBack);
    assert!(error.message().contains(&format!("statement {last}")), "{error}");
    // A hand-over from before, and the store's id alone, cannot tell: that is the silence that the specification states.
    for (client, known) in [("older", before), ("id", StorePin::from_store(test_store.id))] {
        let mut vault = test_store.contact(client, &known, &[&test_store.opener]).unwrap();
        assert_eq!(vault.get(&name("prod/db"), None).unwrap().expose(), b"two");
    }
}

/// The store's keeper shows two histories to two clients. Each believes its own, neither the other's.
#[test]
fn a_fork_shown_to_two_clients() {
    let test_store = TestStore::populated();
    let fork = test_store.path().with_extension("fork");
    for client in ["ada", "bob"] {
        test_store.client(client, &[]).unwrap();
    }
    test_store.checkpoint();
    std::fs::copy(test_store.path(), &fork).unwrap();
    let mut ada = test_store.client("ada", &[&test_store.admin]).unwrap();
    ada.put(&name("prod/db"), &secret("ada's"), &PutOptions::default()).unwrap();
    let hers = ada.head();
    drop(ada);
    test_store.checkpoint();
    let swap = || {
        let aside = test_store.path().with_extension("aside");
        std::fs::rename(test_store.path(), &aside).unwrap();
        std::fs::rename(&fork, test_store.path()).unwrap();
        std::fs::rename(&aside, &fork).unwrap();
    };
    swap();
    let mut bob = test_store.client("bob", &[&test_store.admin]).unwrap();
    bob.put(&name("prod/db"), &secret("bob's"), &PutOptions::default()).unwrap();
    let his = bob.head();
    drop(bob);
    test_store.checkpoint();
    assert_eq!(his.position.n, hers.position.n);
    // Each meets the other's.
    assert_eq!(test_store.client("ada", &[]).err().unwrap().kind(), Kind::Tampered);
    assert_eq!(test_store.contact("friend-of-ada", &hers, &[]).err().unwrap().kind(), Kind::Tampered);
    test_store.contact("friend-of-bob", &his, &[]).unwrap();
    // The fork grows past it.
    let mut bob = test_store.client("bob", &[&test_store.admin]).unwrap();
    bob.put(&name("prod/db"), &secret("bob's again"), &PutOptions::default()).unwrap();
    drop(bob);
    assert_eq!(test_store.client("ada", &[]).err().unwrap().kind(), Kind::Tampered);
    test_store.checkpoint();
    swap();
    assert_eq!(test_store.client("bob", &[]).err().unwrap().kind(), Kind::RolledBack);
    assert_eq!(test_store.contact("friend-of-bob", &his, &[]).err().unwrap().kind(), Kind::Tampered);
    let mut ada = test_store.client("ada", &[&test_store.opener]).unwrap();
    assert_eq!(ada.get(&name("prod/db"), None).unwrap().expose(), b"ada's");
    // What a writer signed on one side has no place on the other.
    let vault = test_store.client("ada", &[]).unwrap();
    let (foreign, bytes) = put_by_writer(&test_store, &vault, 1, "w/forked");
    let elsewhere = LogPosition { n: his.position.n, chain: his.position.chain };
    test_store.plant(&foreign.seeing(elsewhere).sign().with(&bytes));
    let error = test_store.client("ada", &[]).err().unwrap();
    assert!(error.message().contains("was signed on another chain"), "{error}");
}
