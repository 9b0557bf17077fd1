//! One vector for every kind of statement, key, role, level, state and subject.

use crate::fields::{bytes, read, show};
use crate::files::{add_missing, vectors};
use crate::soft_devices::{SoftDevice, p384, rsa};
use serde_json::{Value, json};
use strongroom::device::{EvidenceLevel, OaepHash, PublicKey};
use strongroom::ledger::body::{
    Anchor, Approve, Body, Counter, Destroy, Grant, PolicyChange, Propose, Put, Reject, Rename, Repair,
    Reseal, Retire, Role, Roles, RotationPolicy, Seal, Settings, State, StateChange, Target, Ungrant,
    Witnesses,
};
use strongroom::ledger::{DeviceId, GrantId, Hash, Statement, StoreId, TokenId, sorted_roles};

#[test]
fn every_vector_decodes_to_its_fields_and_back() {
    for vector in vectors("statements") {
        let (comment, encoded) = (&vector["comment"], bytes(&vector["bytes"]));
        let decoded = Statement::decode(&encoded).unwrap_or_else(|e| panic!("{comment}: {e:?}"));
        assert_eq!(show(&decoded), vector["statement"], "{comment}");
        assert_eq!(decoded.encode(), encoded, "{comment}");
        assert_eq!(read(&vector["statement"]), decoded, "{comment}");
        assert_eq!(read(&vector["statement"]).encode(), encoded, "{comment}");
        assert_eq!(decoded.hash().to_string(), vector["hash"], "{comment}");
    }
}

#[test]
fn every_kind_has_a_vector() {
    let all = serde_json::to_string(&vectors("statements")).unwrap();
    let words = [
        "genesis",
        "enrol",
        "retire",
        "roles",
        "put",
        "state",
        "destroy",
        "rename",
        "grant",
        "ungrant",
        "repair",
        "reseal",
        "anchor",
        "policy",
        "settings",
        "propose",
        "approve",
        "reject",
        "witness",
        "p256",
        "p384",
        "rsa",
        "aes256",
        "sha1",
        "sha256",
        "simulator",
        "reported",
        "attested",
        "admin",
        "staged",
        "active",
        "suspended",
        "revoked",
    ];
    for word in words {
        assert!(all.contains(&format!("\"{word}\"")), "no vector has {word}");
    }
    assert!(all.contains("\"material\":"), "no vector has material");
    for object in ["token", "name", "prefix", "open", "write", "grant"] {
        assert!(all.contains(&format!("{{\"{object}\":")), "no vector has a {object}");
    }
}

/// Writes the vectors that are missing. Those that exist stay as they are.
#[test]
#[ignore = "writes into tests/vectors"]
fn write_missing_vectors() {
    add_missing("statements", examples().into_iter().map(|(comment, statement)| vector(comment, &statement)));
}

fn vector(comment: &str, statement: &Statement) -> Value {
    json!({
        "comment": comment,
        "statement": show(statement),
        "bytes": hex::encode(statement.encode()),
        "hash": statement.hash().to_string(),
    })
}

const TOKEN: TokenId = TokenId([0xaa; 16]);

/// A statement whose every `prev` is another hash.
fn statement(body: Body) -> Statement {
    let mut count = 0xc0;
    let composed =
        Statement::compose(StoreId([0x5a; 32]), DeviceId([0xd1; 16]), 1_700_000_000_000, body, |_| {
            count += 1;
            Ok::<_, std::convert::Infallible>(Hash([count; 32]))
        });
    let Ok(statement) = composed;
    statement
}

fn seal(digest: u8, length: u64, recipients: &[u8]) -> Seal {
    let recipients = recipients.iter().map(|id| DeviceId([*id; 16])).collect();
    Seal { digest: Hash([digest; 32]), length, recipients }
}

/// A put with nothing left out.
pub fn full_put() -> Put {
    Put {
        token: TOKEN,
        name: "prod/db/password".into(),
        version: 3,
        seals: vec![seal(0xdc, 1_114_112, &[1, 2, 0xff]), seal(0xdd, 400, &[3])],
        threshold: 1,
        only: true,
        state: State::Staged,
        not_before: Some(1_700_000_000_001),
        expiry: Some(1_800_000_000_000),
        labels: vec![("env".into(), "prod".into()), ("owner".into(), "Zoë, 東京".into())],
        description: "the database's password".into(),
        keep: Some(2),
    }
}

pub fn examples() -> Vec<(&'static str, Statement)> {
    let mut all = devices();
    all.extend(tokens());
    all.extend(states());
    all.extend(grants());
    all.into_iter()
        .map(|(comment, body)| (comment, statement(body)))
        .chain(extremes())
        .chain(later())
        .collect()
}

