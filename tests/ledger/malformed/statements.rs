//! Nearly statements.

use super::Twin;
use crate::item::{Item, head, wide_head};
use crate::statements::examples;
fn example(comment: &str) -> Item {
    let all = examples();
    let (_, statement) = all.iter().find(|(name, _)| *name == comment).unwrap();
    Item::parse(&statement.encode()).unwrap()
}

pub fn statements() -> Vec<Twin> {
    let mut all = Vec::new();
    let put = example("put: everything");
    encodings(&put, &mut all);
    shapes(&put, &mut all);
    orders(&put, &mut all);
    unknown_values(&put, &mut all);
    keys(&mut all);
    later(&mut all);
    all
}

/// Kinds that came after the first eleven.
fn later(all: &mut Vec<Twin>) {
    let mut add = |comment: &str, item: Item| all.push((format!("later: {comment}"), item.encode()));
    let material = example("enrol: with material for both keys");
    add("material as text", material.with(&[6, 4, 4], |_| Item::Text("blob".into())));
    let in_place = example("enrol: in the place of another");
    add("a replaced device of 15 bytes", in_place.with(&[6, 7], |_| Item::Bytes(vec![0xd0; 15])));
    let reseal = example("reseal");
    add(
        "recipients of a reseal the other way round",
        reseal.with(&[6, 4, 0, 2], |list| {
            let mut list = list.clone();
            list.elements().reverse();
            list
        }),
    );
    add(
        "a recipient of a reseal twice",
        reseal.with(&[6, 4, 0, 2], |list| {
            let mut list = list.clone();
            let first = list.elements()[0].clone();
            list.elements().insert(0, first);
            list
        }),
    );
    add(
        "a reseal that advances a name as well",
        reseal.with(&[5], |advances| {
            let mut advances = advances.clone();
            let name = example("put: everything").at(&[5, 1]).clone();
            advances.elements().push(name);
            advances
        }),
    );
    add(
        "a reseal with a name",
        reseal.with(&[6], |body| {
            let mut body = body.clone();
            body.elements().insert(1, Item::Text("prod/db".into()));
            body
        }),
    );
    add("a reseal that drops a digest of 31 bytes", reseal.with(&[6, 3, 0], |_| Item::Bytes(vec![0xde; 31])));
    let anchor = example("anchor");
    add("a counter without a start", anchor.with(&[6, 1], |_| Item::Array(vec![Item::Uint(1)])));
    add(
        "a counter of three numbers",
        anchor.with(&[6, 1], |_| Item::Array(vec![Item::Uint(1), Item::Uint(2), Item::Uint(3)])),
    );
    add("a counter as a number", anchor.with(&[6, 1], |_| Item::Uint(1)));
    add("false for no counter", anchor.with(&[6, 1], |_| Item::Bool(false)));
    add(
        "dropped seals the other way round",
        reseal.with(&[6, 3], |list| {
            let mut list = list.clone();
            list.elements().reverse();
            list
        }),
    );
    add(
        "an anchor on a device of its own",
        anchor.with(&[5], |advances| {
            let mut advances = advances.clone();
            let first = advances.elements()[0].clone();
            advances.elements().push(first);
            advances
        }),
    );
    agreements(&mut add);
}

