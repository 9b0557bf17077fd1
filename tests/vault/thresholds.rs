//! Tokens that several devices open together.

use crate::machines::{NOW, Place, enrol, name, opened, sealed_to, secret, verifies, version};
use strongroom::Kind;
use strongroom::ledger::body::State;
use strongroom::ledger::{Name, Prefix};
use strongroom::vault::{ImportItem, PutOptions, RetireOptions, TokenBackend, TokenRef, Vault};
use test_support::soft_device::SoftDevice;

fn devices() -> [SoftDevice; 3] {
    ["one", "two", "three"].map(SoftDevice::named)
}

/// A store with three devices that open everything; the first is its only admin.
fn store() -> (Place, Vault) {
    let [one, two, three] = devices();
    let (place, mut vault) = Place::of(&one);
    enrol(&mut vault, &two, &["open", "write:team"]);
    enrol(&mut vault, &three, &["open"]);
    (place, vault)
}

fn of(threshold: u64) -> PutOptions {
    PutOptions { threshold: Some(threshold), ..PutOptions::default() }
}

fn put(vault: &mut Vault, token: &str, options: &PutOptions) -> strongroom::Result<u64> {
    vault.put(&name(token), &secret(token), options).map(|report| report.threshold)
}

fn set_threshold(vault: &mut Vault, prefix: &str, threshold: u64) {
    let mut settings = vault.settings().unwrap();
    settings.thresholds = vec![(prefix.into(), threshold)];
    vault.set_settings(&settings).unwrap();
}

#[test]
fn any_two_of_three_open_it_and_one_does_not() {
    let (place, mut vault) = store();
    put(&mut vault, "a", &of(2)).unwrap();
    let [one, two, three] = devices();
    for (n, pair) in [[&one, &two], [&two, &three], [&three, &one]].into_iter().enumerate() {
        let mut machine = place.meet(&vault, &format!("pair {n}"), &pair);
        assert_eq!(opened(&mut machine, "a"), Ok("a".into()));
    }
    let mut all = place.meet(&vault, "all", &[&one, &two, &three]);
    assert_eq!(opened(&mut all, "a"), Ok("a".into()));
    let mut alone = place.meet(&vault, "alone", &[&two]);
    let error = alone.get(&name("a"), None).unwrap_err();
    assert_eq!(error.kind(), Kind::SealedElsewhere);
    assert_eq!(
        error.to_string(),
        "cannot open a@1: 2 devices must open it together, and only two is configured here"
    );
    assert!(error.hint().unwrap().starts_with("bring 1 more of one, three here"), "{error:?}");
    let mut nobody = place.meet(&vault, "nobody", &[]);
    assert!(opened(&mut nobody, "a").unwrap_err().contains("none of them is configured here"));
    verifies(&mut vault);
}

/// One line for each read, in the chain of the device that completed it; the others are named in it.
#[test]
fn the_access_log_names_all_who_opened_it() {
    let (place, vault) = store();
    let [one, two, three] = devices();
    let mut machine = place.meet(&vault, "machine", &[&one, &two, &three]);
    put(&mut machine, "a", &of(3)).unwrap();
    opened(&mut machine, "a").unwrap();
    let [line] = machine.accesses(0, 10).unwrap().try_into().unwrap();
    let id = |called: &str| {
        let rows = machine.replica().devices().unwrap();
        rows.into_iter().find(|row| row.enrolment.name == called).unwrap().id.to_string()
    };
    assert_eq!(line.access.device, id("three"));
    assert_eq!(line.access.outcome, format!("opened with {} {}", id("one"), id("two")));
    // Names in place of ids, where people read it.
    let [shown] = strongroom::vault::TokenBackend::accesses(&mut machine, 0, 10).unwrap().try_into().unwrap();
    assert_eq!((shown.device.as_str(), shown.outcome.as_str()), ("three", "opened with one, two"));
    verifies(&mut machine);
}

#[test]
fn a_device_that_fails_leaves_it_to_the_others() {
    let one = SoftDevice::named("one");
    let (place, mut vault) = Place::of(&one);
    let (bound, three) = (SoftDevice::outside("two", 1), SoftDevice::named("three"));
    enrol(&mut vault, &bound, &["open"]);
    enrol(&mut vault, &three, &["open"]);
    put(&mut vault, "a", &of(2)).unwrap();
    let elsewhere = SoftDevice::outside("two", 2);
    let mut machine = place.meet(&vault, "machine", &[&elsewhere, &one, &three]);
    assert_eq!(opened(&mut machine, "a"), Ok("a".into()));
    let mut machine = place.meet(&vault, "fewer", &[&one, &elsewhere]);
    let error = machine.get(&name("a"), None).unwrap_err();
    assert!(error.to_string().contains("open share 2 of 2 of a@1"), "{error}");
    let [line] = machine.accesses(0, 1).unwrap().try_into().unwrap();
    assert_ne!(line.access.outcome, "opened");
}

