//! A small store whose admins agree: prefixes of roles, several seals, settings, proposals, policies.

use crate::soft_devices::SoftDevice;
use crate::store_builder::{Chronicle, put};
use crate::whole_store::{destroy, effective, grant, ineffective, of_bytes, putting, retire, roles, state};
use strongroom::device::EvidenceLevel;
use strongroom::ledger::body::{
    Approve, Body, Grant, PolicyChange, Propose, Put, Reject, Rename, Reseal, Retire, Role, RotationPolicy,
    Seal, Settings, State, Target, Witnesses,
};
use strongroom::ledger::judge::LedgerView;
use strongroom::ledger::{GrantId, Hash, TokenId, sha256};

/// Three admins and a few others.
struct Cast {
    alice: SoftDevice,
    bob: SoftDevice,
    carol: SoftDevice,
    /// Opens what is below `prod`.
    server: SoftDevice,
    /// Writes below `prod` and `dev`, grants below `dev`.
    writer: SoftDevice,
}

fn open(prefix: &str) -> Role {
    Role::Open(prefix.into())
}

fn write(prefix: &str) -> Role {
    Role::Write(prefix.into())
}

/// A store that several admins keep.
pub fn quorum_store() -> Chronicle {
    let cast = Cast {
        alice: SoftDevice::new(1, "alice"),
        bob: SoftDevice::new(2, "bob"),
        carol: SoftDevice::new(3, "carol"),
        server: SoftDevice::new(4, "server"),
        writer: SoftDevice::new(5, "writer"),
    };
    let mut c = Chronicle::begin(&cast.alice, &[open(""), Role::Admin]);
    let others = [
        cast.bob.enrol(&[open(""), Role::Admin, Role::Witness]),
        cast.carol.enrol(&[Role::Admin, Role::Witness]),
        cast.server.enrol(&[open("prod")]),
        cast.writer.enrol(&[write("prod"), write("dev"), Role::Grant("dev".into()), open("dev")]),
    ];
    effective(c.state("four more devices", &cast.alice, others));
    roles_have_prefixes(&mut c, &cast);
    versions_have_seals(&mut c, &cast);
    staged_counts_for_nothing(&mut c, &cast);
    aliases_are_one_grants(&mut c, &cast);
    policies(&mut c, &cast);
    settings_have_limits(&mut c, &cast);
    admins_agree(&mut c, &cast);
    admins_disagree(&mut c, &cast);
    thresholds(&mut c, &cast);
    one_admin_again(&mut c, &cast);
    c
}

fn rename(token: u8, from: &str, to: &str) -> Body {
    Body::Rename(Rename { token: TokenId([token; 16]), from: from.into(), to: to.into() })
}

fn roles_have_prefixes(c: &mut Chronicle, cast: &Cast) {
    let (alice, server, writer) = (&cast.alice, &cast.server, &cast.writer);
    effective(c.state(
        "sealed to one that opens the prefix",
        writer,
        [putting(put(0x10, "prod/db", 1, &[alice, server]))],
    ));
    ineffective(
        c.state(
            "sealed to one that opens another prefix",
            writer,
            [putting(put(0x11, "dev/db", 1, &[alice, server]))],
        ),
        "no role `open` for it",
    );
    effective(c.state(
        "an admin writes without `write`",
        &cast.carol,
        [putting(put(0x11, "dev/db", 1, &[alice]))],
    ));
    ineffective(
        c.state("one that writes grants nothing", writer, [grant(0x70, Target::Prefix("prod".into()))]),
        "no `grant` role",
    );
    ineffective(
        c.state(
            "renamed to where its author opens and does not grant",
            writer,
            [rename(0x10, "prod/db", "dev/mine")],
        ),
        "no `grant` role",
    );
    effective(c.state("renamed by an admin", alice, [rename(0x10, "prod/db", "dev/moved")]));
    let to_writer = Seal { digest: sha256(b"for the writer"), length: 300, recipients: vec![writer.id] };
    let reseal = Reseal {
        token: TokenId([0x10; 16]),
        version: 1,
        threshold: 1,
        drop: Vec::new(),
        add: vec![to_writer],
    };
    ineffective(
        c.state("the new name opens an old version to nobody", alice, [Body::Reseal(reseal)]),
        "no role `open` for it",
    );
    effective(c.state("and back", alice, [rename(0x10, "dev/moved", "prod/db")]));
}

