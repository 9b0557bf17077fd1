//! New keys in a device whose old ones are bound to a state that is over.

use crate::machines::{Place, enrol, name, opened, put, put_only, sealed_to, verifies};
use strongroom::Kind;
use strongroom::ledger::Prefix;
use strongroom::vault::EnrolOptions;
use test_support::soft_device::SoftDevice;

#[test]
fn another_device_brings_the_tokens_over() {
    let (spare, server) = (SoftDevice::named("spare"), SoftDevice::outside("server", 0));
    let (place, mut vault) = Place::of(&spare);
    let old = enrol(&mut vault, &server, &["open", "write:prod"]);
    put(&mut vault, "wide", "for all");
    put_only(&mut vault, "narrow", "for the server and the spare", &["server"]);
    // The update: what was measured is another.
    let updated = SoftDevice::outside("server", 1);
    let mut on_server = place.meet(&vault, "server", &[&updated]);
    assert!(opened(&mut on_server, "wide").unwrap_err().contains("what was measured changed"));

    let mut vault = place.at("first", &[&spare, &updated]);
    let error = vault.renew("server", &EnrolOptions::default(), false, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.message().contains("narrow@1 needs this device"), "{error}");
    let (report, resealed) = vault.renew("server", &EnrolOptions::default(), true, &mut |_, _| {}).unwrap();
    assert_eq!((report.device_name.as_str(), report.device == old), ("server", false));
    assert_eq!((resealed.resealed, resealed.left.len()), (1, 1));
    let mut on_server = place.at("server", &[&updated]);
    assert_eq!(opened(&mut on_server, "wide"), Ok("for all".into()));
    let roles = &on_server.replica().active_device("server").unwrap().unwrap().roles;
    assert_eq!(roles.iter().map(ToString::to_string).collect::<Vec<_>>(), ["open", "write:prod"]);
    verifies(&mut vault);
}

/// While the old keys still work, what is sealed to them alone is brought over by them.
#[test]
fn before_the_update_nothing_is_lost() {
    let (spare, server) = (SoftDevice::named("spare"), SoftDevice::outside("server", 0));
    let (place, mut vault) = Place::of(&spare);
    enrol(&mut vault, &server, &["open"]);
    put_only(&mut vault, "narrow", "for the server", &["server"]);
    let mut vault = place.at("first", &[&spare, &server]);
    let (_, resealed) = vault.renew("server", &EnrolOptions::default(), false, &mut |_, _| {}).unwrap();
    assert_eq!((resealed.resealed, resealed.left.len()), (1, 0));
    // It stays the server's, and nobody else's.
    assert_eq!(sealed_to(&vault, "narrow", 1), ["server"]);
    assert!(opened(&mut place.at("first", &[&spare]), "narrow").is_err());
    assert_eq!(opened(&mut place.meet(&vault, "server", &[&server]), "narrow"), Ok("for the server".into()));
    verifies(&mut vault);
}

/// What was not brought over at once can be later: the device still has the keys of before.
#[test]
fn the_old_keys_serve_for_the_rest() {
    let (spare, server) = (SoftDevice::named("spare"), SoftDevice::outside("server", 0));
    let (place, mut vault) = Place::of(&spare);
    enrol(&mut vault, &server, &["open"]);
    put_only(&mut vault, "narrow", "for the server", &["server"]);
    let updated = SoftDevice::outside("server", 1);
    let mut vault = place.at("first", &[&spare, &updated]);
    let (_, resealed) = vault.renew("server", &EnrolOptions::default(), true, &mut |_, _| {}).unwrap();
    assert_eq!((resealed.resealed, resealed.left.len()), (0, 1));
    assert_eq!(vault.count_stale(&Prefix::default()).unwrap(), 1);
    // The update is taken back for a moment.
    let mut vault = place.at("first", &[&spare, &server]);
    assert_eq!(opened(&mut vault, "narrow"), Ok("for the server".into()));
    assert_eq!(vault.reseal(&Prefix::default(), &mut |_, _| {}).unwrap().resealed, 1);
    assert_eq!(opened(&mut place.meet(&vault, "server", &[&updated]), "narrow"), Ok("for the server".into()));
    verifies(&mut vault);
}