/// Policies, settings and proposals.
fn agreements(add: &mut impl FnMut(&str, Item)) {
    let policy = example("policy: on a token");
    add("a policy on a name", policy.with(&[6, 0, 0], |_| Item::Uint(2)));
    add("a policy without parameters", {
        let mut shorter = policy.clone();
        shorter.at(&[6, 1]).elements().pop();
        shorter
    });
    let settings = example("settings");
    let reversed = |item: &Item| {
        let mut item = item.clone();
        item.elements().reverse();
        item
    };
    add("recovery devices the other way round", settings.with(&[6, 3], reversed));
    add("thresholds the other way round", settings.with(&[6, 4], reversed));
    add("witnesses as a number", settings.with(&[6, 1], |_| Item::Uint(1)));
    let propose = example("propose: roles");
    add("a proposal of a put", propose.with(&[6, 1], |_| Item::Uint(4)));
    add("a proposal of a proposal", propose.with(&[6, 1], |_| Item::Uint(15)));
    add("a proposal without an end", propose.with(&[6, 0], |_| Item::Null));
    add("a proposal with the body of another kind", propose.with(&[6, 1], |_| Item::Uint(14)));
    add("an approval of 31 bytes", example("approve").with(&[6, 0], |_| Item::Bytes(vec![0x99; 31])));
}

fn raw(parts: &[&[u8]]) -> Item {
    Item::Raw(parts.concat())
}

/// The same values in bytes that are not the shortest, definite, only ones.
fn encodings(put: &Item, all: &mut Vec<Twin>) {
    let encoded = put.encode();
    let mut add = |comment: &str, bytes: Vec<u8>| all.push((format!("encoding: {comment}"), bytes));
    add("empty", Vec::new());
    add("a byte after the end", [&encoded[..], &[0]].concat());
    add("a second statement after the end", [&encoded[..], &encoded].concat());
    add("the last byte missing", encoded[..encoded.len() - 1].to_vec());
    add("the outer array of indefinite length", [&[0x9f], &encoded[1..], &[0xff]].concat());
    add("the outer array's length in two bytes", [&wide_head(4, 7, 1)[..], &encoded[1..]].concat());
    add("the outer array's length in nine bytes", [&wide_head(4, 7, 8)[..], &encoded[1..]].concat());
    add("tagged as self-described CBOR", [&[0xd9, 0xd9, 0xf7], &encoded[..]].concat());
    add("in a byte string", Item::Bytes(encoded.clone()).encode());
    add("the version in two bytes", put.with(&[0], |_| Item::Raw(wide_head(0, 1, 1))).encode());
    let Item::Uint(time) = *put.clone().at(&[4]) else { panic!("no time") };
    add("the time tagged", put.with(&[4], |_| raw(&[&[0xc1], &head(0, time)])).encode());
    add("the time as a float", put.with(&[4], |_| raw(&[&[0xfb], &(time as f64).to_be_bytes()])).encode());
    add("the time as a bignum", put.with(&[4], |_| raw(&[&[0xc2, 0x48], &time.to_be_bytes()])).encode());
    add("a negative time", put.with(&[4], |_| Item::Raw(head(1, time))).encode());
    for width in [2, 4, 8] {
        let version = put.with(&[6, 2], |_| Item::Raw(wide_head(0, 3, width)));
        add(&format!("a version in {} bytes", width + 1), version.encode());
    }
    let chunks = |item: &Item, major: u8| {
        let encoded = item.encode();
        raw(&[&[major << 5 | 31], &encoded, &[0xff]])
    };
    add("an author in chunks", put.with(&[3], |author| chunks(author, 2)).encode());
    add("a name in chunks", put.with(&[6, 1], |name| chunks(name, 3)).encode());
    add(
        "an author whose length takes two bytes",
        put.with(&[3], |_| raw(&[&wide_head(2, 16, 1), &[0xd1; 16]])).encode(),
    );
    add(
        "recipients of indefinite length",
        put.with(&[6, 5], |list| raw(&[&[0x9f], &list.encode()[1..], &[0xff]])).encode(),
    );
    add("undefined for null", put.with(&[6, 11], |_| Item::Raw(vec![0xf7])).encode());
    add("null in two bytes", put.with(&[6, 11], |_| Item::Raw(vec![0xf8, 22])).encode());
    let not_utf8 = put.with(&[6, 10], |_| raw(&[&[0x62], &[0xc0, 0x80]]));
    add("a text that is not UTF-8", not_utf8.encode());
    let surrogate = put.with(&[6, 10], |_| raw(&[&[0x63], &[0xed, 0xa0, 0x80]]));
    add("a text with a surrogate", surrogate.encode());
}

