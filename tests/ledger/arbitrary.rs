//! Statements of any kind, from a world so small that they meet.

use crate::soft_devices::{SoftDevice, rsa};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use strongroom::device::{Evidence, EvidenceLevel, OaepHash, PublicKey};
use strongroom::ledger::body::{
    Anchor, Approve, Body, Counter, Destroy, Enrol, EnrolledKey, Genesis, Grant, PolicyChange, Propose, Put,
    Reject, Rename, Repair, Reseal, Retire, Role, Roles, RotationPolicy, Seal, Settings, State, StateChange,
    Target, Ungrant, Witnesses,
};
use strongroom::ledger::{DeviceId, GrantId, Hash, Statement, StoreId, TokenId, sorted_roles};

/// One of these in most cases, so that statements are often about the same thing.
fn id() -> BoxedStrategy<[u8; 16]> {
    prop_oneof![9 => (1u8..5).prop_map(|i| [i; 16]), 1 => any::<[u8; 16]>()].boxed()
}

fn name() -> BoxedStrategy<String> {
    prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "a/b", "prod", "prod/db", "x"]).prop_map(String::from),
        1 => "[a-z./ -]{0,12}",
        1 => any::<String>(),
    ]
    .boxed()
}

fn text() -> BoxedStrategy<String> {
    prop_oneof![8 => "[a-z ]{0,20}", 1 => any::<String>(), 1 => Just("x".repeat(1100))].boxed()
}

fn number() -> BoxedStrategy<u64> {
    prop_oneof![16 => 0u64..4, 1 => any::<u64>(), 1 => Just(u64::MAX)].boxed()
}

fn hash() -> BoxedStrategy<Hash> {
    prop_oneof![(0u8..20).prop_map(|i| Hash([i; 32])), any::<[u8; 32]>().prop_map(Hash)].boxed()
}

fn signing() -> BoxedStrategy<PublicKey> {
    let devices = (1u8..9, 0..3);
    let key = |(number, kind)| match kind {
        0 => SoftDevice::new(number, "any").signing(),
        1 => SoftDevice::on_p384(number, "any").signing(),
        _ => SoftDevice::by_rsa(number, "any").signing(),
    };
    devices.prop_map(key).boxed()
}

fn key() -> BoxedStrategy<PublicKey> {
    let opens = |key: &PublicKey| !matches!(key, PublicKey::RsaPss { .. });
    prop_oneof![
        signing().prop_filter("an opening key", opens),
        Just(rsa(OaepHash::Sha1)),
        Just(rsa(OaepHash::Sha256)),
        id().prop_map(|id| PublicKey::Aes256 { id }),
    ]
    .boxed()
}

fn slot(key: BoxedStrategy<PublicKey>) -> BoxedStrategy<EnrolledKey> {
    let levels = [EvidenceLevel::Simulator, EvidenceLevel::Reported, EvidenceLevel::Attested];
    let claims = vec((text(), any::<bool>()), 0..3);
    let material = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 1..40)];
    (key, text(), prop::sample::select(levels.to_vec()), claims, material)
        .prop_map(|(key, uri, level, claims, material)| {
            let evidence = Evidence { level, claims };
            EnrolledKey { key, uri, evidence, material }
        })
        .boxed()
}

fn roles() -> BoxedStrategy<Vec<Role>> {
    let role = prop_oneof![
        2 => Just(Role::Open(String::new())),
        2 => Just(Role::Admin),
        1 => Just(Role::Write(String::new())),
        1 => Just(Role::Witness),
        1 => name().prop_map(Role::Open),
        2 => name().prop_map(Role::Write),
        1 => name().prop_map(Role::Grant),
    ];
    vec(role, 0..4).prop_map(sorted_roles).boxed()
}

fn state() -> BoxedStrategy<State> {
    prop::sample::select(vec![State::Staged, State::Active, State::Active, State::Suspended, State::Revoked])
        .boxed()
}

fn target() -> BoxedStrategy<Target> {
    prop_oneof![id().prop_map(|id| Target::Token(TokenId(id))), name().prop_map(Target::Prefix)].boxed()
}

fn put() -> BoxedStrategy<Body> {
    let who = (id(), name(), number(), seals(), number(), any::<bool>());
    let how = (state(), option::of(number()), option::of(number()), option::of(number()));
    let words = (btree_map(text(), text(), 0..3), text());
    (who, how, words)
        .prop_map(|((token, name, version, seals, threshold, only), how, (labels, description))| {
            let (state, not_before, expiry, keep) = how;
            Body::Put(Box::new(Put {
                token: TokenId(token),
                name,
                version,
                seals,
                threshold,
                only,
                state,
                not_before,
                expiry,
                labels: labels.into_iter().collect(),
                description,
                keep,
            }))
        })
        .boxed()
}

fn reseal() -> BoxedStrategy<Body> {
    (id(), number(), number(), vec(hash(), 0..3), seals())
        .prop_map(|(token, version, threshold, mut drop, add)| {
            drop.sort_by_key(|digest| digest.0);
            drop.dedup();
            Body::Reseal(Reseal { token: TokenId(token), version, threshold, drop, add })
        })
        .boxed()
}

fn seals() -> BoxedStrategy<Vec<Seal>> {
    vec((hash(), number(), btree_set(id(), 0..4)), 0..3)
        .prop_map(|seals| {
            let seal = |(digest, length, recipients): (Hash, u64, std::collections::BTreeSet<[u8; 16]>)| {
                Seal { digest, length, recipients: recipients.into_iter().map(DeviceId).collect() }
            };
            let mut seals: Vec<Seal> = seals.into_iter().map(seal).collect();
            seals.sort_by_key(|seal| seal.digest.0);
            seals.dedup_by_key(|seal| seal.digest);
            seals
        })
        .boxed()
}