#[test]
fn several_tokens_are_opened_at_once() {
    let (place, mut vault) = store();
    for (token, threshold) in [("a", 1), ("b", 2), ("c", 3), ("d", 2)] {
        put(&mut vault, token, &of(threshold)).unwrap();
    }
    let [one, two, three] = devices();
    let wanted =
        ["a", "b", "c", "d"].map(|token| TokenRef { name: Name::parse(token).unwrap(), version: None });
    let mut machine = place.meet(&vault, "three", &[&three, &two, &one]);
    let all = machine.open_all(&wanted).into_iter().map(|token| token.unwrap().value);
    assert!(all.map(|value| value.expose().to_vec()).eq(["a", "b", "c", "d"].map(Vec::from)));
    let mut machine = place.meet(&vault, "two", &[&two, &one]);
    let some: Vec<_> = machine.open_all(&wanted).into_iter().map(|token| token.is_ok()).collect();
    assert_eq!(some, [true, true, false, true]);
}

#[test]
fn a_put_keeps_the_threshold_and_only_an_admin_lowers_it() {
    let (place, mut vault) = store();
    assert_eq!(put(&mut vault, "team/a", &PutOptions::default()).unwrap(), 1);
    assert_eq!(put(&mut vault, "team/a", &of(2)).unwrap(), 2);
    let [_, two, _] = devices();
    let mut writer = place.meet(&vault, "writer", &[&two]);
    assert_eq!(put(&mut writer, "team/a", &PutOptions::default()).unwrap(), 2);
    assert_eq!(put(&mut writer, "team/a", &of(3)).unwrap(), 3);
    let error = put(&mut writer, "team/a", &of(2)).unwrap_err();
    assert!(error.to_string().contains("only an admin"), "{error}");
    // A staged version does not hide what the next one is measured by.
    let staged = PutOptions { staged: true, ..PutOptions::default() };
    assert_eq!(put(&mut writer, "team/a", &staged).unwrap(), 3);
    assert_eq!(put(&mut vault, "team/a", &of(1)).unwrap(), 1);
    assert_eq!(put(&mut writer, "team/a", &PutOptions::default()).unwrap(), 1);
    // More than there are.
    let error = put(&mut vault, "team/a", &of(4)).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains("4 devices should open it together, and it is for 3"), "{error}");
    let only = PutOptions { only: vec!["one".into()], ..of(2) };
    assert!(put(&mut vault, "team/a", &only).is_err());
    let only = PutOptions { only: vec!["one".into(), "three".into()], ..of(2) };
    assert_eq!(put(&mut vault, "team/a", &only).unwrap(), 2);
    verifies(&mut vault);
}

#[test]
fn the_settings_ask_for_a_threshold() {
    let (_place, mut vault) = store();
    put(&mut vault, "early", &PutOptions::default()).unwrap();
    put(&mut vault, "prod/staged", &of(1)).unwrap();
    let staged = PutOptions { staged: true, ..of(1) };
    put(&mut vault, "prod/staged", &staged).unwrap();
    set_threshold(&mut vault, "prod", 2);
    assert_eq!(put(&mut vault, "prod/a", &PutOptions::default()).unwrap(), 2);
    assert_eq!(put(&mut vault, "prod/a", &of(3)).unwrap(), 3);
    let error = put(&mut vault, "prod/a", &of(1)).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.message().contains("the settings ask for 2 devices"), "{error}");
    // Neither a new name nor an activation leads around it.
    let error = vault.rename(&name("early"), &name("prod/early")).unwrap_err();
    assert!(
        error.message().contains("the settings ask for 2 devices that open prod/early together"),
        "{error}"
    );
    let error = vault.set_state(&name("prod/staged"), Some(2), State::Active, "").unwrap_err();
    assert!(
        error.message().contains("the settings ask for 2 devices that open prod/staged together"),
        "{error}"
    );
    // An import follows them, too.
    let items = ["prod/x", "other/x"].map(|token| {
        let options = PutOptions::default();
        Ok(ImportItem { name: name(token), token: secret("x"), options })
    });
    vault.import(items.into_iter(), &mut |_| {}).unwrap();
    let [prod, other] = ["prod/x", "other/x"].map(|token| version(&vault, token, 1).threshold);
    assert_eq!((prod, other), (2, 1));
    verifies(&mut vault);
}

#[test]
fn a_reseal_brings_older_versions_to_what_the_settings_ask_for() {
    let (place, mut vault) = store();
    put(&mut vault, "prod/a", &PutOptions::default()).unwrap();
    put(&mut vault, "early", &of(2)).unwrap();
    set_threshold(&mut vault, "prod", 2);
    assert_eq!(vault.count_stale(&Prefix::default()).unwrap(), 1);
    let report = vault.reseal(&Prefix::default(), &mut |_, _| {}).unwrap();
    assert_eq!((report.resealed, report.left.len()), (1, 0), "{:?}", report.left);
    assert_eq!(version(&vault, "prod/a", 1).threshold, 2);
    assert_eq!(vault.count_stale(&Prefix::default()).unwrap(), 0);
    let [one, two, _] = devices();
    let mut alone = place.meet(&vault, "alone", &[&one]);
    assert!(opened(&mut alone, "prod/a").unwrap_err().contains("2 devices"));
    let mut both = place.meet(&vault, "both", &[&one, &two]);
    assert_eq!(opened(&mut both, "prod/a"), Ok("prod/a".into()));
    both.rename(&name("early"), &name("prod/early")).unwrap();
    verifies(&mut vault);
}