fn versions_have_seals(c: &mut Chronicle, cast: &Cast) {
    let (alice, bob, server) = (&cast.alice, &cast.bob, &cast.server);
    let two = |first: &[&SoftDevice], second: &[&SoftDevice]| {
        let mut both = put(0x10, "prod/db", 2, first);
        both.seals.extend(of_bytes("another seal", put(0x10, "prod/db", 2, second)).seals);
        both.seals.sort_by_key(|seal| seal.digest.0);
        putting(both)
    };
    ineffective(c.state("a device in two seals", alice, [two(&[alice], &[alice, bob])]), "to a device twice");
    effective(c.state("two seals", alice, [two(&[alice], &[server])]));
    let reseal = |drop: Vec<Hash>, add: Vec<Seal>| {
        Body::Reseal(Reseal { token: TokenId([0x10; 16]), version: 2, threshold: 1, drop, add })
    };
    let small = Seal { digest: sha256(b"a small one"), length: 200, recipients: vec![bob.id] };
    ineffective(c.state("a reseal of nothing", alice, [reseal(vec![], vec![])]), "changes nothing");
    ineffective(
        c.state("a dropped seal that is not there", alice, [reseal(vec![Hash([7; 32])], vec![])]),
        "does not have",
    );
    effective(c.state("a seal of its own for one more", alice, [reseal(vec![], vec![small.clone()])]));
    ineffective(
        c.state(
            "that one again",
            alice,
            [reseal(vec![], vec![Seal { digest: sha256(b"x"), ..small.clone() }])],
        ),
        "to a device twice",
    );
    effective(c.state("and it goes", alice, [reseal(vec![small.digest], vec![])]));
    ineffective(c.state("it does not come back", alice, [reseal(vec![], vec![small])]), "another version");
    let all = c.replica.seals(&TokenId([0x10; 16]), 2).unwrap().iter().map(|seal| seal.digest).collect();
    ineffective(c.state("every seal dropped", alice, [reseal(all, vec![])]), "sealed to nobody");
    let mut many = put(0x12, "many", 1, &[]);
    many.seals =
        (0..65).map(|i| Seal { digest: Hash([i; 32]), length: 1, recipients: vec![alice.id] }).collect();
    ineffective(c.state("65 seals", alice, [putting(many)]), "more than 64 times");
}

fn staged_counts_for_nothing(c: &mut Chronicle, cast: &Cast) {
    let alice = &cast.alice;
    let keep = |version, state| Put { keep: Some(1), state, ..put(0x20, "kept", version, &[alice]) };
    effective(c.state("one version", alice, [putting(keep(1, State::Active))]));
    effective(c.state("a staged one prunes nothing", alice, [putting(keep(2, State::Staged))]));
    effective(c.state("the first still goes to and fro", alice, [state(0x20, 1, State::Suspended)]));
    effective(c.state("two becomes active and one is pruned", alice, [state(0x20, 2, State::Active)]));
    ineffective(c.state("one is revoked", alice, [state(0x20, 1, State::Active)]), "revoked is final");
    effective(c.state("a third, staged", alice, [putting(keep(3, State::Staged))]));
    effective(c.state("a fourth, active, leaves the staged one", alice, [putting(keep(4, State::Active))]));
    effective(c.state("which becomes active and stays", alice, [state(0x20, 3, State::Active)]));
    ineffective(c.state("and the fourth went", alice, [state(0x20, 4, State::Active)]), "revoked is final");
}

fn aliases_are_one_grants(c: &mut Chronicle, cast: &Cast) {
    let (alice, writer) = (&cast.alice, &cast.writer);
    let own = Target::Token(TokenId([0x11; 16]));
    effective(c.state("an alias", alice, [grant(0x70, Target::Token(TokenId([0x10; 16])))]));
    ineffective(
        c.state("taken over by one that may grant its own", writer, [grant(0x71, own.clone())]),
        "another grant under the alias db",
    );
    let on_prefix = match grant(0x72, own.clone()) {
        Body::Grant(body) => Body::Grant(Grant { target: Target::Prefix("dev".into()), ..body }),
        other => other,
    };
    ineffective(c.state("an alias for a prefix", writer, [on_prefix]), "an alias is for one token");
    let to_another = match grant(0x73, own.clone()) {
        Body::Grant(body) => Body::Grant(Grant { to: "unit:other.service".into(), ..body }),
        other => other,
    };
    effective(c.state("the same alias of another", writer, [to_another]));
    effective(c.state(
        "the token is destroyed",
        alice,
        [putting(put(0x13, "short", 1, &[alice])), destroy(0x13, "short", 0)],
    ));
    let ungrant = strongroom::ledger::body::Ungrant {
        grant: GrantId([0x70; 16]),
        target: Target::Token(TokenId([0x10; 16])),
    };
    effective(c.state("taken back", alice, [Body::Ungrant(ungrant)]));
    effective(c.state("and free", writer, [grant(0x74, own)]));
}