/// The counter that the store is anchored to goes on counting under the new id.
#[test]
fn an_anchor_moves_along() {
    let tpm = tempfile::tempdir().unwrap();
    let spare = SoftDevice::named("spare");
    let server = SoftDevice::outside("server", 0).counting_in(tpm.path());
    let (place, mut vault) = Place::of(&spare);
    enrol(&mut vault, &server, &["open"]);
    put(&mut vault, "a", "token");
    let counter = vault.anchor("server", false).unwrap();
    let updated = SoftDevice::outside("server", 1).counting_in(tpm.path());
    let mut vault = place.at("first", &[&spare, &updated]);
    vault.renew("server", &EnrolOptions::default(), false, &mut |_, _| {}).unwrap();
    let row = vault.active_device("server", "look").unwrap();
    assert_eq!(u64::from(row.anchor.unwrap().index), counter.index);
    assert_eq!(opened(&mut vault, "a"), Ok("token".into()));
    put(&mut vault, "a", "next");
    let stands = std::fs::read_to_string(tpm.path().join(counter.index.to_string())).unwrap();
    assert_eq!(stands.parse::<u64>().unwrap(), vault.replica().expected_count(&row.anchor.unwrap()));
}

#[test]
fn another_admin_has_to_sign() {
    let server = SoftDevice::outside("server", 0);
    let (_place, mut vault) = Place::of(&server);
    let error = vault.renew("server", &EnrolOptions::default(), false, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.message().contains("no other device here has the role `admin`"), "{error}");
}

/// A machine whose configuration still has the id of before finds the device all the same.
#[test]
fn the_configured_id_may_be_the_one_of_before() {
    let (spare, server) = (SoftDevice::named("spare"), SoftDevice::outside("server", 0));
    let (place, mut vault) = Place::of(&spare);
    let old = enrol(&mut vault, &server, &["open", "write"]);
    put(&mut vault, "a", "token");
    let mut vault = place.at("first", &[&spare, &server]);
    let (report, _) = vault.renew("server", &EnrolOptions::default(), false, &mut |_, _| {}).unwrap();
    let away = SoftDevice::named("server").uri().with("module-path", "/nonexistent.so").unwrap();
    let setup = strongroom::vault::Setup { devices: vec![(away, Some(old))], ..place.setup("first", &[]) };
    let error = strongroom::vault::Vault::open(setup).unwrap().get(&name("a"), None).unwrap_err();
    // It gets as far as reaching for it.
    assert!(error.to_string().contains("nonexistent"), "{error}");
    assert_ne!(report.device, old);
}

/// Where the new keys destroy the old ones, nothing may hang on the old ones.
#[test]
fn keys_that_are_overwritten_are_not_needed_any_more() {
    let (spare, server) = (SoftDevice::named("spare"), SoftDevice::outside("server", 0));
    let (place, mut vault) = Place::of(&spare);
    enrol(&mut vault, &server, &["open"]);
    put_only(&mut vault, "narrow", "for the server", &["server"]);
    let mut vault = place.at("first", &[&spare, &server]);
    let before = vault.head();
    let mut options = EnrolOptions::default();
    options.create.piv.overwrite = Some("1234".into());
    let error = vault.renew("server", &options, false, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.message().contains("no other device opens narrow@1"), "{error}");
    assert!(error.hint().unwrap().contains("--accept-loss"), "{error}");
    assert_eq!(vault.head(), before);
    assert_eq!(opened(&mut vault, "narrow"), Ok("for the server".into()));
}

/// A device that happens to be enrolled next, under the name that became free, inherits nothing.
#[test]
fn only_who_came_in_the_same_batch_is_a_successor() {
    let (spare, server) = (SoftDevice::named("spare"), SoftDevice::named("server"));
    let (place, mut vault) = Place::of(&spare);
    enrol(&mut vault, &server, &["open"]);
    put_only(&mut vault, "narrow", "for the server", &["server"]);
    let mut vault = place.at("first", &[&spare, &server]);
    let options = strongroom::vault::RetireOptions { force: true, ..Default::default() };
    vault.retire("server", &options, &mut |_, _| {}).unwrap();
    let another = SoftDevice::named("another");
    let roles = vec!["open".parse().unwrap()];
    let options = EnrolOptions { roles, device_name: Some("server".into()), ..EnrolOptions::default() };
    vault.enrol(another.uri(), Some(Box::new(another.clone())), &options).unwrap();
    let devices = vault.replica().devices().unwrap();
    let gone = devices.iter().find(|row| row.retired.is_some()).unwrap();
    let next = devices.iter().find(|row| Some(row.n) == gone.gone.map(|n| n + 1)).unwrap();
    assert_eq!(next.enrolment.name, "server");
    assert_eq!(vault.replica().successor(gone).unwrap(), None);
    assert_eq!(vault.replica().predecessor(next).unwrap(), None);
    let report = vault.reseal(&Prefix::default(), &mut |_, _| {}).unwrap();
    assert_eq!((report.resealed, report.left.len()), (0, 1));
}