fn settings() -> BoxedStrategy<Body> {
    let levels = [EvidenceLevel::Simulator, EvidenceLevel::Simulator, EvidenceLevel::Attested];
    let witnesses = option::of((number(), number()));
    let thresholds = btree_map(name(), number(), 0..2);
    (number(), witnesses, prop::sample::select(levels.to_vec()), btree_set(id(), 0..2), thresholds)
        .prop_map(|(quorum, witnesses, evidence, recovery, thresholds)| {
            Body::Settings(Box::new(Settings {
                quorum,
                witnesses: witnesses.map(|(count, max_age)| Witnesses { count, max_age }),
                evidence,
                recovery: recovery.into_iter().map(DeviceId).collect(),
                thresholds: thresholds.into_iter().collect(),
            }))
        })
        .boxed()
}

fn policy() -> BoxedStrategy<Body> {
    let policy = option::of((number(), number(), name(), btree_map(text(), text(), 0..2)));
    (target(), policy)
        .prop_map(|(target, policy)| {
            let policy = policy.map(|(period, overlap, hook, params)| RotationPolicy {
                period,
                overlap,
                hook,
                params: params.into_iter().collect(),
            });
            Body::Policy(PolicyChange { target, policy })
        })
        .boxed()
}

/// Settings, and changes that are proposed.
fn agreements() -> BoxedStrategy<Body> {
    let change = prop_oneof![
        settings(),
        enrol(),
        (id(), roles()).prop_map(|(device, roles)| Body::Roles(Roles { device: DeviceId(device), roles }))
    ];
    prop_oneof![
        settings(),
        (number(), change).prop_map(|(until, change)| Body::Propose(Box::new(Propose { until, change }))),
        hash().prop_map(|proposal| Body::Approve(Approve { proposal })),
        (hash(), text()).prop_map(|(proposal, reason)| Body::Reject(Reject { proposal, reason })),
    ]
    .boxed()
}

fn enrol() -> BoxedStrategy<Body> {
    let texts = (name(), text(), text());
    (id(), texts, slot(key()), slot(signing()), roles(), option::weighted(0.2, id()))
        .prop_map(|(device, (name, model, serial), opening, signing, roles, replaces)| {
            let (device, replaces) = (DeviceId(device), replaces.map(DeviceId));
            Body::Enrol(Box::new(Enrol { device, name, model, serial, opening, signing, roles, replaces }))
        })
        .boxed()
}

fn on_devices() -> BoxedStrategy<Body> {
    prop_oneof![
        enrol(),
        agreements(),
        (id(), any::<bool>(), text()).prop_map(|(device, compromised, reason)| {
            Body::Retire(Retire { device: DeviceId(device), compromised, reason })
        }),
        (id(), roles()).prop_map(|(device, roles)| Body::Roles(Roles { device: DeviceId(device), roles })),
        (id(), option::of((number(), number()))).prop_map(|(device, counter)| {
            let counter = counter.map(|(index, start)| Counter { index, start });
            Body::Anchor(Anchor { device: DeviceId(device), counter })
        }),
        (number(), hash(), text()).prop_map(|(kept, chain, reason)| Body::Repair(Repair {
            kept,
            chain,
            reason
        })),
    ]
    .boxed()
}

fn on_tokens() -> BoxedStrategy<Body> {
    let token = || id().prop_map(TokenId);
    let grant = (id(), target(), text(), btree_set(name(), 0..3), option::of(number()), option::of(name()));
    prop_oneof![
        4 => put(),
        2 => reseal(),
        1 => policy(),
        2 => (token(), number(), state(), text()).prop_map(|(token, version, state, reason)| {
            Body::State(StateChange { token, version, state, reason })
        }),
        1 => (token(), name(), number(), text()).prop_map(|(token, name, version, reason)| {
            Body::Destroy(Destroy { token, name, version, reason })
        }),
        1 => (token(), name(), name()).prop_map(|(token, from, to)| Body::Rename(Rename { token, from, to })),
        1 => grant.prop_map(|(grant, target, to, ops, until, alias)| {
            let (grant, ops) = (GrantId(grant), ops.into_iter().collect());
            Body::Grant(Grant { grant, target, to, ops, until, alias })
        }),
        1 => (id(), target()).prop_map(|(grant, target)| Body::Ungrant(Ungrant { grant: GrantId(grant), target })),
    ]
        .boxed()
}

/// What one batch says; most are of one sort.
pub fn bodies() -> BoxedStrategy<Vec<Body>> {
    prop_oneof![
        1 => vec(on_devices(), 1..3),
        6 => vec(on_tokens(), 1..5),
        1 => vec(prop_oneof![on_devices(), on_tokens()], 1..4),
    ]
    .boxed()
}

/// Any statement, on any heads.
pub fn statement() -> BoxedStrategy<Statement> {
    let genesis = (any::<[u8; 16]>(), id(), signing()).prop_map(|(nonce, device, signing)| {
        Body::Genesis(Genesis { nonce, device: DeviceId(device), signing })
    });
    let body = prop_oneof![1 => genesis, 3 => on_devices(), 6 => on_tokens()];
    (any::<[u8; 32]>(), id(), number(), body, vec(any::<[u8; 32]>(), 3))
        .prop_map(|(store, author, time, body, mut heads)| {
            let head = |_: &_| Ok::<_, std::convert::Infallible>(Hash(heads.pop().unwrap_or_default()));
            let Ok(statement) = Statement::compose(StoreId(store), DeviceId(author), time, body, head);
            statement
        })
        .boxed()
}
