//! Staged versions count for nothing until they are made active.

use crate::machines::{NOW, Place, enrol, name, opened, put, secret};
use strongroom::Kind;
use strongroom::ledger::body::State;
use strongroom::replica::ListFilter;
use strongroom::vault::{
    GrantOn, Grantee, PutOptions, RetireOptions, TokenBackend, TokenRef, Vault, VersionView,
};
use test_support::soft_device::SoftDevice;

fn stage(vault: &mut Vault, token: &str, plaintext: &str) {
    let staged = PutOptions { staged: true, ..PutOptions::default() };
    vault.put(&name(token), &secret(plaintext), &staged).unwrap();
}

fn listed(vault: &mut Vault) -> Vec<VersionView> {
    let mut views = Vec::new();
    vault
        .list(&ListFilter::default(), &mut |view| {
            views.push(view);
            Ok(true)
        })
        .unwrap();
    views
}

#[test]
fn a_staged_version_hides_nothing() {
    let (_place, mut vault) = Place::of(&SoftDevice::named("one"));
    let soon = PutOptions {
        expiry: Some(NOW + 1000),
        labels: Some(vec![("a".into(), "live".into())]),
        ..PutOptions::default()
    };
    vault.put(&name("a"), &secret("live"), &soon).unwrap();
    let later = PutOptions { staged: true, labels: Some(vec![("a".into(), "next".into())]), ..soon.clone() };
    vault.put(&name("a"), &secret("next"), &PutOptions { expiry: None, ..later }).unwrap();
    stage(&mut vault, "only", "staged");
    let views = listed(&mut vault);
    let seen: Vec<_> = views.iter().map(|view| (view.version, view.state.word(), view.staged)).collect();
    assert_eq!(seen, [(1, "active", Some(2)), (1, "staged", None)]);
    assert_eq!(views[0].expires, Some(NOW + 1000));
    assert_eq!(vault.replica().count_expiring(NOW + 2000).unwrap(), 1);
    assert_eq!(vault.shown(&name("a"), None, "show").unwrap().closed, None);
    assert!(vault.shown(&name("a"), Some(2), "show").unwrap().closed.unwrap().contains("staged"));
    assert!(vault.shown(&name("only"), None, "show").unwrap().closed.unwrap().contains("staged"));
    assert_eq!(opened(&mut vault, "a"), Ok("live".into()));
    // What is put next follows the version that counts.
    put(&mut vault, "a", "newest");
    let views = listed(&mut vault);
    assert_eq!((views[0].version, views[0].labels["a"].as_str(), views[0].staged), (3, "live", None));
}

#[test]
fn a_staged_version_is_read_by_who_may_write_the_token() {
    let (one, two) = (SoftDevice::named("one"), SoftDevice::named("two"));
    let (place, mut vault) = Place::of(&one);
    enrol(&mut vault, &two, &["open", "write:team"]);
    for token in ["a", "team/a"] {
        put(&mut vault, token, "live");
        stage(&mut vault, token, "staged");
    }
    let mut other = place.meet(&vault, "other", &[&two]);
    assert_eq!(vault.get_staged(&name("a")).unwrap().expose(), b"staged");
    let opened = other.get_staged(&name("team/a")).unwrap();
    assert_eq!((opened.version, opened.expose()), (2, &b"staged"[..]));
    assert_eq!(other.get_staged(&name("a")).unwrap_err().kind(), Kind::Refused);
    // Each is in the access log.
    let lines = vault.accesses(0, 3).unwrap();
    let lines: Vec<_> =
        lines.iter().map(|line| (line.access.version, line.access.outcome.as_str())).collect();
    assert_eq!(lines, [(0, "refused"), (2, "opened"), (2, "opened")]);
    vault.set_state(&name("a"), Some(2), State::Active, "").unwrap();
    assert_eq!(vault.get_staged(&name("a")).unwrap_err().kind(), Kind::NotFound);
    stage(&mut vault, "a", "again");
    vault.set_state(&name("a"), None, State::Suspended, "").unwrap();
    assert_eq!(vault.get_staged(&name("a")).unwrap_err().kind(), Kind::Refused);
    let wanted = TokenRef { name: name("a"), version: Some(3) };
    assert_eq!(vault.open(&wanted).unwrap_err().kind(), Kind::Refused);
}

