//! A small store whose devices come and go: what every reseal and anchor comes to.

use crate::soft_devices::SoftDevice;
use crate::store_builder::{Chronicle, put};
use crate::whole_store::{
    Cast, destroy, effective, grant, ineffective, of_bytes, putting, retire, roles, state,
};
use strongroom::ledger::body::{Anchor, Body, Counter, Reseal, Role, Seal, State, Target};
use strongroom::ledger::judge::LedgerView;
use strongroom::ledger::{TokenId, sha256};

/// Puts one seal in the place of all that the version has.
fn reseal(c: &Chronicle, token: u8, version: u64, bytes: &str, recipients: &[&SoftDevice]) -> Body {
    let mut recipients: Vec<_> = recipients.iter().map(|device| device.id).collect();
    recipients.sort();
    let token = TokenId([token; 16]);
    let drop = c.replica.seals(&token, version).unwrap().iter().map(|seal| seal.digest).collect();
    let add = vec![Seal { digest: sha256(bytes.as_bytes()), length: 450, recipients }];
    Body::Reseal(Reseal { token, version, threshold: 1, drop, add })
}

pub fn anchor(device: &SoftDevice, counter: Option<(u64, u64)>) -> Body {
    let counter = counter.map(|(index, start)| Counter { index, start });
    Body::Anchor(Anchor { device: device.id, counter })
}

/// A store whose devices come and go, with reseals and anchors.
pub fn resealed_store() -> Chronicle {
    let cast = Cast::new();
    let (owner, writer, hsm) = (&cast.owner, &cast.writer, &cast.hsm);
    let mut c =
        Chronicle::begin(owner, &[Role::Open(String::new()), Role::Write(String::new()), Role::Admin]);
    let versions = [putting(put(0x10, "prod/db", 1, &[owner])), putting(put(0x10, "prod/db", 2, &[owner]))];
    effective(c.state("two versions", owner, versions));
    let two = [writer.enrol(&[Role::Open(String::new()), Role::Write("prod".into())]), hsm.enrol(&[])];
    effective(c.state("two more devices", owner, two));
    let both = [reseal(&c, 0x10, 1, "one", &[owner, writer]), reseal(&c, 0x10, 2, "two", &[owner, writer])];
    effective(c.state("both resealed under one signature", owner, both));
    let again = reseal(&c, 0x10, 2, "three", &[writer]);
    effective(c.state("and again", owner, [again]));
    reseals_err(&mut c, &cast);
    anchors_come_and_go(&mut c, &cast);
    c
}

fn reseals_err(c: &mut Chronicle, cast: &Cast) {
    let (owner, writer, hsm) = (&cast.owner, &cast.writer, &cast.hsm);
    let others = "these sealed bytes belong to another version";
    ineffective(
        c.state("by one who writes, and is no admin", writer, [reseal(c, 0x10, 1, "x", &[writer])]),
        "no `admin` role",
    );
    for (comment, bytes) in [
        ("the bytes it has", "one"),
        ("the bytes it had", "the sealed bytes of 16@1"),
        ("the bytes that another version had", "two"),
        ("the bytes of another version", "three"),
    ] {
        ineffective(c.state(comment, owner, [reseal(c, 0x10, 1, bytes, &[owner])]), others);
    }
    ineffective(c.state("resealed to nobody", owner, [reseal(c, 0x10, 1, "x", &[])]), "sealed to nobody");
    ineffective(
        c.state("to one that does not open", owner, [reseal(c, 0x10, 1, "x", &[hsm])]),
        "has no role `open`",
    );
    ineffective(
        c.state("to one that is no device", owner, [reseal(c, 0x10, 1, "x", &[&cast.stranger])]),
        "has no role `open`",
    );
    ineffective(
        c.state("a version that is not there", owner, [reseal(c, 0x10, 9, "x", &[owner])]),
        "no such version",
    );
    ineffective(c.state("version 0", owner, [reseal(c, 0x10, 0, "x", &[owner])]), "no such version");
    ineffective(c.state("no such token", owner, [reseal(c, 0x77, 1, "x", &[owner])]), "no such token");
    let old = of_bytes("one", put(0x10, "prod/db", 3, &[owner]));
    ineffective(c.state("a put with the bytes of a reseal", owner, [putting(old)]), others);
    let old = of_bytes("the sealed bytes of 16@1", put(0x10, "prod/db", 3, &[owner]));
    ineffective(c.state("a put with bytes of before a reseal", owner, [putting(old)]), others);
    let mixed = [reseal(c, 0x10, 1, "x", &[owner]), roles(hsm, &[Role::Open(String::new())])];
    ineffective(c.state("a reseal and a change of roles in one batch", owner, mixed), "must come alone");
    effective(c.state(
        "suspended and revoked are resealed too",
        owner,
        [
            state(0x10, 0, State::Suspended),
            state(0x10, 2, State::Revoked),
            reseal(c, 0x10, 2, "four", &[owner]),
        ],
    ));
    let crossing = c.draft(writer, [putting(put(0x10, "prod/db", 3, &[owner, writer]))]);
    effective(c.state("a reseal of an older version", owner, [reseal(c, 0x10, 1, "five", &[owner])]));
    ineffective(c.land("a put that was signed before it", writer, &crossing), "came first");
    let stale = c.draft(owner, [reseal(c, 0x10, 1, "six", &[owner, writer])]);
    effective(c.state("a recipient retired", owner, [retire(writer)]));
    ineffective(c.land("a reseal to it that was signed before", owner, &stale), "earlier state");
    effective(c.state("one version destroyed", owner, [destroy(0x10, "prod/db", 2)]));
    ineffective(
        c.state("and resealed", owner, [reseal(c, 0x10, 2, "x", &[owner])]),
        "the version was destroyed",
    );
    effective(c.state("the whole token destroyed", owner, [destroy(0x10, "prod/db", 0)]));
    ineffective(
        c.state("and resealed as well", owner, [reseal(c, 0x10, 1, "x", &[owner])]),
        "the token was destroyed",
    );
}

fn anchors_come_and_go(c: &mut Chronicle, cast: &Cast) {
    let (owner, hsm) = (&cast.owner, &cast.hsm);
    effective(c.state("an anchor", owner, [anchor(hsm, Some((0x0180_0000, 41)))]));
    effective(c.state("another takes its place", owner, [anchor(hsm, Some((u64::from(u32::MAX), 0)))]));
    ineffective(
        c.state("an index of 33 bits", owner, [anchor(hsm, Some((1 << 32, 0)))]),
        "more than 32 bits",
    );
    ineffective(
        c.state("a start of 64 bits", owner, [anchor(hsm, Some((1, 1 << 63)))]),
        "a counter that no device has",
    );
    ineffective(c.state("by one who is no admin", hsm, [anchor(hsm, None)]), "no `admin` role");
    ineffective(c.state("on no device", owner, [anchor(&cast.stranger, None)]), "no such device");
    ineffective(c.state("on a retired device", owner, [anchor(&cast.writer, None)]), "or it was retired");
    let mixed = [anchor(hsm, None), grant(1, Target::Prefix(String::new()))];
    ineffective(c.state("an anchor and a grant in one batch", owner, mixed), "must come alone");
    effective(c.state("no longer, and none again", owner, [anchor(hsm, None), anchor(hsm, None)]));
}