/// Elements of another type, or more or fewer of them.
fn shapes(put: &Item, all: &mut Vec<Twin>) {
    let mut add = |comment: &str, item: Item| all.push((format!("shape: {comment}"), item.encode()));
    add("a map for the outer array", Item::Raw([&[0xa7][..], &map_of(put)].concat()));
    add("a map for the body", put.with(&[6], |body| Item::Raw([head(5, 12), map_of(body)].concat())));
    add("no statement but a number", Item::Uint(1));
    for (index, what) in ["version", "store", "kind", "author", "time", "advances", "body"].iter().enumerate()
    {
        let mut shorter = put.clone();
        shorter.elements().remove(index);
        add(&format!("no {what}"), shorter);
        add(&format!("null for the {what}"), put.with(&[index], |_| Item::Null));
    }
    let mut longer = put.clone();
    longer.elements().push(Item::Null);
    add("an eighth element", longer);
    let mut longer = put.clone();
    longer.at(&[6]).elements().push(Item::Null);
    add("a body with one more element", longer);
    add("a store id of 31 bytes", put.with(&[1], |_| Item::Bytes(vec![0x5a; 31])));
    add("a store id of 33 bytes", put.with(&[1], |_| Item::Bytes(vec![0x5a; 33])));
    add("an author as text", put.with(&[3], |_| Item::Text("d".repeat(16))));
    add("a name as bytes", put.with(&[6, 1], |_| Item::Bytes(b"prod/db/password".to_vec())));
    add("a digest of 20 bytes", put.with(&[6, 3, 0, 0], |_| Item::Bytes(vec![0xdd; 20])));
    add("0 for not only", put.with(&[6, 5], |_| Item::Uint(0)));
    add("false for no expiry", put.with(&[6, 8], |_| Item::Bool(false)));
    add("no advances", put.with(&[5], |_| Item::Array(Vec::new())));
    let genesis = example("genesis");
    add("the store subject with bytes", genesis.with(&[5, 0, 0, 1], |_| Item::Bytes(vec![0])));
    add("a genesis body for a put", put.with(&[6], |_| genesis.clone().at(&[6]).clone()));
    let retire = example("retire");
    add("1 for true", retire.with(&[6, 1], |_| Item::Uint(1)));
    let grant = example("grant: a token");
    add(
        "a grant on a name",
        grant.with(&[6, 1], |_| Item::Array(vec![Item::Uint(2), Item::Text("a".into())])),
    );
}

/// The elements of an array as the values of a map with the keys 0, 1, 2 …
pub fn map_of(array: &Item) -> Vec<u8> {
    let mut array = array.clone();
    let pairs = array.elements().iter().enumerate();
    pairs.flat_map(|(index, item)| [head(0, index as u64), item.encode()].concat()).collect()
}

