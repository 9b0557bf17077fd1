//! A whole small store: what every statement comes to, in a fixed order, with fixed signatures.

use crate::fields::{parsed, read_subject};
use crate::files::{load, write_missing};
use crate::quorum_store::quorum_store;
use crate::resealed_store::anchor;
use crate::resealed_store::resealed_store;
use crate::soft_devices::{SoftDevice, rsa};
use crate::store_builder::{Chronicle, empty_replica, entry, follow, picture, put, read_batch, verdicts};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use strongroom::device::{OaepHash, PublicKey};
use strongroom::ledger::body::{
    Body, Destroy, Grant, Put, Rename, Repair, Retire, Role, Roles, State, StateChange, Target, Ungrant,
};
use strongroom::ledger::verify::{Chain, StoredBatch};
use strongroom::ledger::{
    GrantId, Hash, SignedBatch, Statement, StoreId, Subject, TokenId, sha256, sorted_roles,
};
use test_support::memory_store::MemoryStore;

#[test]
fn a_replica_comes_to_the_same_verdicts_heads_and_picture() {
    ["whole-store", "resealed-store", "quorum-store"].into_iter().for_each(comes_to_the_same);
}

fn comes_to_the_same(name: &str) {
    let vector = load(name);
    let id: StoreId = parsed(&vector["store"]);
    let (mut replica, _directory) = empty_replica(id);
    let mut store = MemoryStore::default();
    for step in vector["batches"].as_array().unwrap() {
        let stored = read_batch(&step["batch"]);
        store.batches.push(stored.clone());
        follow(&mut replica, &mut store).unwrap();
        let found = entry(&replica, &stored, &verdicts(&replica, &stored));
        assert_eq!(without_words(&found), without_words(&step["expect"]), "{}", step["comment"]);
        check_encodings(&stored);
    }
    let shown = shown_picture(&vector, &replica);
    assert_eq!(shown, vector["picture"]);

    let (mut at_once, _other_directory) = empty_replica(id);
    let followed = follow(&mut at_once, &mut store).unwrap();
    assert_eq!(followed.new, replica.position().n);
    assert_eq!(at_once.differences(&replica).unwrap(), []);
    assert_eq!(shown_picture(&vector, &at_once), vector["picture"]);
}

/// The same devices saying the same things make the same bytes.
#[test]
fn the_stores_are_written_as_they_were() {
    is_written_as_it_was("whole-store", &whole_store());
    is_written_as_it_was("resealed-store", &resealed_store());
    is_written_as_it_was("quorum-store", &quorum_store());
}

fn is_written_as_it_was(name: &str, chronicle: &Chronicle) {
    let vector = load(name);
    assert_eq!(json!(chronicle.id.to_string()), vector["store"]);
    for (written, expected) in chronicle.entries.iter().zip(vector["batches"].as_array().unwrap()) {
        assert_eq!(written["batch"], expected["batch"], "{}", expected["comment"]);
    }
    assert_eq!(chronicle.entries.len(), vector["batches"].as_array().unwrap().len());
}

/// Whether a statement has an effect is part of the format; the words for why not are for people.
fn without_words(entry: &Value) -> Value {
    let mut entry = entry.clone();
    for why in entry["ineffective"].as_array_mut().unwrap() {
        *why = json!(!why.is_null());
    }
    entry
}

fn check_encodings(stored: &StoredBatch) {
    assert_eq!(SignedBatch::decode(&stored.sign1).unwrap().encode(), stored.sign1);
    for bytes in &stored.statements {
        assert_eq!(&Statement::decode(bytes).unwrap().encode(), bytes);
    }
}

/// The picture of the subjects and grants that the vector names.
fn shown_picture(vector: &Value, replica: &strongroom::replica::Replica) -> Value {
    let subjects = crate::fields::list(&vector["picture"]["heads"], |v| read_subject(&v[0]));
    let grants = crate::fields::list(&vector["picture"]["grants"], |v| parsed(&v[0]));
    picture(replica, &subjects, &grants)
}