/// Whoever had the keys of a compromised device may have put and granted what still holds.
#[test]
fn what_a_retired_device_did_is_listed() {
    let (one, two) = (SoftDevice::named("one"), SoftDevice::named("two"));
    let (place, mut vault) = Place::of(&one);
    let id = enrol(&mut vault, &two, &["open", "write", "grant"]);
    let mut other = place.meet(&vault, "other", &[&two]);
    for token in ["theirs", "revoked", "mine"] {
        put(&mut other, token, "x");
    }
    put(&mut vault, "mine", "y");
    vault.set_state(&name("revoked"), None, State::Revoked, "").unwrap();
    let grant = |vault: &mut Vault, token: &str, to: &str| {
        let to = Grantee::User(to.into());
        vault.grant(&GrantOn::Token(name(token)), &to, &Default::default()).unwrap().id
    };
    let theirs = grant(&mut other, "theirs", "deploy");
    grant(&mut vault, "theirs", "ops");
    let retire = RetireOptions { compromised: true, ..RetireOptions::default() };
    vault.retire("two", &retire, &mut |_, _| {}).unwrap();
    let (puts, grants) = vault.authored_by(&id).unwrap();
    let puts: Vec<_> = puts.iter().map(|row| (row.name.as_str(), row.version.version)).collect();
    assert_eq!(puts, [("theirs", 1), ("mine", 1)]);
    assert_eq!(grants.iter().map(|grant| grant.id).collect::<Vec<_>>(), [theirs]);
}

/// It would be the newest, open nothing, and prune what opens.
#[test]
fn a_staged_version_that_has_expired_does_not_become_active() {
    let one = SoftDevice::named("one");
    let (_place, mut vault) = Place::of(&one);
    put(&mut vault, "a", "opens");
    let staged = PutOptions { staged: true, expiry: Some(1), keep: Some(1), ..PutOptions::default() };
    vault.put(&name("a"), &secret("late"), &staged).unwrap();
    let error = vault.set_state(&name("a"), Some(2), State::Active, "").unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    assert!(error.message().contains("it expired at"), "{error}");
    assert_eq!(opened(&mut vault, "a"), Ok("opens".into()));
}

/// It never opened, so its revocation closes nothing.
#[test]
fn a_version_that_is_revoked_while_it_is_staged_hides_nothing() {
    let (_place, mut vault) = Place::of(&SoftDevice::named("one"));
    put(&mut vault, "a", "opens");
    stage(&mut vault, "a", "staged");
    vault.set_state(&name("a"), Some(2), State::Revoked, "refused by its issuer").unwrap();
    assert_eq!(opened(&mut vault, "a"), Ok("opens".into()));
    let shown = vault.shown(&name("a"), None, "show").unwrap();
    assert_eq!((shown.current, shown.closed.as_deref()), (Some(1), None));
    let at = strongroom::integrations::hosts::current(&mut vault, &name("a")).unwrap();
    assert_eq!((at.version, at.state.word()), (1, "active"));
    let views = listed(&mut vault);
    assert_eq!((views[0].version, views[0].state.word(), views[0].staged), (1, "active", None));
    assert_eq!(vault.shown(&name("a"), Some(2), "show").unwrap().current, None);
    // One that was in use and is revoked closes the token.
    put(&mut vault, "a", "newest");
    vault.set_state(&name("a"), Some(3), State::Revoked, "").unwrap();
    assert!(opened(&mut vault, "a").unwrap_err().contains("version 3 was revoked"));
}