fn policies(c: &mut Chronicle, cast: &Cast) {
    let (alice, writer) = (&cast.alice, &cast.writer);
    let policy = RotationPolicy { period: 1000, overlap: 10, hook: "pg-main".into(), params: Vec::new() };
    let on = |prefix: &str, policy: RotationPolicy| {
        Body::Policy(PolicyChange { target: Target::Prefix(prefix.into()), policy: Some(policy) })
    };
    effective(c.state("a policy", alice, [on("prod", policy.clone())]));
    effective(c.state("by one that writes and opens", writer, [on("dev", policy.clone())]));
    ineffective(
        c.state("by one that writes and does not open", writer, [on("prod/db", policy.clone())]),
        "no `write` role",
    );
    ineffective(
        c.state(
            "an overlap as long as its period",
            alice,
            [on("prod", RotationPolicy { overlap: 1000, ..policy.clone() })],
        ),
        "a period is longer",
    );
    ineffective(
        c.state(
            "a hook that is a path",
            alice,
            [on("prod", RotationPolicy { hook: "/bin/sh".into(), ..policy })],
        ),
        "between segments",
    );
    let target = Target::Prefix("prod".into());
    effective(c.state("no longer", alice, [Body::Policy(PolicyChange { target, policy: None })]));
}

fn settings(quorum: u64) -> Settings {
    Settings { quorum, ..Settings::default() }
}

fn set(settings: Settings) -> Body {
    Body::Settings(Box::new(settings))
}

fn settings_have_limits(c: &mut Chronicle, cast: &Cast) {
    let (alice, server) = (&cast.alice, &cast.server);
    let witnesses = |count| Settings { witnesses: Some(Witnesses { count, max_age: 60_000 }), ..settings(1) };
    for (comment, wrong, why) in [
        ("a quorum of none", settings(0), "a quorum is 1 to 16"),
        ("a quorum of all admins", settings(3), "smaller than the number of admins"),
        ("as many witnesses as there are", witnesses(2), "fewer witnesses are asked for than devices have"),
        (
            "a recovery device that opens a prefix",
            Settings { recovery: vec![server.id], ..settings(1) },
            "has the role `open` on everything",
        ),
        (
            "a threshold of one",
            Settings { thresholds: vec![("prod".into(), 1)], ..settings(1) },
            "a threshold is 2",
        ),
    ] {
        ineffective(c.state(comment, alice, [set(wrong)]), why);
    }
    effective(c.state("one witness", alice, [set(witnesses(1))]));
    ineffective(
        c.state("a witness retired", alice, [retire(&cast.carol)]),
        "2 devices must keep the role witness",
    );
    let recovery =
        Settings { recovery: vec![cast.bob.id], evidence: EvidenceLevel::Simulator, ..settings(1) };
    effective(c.state("a recovery device", alice, [set(recovery)]));
    ineffective(
        c.state("a put without it", alice, [putting(put(0x30, "x", 1, &[alice]))]),
        "the recovery device",
    );
    effective(c.state("a put with it", alice, [putting(put(0x30, "x", 1, &[alice, &cast.bob]))]));
    let strict = Settings { evidence: EvidenceLevel::Attested, ..settings(1) };
    effective(c.state("attested keys only", alice, [set(strict)]));
    ineffective(
        c.state("a simulator", alice, [SoftDevice::new(6, "soft").enrol(&[open("")])]),
        "stronger evidence",
    );
    effective(c.state("two must agree", alice, [set(settings(2))]));
}

fn propose(c: &Chronicle, change: Body) -> Body {
    Body::Propose(Box::new(Propose { until: c.now() + 86_400_000, change }))
}

fn approve(proposal: Hash) -> Body {
    Body::Approve(Approve { proposal })
}

fn reject(proposal: Hash) -> Body {
    Body::Reject(Reject { proposal, reason: "no".into() })
}

