//! Rotation policies: which one a token follows, what is due by it, and who may set one.

use crate::machines::{NOW, Place, enrol, name, put};
use strongroom::Kind;
use strongroom::ledger::Prefix;
use strongroom::ledger::body::{RotationPolicy, State};
use strongroom::vault::{GrantOn, PutOptions, RotationNeed, Vault};
use test_support::soft_device::SoftDevice;

const DAY: u64 = 86_400_000;

fn on(text: &str) -> GrantOn {
    text.parse().unwrap()
}

fn policy(hook: &str, days: u64) -> RotationPolicy {
    RotationPolicy { period: days * DAY, overlap: 3_600_000, hook: hook.into(), params: Vec::new() }
}

fn set(vault: &mut Vault, target: &str, hook: &str, days: u64) {
    assert!(vault.set_policy(&on(target), Some(&policy(hook, days))).unwrap());
}

/// `name hook` of all that is due by then.
fn due(vault: &mut Vault, until: u64) -> Vec<String> {
    let views = vault.due(&Prefix::default(), until).unwrap();
    views.iter().map(|view| format!("{} {} {}", view.name, view.need.word(), view.hook)).collect()
}

#[test]
fn the_nearest_policy_counts() {
    let (_place, mut vault) = Place::of(&SoftDevice::named("one"));
    for token in ["prod", "prod/db", "prod/db/x", "prod-x", "production", "other"] {
        put(&mut vault, token, "x");
    }
    set(&mut vault, "prod/", "wide", 30);
    set(&mut vault, "prod/db/", "narrow", 10);
    set(&mut vault, "prod/db/x", "own", 1);
    let far = NOW + 100 * DAY;
    assert_eq!(due(&mut vault, far), ["prod rotate wide", "prod/db rotate narrow", "prod/db/x rotate own"]);
    assert_eq!(due(&mut vault, NOW + DAY), ["prod/db/x rotate own"]);
    assert_eq!(due(&mut vault, NOW + DAY - 1), Vec::<String>::new());
    assert_eq!(vault.due(&Prefix::parse("prod/db").unwrap(), far).unwrap().len(), 2);
    // What a list says of one token is what the query says of all.
    for view in vault.due(&Prefix::default(), far).unwrap() {
        let shown = vault.shown(&name(&view.name), None, "show").unwrap();
        assert_eq!((shown.rotation.unwrap().hook, shown.rotation_due), (view.hook, view.due));
    }
    assert_eq!(vault.shown(&name("prod-x"), None, "show").unwrap().rotation, None);
    // A token takes its own policy along, and finds its prefixes' where it goes.
    vault.rename(&name("prod/db/x"), &name("moved")).unwrap();
    vault.rename(&name("other"), &name("prod/other")).unwrap();
    let now = ["moved rotate own", "prod rotate wide", "prod/db rotate narrow", "prod/other rotate wide"];
    assert_eq!(due(&mut vault, far), now);
    set(&mut vault, "/", "all", 1);
    assert_eq!(due(&mut vault, far).len(), 6);
    assert!(vault.set_policy(&on("moved"), None).unwrap());
    assert!(due(&mut vault, far).contains(&"moved rotate all".into()));
    let error = vault.set_policy(&on("moved"), None).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    // The same again is no statement.
    assert!(!vault.set_policy(&on("/"), Some(&policy("all", 1))).unwrap());
}

#[test]
fn closed_tokens_are_not_due() {
    let (_place, mut vault) = Place::of(&SoftDevice::named("one"));
    for token in ["suspended", "revoked", "destroyed", "open"] {
        put(&mut vault, token, "x");
    }
    set(&mut vault, "/", "all", 1);
    set(&mut vault, "destroyed", "own", 1);
    vault.set_state(&name("suspended"), None, State::Suspended, "").unwrap();
    vault.set_state(&name("revoked"), None, State::Revoked, "").unwrap();
    vault.destroy(&name("destroyed"), None, "").unwrap();
    assert_eq!(due(&mut vault, NOW + DAY), ["open rotate all"]);
    // Its policy went with it; a token that takes the name is a new one.
    put(&mut vault, "destroyed", "x");
    assert_eq!(due(&mut vault, NOW + DAY), ["destroyed rotate all", "open rotate all"]);
    assert_eq!(vault.shown(&name("suspended"), None, "show").unwrap().rotation_due, None);
}

#[test]
fn a_rotation_that_was_begun_is_due_at_once() {
    let (_place, mut vault) = Place::of(&SoftDevice::named("one"));
    put(&mut vault, "a", "one");
    set(&mut vault, "a", "h", 30);
    let staged = PutOptions { staged: true, ..PutOptions::default() };
    vault.put(&name("a"), &crate::machines::secret("two"), &staged).unwrap();
    assert_eq!(due(&mut vault, NOW), ["a finish h"]);
    vault.set_state(&name("a"), Some(2), State::Active, "").unwrap();
    // The version before stays for the overlap.
    assert_eq!(due(&mut vault, NOW), Vec::<String>::new());
    let views = vault.due(&Prefix::default(), NOW + 3_600_000).unwrap();
    assert_eq!(views[0].need, RotationNeed::Retire);
    vault.set_state(&name("a"), Some(1), State::Revoked, "").unwrap();
    assert_eq!(due(&mut vault, NOW + 30 * DAY), ["a rotate h"]);
}

/// Parameters say where a new value goes.
#[test]
fn who_writes_without_opening_sets_no_policy() {
    let one = SoftDevice::named("one");
    let (place, mut vault) = Place::of(&one);
    put(&mut vault, "w/a", "x");
    let [writer, both] = ["writer", "both"].map(SoftDevice::named);
    enrol(&mut vault, &writer, &["write:w"]);
    enrol(&mut vault, &both, &["write:w", "open:w"]);
    let mut machine = place.meet(&vault, "writer", &[&writer]);
    let error = machine.set_policy(&on("w/a"), Some(&policy("h", 1))).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    let mut machine = place.meet(&vault, "both", &[&both]);
    assert!(machine.set_policy(&on("w/a"), Some(&policy("h", 1))).unwrap());
    assert_eq!(machine.set_policy(&on("/"), Some(&policy("h", 1))).unwrap_err().kind(), Kind::Refused);
}