/// Writes the vector when it is missing. One that exists stays as it is.
#[test]
fn a_grant_ends_with_its_token() {
    let owner = SoftDevice::new(1, "owner");
    let mut c = Chronicle::begin(&owner, &[Role::Open(String::new()), Role::Admin]);
    let on = |token: u8| Target::Token(TokenId([token; 16]));
    effective(c.state("a token", &owner, [putting(put(0x10, "a", 1, &[&owner]))]));
    effective(c.state("with a grant", &owner, [grant(0x70, on(0x10))]));
    ineffective(c.state("its id stands", &owner, [grant(0x70, Target::Prefix("a".into()))]), "given before");
    effective(c.state("and ends", &owner, [destroy(0x10, "a", 0)]));
    assert_eq!(c.replica.grant_row(&GrantId([0x70; 16])).unwrap().map(|row| row.n), None);
    effective(c.state("a token of that name", &owner, [putting(put(0x11, "a", 1, &[&owner]))]));
    effective(c.state("with the grant's id and alias", &owner, [grant(0x70, on(0x11))]));
}

#[test]
#[ignore = "writes into tests/vectors"]
fn write_missing_vectors() {
    write_store("whole-store", &whole_store());
    write_store("resealed-store", &resealed_store());
    write_store("quorum-store", &quorum_store());
}

fn write_store(name: &str, chronicle: &Chronicle) {
    let mut subjects: BTreeMap<Vec<u8>, Subject> = BTreeMap::new();
    let mut grants: Vec<GrantId> = Vec::new();
    for bytes in chronicle.store.batches.iter().flat_map(|batch| &batch.statements) {
        let statement = Statement::decode(bytes).unwrap();
        subjects.extend(statement.advances.iter().map(|(subject, _)| (subject.encode(), subject.clone())));
        match statement.body {
            Body::Grant(grant) if !grants.contains(&grant.grant) => grants.push(grant.grant),
            _ => {}
        }
    }
    let subjects: Vec<Subject> = subjects.into_values().collect();
    write_missing(
        name,
        &json!({
            "comment": "a verifier's clock of 1900000000000; `ineffective` is null for an effect, else the reason in words that bind nobody",
            "store": chronicle.id.to_string(),
            "batches": chronicle.entries,
            "picture": picture(&chronicle.replica, &subjects, &grants),
        }),
    );
}

/// Everybody who acts in the store.
pub struct Cast {
    /// All roles, for ever.
    pub owner: SoftDevice,
    /// Opens, and writes under `prod` until that is taken away.
    pub writer: SoftDevice,
    /// Opens with an AES key, until it is retired.
    pub hsm: SoftDevice,
    /// Never enrolled.
    pub stranger: SoftDevice,
}

impl Cast {
    pub fn new() -> Self {
        Self {
            owner: SoftDevice::new(1, "owner"),
            writer: SoftDevice::new(2, "writer").opened_by(rsa(OaepHash::Sha256)),
            hsm: SoftDevice::new(3, "hsm").opened_by(PublicKey::Aes256 { id: [0xae; 16] }),
            stranger: SoftDevice::new(9, "stranger"),
        }
    }
}

/// What the tests expect of a landed batch.
#[track_caller]
pub fn effective(verdicts: Vec<Option<String>>) {
    assert!(verdicts.iter().all(Option::is_none), "{verdicts:?}");
}

#[track_caller]
pub fn ineffective(verdicts: Vec<Option<String>>, because: &str) {
    let says = |verdict: &Option<String>| verdict.as_ref().is_some_and(|why| why.contains(because));
    assert!(verdicts.iter().all(says), "{verdicts:?} and not {because}");
}

/// A put of other sealed bytes.
pub fn of_bytes(bytes: &str, mut put: Put) -> Put {
    put.seals[0].digest = sha256(bytes.as_bytes());
    put
}

pub fn putting(put: Put) -> Body {
    Body::Put(Box::new(put))
}

