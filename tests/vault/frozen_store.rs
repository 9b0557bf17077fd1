//! The store that 0.1.0 wrote, in `tests/vectors/store-0.1.0/`: every later version reads it, opens its tokens, and goes
//! on writing to it. It is never made again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use strongroom::ledger::body::{
    Body, PolicyChange, Propose, Role, Roles, RotationPolicy, Settings, State, Target,
};
use strongroom::replica::{ListFilter, TrustAnchor};
use strongroom::vault::{GrantOn, GrantOptions, LogOrder, Op, PutOptions, Vault};
use test_support::forged_batch::Draft;
use test_support::test_store::{Actor, NOW, TestStore, all_roles, directory, name, secret, setup};

fn frozen() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/store-0.1.0")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(frozen().join(file)).unwrap()
}

/// A vault on a copy of the file, with two of its devices.
fn opened(directory: &Path) -> Vault {
    let path = directory.join("store.sqlite");
    std::fs::copy(frozen().join("store.sqlite"), &path).unwrap();
    let anchor: TrustAnchor = read("head").trim().parse().unwrap();
    let actors = ["admin", "opener"].map(Actor::named);
    let url = format!("sqlite://{}", path.display());
    let setup = setup(url, directory.join("state"), &actors.each_ref());
    Vault::trust(setup, &anchor, false, &mut |_, _| {}).unwrap()
}

#[test]
fn what_0_1_0_wrote_is_read() {
    let directory = directory();
    let mut vault = opened(directory.path());
    assert_eq!(described(&mut vault), read("expected"));
    assert_eq!(vault.verify(&mut |_, _, _| {}).unwrap().problems, []);
}

#[test]
fn what_0_1_0_wrote_is_written_on() {
    let directory = directory();
    let mut vault = opened(directory.path());
    let put = vault.put(&name("prod/db"), &secret("later"), &PutOptions::default()).unwrap();
    assert_eq!(put.version, 4);
    assert_eq!(vault.get(&name("prod/db"), None).unwrap().expose(), b"later");
    assert_eq!(vault.verify(&mut |_, _, _| {}).unwrap().problems, []);
}

/// What the store says, in words that no later version has a reason to change.
fn described(vault: &mut Vault) -> String {
    let mut out = String::new();
    for device in vault.replica().devices().unwrap() {
        let roles: Vec<String> = device.roles.iter().map(Role::to_string).collect();
        let retired = device.retired.is_some();
        writeln!(out, "device {} [{}] retired={retired}", device.enrolment.name, roles.join(" ")).unwrap();
    }
    let settings = vault.settings().unwrap();
    writeln!(out, "settings quorum={} evidence={}", settings.quorum, settings.evidence).unwrap();
    for row in vault.proposals().unwrap() {
        writeln!(
            out,
            "proposal {} approved={}",
            row.proposal.change.kind_name(),
            row.proposal.approved.len()
        )
        .unwrap();
    }
    for witness in vault.witnesses().unwrap() {
        writeln!(out, "witness {} at {:?}, time {:?}", witness.name, witness.n, witness.time).unwrap();
    }
    let mut names = Vec::new();
    let all = ListFilter { destroyed: false, ..ListFilter::default() };
    let mut note = |token: strongroom::replica::TokenRow| names.push(token.name);
    vault
        .replica()
        .list(&all, |token, _| {
            note(token);
            Ok(true)
        })
        .unwrap();
    for token in names {
        describe_token(vault, &token, &mut out);
    }
    for grant in vault.grants(None).unwrap() {
        let on = grant.name.clone().unwrap_or_else(|| format!("{:?}", grant.target));
        writeln!(out, "grant {on} to {} {:?} as {:?}", grant.to, grant.ops, grant.alias).unwrap();
    }
    vault
        .log(LogOrder::OldestFirst, None, |_, entry| {
            let effect = if entry.ineffective.is_none() { "" } else { " without effect" };
            writeln!(out, "{} {}{effect}", entry.n, entry.statement.body.kind_name()).unwrap();
            Ok(true)
        })
        .unwrap();
    out
}

fn describe_token(vault: &mut Vault, token: &str, out: &mut String) {
    let row = vault.replica().find(token).unwrap().unwrap();
    for version in vault.replica().versions(&row).unwrap() {
        let opened = vault.get(&name(token), Some(version.version));
        let opened = opened.map_or_else(
            |error| error.kind().name().to_owned(),
            |token| String::from_utf8(token.expose().to_vec()).unwrap(),
        );
        writeln!(
            out,
            "{token}@{} {:?} threshold={} seals={} expiry={:?} {:?} {:?}: {opened}",
            version.version,
            version.state,
            version.threshold,
            version.seals.len(),
            version.expiry,
            version.labels,
            version.description,
        )
        .unwrap();
    }
}