fn admins_agree(c: &mut Chronicle, cast: &Cast) {
    let (alice, bob, carol, server) = (&cast.alice, &cast.bob, &cast.carol, &cast.server);
    for (comment, alone) in [
        ("one admin enrols", SoftDevice::new(7, "own").enrol(&[Role::Admin])),
        ("one admin retires", retire(bob)),
        ("one admin gives roles", roles(server, &[open(""), Role::Admin])),
        ("one admin lowers the quorum", set(settings(1))),
    ] {
        ineffective(c.state(comment, alice, [alone]), "other admins must agree");
    }
    ineffective(
        c.state("one that is no admin proposes", server, [propose(c, set(settings(1)))]),
        "no `admin` role",
    );
    effective(c.state("a proposal", alice, [propose(c, roles(server, &[open("")]))]));
    let wider = c.last();
    ineffective(c.state("its proposer again", alice, [approve(wider)]), "agreed or rejected before");
    ineffective(c.state("one that is no admin", server, [approve(wider)]), "no `admin` role");
    effective(c.state("a second about the same", carol, [propose(c, retire(server))]));
    let other = c.last();
    effective(c.state("the second admin carries it out", bob, [approve(wider)]));
    ineffective(c.state("once", carol, [approve(wider)]), "no such proposal is open");
    ineffective(
        c.state("the other one was closed with it", bob, [approve(other)]),
        "no such proposal is open",
    );
    effective(c.state("sealed to the server, anywhere", alice, [putting(put(0x31, "any", 1, &[server]))]));
    let late = match propose(c, retire(server)) {
        Body::Propose(mut late) => {
            late.until = c.now() + 2;
            Body::Propose(late)
        }
        other => other,
    };
    effective(c.state("a proposal for two milliseconds", alice, [late]));
    let late = c.last();
    effective(c.state(
        "time passes",
        alice,
        [state(0x31, 1, State::Suspended), state(0x31, 1, State::Active)],
    ));
    ineffective(c.state("too late", bob, [approve(late)]), "expired");
    let far = match propose(c, retire(server)) {
        Body::Propose(mut far) => {
            far.until = c.now() + 91 * 86_400_000;
            Body::Propose(far)
        }
        other => other,
    };
    ineffective(c.state("open for too long", alice, [far]), "at most 90 days");
}

fn admins_disagree(c: &mut Chronicle, cast: &Cast) {
    let (alice, bob, carol, server) = (&cast.alice, &cast.bob, &cast.carol, &cast.server);
    effective(c.state("a proposal", alice, [propose(c, retire(server))]));
    let rejected = c.last();
    effective(c.state("one rejects, and two could still agree", bob, [reject(rejected)]));
    ineffective(
        c.state("and does not agree after all", bob, [approve(rejected)]),
        "agreed or rejected before",
    );
    effective(c.state("another rejects, and it is closed", carol, [reject(rejected)]));
    ineffective(c.state("nobody agrees any more", bob, [approve(rejected)]), "no such proposal is open");
    effective(c.state("taken back by its proposer", alice, [propose(c, retire(server))]));
    let withdrawn = c.last();
    effective(c.state("who rejects it", alice, [reject(withdrawn)]));
    ineffective(c.state("closed", bob, [approve(withdrawn)]), "no such proposal is open");
    // A vote ends with its author's role.
    effective(c.state("carol proposes", carol, [propose(c, roles(server, &[Role::Admin]))]));
    let orphan = c.last();
    effective(c.state("alice proposes that carol goes", alice, [propose(c, retire(carol))]));
    let against = c.last();
    let verdicts = c.state("which would leave two", bob, [approve(against)]);
    assert!(verdicts[0].is_none(), "{verdicts:?}");
    ineffective(
        c.state("carol's proposal went with her", bob, [approve(orphan)]),
        "no such proposal is open",
    );
    let verdicts = c.state("a proposal that leaves too few", alice, [propose(c, retire(bob))]);
    assert!(verdicts[0].is_none(), "{verdicts:?}");
    let fewer = c.last();
    ineffective(c.state("is not carried out", bob, [approve(fewer)]), "2 devices must keep the role admin");
    let successor = SoftDevice::new(8, "carol").enrol(&[Role::Admin]);
    let successor = match successor {
        Body::Enrol(mut body) => {
            body.replaces = Some(carol.id);
            Body::Enrol(body)
        }
        other => other,
    };
    effective(c.state("an heir for one that was compromised", alice, [propose(c, successor)]));
    let heir = c.last();
    ineffective(c.state("is none", bob, [approve(heir)]), "replaces no retired device");
    let gone = Body::Retire(Retire { device: server.id, compromised: false, reason: "old".into() });
    effective(c.state("a retirement", alice, [propose(c, gone)]));
    let gone = c.last();
    effective(c.state("agreed", bob, [approve(gone)]));
    let in_place = |number, name| match SoftDevice::new(number, name).enrol(&[open("prod")]) {
        Body::Enrol(mut body) => {
            body.replaces = Some(server.id);
            Body::Enrol(body)
        }
        other => other,
    };
    effective(c.state("a successor", alice, [propose(c, in_place(10, "server"))]));
    let first = c.last();
    effective(c.state("agreed, too", bob, [approve(first)]));
    effective(c.state("a second successor", alice, [propose(c, in_place(11, "server-2"))]));
    let second = c.last();
    ineffective(c.state("is none", bob, [approve(second)]), "replaces no retired device");
}