pub fn state(token: u8, version: u64, state: State) -> Body {
    Body::State(StateChange { token: TokenId([token; 16]), version, state, reason: "as asked".into() })
}

pub fn destroy(token: u8, name: &str, version: u64) -> Body {
    Body::Destroy(Destroy { token: TokenId([token; 16]), name: name.into(), version, reason: "done".into() })
}

fn rename(token: u8, from: &str, to: &str) -> Body {
    Body::Rename(Rename { token: TokenId([token; 16]), from: from.into(), to: to.into() })
}

pub fn roles(device: &SoftDevice, roles: &[Role]) -> Body {
    Body::Roles(Roles { device: device.id, roles: sorted_roles(roles.to_vec()) })
}

pub fn retire(device: &SoftDevice) -> Body {
    Body::Retire(Retire { device: device.id, compromised: true, reason: "lost".into() })
}

pub fn grant(id: u8, target: Target) -> Body {
    let alias = matches!(target, Target::Token(_)).then(|| "db".into());
    Body::Grant(Grant {
        grant: GrantId([id; 16]),
        target,
        to: "unit:web.service".into(),
        ops: vec!["get".into()],
        until: None,
        alias,
    })
}

fn repair(position: strongroom::ledger::LogPosition) -> Body {
    Body::Repair(Repair { kept: position.n, chain: position.chain, reason: "a forged tail".into() })
}

pub fn whole_store() -> Chronicle {
    let cast = Cast::new();
    let everything = [Role::Open(String::new()), Role::Write(String::new()), Role::Admin];
    let mut c = Chronicle::begin(&cast.owner, &everything);
    devices_join(&mut c, &cast);
    writers_meet(&mut c, &cast);
    versions_live(&mut c, &cast);
    names_move(&mut c, &cast);
    grants_come_and_go(&mut c, &cast);
    devices_leave(&mut c, &cast);
    admins_err(&mut c, &cast);
    c
}

fn devices_join(c: &mut Chronicle, cast: &Cast) {
    let writer = cast.writer.enrol(&[
        Role::Open(String::new()),
        Role::Write("prod".into()),
        Role::Grant("prod".into()),
    ]);
    let hsm = cast.hsm.enrol(&[Role::Open(String::new()), Role::Write("hsm".into())]);
    effective(c.state("two more devices", &cast.owner, [writer.clone(), hsm]));
    ineffective(
        c.state("the same device again", &cast.owner, [writer]),
        "this device id was enrolled before",
    );
    let named_alike = SoftDevice::new(4, "writer").enrol(&[Role::Open(String::new())]);
    ineffective(
        c.state("a device of a name that is taken", &cast.owner, [named_alike]),
        "a device is called writer already",
    );
    let mut one_key = SoftDevice::new(5, "one-key");
    one_key.opening = one_key.signing();
    ineffective(
        c.state(
            "one key for opening and signing",
            &cast.owner,
            [one_key.enrol(&[Role::Open(String::new())])],
        ),
        "one key for both opening and signing",
    );
    let slashed = SoftDevice::new(6, "slashed").enrol(&[Role::Write("prod/".into())]);
    ineffective(
        c.state("a prefix with a slash at its end", &cast.owner, [slashed]),
        "a prefix with a trailing /",
    );
    let by_writer = SoftDevice::new(7, "friend").enrol(&everything_but_admin());
    ineffective(c.state("enrolled by one who is no admin", &cast.writer, [by_writer]), "no `admin` role");
}

fn everything_but_admin() -> [Role; 2] {
    [Role::Open(String::new()), Role::Write(String::new())]
}