/// Makes the store, if it is not there. The program of 0.1.0 did, once.
#[test]
#[ignore = "writes into tests/vectors"]
fn write_missing_vectors() {
    if frozen().exists() {
        return;
    }
    let test_store = TestStore::populated();
    for part in [tokens, grants, devices] {
        part(&test_store);
    }
    test_store.checkpoint();
    std::fs::create_dir_all(frozen()).unwrap();
    std::fs::copy(test_store.path(), frozen().join("store.sqlite")).unwrap();
    let vault = test_store.client("admin", &[]).unwrap();
    std::fs::write(frozen().join("head"), format!("{}\n", vault.head())).unwrap();
    drop(vault);
    let directory = directory();
    std::fs::write(frozen().join("expected"), described(&mut opened(directory.path()))).unwrap();
}

fn tokens(test_store: &TestStore) {
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    let options = PutOptions {
        labels: Some(vec![("team".into(), "data".into())]),
        description: Some("the database of the shop".into()),
        expiry: Some(NOW * 2),
        ..PutOptions::default()
    };
    vault.put(&name("prod/db"), &secret("three"), &options).unwrap();
    let only = PutOptions { only: vec!["opener".into()], ..PutOptions::default() };
    vault.put(&name("prod/only"), &secret("for one"), &only).unwrap();
    let together = PutOptions { threshold: Some(2), ..PutOptions::default() };
    vault.put(&name("prod/root"), &secret("for two"), &together).unwrap();
    let keep = PutOptions { keep: Some(1), ..PutOptions::default() };
    for value in ["first", "second"] {
        vault.put(&name("dev/pruned"), &secret(value), &keep).unwrap();
    }
    let staged = PutOptions { staged: true, ..PutOptions::default() };
    vault.put(&name("prod/key"), &secret("staged"), &staged).unwrap();
    for (token, version, state) in [
        ("prod/db", Some(1), State::Suspended),
        ("prod/db", Some(2), State::Revoked),
        ("dev/pruned", None, State::Suspended),
    ] {
        vault.set_state(&name(token), version, state, "as an example").unwrap();
    }
    vault.rename(&name("w/own"), &name("w/renamed")).unwrap();
    vault.put(&name("gone"), &secret("gone"), &PutOptions::default()).unwrap();
    vault.destroy(&name("gone"), None, "not needed").unwrap();
}

fn grants(test_store: &TestStore) {
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    let on = |text: &str| GrantOn::Token(name(text));
    let unit = "unit:web.service".parse().unwrap();
    let options = GrantOptions { alias: Some("db".into()), ..GrantOptions::default() };
    vault.grant(&on("prod/db"), &unit, &options).unwrap();
    let several = "user:web+exe:/usr/bin/web".parse().unwrap();
    let options =
        GrantOptions { ops: vec![Op::Get, Op::List], until: Some(NOW * 2), ..GrantOptions::default() };
    vault.grant(&GrantOn::Prefix("dev".parse().unwrap()), &several, &options).unwrap();
}

fn devices(test_store: &TestStore) {
    let states = |author: &Actor, body: Body| {
        let vault = test_store.client("admin", &[]).unwrap();
        test_store.append(&Draft::on(&vault, author, [body]), &[]);
    };
    let admin = &test_store.admin;
    let policy = RotationPolicy {
        period: 30 * 24 * 3_600_000,
        overlap: 3_600_000,
        hook: "pg-main".into(),
        params: vec![("role".into(), "app".into())],
    };
    states(admin, Body::Policy(PolicyChange { target: Target::Prefix("prod".into()), policy: Some(policy) }));
    for other in ["second", "third"] {
        states(admin, Actor::named(other).enrolment(all_roles()));
    }
    let mut vault = test_store.client("admin", &[admin]).unwrap();
    vault.reseal(&"prod".parse().unwrap(), &mut |_, _| {}).unwrap();
    drop(vault);
    // A witness, whose word lies beside the ledger.
    let roles = [&all_roles()[..], &[Role::Witness]].concat();
    states(admin, roles_of(admin, roles));
    test_store.client("admin", &[admin]).unwrap().checkpoint().unwrap();
    let roles = vec![Role::Open("dev".into()), Role::Witness];
    let change = roles_of(&Actor::named("third"), roles);
    states(admin, Body::Settings(Box::new(Settings { quorum: 2, ..Settings::default() })));
    states(admin, Body::Propose(Box::new(Propose { until: NOW + 1000, change: change.clone() })));
    // One admin alone: recorded, and without effect.
    states(admin, change);
}

fn roles_of(device: &Actor, roles: Vec<Role>) -> Body {
    Body::Roles(Roles { device: device.id, roles: strongroom::ledger::sorted_roles(roles) })
}