fn thresholds(c: &mut Chronicle, cast: &Cast) {
    let (alice, bob, writer) = (&cast.alice, &cast.bob, &cast.writer);
    let two = Settings { thresholds: vec![("prod/root".into(), 2)], ..settings(2) };
    effective(c.state(
        "staged before",
        alice,
        [putting(Put { state: State::Staged, ..put(0x41, "prod/root/a", 1, &[alice]) })],
    ));
    effective(c.state("a threshold", alice, [propose(c, set(two))]));
    let proposal = c.last();
    effective(c.state("agreed", bob, [approve(proposal)]));
    ineffective(
        c.state("staged before, and active afterwards", alice, [state(0x41, 1, State::Active)]),
        "more devices that open it together",
    );
    ineffective(
        c.state("one device alone", alice, [putting(put(0x40, "prod/root/key", 1, &[alice, bob]))]),
        "more devices that open it together",
    );
    let of_two = |token, version, name: &str, recipients: &[&SoftDevice]| Put {
        threshold: 2,
        ..put(token, name, version, recipients)
    };
    ineffective(
        c.state("two of one", alice, [putting(of_two(0x40, 1, "prod/root/key", &[alice]))]),
        "more devices than there are",
    );
    effective(c.state("two of two", alice, [putting(of_two(0x40, 1, "prod/root/key", &[alice, bob]))]));
    ineffective(
        c.state("a token with less renamed to it", alice, [rename(0x30, "x", "prod/root/x")]),
        "more devices that open it together",
    );
    effective(c.state(
        "renamed to where nothing is asked",
        alice,
        [rename(0x40, "prod/root/key", "prod/key")],
    ));
    ineffective(
        c.state("a writer lets one device open it", writer, [putting(put(0x40, "prod/key", 2, &[alice]))]),
        "only an admin",
    );
    effective(c.state("an admin may", alice, [putting(put(0x40, "prod/key", 2, &[alice, bob]))]));
    let seals = c.replica.seals(&TokenId([0x40; 16]), 2).unwrap();
    let anew = Seal { digest: sha256(b"for alice alone"), length: 300, recipients: vec![alice.id] };
    let reseal = Reseal {
        token: TokenId([0x40; 16]),
        version: 2,
        threshold: 1,
        drop: vec![seals[0].digest],
        add: vec![anew],
    };
    ineffective(
        c.state("one admin takes it from another", alice, [Body::Reseal(reseal.clone())]),
        "takes the version from the device",
    );
    let lower = Reseal { version: 1, ..reseal.clone() };
    ineffective(c.state("a reseal with a lower threshold", alice, [Body::Reseal(lower)]), "does not have");
    let both = Seal { recipients: vec![alice.id, bob.id], digest: sha256(b"for both"), length: 300 };
    let higher = Reseal { threshold: 2, add: vec![both], ..reseal };
    effective(c.state("a reseal with a higher one", alice, [Body::Reseal(higher)]));
}

/// A change that one admin makes alone closes what was proposed about the same.
fn one_admin_again(c: &mut Chronicle, cast: &Cast) {
    let (alice, bob) = (&cast.alice, &cast.bob);
    let server = SoftDevice::new(10, "server");
    effective(c.state("a proposal about the server", alice, [propose(c, roles(&server, &[Role::Admin]))]));
    let old = c.last();
    effective(c.state("one admin is enough", alice, [propose(c, set(settings(1)))]));
    let lowered = c.last();
    effective(c.state("agreed", bob, [approve(lowered)]));
    effective(c.state("other roles, by one alone", alice, [roles(&server, &[open("dev")])]));
    ineffective(c.state("the old proposal is closed", bob, [approve(old)]), "no such proposal is open");
    ineffective(
        c.state("and there are no proposals any more", alice, [propose(c, retire(&server))]),
        "no other admin needs to agree",
    );
}