fn writers_meet(c: &mut Chronicle, cast: &Cast) {
    let (owner, writer, hsm) = (&cast.owner, &cast.writer, &cast.hsm);
    let labelled = Put {
        labels: vec![("env".into(), "prod".into()), ("owner".into(), "Zoë".into())],
        not_before: Some(1_700_000_000_000),
        expiry: Some(2_000_000_000_000),
        ..put(0x10, "prod/db", 1, &[owner, writer, hsm])
    };
    effective(c.state("a first version", writer, [putting(labelled)]));
    ineffective(
        c.state(
            "a name outside the writer's prefix",
            writer,
            [putting(put(0x11, "production/db", 1, &[owner]))],
        ),
        "no `write` role",
    );
    let imported = [0x20, 0x21, 0x22].map(|token| putting(put(token, &format!("team/{token}"), 1, &[owner])));
    effective(c.state("three tokens under one signature", owner, imported));
    let (first, second) = (put(0x12, "prod/new", 1, &[owner]), put(0x13, "prod/new", 1, &[writer]));
    let (first, second) = (c.draft(owner, [putting(first)]), c.draft(writer, [putting(second)]));
    effective(c.land("one of two that want a name", owner, &first));
    ineffective(c.land("the other one, signed on the same heads", writer, &second), "came first");
    ineffective(
        c.state("a name that is taken", writer, [putting(put(0x13, "prod/new", 1, &[writer]))]),
        "another token has this name",
    );
    let both = [putting(put(0x14, "prod/two", 1, &[writer])), putting(put(0x15, "else/two", 1, &[writer]))];
    let verdicts = c.state("one allowed, one not, in one batch", writer, both);
    assert!(verdicts[0].is_none() && verdicts[1].is_some());
}

fn versions_live(c: &mut Chronicle, cast: &Cast) {
    let (owner, writer) = (&cast.owner, &cast.writer);
    let next = |version| put(0x10, "prod/db", version, &[owner, writer]);
    effective(c.state("a second version", writer, [putting(next(2))]));
    ineffective(c.state("a version left out", writer, [putting(next(4))]), "the version is not the next one");
    effective(c.state("a third, which keeps two", writer, [putting(Put { keep: Some(2), ..next(3) })]));
    ineffective(
        c.state("pruned is revoked, and final", writer, [state(0x10, 1, State::Active)]),
        "revoked is final",
    );
    let stolen = of_bytes("the sealed bytes of 16@2", put(0x14, "prod/two", 2, &[writer]));
    ineffective(c.state("another token's sealed bytes", writer, [putting(stolen)]), "another version");
    let deaf = put(0x14, "prod/two", 2, &[owner, &cast.stranger]);
    ineffective(c.state("sealed to one that is no device", writer, [putting(deaf)]), "has no role `open`");
    ineffective(
        c.state("sealed to nobody", writer, [putting(put(0x14, "prod/two", 2, &[]))]),
        "sealed to nobody, or to more than 254",
    );
    ineffective(
        c.state(
            "keep of nothing",
            writer,
            [putting(Put { keep: Some(0), ..put(0x14, "prod/two", 2, &[owner]) })],
        ),
        "keep is at least 1",
    );
    let staged = Put { state: State::Staged, ..put(0x14, "prod/two", 2, &[owner]) };
    effective(c.state("a staged version", writer, [putting(staged)]));
    ineffective(
        c.state("staged cannot be suspended", writer, [state(0x14, 2, State::Suspended)]),
        "a staged version is not open yet",
    );
    effective(c.state("staged to active", writer, [state(0x14, 2, State::Active)]));
    effective(c.state(
        "suspended and back",
        writer,
        [state(0x14, 2, State::Suspended), state(0x14, 2, State::Active)],
    ));
    ineffective(
        c.state("never back to staged", writer, [state(0x14, 2, State::Staged)]),
        "a version cannot go back to staged",
    );
    ineffective(
        c.state("a version that is not there", writer, [state(0x14, 9, State::Active)]),
        "no such version",
    );
    effective(c.state("the whole token suspended", writer, [state(0x14, 0, State::Suspended)]));
    effective(c.state("revoked", writer, [state(0x14, 2, State::Revoked)]));
    ineffective(c.state("revoked again", writer, [state(0x14, 2, State::Revoked)]), "revoked is final");
    effective(c.state("every version revoked", writer, [state(0x12, 0, State::Revoked)]));
    effective(c.state("a fresh version after that", writer, [putting(put(0x12, "prod/new", 2, &[owner]))]));
}

