//! Several devices: enrolled, with roles of their own, retired.

use crate::machines::{
    Place, enrol, name, names, opened, put, put_only, sealed_to, secret, verifies, version,
};
use strongroom::Kind;
use strongroom::device::{Evidence, EvidenceLevel};
use strongroom::ledger::Prefix;
use strongroom::ledger::body::{Role, State};
use strongroom::uri::DeviceUri;
use strongroom::vault::{EnrolOptions, PutOptions, RetireOptions, Setup, Vault};
use test_support::soft_device::SoftDevice;

fn reseal(vault: &mut Vault) -> u64 {
    let report = vault.reseal(&Prefix::default(), &mut |_, _| {}).unwrap();
    assert!(report.left.is_empty(), "{:?}", report.left);
    report.resealed
}

fn retire(vault: &mut Vault, device: &str) -> strongroom::Result<strongroom::vault::RetireReport> {
    vault.retire(device, &RetireOptions::default(), &mut |_, _| {})
}

#[test]
fn a_token_opens_with_any_of_its_devices() {
    let (one, two) = (SoftDevice::named("one"), SoftDevice::named("two"));
    let (place, mut vault) = Place::of(&one);
    put(&mut vault, "a", "before");
    let id = enrol(&mut vault, &two, &["open"]);
    put(&mut vault, "b", "after");
    assert_eq!(vault.count_closed_to(&id).unwrap(), 1);
    let mut other = place.meet(&vault, "other", &[&two]);
    assert_eq!(opened(&mut other, "b"), Ok("after".into()));
    let why = opened(&mut other, "a").unwrap_err();
    assert!(why.contains("it is sealed to one, and none of these is configured here"), "{why}");

    assert_eq!(reseal(&mut vault), 1);
    assert_eq!((vault.count_closed_to(&id).unwrap(), sealed_to(&vault, "a", 1).len()), (0, 2));
    // The other machine has not heard of it: it finds the new bytes all the same.
    assert_eq!(opened(&mut other, "a"), Ok("before".into()));
    assert_eq!(opened(&mut place.at("first", &[&one]), "a"), Ok("before".into()));
    assert_eq!(opened(&mut place.at("first", &[&one, &two]), "a"), Ok("before".into()));
    // It opens, and does no more.
    let refused = other.put(&name("a"), &secret("x"), &PutOptions::default()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    verifies(&mut vault);
}

#[test]
fn the_next_device_serves_when_one_cannot_be_reached() {
    let (one, two) = (SoftDevice::named("one"), SoftDevice::named("two"));
    let (place, mut vault) = Place::of(&one);
    let first = vault.replica().devices().unwrap()[0].id;
    enrol(&mut vault, &two, &["open", "write"]);
    put(&mut vault, "a", "token");
    let gone = DeviceUri::parse("pkcs11:token=one?module-path=/nonexistent.so").unwrap();
    let setup = Setup { devices: vec![(gone, Some(first))], ..place.setup("first", &[&two]) };
    let mut vault = Vault::open(setup).unwrap();
    assert_eq!(opened(&mut vault, "a"), Ok("token".into()));
    put(&mut vault, "a", "written by the second");
    assert_eq!(opened(&mut vault, "a"), Ok("written by the second".into()));
}

#[test]
fn what_is_not_enrolled() {
    let one = SoftDevice::named("one");
    let (place, mut vault) = Place::of(&one);
    let refusal = |vault: &mut Vault, device: &SoftDevice, options: &EnrolOptions| {
        let error = vault.enrol(device.uri(), Some(Box::new(device.clone())), options).unwrap_err();
        (error.kind(), format!("{error} {}", error.hint().unwrap_or_default()))
    };
    let before = vault.head();
    let named = |name: &str| EnrolOptions { device_name: Some(name.into()), ..EnrolOptions::default() };
    let (kind, words) = refusal(&mut vault, &one, &named("again"));
    assert!(kind == Kind::Conflict && words.contains("it is enrolled already, as one"), "{words}");
    let (kind, words) = refusal(&mut vault, &SoftDevice::named("two"), &named("one"));
    assert!(kind == Kind::Conflict && words.contains("a device is called one already"), "{words}");
    let (kind, words) = refusal(&mut vault, &SoftDevice::named("two"), &named("a b"));
    assert!(kind == Kind::Usage && words.contains("--name"), "{words}");
    let weak = Evidence {
        level: EvidenceLevel::Reported,
        claims: SoftDevice::named("two").key_infos()[0].evidence.claims[..4].to_vec(),
    };
    let (kind, words) =
        refusal(&mut vault, &SoftDevice::with_evidence("two", weak), &EnrolOptions::default());
    assert!(kind == Kind::Evidence && words.contains("CKA_EXTRACTABLE"), "{words}");
    let prefix = EnrolOptions { roles: vec![Role::Write("a//b".into())], ..EnrolOptions::default() };
    assert_eq!(refusal(&mut vault, &SoftDevice::named("two"), &prefix).0, Kind::Refused);
    assert_eq!(vault.head(), before);

    // Nobody without an admin device.
    enrol(&mut vault, &SoftDevice::named("two"), &["open", "write"]);
    let mut other = place.meet(&vault, "other", &[&SoftDevice::named("two")]);
    let (kind, words) = refusal(&mut other, &SoftDevice::named("three"), &EnrolOptions::default());
    assert!(kind == Kind::Refused && words.contains("no device here has the role `admin`"), "{words}");

    // Keys are enrolled once.
    retire(&mut vault, "two").unwrap();
    let (kind, words) = refusal(&mut vault, &SoftDevice::named("two"), &EnrolOptions::default());
    assert!(kind == Kind::Conflict && words.contains("which is retired; keys are enrolled once"), "{words}");
}

#[test]
fn a_device_with_a_narrow_role_stays_within_it() {
    let (one, two) = (SoftDevice::named("one"), SoftDevice::named("two"));
    let (place, mut vault) = Place::of(&one);
    enrol(&mut vault, &two, &["write:team"]);
    let mut other = place.meet(&vault, "other", &[&two]);
    put(&mut other, "team/a", "theirs");
    let refused = other.put(&name("prod/a"), &secret("x"), &PutOptions::default()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(opened(&mut other, "team/a").unwrap_err().contains("sealed to one"));
    let mut vault = place.at("first", &[&one]);
    assert_eq!(opened(&mut vault, "team/a"), Ok("theirs".into()));

    vault.set_roles("two", &[Role::Open(String::new())]).unwrap();
    assert_eq!(reseal(&mut vault), 1);
    assert_eq!(opened(&mut other, "team/a"), Ok("theirs".into()));
    assert_eq!(
        other.put(&name("team/a"), &secret("x"), &PutOptions::default()).unwrap_err().kind(),
        Kind::Refused
    );
    assert_eq!(vault.set_roles("three", &[Role::Open(String::new())]).unwrap_err().kind(), Kind::NotFound);
    let last = vault.set_roles("one", &[Role::Open(String::new())]).unwrap_err();
    assert!(last.to_string().contains("last device with the role admin"), "{last}");
}

#[test]
fn keys_outside_the_device_are_recognised() {
    let (one, two) = (SoftDevice::outside("one", 0), SoftDevice::outside("two", 0));
    let (place, mut vault) = Place::of(&one);
    put(&mut vault, "a", "token");
    enrol(&mut vault, &two, &["open", "write", "admin"]);
    assert_eq!(reseal(&mut vault), 1);
    let row = &vault.replica().devices().unwrap()[1];
    assert_eq!(row.enrolment.opening.material.len(), 9);
    // Each machine has nothing but the ledger and its device.
    let mut other = place.meet(&vault, "other", &[&two]);
    assert_eq!(opened(&mut other, "a"), Ok("token".into()));
    put(&mut other, "a", "by the second");
    assert_eq!(opened(&mut place.at("first", &[&one]), "a"), Ok("by the second".into()));
    // Another device of the kind is none of them.
    let mut stranger = place.meet(&vault, "stranger", &[&SoftDevice::outside("three", 0)]);
    assert!(opened(&mut stranger, "a").unwrap_err().contains("none of its keys is enrolled"));
    verifies(&mut vault);
}

#[test]
fn a_retired_device_opens_nothing_that_comes() {
    let (one, two) = (SoftDevice::named("one"), SoftDevice::named("two"));
    let (place, mut vault) = Place::of(&one);
    let id = enrol(&mut vault, &two, &["open", "write"]);
    put(&mut vault, "a", "first");
    put(&mut vault, "a", "second");
    put(&mut vault, "gone", "destroyed");
    put(&mut vault, "dead", "revoked");
    put_only(&mut vault, "own", "not its", &["one"]);
    vault.set_state(&name("dead"), None, State::Revoked, "leaked").unwrap();
    vault.destroy(&name("gone"), None, "").unwrap();
    let old = version(&vault, "a", 1).seals[0].digest;
    let mut other = place.meet(&vault, "other", &[&two]);

    let options = RetireOptions { compromised: true, reason: "stolen".into(), force: false };
    let report = vault.retire("two", &options, &mut |_, _| {}).unwrap();
    assert_eq!((report.device, report.reseal.resealed, report.reseal.left.len()), (id, 2, 0));
    assert_eq!(sealed_to(&vault, "a", 1), ["one"]);
    assert!(!place.has(&old));
    assert!(opened(&mut other, "a").unwrap_err().contains("sealed to one"));
    let refused = other.put(&name("a"), &secret("x"), &PutOptions::default()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    assert_eq!(opened(&mut vault, "a@1"), Ok("first".into()));

    // What it could open is told whenever it is asked for, resealed or not.
    let mut rows = Vec::new();
    let listed = vault.opened_by(&id, |row| {
        rows.push(row);
        Ok(true)
    });
    listed.unwrap();
    assert_eq!(names(&rows), ["a@1", "a@2", "dead@1"]);
    let row = vault.replica().device_row(&id).unwrap().unwrap();
    assert_eq!(row.retired, Some((true, "stolen".into())));
    assert_eq!(retire(&mut vault, "two").unwrap_err().kind(), Kind::NotFound);
    verifies(&mut vault);
}

#[test]
fn the_last_admin_stays() {
    let (one, two) = (SoftDevice::named("one"), SoftDevice::named("two"));
    let (_place, mut vault) = Place::of(&one);
    enrol(&mut vault, &two, &["open"]);
    let error = retire(&mut vault, "one").unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.message().contains("last device with the role admin"), "{error}");
    assert!(error.hint().unwrap().contains("--role admin"), "{error}");
}

/// What only the device opens is resealed by the device itself, before it goes.
#[test]
fn nothing_is_left_that_nobody_opens() {
    let (one, two) = (SoftDevice::named("one"), SoftDevice::named("two"));
    let (place, mut vault) = Place::of(&one);
    put(&mut vault, "a", "token");
    enrol(&mut vault, &two, &["open", "write", "admin"]);
    put(&mut vault, "b", "for both");
    // Where only the other device is, it cannot be done.
    let mut other = place.meet(&vault, "other", &[&two]);
    let error = retire(&mut other, "one").unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.message().contains("no other device opens a@1"), "{error}");
    assert!(error.hint().unwrap().contains("--force"), "{error}");
    assert_eq!(vault.head(), other.head());
    // With the device itself it can: also where it is the only one there.
    let report = retire(&mut vault, "one").unwrap();
    assert_eq!((report.reseal.resealed, report.reseal.left.len()), (2, 0));
    assert_eq!(
        (opened(&mut other, "a"), opened(&mut other, "b")),
        (Ok("token".into()), Ok("for both".into()))
    );
    assert_eq!(
        (sealed_to(&other, "a", 1), sealed_to(&other, "b", 1)),
        (vec!["two".into()], vec!["two".into()])
    );
    verifies(&mut other);
}

#[test]
fn a_token_put_for_one_device_alone_is_not_lost_unasked() {
    let (one, two) = (SoftDevice::named("one"), SoftDevice::named("two"));
    let (place, mut vault) = Place::of(&one);
    enrol(&mut vault, &two, &["open"]);
    put_only(&mut vault, "own", "only two's", &["two"]);
    put(&mut vault, "all", "everybody's");
    let error = retire(&mut vault, "two").unwrap_err();
    assert!(error.message().contains("no other device opens own@1"), "{error}");
    let options = RetireOptions { force: true, ..RetireOptions::default() };
    let report = vault.retire("two", &options, &mut |_, _| {}).unwrap();
    assert_eq!(report.reseal.resealed, 1);
    assert_eq!(report.reseal.left.len(), 1);
    assert!(report.reseal.left[0].error.message().contains("put for certain devices only"));
    assert_eq!(sealed_to(&vault, "all", 1), ["one"]);
    assert!(opened(&mut place.at("first", &[&one]), "own").unwrap_err().contains("sealed to two"));
}