/// Kinds and keys that came after the first.
fn later() -> Vec<(&'static str, Statement)> {
    let device = SoftDevice::new(0xd1, "tpm-1");
    let with_material = |opening: &[u8], signing: &[u8]| {
        let mut body = device.enrol(&[Role::Open(String::new())]);
        if let Body::Enrol(enrol) = &mut body {
            (enrol.opening.material, enrol.signing.material) = (opening.into(), signing.into());
        }
        body
    };
    let reseal = |version, recipients: &[u8]| {
        Body::Reseal(Reseal {
            token: TOKEN,
            version,
            threshold: 1,
            drop: vec![Hash([0xd0; 32]), Hash([0xd1; 32])],
            add: vec![seal(0xde, 450, recipients)],
        })
    };
    let on_p384 = SoftDevice::on_p384(0xd2, "hsm-2");
    let by_rsa = SoftDevice::by_rsa(0xd3, "yubikey-1");
    let anchor = |counter| Body::Anchor(Anchor { device: device.id, counter });
    let all = [
        ("enrol: with material for both keys", with_material(b"a key blob", b"another")),
        ("enrol: with material for the signing key", with_material(b"", &[0; 300])),
        ("enrol: in the place of another", in_place_of(&device)),
        ("enrol: every role", device.enrol(&every_role())),
        ("reseal", reseal(3, &[1, 2])),
        ("reseal: the greatest version, for nobody", reseal(u64::MAX, &[])),
        ("anchor", anchor(Some(Counter { index: 0x0180_0000, start: 41 }))),
        ("anchor: the greatest numbers", anchor(Some(Counter { index: u64::MAX, start: u64::MAX }))),
        ("anchor: no longer", anchor(None)),
        (
            "enrol: P-384 opens and signs",
            on_p384.clone().opened_by(p384()).enrol(&[Role::Open(String::new())]),
        ),
        ("genesis: P-384 signs", on_p384.genesis()),
        ("enrol: RSA signs", by_rsa.enrol(&[Role::Admin])),
        ("genesis: RSA signs", by_rsa.genesis()),
    ];
    all.into_iter().chain(agreements()).map(|(comment, body)| (comment, statement(body))).collect()
}

fn in_place_of(device: &SoftDevice) -> Body {
    let mut body = device.enrol(&[]);
    if let Body::Enrol(enrol) = &mut body {
        enrol.replaces = Some(DeviceId([0xd0; 16]));
    }
    body
}

fn every_role() -> [Role; 8] {
    let prefix = || "prod".to_owned();
    [
        Role::Open(String::new()),
        Role::Open(prefix()),
        Role::Write(String::new()),
        Role::Write(prefix()),
        Role::Admin,
        Role::Grant(String::new()),
        Role::Grant(prefix()),
        Role::Witness,
    ]
}

/// Policies, settings, and what several admins agree to.
fn agreements() -> Vec<(&'static str, Body)> {
    let policy = RotationPolicy {
        period: 2_592_000_000,
        overlap: 3_600_000,
        hook: "pg-main".into(),
        params: vec![("role".into(), "app".into())],
    };
    let change = |target, policy| Body::Policy(PolicyChange { target, policy });
    let mut all = vec![
        ("policy: on a token", change(Target::Token(TOKEN), Some(policy.clone()))),
        ("policy: on a prefix", change(Target::Prefix("prod".into()), Some(policy))),
        ("policy: no longer", change(Target::Prefix(String::new()), None)),
    ];
    let settings = Settings {
        quorum: 2,
        witnesses: Some(Witnesses { count: 1, max_age: 600_000 }),
        evidence: EvidenceLevel::Attested,
        recovery: vec![DeviceId([7; 16]), DeviceId([8; 16])],
        thresholds: vec![("prod".into(), 2), ("prod/root".into(), 3)],
    };
    let propose = |change| Body::Propose(Box::new(Propose { until: 1_700_086_400_000, change }));
    let proposal = Hash([0x99; 32]);
    let device = SoftDevice::new(0xd1, "hsm-1");
    let retire = Retire { device: device.id, compromised: true, reason: "stolen".into() };
    all.extend([
        ("settings", Body::Settings(Box::new(settings.clone()))),
        ("settings: those before the first", Body::Settings(Box::default())),
        ("propose: an enrolment", propose(device.enrol(&[Role::Admin]))),
        ("propose: a retirement", propose(Body::Retire(retire))),
        ("propose: roles", propose(Body::Roles(Roles { device: device.id, roles: Vec::new() }))),
        ("propose: settings", propose(Body::Settings(Box::new(settings)))),
        ("approve", Body::Approve(Approve { proposal })),
        ("reject", Body::Reject(Reject { proposal, reason: "not now".into() })),
    ]);
    all
}