fn names_move(c: &mut Chronicle, cast: &Cast) {
    let (owner, writer) = (&cast.owner, &cast.writer);
    effective(c.state("renamed", owner, [rename(0x20, "team/32", "team/renamed")]));
    ineffective(
        c.state("renamed from a name it lost", owner, [rename(0x20, "team/32", "team/again")]),
        "the token has another name",
    );
    ineffective(
        c.state("renamed to a name that is taken", owner, [rename(0x21, "team/33", "team/renamed")]),
        "another token has the new name",
    );
    ineffective(
        c.state("renamed to itself", owner, [rename(0x21, "team/33", "team/33")]),
        "another token has the new name",
    );
    ineffective(
        c.state("renamed out of the writer's prefix", writer, [rename(0x14, "prod/two", "else")]),
        "no `write` role",
    );
    ineffective(
        c.state("a name of Cyrillic letters", owner, [rename(0x21, "team/33", "team/\u{430}")]),
        "U+0430",
    );
    effective(c.state("the old name for a new token", owner, [putting(put(0x23, "team/32", 1, &[owner]))]));
    ineffective(
        c.state("destroyed by one who is no admin", writer, [destroy(0x14, "prod/two", 0)]),
        "no `admin` role",
    );
    effective(c.state("one version destroyed", owner, [destroy(0x10, "prod/db", 2)]));
    ineffective(
        c.state("destroyed before", owner, [destroy(0x10, "prod/db", 2)]),
        "the version was destroyed",
    );
    ineffective(
        c.state("destroyed is final", owner, [state(0x10, 2, State::Revoked)]),
        "the version was destroyed",
    );
    effective(c.state("a whole token destroyed", owner, [destroy(0x22, "team/34", 0)]));
    ineffective(
        c.state("a version of a destroyed token", owner, [putting(put(0x22, "team/34", 2, &[owner]))]),
        "the token was destroyed",
    );
    effective(c.state("its name for another token", owner, [putting(put(0x24, "team/34", 1, &[owner]))]));
    ineffective(c.state("a text that turns a line around", owner, [described("\u{202e}")]), "U+202E");
}

fn described(text: &str) -> Body {
    let device = SoftDevice::new(1, "owner");
    putting(Put { description: text.into(), ..put(0x25, "team/text", 1, &[&device]) })
}

fn grants_come_and_go(c: &mut Chronicle, cast: &Cast) {
    let (owner, writer) = (&cast.owner, &cast.writer);
    let (token, prefix) = (Target::Token(TokenId([0x10; 16])), |p: &str| Target::Prefix(p.into()));
    effective(c.state("a grant on a token", writer, [grant(0x70, token.clone())]));
    effective(c.state("a grant on a prefix", writer, [grant(0x71, prefix("prod/x"))]));
    ineffective(
        c.state("a grant past the writer's prefix", writer, [grant(0x72, prefix(""))]),
        "no `grant` role",
    );
    ineffective(
        c.state("a grant id that stands", owner, [grant(0x70, prefix("any"))]),
        "this grant was given before",
    );
    let ungrant = |id, target| Body::Ungrant(Ungrant { grant: GrantId([id; 16]), target });
    ineffective(
        c.state("taken back from another subject", owner, [ungrant(0x70, prefix("prod"))]),
        "no such grant",
    );
    effective(c.state("taken back", writer, [ungrant(0x70, token.clone())]));
    ineffective(c.state("taken back before", writer, [ungrant(0x70, token)]), "no such grant");
}

