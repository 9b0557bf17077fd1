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
    let world = TestStore::populated();
    let mut vault = world.client("admin", &[&world.admin]).unwrap();
    let before = vault.head();
    vault.set_state(&name("prod/db"), None, strongroom::ledger::body::State::Revoked, "leaked").unwrap();
    let (head, last) = (vault.head(), vault.replica().position().n);
    world.unplant(last);
    // Whoever saw it, or was told of it, misses it.
    assert_eq!(world.client("admin", &[]).err().unwrap().kind(), Kind::RolledBack);
    let error = world.contact("handed", &head, &[]).err().unwrap();
    assert_eq!(error.kind(), Kind::RolledBack);
    assert!(error.message().contains(&format!("statement {last}")), "{error}");
    // A hand-over from before, and the store's id alone, cannot tell: that is the silence that the specification states.
    for (client, known) in [("older", before), ("id", StorePin::from_store(world.id))] {
        let mut vault = world.contact(client, &known, &[&world.opener]).unwrap();
        assert_eq!(vault.get(&name("prod/db"), None).unwrap().expose(), b"two");
    }
}

/// The store's keeper shows two histories to two clients. Each believes its own, neither the other's.
#[test]
fn a_fork_shown_to_two_clients() {
    let world = TestStore::populated();
    let fork = world.path().with_extension("fork");
    for client in ["ada", "bob"] {
        world.client(client, &[]).unwrap();
    }
    world.checkpoint();
    std::fs::copy(world.path(), &fork).unwrap();
    let mut ada = world.client("ada", &[&world.admin]).unwrap();
    ada.put(&name("prod/db"), &secret("ada's"), &PutOptions::default()).unwrap();
    let hers = ada.head();
    drop(ada);
    world.checkpoint();
    let swap = || {
        let aside = world.path().with_extension("aside");
        std::fs::rename(world.path(), &aside).unwrap();
        std::fs::rename(&fork, world.path()).unwrap();
        std::fs::rename(&aside, &fork).unwrap();
    };
    swap();
    let mut bob = world.client("bob", &[&world.admin]).unwrap();
    bob.put(&name("prod/db"), &secret("bob's"), &PutOptions::default()).unwrap();
    let his = bob.head();
    drop(bob);
    world.checkpoint();
    assert_eq!(his.position.n, hers.position.n);
    // Each meets the other's.
    assert_eq!(world.client("ada", &[]).err().unwrap().kind(), Kind::Tampered);
    assert_eq!(world.contact("friend-of-ada", &hers, &[]).err().unwrap().kind(), Kind::Tampered);
    world.contact("friend-of-bob", &his, &[]).unwrap();
    // The fork grows past it.
    let mut bob = world.client("bob", &[&world.admin]).unwrap();
    bob.put(&name("prod/db"), &secret("bob's again"), &PutOptions::default()).unwrap();
    drop(bob);
    assert_eq!(world.client("ada", &[]).err().unwrap().kind(), Kind::Tampered);
    world.checkpoint();
    swap();
    assert_eq!(world.client("bob", &[]).err().unwrap().kind(), Kind::RolledBack);
    assert_eq!(world.contact("friend-of-bob", &his, &[]).err().unwrap().kind(), Kind::Tampered);
    let mut ada = world.client("ada", &[&world.opener]).unwrap();
    assert_eq!(ada.get(&name("prod/db"), None).unwrap().expose(), b"ada's");
    // What a writer signed on one side has no place on the other.
    let vault = world.client("ada", &[]).unwrap();
    let (foreign, bytes) = put_by_writer(&world, &vault, 1, "w/forked");
    let elsewhere = LogPosition { n: his.position.n, chain: his.position.chain };
    world.plant(&foreign.seeing(elsewhere).sign().with(&bytes));
    let error = world.client("ada", &[]).err().unwrap();
    assert!(error.message().contains("was signed on another chain"), "{error}");
}
