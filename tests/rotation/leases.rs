//! Two machines, and one token.

use crate::machine::{Machines, TOKEN};
use std::time::Duration;
use strongroom::Kind;
use strongroom::store::{Lease, open};
use test_support::test_store::name;

#[test]
fn one_machine_at_a_time_rotates_a_token() {
    let machines = Machines::new("kind = \"exec\"\ncommand = [\"true\"]\n", "x", &[]);
    let (mut one, mut two) = (machines.vault("one"), machines.vault("two"));
    let id = one.replica().find(TOKEN).unwrap().unwrap().id;
    let (name, minute) = (name(TOKEN), Duration::from_secs(60));
    one.take_lease(&name, id, minute, false).unwrap();
    // Its own is renewed, also by the next process.
    one.take_lease(&name, id, minute, false).unwrap();
    let error = two.take_lease(&name, id, minute, false).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.hint().unwrap().contains("--take-over"), "{error}");
    two.take_lease(&name, id, minute, true).unwrap();
    assert_eq!(one.take_lease(&name, id, minute, false).unwrap_err().kind(), Kind::Conflict);
    // Who does not hold it does not end it.
    one.end_lease(id);
    assert_eq!(one.take_lease(&name, id, minute, false).unwrap_err().kind(), Kind::Conflict);
    two.end_lease(id);
    one.take_lease(&name, id, minute, false).unwrap();
}

/// The store is somebody else's: it keeps nobody from rotating for long.
#[test]
fn a_lease_that_never_ends_is_passed_over() {
    let machines = Machines::new("kind = \"exec\"\ncommand = [\"true\"]\n", "x", &[]);
    let mut vault = machines.vault("one");
    let id = vault.replica().find(TOKEN).unwrap().unwrap().id;
    let forged = Lease { token: id.0, holder: "evil\u{1b}[31m".into(), until: i64::MAX as u64 };
    assert_eq!(open(&machines.store.url()).unwrap().take_lease(&forged, 0).unwrap(), None);
    vault.take_lease(&name(TOKEN), id, Duration::from_secs(60), false).unwrap();
}