fn devices() -> Vec<(&'static str, Body)> {
    let device = SoftDevice::new(0xd1, "hsm-1");
    let all_roles = [Role::Open(String::new()), Role::Write(String::new()), Role::Admin];
    let with = |opening: PublicKey, level: EvidenceLevel, roles: &[Role]| {
        let mut body = device.clone().opened_by(opening).enrol(roles);
        if let Body::Enrol(enrol) = &mut body {
            enrol.opening.evidence.level = level;
        }
        body
    };
    let some_roles = [Role::Write("prod".into()), Role::Write("team/a".into())];
    let retire = |compromised, reason: &str| {
        Body::Retire(Retire { device: device.id, compromised, reason: reason.into() })
    };
    let repair = Repair { kept: 70_000, chain: Hash([0xcc; 32]), reason: "the tail was forged".into() };
    vec![
        ("genesis", device.genesis()),
        ("enrol: P-256, all roles", with(device.opening.clone(), EvidenceLevel::Simulator, &all_roles)),
        (
            "enrol: RSA-OAEP SHA-256, write under two prefixes",
            with(rsa(OaepHash::Sha256), EvidenceLevel::Reported, &some_roles),
        ),
        (
            "enrol: RSA-OAEP SHA-1, open only",
            with(rsa(OaepHash::Sha1), EvidenceLevel::Attested, &[Role::Open(String::new())]),
        ),
        (
            "enrol: AES-256, no roles",
            with(PublicKey::Aes256 { id: [0xae; 16] }, EvidenceLevel::Reported, &[]),
        ),
        ("enrol: P-384 opens", with(p384(), EvidenceLevel::Reported, &[Role::Open(String::new())])),
        ("retire", retire(false, "replaced")),
        ("retire: compromised, no reason", retire(true, "")),
        ("roles", Body::Roles(Roles { device: device.id, roles: sorted_roles(all_roles.to_vec()) })),
        ("roles: none", Body::Roles(Roles { device: device.id, roles: Vec::new() })),
        ("repair", Body::Repair(repair)),
    ]
}

fn tokens() -> Vec<(&'static str, Body)> {
    let plain = Put {
        version: 1,
        seals: vec![seal(0xdd, 300, &[1])],
        only: false,
        state: State::Active,
        not_before: None,
        expiry: None,
        labels: Vec::new(),
        description: String::new(),
        keep: None,
        ..full_put()
    };
    let destroy = |version| {
        Body::Destroy(Destroy {
            token: TOKEN,
            name: "prod/db".into(),
            version,
            reason: "no longer needed".into(),
        })
    };
    let rename =
        |from: &str, to: &str| Body::Rename(Rename { token: TOKEN, from: from.into(), to: to.into() });
    vec![
        ("put: nothing optional", Body::Put(Box::new(plain))),
        ("put: everything", Body::Put(Box::new(full_put()))),
        ("destroy: one version", destroy(7)),
        ("destroy: the whole token", destroy(0)),
        ("rename", rename("prod/db", "prod/database")),
        ("rename: the shorter name sorts first", rename("b", "aa")),
    ]
}

fn states() -> Vec<(&'static str, Body)> {
    let state = |version, state, reason: &str| {
        Body::State(StateChange { token: TOKEN, version, state, reason: reason.into() })
    };
    vec![
        ("state: staged (no reader gives it an effect)", state(1, State::Staged, "")),
        ("state: active", state(24, State::Active, "back")),
        ("state: suspended, the whole token", state(0, State::Suspended, "who leaked it?")),
        ("state: revoked", state(256, State::Revoked, "leaked")),
    ]
}

fn grants() -> Vec<(&'static str, Body)> {
    let prefix = || Target::Prefix("prod".into());
    let grant = |target, ops: &[&str], until, alias: Option<&str>| {
        Body::Grant(Grant {
            grant: GrantId([0x66; 16]),
            target,
            to: "unit:web.service".into(),
            ops: ops.iter().map(|op| (*op).to_owned()).collect(),
            until,
            alias: alias.map(Into::into),
        })
    };
    let ungrant = |target| Body::Ungrant(Ungrant { grant: GrantId([0x66; 16]), target });
    vec![
        ("grant: a token", grant(Target::Token(TOKEN), &["get"], None, None)),
        ("grant: a prefix", grant(prefix(), &["get", "list"], Some(1_800_000_000_000), Some("db"))),
        ("grant: the empty prefix", grant(Target::Prefix(String::new()), &["get"], None, None)),
        ("ungrant: a token", ungrant(Target::Token(TOKEN))),
        ("ungrant: a prefix", ungrant(prefix())),
    ]
}

/// The edges of integers, lengths and Unicode.
fn extremes() -> Vec<(&'static str, Statement)> {
    let (mut greatest, mut none) = (full_put(), full_put());
    (greatest.version, greatest.threshold) = (u64::MAX, u64::MAX);
    (greatest.not_before, greatest.expiry, greatest.keep) = (Some(u64::MAX), Some(u64::MAX), Some(u64::MAX));
    let all: Vec<u8> = (0..254).collect();
    greatest.seals = vec![seal(0, u64::MAX, &all), seal(0xff, u64::MAX, &all)];
    none.seals.clear();
    none.labels.clear();
    (none.version, none.threshold, none.keep) = (0, 0, Some(0));
    none.name = "\u{202e}not a name\n, yet well formed: \u{10ffff}e\u{301}".into();
    let mut greatest = statement(Body::Put(Box::new(greatest)));
    greatest.time = u64::MAX;
    let mut none = statement(Body::Put(Box::new(none)));
    none.time = 0;
    vec![
        ("put: the greatest numbers, two seals for 254 devices", greatest),
        ("put: against the rules, but well formed", none),
    ]
}