fn devices_leave(c: &mut Chronicle, cast: &Cast) {
    let (owner, writer, hsm) = (&cast.owner, &cast.writer, &cast.hsm);
    let crossing = c.draft(writer, [putting(put(0x30, "prod/crossing", 1, &[owner, hsm]))]);
    let late = c.draft(hsm, [putting(put(0x31, "hsm/late", 1, &[owner]))]);
    effective(c.state("a device retired", owner, [retire(hsm)]));
    ineffective(c.land("signed before that, landed after", writer, &crossing), "earlier state");
    ineffective(
        c.land("signed by the retired device in time, landed late", hsm, &late),
        "its author was retired",
    );
    ineffective(
        c.state("signed by the retired device", hsm, [putting(put(0x31, "hsm/late", 1, &[owner]))]),
        "its author was retired",
    );
    ineffective(
        c.state("sealed to the retired device", owner, [putting(put(0x31, "hsm/late", 1, &[hsm]))]),
        "has no role `open`",
    );
    ineffective(c.state("retired before", owner, [retire(hsm)]), "no such device, or it was retired before");
    ineffective(
        c.state("its id enrolled again", owner, [hsm.enrol(&[Role::Open(String::new())])]),
        "this device id was enrolled before",
    );
    effective(c.state("the writer reads only", owner, [roles(writer, &[Role::Open(String::new())])]));
    ineffective(
        c.state("the role is gone", writer, [putting(put(0x10, "prod/db", 4, &[owner]))]),
        "no `write` role",
    );
    effective(c.state("the writer becomes an admin", owner, [roles(writer, &[Role::Admin])]));
}

fn admins_err(c: &mut Chronicle, cast: &Cast) {
    let (owner, writer) = (&cast.owner, &cast.writer);
    let there_and_back = [roles(writer, &[Role::Open(String::new())]), roles(writer, &[Role::Admin])];
    let verdicts = c.state("a role given up cannot be used in the same batch", writer, there_and_back);
    assert!(verdicts[0].is_none() && verdicts[1].as_ref().is_some_and(|why| why.contains("no `admin` role")));
    effective(c.state("an admin again", owner, [roles(writer, &[Role::Admin])]));
    let (against, back) = (c.draft(owner, [retire(writer)]), c.draft(writer, [retire(owner)]));
    effective(c.land("the faster of two admins", owner, &against));
    ineffective(c.land("the slower one", writer, &back), "its author was retired");
    ineffective(
        c.state("the last admin retired", owner, [retire(owner)]),
        "the last device with the role admin must keep it",
    );
    ineffective(
        c.state("the last admin without the role", owner, [roles(owner, &[Role::Open(String::new())])]),
        "the last device with the role admin must keep it",
    );
    let mixed = [
        roles(owner, &[Role::Open(String::new()), Role::Write(String::new()), Role::Admin]),
        state(0x21, 1, State::Revoked),
    ];
    ineffective(c.state("admin and other statements in one batch", owner, mixed), "must come alone");
    let mut late = c.draft(owner, [roles(owner, &[Role::Write("team".into()), Role::Admin])]);
    let late_anchor = c.draft(owner, [anchor(owner, None)]);
    effective(c.state("something in between", owner, [state(0x23, 1, State::Suspended)]));
    ineffective(c.land("an anchor that does not follow directly", owner, &late_anchor), "directly after");
    let mut never = late.clone();
    never.admin_head = Hash([0xee; 32]);
    ineffective(c.land("an admin head that never was", owner, &never), "earlier state");
    effective(c.land("an admin batch that does not follow directly", owner, &late));
    late.seen = c.replica.position();
    ineffective(c.land("another under the same admin head", owner, &late), "earlier state");
    let here = c.replica.position();
    effective(c.state("a repair", owner, [repair(here)]));
    ineffective(
        c.state("a repair that does not stand where it says", owner, [repair(here)]),
        "a repair stands right after what it kept",
    );
    let new_roles = roles(owner, &[Role::Write("team".into()), Role::Admin]);
    let mut stale = c.draft(owner, [state(0x21, 1, State::Suspended)]);
    effective(c.state("the owner's own roles", owner, [new_roles]));
    stale.admin_head = c.replica.admin_head();
    effective(c.land("what was seen may be older than where it lands", owner, &stale));
}