#[test]
fn a_new_device_gets_a_share_where_enough_others_are() {
    let (place, mut vault) = store();
    put(&mut vault, "a", &of(2)).unwrap();
    enrol(&mut vault, &SoftDevice::named("four"), &["open"]);
    let [one, two, three] = devices();
    let mut alone = place.meet(&vault, "alone", &[&one]);
    let report = alone.reseal(&Prefix::default(), &mut |_, _| {}).unwrap();
    assert_eq!((report.resealed, report.left.len()), (0, 1));
    assert!(report.left[0].error.to_string().contains("only one is configured here"), "{:?}", report.left);
    let mut both = place.meet(&vault, "both", &[&one, &two]);
    let old = version(&both, "a", 1).seals[0].digest;
    assert_eq!(both.reseal(&Prefix::default(), &mut |_, _| {}).unwrap().resealed, 1);
    assert_eq!(sealed_to(&both, "a", 1), ["four", "one", "three", "two"]);
    let row = version(&both, "a", 1);
    assert_eq!((row.threshold, row.seals.len(), place.has(&old)), (2, 1, false));
    let mut others = place.meet(&vault, "others", &[&three, &SoftDevice::named("four")]);
    assert_eq!(opened(&mut others, "a"), Ok("a".into()));
    verifies(&mut both);
}

/// What the settings ask for is no reason to leave a device that was stolen among the recipients.
#[test]
fn a_compromised_device_goes_where_too_few_are_left_for_the_settings() {
    let (place, mut vault) = store();
    put(&mut vault, "prod/a", &PutOptions::default()).unwrap();
    put(&mut vault, "prod/two", &of(2)).unwrap();
    let mut settings = vault.settings().unwrap();
    settings.thresholds = vec![("prod".into(), 4)];
    let error = vault.set_settings(&settings).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("and 3 open all of prod"), "{error}");
    set_threshold(&mut vault, "prod", 3);
    let [one, two, _] = devices();
    let mut both = place.meet(&vault, "both", &[&one, &two]);
    let stolen = RetireOptions { compromised: true, ..RetireOptions::default() };
    let report = both.retire("three", &stolen, &mut |_, _| {}).unwrap();
    assert_eq!((report.reseal.resealed, report.reseal.left.len()), (2, 0), "{:?}", report.reseal.left);
    for (token, threshold) in [("prod/a", 1), ("prod/two", 2)] {
        assert_eq!(sealed_to(&both, token, 1), ["one", "two"]);
        assert_eq!(version(&both, token, 1).threshold, threshold);
        assert_eq!(opened(&mut both, token), Ok(token.into()));
    }
    let notices = both.take_notices();
    assert!(notices.iter().any(|notice| notice.contains("settings --threshold prod=2")), "{notices:?}");
    // It is told until it is mended, in either way.
    let report = both.reseal(&Prefix::default(), &mut |_, _| {}).unwrap();
    assert_eq!((report.resealed, report.left.len()), (0, 2));
    assert!(
        report.left[0].error.message().contains("3 devices must open it together, and only 2 may open it")
    );
    set_threshold(&mut both, "prod", 2);
    let report = both.reseal(&Prefix::default(), &mut |_, _| {}).unwrap();
    assert_eq!((report.resealed, report.left.len()), (1, 0), "{:?}", report.left);
    verifies(&mut both);
}

#[test]
fn a_device_is_not_retired_if_too_few_are_left() {
    let (place, mut vault) = store();
    put(&mut vault, "a", &of(2)).unwrap();
    put(&mut vault, "b", &of(3)).unwrap();
    let [one, two, _] = devices();
    let mut both = place.meet(&vault, "both", &[&one, &two]);
    let error = both.retire("three", &RetireOptions::default(), &mut |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.message().contains("too few other devices open b@1"), "{error}");
    let forced = RetireOptions { force: true, ..RetireOptions::default() };
    let report = both.retire("three", &forced, &mut |_, _| {}).unwrap();
    assert_eq!(report.reseal.resealed, 1);
    assert!(report.reseal.left[0].error.message().contains("only 2 may open it"), "{:?}", report.reseal.left);
    assert_eq!(sealed_to(&both, "a", 1), ["one", "two"]);
    assert_eq!(opened(&mut both, "a"), Ok("a".into()));
    verifies(&mut both);
}

/// As with any other version, its label says how long an agent may keep it; its times close it to all.
#[test]
fn its_times_hold() {
    let (place, mut vault) = store();
    let expired = PutOptions { expiry: Some(NOW - 1), ..of(2) };
    put(&mut vault, "a", &expired).unwrap();
    let [one, two, _] = devices();
    let mut both = place.meet(&vault, "both", &[&one, &two]);
    assert!(opened(&mut both, "a").unwrap_err().contains("expired"));
}