/// Lists out of order, with doubles, or with subjects that are not the body's.
fn orders(put: &Item, all: &mut Vec<Twin>) {
    let mut add = |comment: &str, item: Item| all.push((format!("order: {comment}"), item.encode()));
    let reversed = |item: &Item| {
        let mut item = item.clone();
        item.elements().reverse();
        item
    };
    let doubled = |item: &Item| {
        let mut item = item.clone();
        let first = item.elements()[0].clone();
        item.elements().insert(0, first);
        item
    };
    for (what, path) in [
        ("advances", vec![5]),
        ("seals", vec![6, 3]),
        ("recipients", vec![6, 3, 0, 2]),
        ("labels", vec![6, 9]),
    ] {
        add(&format!("{what} the other way round"), put.with(&path, reversed));
        add(&format!("{what} with a double"), put.with(&path, doubled));
    }
    add("two labels of one key", put.with(&[6, 9, 1, 0], |_| Item::Text("env".into())));
    let roles = example("roles");
    add("roles the other way round", roles.with(&[6, 1], reversed));
    add("roles with a double", roles.with(&[6, 1], doubled));
    let grant = example("grant: a prefix");
    add("operations the other way round", grant.with(&[6, 3], reversed));
    add("operations with a double", grant.with(&[6, 3], doubled));
    add("an advance of another token", put.with(&[5, 0, 0, 1], |_| Item::Bytes(vec![0xab; 16])));
    add("an advance of another name", put.with(&[5, 1, 0, 1], |_| Item::Text("prod/db".into())));
    let subjects = |item: &Item, with: Item| {
        let mut item = item.clone();
        item.elements().insert(0, Item::Array(vec![with, Item::Bytes(vec![0xcc; 32])]));
        item
    };
    let store = Item::Array(vec![Item::Uint(0), Item::Bytes(Vec::new())]);
    add("an advance too many", put.with(&[5], |advances| subjects(advances, store)));
    let mut fewer = put.clone();
    fewer.at(&[5]).elements().pop();
    add("an advance too few", fewer);
    let rename = example("rename: the shorter name sorts first");
    add(
        "the two names of a rename the other way round",
        rename.with(&[5], |advances| {
            let mut advances = advances.clone();
            advances.elements().swap(1, 2);
            advances
        }),
    );
}

/// What a later version may bring: not tampering, yet never passed over.
fn unknown_values(put: &Item, all: &mut Vec<Twin>) {
    let mut add = |comment: &str, item: Item| all.push((format!("newer: {comment}"), item.encode()));
    add("version 2", put.with(&[0], |_| Item::Uint(2)));
    let mut longer = put.with(&[0], |_| Item::Uint(2));
    longer.elements().push(Item::Null);
    add("version 2 with eight elements", longer);
    add("version 0", put.with(&[0], |_| Item::Uint(0)));
    add("kind 99", put.with(&[2], |_| Item::Uint(99)));
    add("a subject of kind 4", put.with(&[5, 0, 0, 0], |_| Item::Uint(4)));
    add("state 4", put.with(&[6, 6], |_| Item::Uint(4)));
    let enrol = example("enrol: P-256, all roles");
    add("evidence level 3", enrol.with(&[6, 4, 2], |_| Item::Uint(3)));
    add("role 6", enrol.with(&[6, 6, 0, 0], |_| Item::Uint(6)));
    add("a proposal of kind 99", example("propose: roles").with(&[6, 1], |_| Item::Uint(99)));
    add("a key of algorithm 99", enrol.with(&[6, 4, 0, 0], |_| Item::Uint(99)));
    let rsa = example("enrol: RSA-OAEP SHA-1, open only");
    add("OAEP with SHA-384", rsa.with(&[6, 4, 0, 3], |_| Item::Uint(384)));
}

/// Keys that are not of the form that their algorithm has.
fn keys(all: &mut Vec<Twin>) {
    let mut add = |comment: &str, item: Item| all.push((format!("key: {comment}"), item.encode()));
    let enrol = example("enrol: P-256, all roles");
    let rsa = example("enrol: RSA-OAEP SHA-256, write under two prefixes");
    let Item::Bytes(point) = enrol.clone().at(&[6, 4, 0, 1]).clone() else { panic!("no point") };
    let with_point = |bytes: Vec<u8>| enrol.with(&[6, 4, 0, 1], |_| Item::Bytes(bytes));
    let mut off = point.clone();
    off[64] ^= 1;
    add("a point off the curve", with_point(off));
    add("the point at infinity", with_point(vec![0]));
    let mut hybrid = point.clone();
    hybrid[0] = 6 | (point[64] & 1);
    add("a hybrid point", with_point(hybrid));
    add("a compressed point", with_point([&[2 | (point[64] & 1)], &point[1..33]].concat()));
    add(
        "a signing key of AES",
        enrol.with(&[6, 5, 0], |_| Item::Array(vec![Item::Uint(3), Item::Bytes(vec![0xae; 16])])),
    );
    let p384 = example("enrol: P-384 opens");
    let Item::Bytes(point) = p384.clone().at(&[6, 4, 0, 1]).clone() else { panic!("no point") };
    let with_point = |bytes: Vec<u8>| p384.with(&[6, 4, 0, 1], |_| Item::Bytes(bytes));
    let mut off = point.clone();
    off[96] ^= 1;
    add("a P-384 point off the curve", with_point(off));
    let mut hybrid = point.clone();
    hybrid[0] = 6 | (point[96] & 1);
    add("a hybrid P-384 point", with_point(hybrid));
    add("a compressed P-384 point", with_point([&[2 | (point[96] & 1)], &point[1..49]].concat()));
    add("a P-256 point called P-384", enrol.with(&[6, 4, 0, 0], |_| Item::Uint(4)));
    add("a P-384 point called P-256", p384.with(&[6, 4, 0, 0], |_| Item::Uint(1)));
    let genesis = example("genesis");
    add("a genesis of RSA", genesis.with(&[6, 2], |_| rsa.clone().at(&[6, 4, 0]).clone()));
    let part = |index, change| with_bytes(&rsa, &[6, 4, 0, index], change);
    add("a modulus with a leading zero", part(1, |n| n.insert(0, 0)));
    add("a modulus of 1024 bits", part(1, |n| n.truncate(128)));
    add("a modulus of 4104 bits", part(1, |n| n.resize(513, 1)));
    add("an exponent with a leading zero", part(2, |e| e.insert(0, 0)));
    add("an empty exponent", part(2, Vec::clear));
    add("an exponent of nine bytes", part(2, |e| e.resize(9, 1)));
    add(
        "a key id of 15 bytes",
        enrol.with(&[6, 4, 0], |_| Item::Array(vec![Item::Uint(3), Item::Bytes(vec![0xae; 15])])),
    );
    signing_rsa(&mut add);
    let mut longer = enrol.clone();
    longer.at(&[6, 4, 0]).elements().push(Item::Null);
    add("a P-256 key with one more element", longer);
    add(
        "a role `admin` with a prefix",
        enrol.with(&[6, 6, 0], |_| Item::Array(vec![Item::Uint(3), Item::Text("prod".into())])),
    );
}

/// A statement with one byte string changed.
fn with_bytes(statement: &Item, at: &[usize], change: fn(&mut Vec<u8>)) -> Item {
    statement.with(at, |part| {
        let Item::Bytes(mut bytes) = part.clone() else { panic!("no bytes") };
        change(&mut bytes);
        Item::Bytes(bytes)
    })
}

fn signing_rsa(add: &mut impl FnMut(&str, Item)) {
    let enrol = example("enrol: RSA signs");
    let part = |index, change| with_bytes(&enrol, &[6, 5, 0, index], change);
    add("a signing modulus with a leading zero", part(1, |n| n.insert(0, 0)));
    add("a signing modulus of 1024 bits", part(1, |n| n.truncate(128)));
    add("a signing modulus of 4104 bits", part(1, |n| n.resize(513, 1)));
    add("an empty signing exponent", part(2, Vec::clear));
    let mut longer = enrol.clone();
    longer.at(&[6, 5, 0]).elements().push(Item::Uint(256));
    add("a signing key of RSA with a hash", longer);
    let key = enrol.clone().at(&[6, 5, 0]).clone();
    add("an RSA key for signing that opens", enrol.with(&[6, 4, 0], |_| key.clone()));
    let rsa = example("enrol: RSA-OAEP SHA-256, write under two prefixes");
    let opening = rsa.clone().at(&[6, 4, 0]).clone();
    add("an RSA key for opening that signs", enrol.with(&[6, 5, 0], |_| opening.clone()));
}
