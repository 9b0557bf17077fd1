//! Bytes that nearly are a statement or a batch, and are refused: every twin of something valid.

use crate::fields::{bytes, text};
use crate::files::{add_missing, vectors};
use crate::item::{Item, head, wide_head};
use crate::soft::SoftDevice;
use crate::statements::{examples, full_put};
use serde_json::json;
use strongroom::ledger::body::Body;
use strongroom::ledger::{Hash, MAX_STATEMENT_BYTES, Position, SignedBatch, Statement, StoreId};

#[test]
fn every_malformed_statement_is_refused_for_its_reason() {
    for vector in vectors("malformed-statements") {
        let error = Statement::decode(&bytes(&vector["bytes"])).expect_err(&text(&vector["comment"]));
        assert_eq!(error.0, vector["error"], "{}", vector["comment"]);
    }
}

#[test]
fn every_malformed_batch_is_refused_for_its_reason() {
    for vector in vectors("malformed-batches") {
        let error = SignedBatch::decode(&bytes(&vector["bytes"])).expect_err(&text(&vector["comment"]));
        assert_eq!(error.0, vector["error"], "{}", vector["comment"]);
    }
}

/// A statement that was cut off anywhere is none.
#[test]
fn a_statement_cut_short_is_refused() {
    for (comment, statement) in examples() {
        let encoded = statement.encode();
        for len in 0..encoded.len() {
            assert!(Statement::decode(&encoded[..len]).is_err(), "{comment}, {len} bytes");
        }
    }
}

#[test]
fn a_statement_has_at_most_64_kib() {
    let of = |len: usize| {
        let mut put = full_put();
        put.description = "x".repeat(len);
        let heads = |_: &_| Ok::<_, std::convert::Infallible>(Hash::ZERO);
        let author = SoftDevice::new(1, "any").id;
        let Ok(statement) = Statement::compose(StoreId([1; 32]), author, 0, Body::Put(Box::new(put)), heads);
        statement.encode()
    };
    let around = of(60_000).len() - 60_000;
    assert!(Statement::decode(&of(MAX_STATEMENT_BYTES - around)).is_ok());
    assert!(Statement::decode(&of(MAX_STATEMENT_BYTES - around + 1)).is_err());
}

/// What a few bytes claim must not be believed: neither memory nor stack follow a length or a depth.
#[test]
fn claims_of_size_and_depth_cost_nothing() {
    let start = std::time::Instant::now();
    let small =
        examples().into_iter().map(|(_, statement)| statement.encode()).filter(|bytes| bytes.len() < 1000);
    for encoded in small {
        let item = Item::parse(&encoded).unwrap();
        for path in paths(&item) {
            for major in [2, 3, 4] {
                for claim in [u64::MAX, 1 << 62, u64::from(u32::MAX), 65_000] {
                    let bomb = item.with(&path, |_| Item::Raw(head(major, claim))).encode();
                    assert!(Statement::decode(&bomb).is_err());
                }
            }
        }
    }
    let mut deep = vec![0x81; MAX_STATEMENT_BYTES];
    assert!(Statement::decode(&deep).is_err());
    deep.truncate(1024);
    assert!(SignedBatch::decode(&deep).is_err());
    let wide = [head(4, 65_000), vec![0x80; 65_000]].concat();
    assert!(Statement::decode(&wide).is_err());
    assert!(start.elapsed().as_secs() < 10);
}

/// The path of every element, the outermost first.
pub fn paths(item: &Item) -> Vec<Vec<usize>> {
    let mut found = vec![Vec::new()];
    if let Item::Array(items) = item {
        for (index, item) in items.iter().enumerate() {
            found.extend(paths(item).into_iter().map(|path| [vec![index], path].concat()));
        }
    }
    found
}

/// Writes the vectors that are missing. Those that exist stay as they are.
#[test]
#[ignore = "writes into tests/vectors"]
fn write_missing_vectors() {
    let shown = |comment: String, bytes: Vec<u8>, error: &str| json!({ "comment": comment, "bytes": hex::encode(bytes), "error": error });
    add_missing(
        "malformed-statements",
        statements().into_iter().map(|(comment, bytes)| {
            let error = Statement::decode(&bytes).expect_err(&comment);
            shown(comment, bytes, error.0)
        }),
    );
    add_missing(
        "malformed-batches",
        batches().into_iter().map(|(comment, bytes)| {
            let error = SignedBatch::decode(&bytes).expect_err(&comment);
            shown(comment, bytes, error.0)
        }),
    );
}

type Twin = (String, Vec<u8>);

fn example(comment: &str) -> Item {
    let all = examples();
    let (_, statement) = all.iter().find(|(name, _)| *name == comment).unwrap();
    Item::parse(&statement.encode()).unwrap()
}

fn statements() -> Vec<Twin> {
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
    add("an enrolment with material as kind 1", material.with(&[2], |_| Item::Uint(1)));
    add(
        "an enrolment without material as kind 11",
        example("enrol: P-256, all roles").with(&[2], |_| Item::Uint(11)),
    );
    let empty = material.with(&[6, 4, 4], |_| Item::Bytes(Vec::new()));
    add("kind 11 with nothing in either material", empty.with(&[6, 5, 4], |_| Item::Bytes(Vec::new())));
    add("material as text", material.with(&[6, 4, 4], |_| Item::Text("blob".into())));
    let reseal = example("reseal");
    add(
        "recipients of a reseal the other way round",
        reseal.with(&[6, 4], |list| {
            let mut list = list.clone();
            list.elements().reverse();
            list
        }),
    );
    add(
        "a recipient of a reseal twice",
        reseal.with(&[6, 4], |list| {
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
    add("a reseal with a digest of 31 bytes", reseal.with(&[6, 2], |_| Item::Bytes(vec![0xde; 31])));
    let anchor = example("anchor");
    add("a counter without a start", anchor.with(&[6, 1], |_| Item::Array(vec![Item::Uint(1)])));
    add(
        "a counter of three numbers",
        anchor.with(&[6, 1], |_| Item::Array(vec![Item::Uint(1), Item::Uint(2), Item::Uint(3)])),
    );
    add("a counter as a number", anchor.with(&[6, 1], |_| Item::Uint(1)));
    add("false for no counter", anchor.with(&[6, 1], |_| Item::Bool(false)));
    add(
        "an anchor on the store alone",
        anchor.with(&[5], |advances| {
            let mut advances = advances.clone();
            advances.elements().truncate(1);
            advances
        }),
    );
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
    add("undefined for null", put.with(&[6, 12], |_| Item::Raw(vec![0xf7])).encode());
    add("null in two bytes", put.with(&[6, 12], |_| Item::Raw(vec![0xf8, 22])).encode());
    let not_utf8 = put.with(&[6, 10], |_| raw(&[&[0x62], &[0xc0, 0x80]]));
    add("a text that is not UTF-8", not_utf8.encode());
    let surrogate = put.with(&[6, 10], |_| raw(&[&[0x63], &[0xed, 0xa0, 0x80]]));
    add("a text with a surrogate", surrogate.encode());
}

/// Elements of another type, or more or fewer of them.
fn shapes(put: &Item, all: &mut Vec<Twin>) {
    let mut add = |comment: &str, item: Item| all.push((format!("shape: {comment}"), item.encode()));
    add("a map for the outer array", Item::Raw([&[0xa7][..], &map_of(put)].concat()));
    add("a map for the body", put.with(&[6], |body| Item::Raw([head(5, 13), map_of(body)].concat())));
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
    add("a digest of 20 bytes", put.with(&[6, 3], |_| Item::Bytes(vec![0xdd; 20])));
    add("a rotation policy", put.with(&[6, 12], |_| Item::Uint(0)));
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
fn map_of(array: &Item) -> Vec<u8> {
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
    for (what, path) in [("advances", vec![5]), ("recipients", vec![6, 5]), ("labels", vec![6, 9])] {
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
    add("a subject of kind 5", put.with(&[5, 0, 0, 0], |_| Item::Uint(5)));
    add("state 4", put.with(&[6, 6], |_| Item::Uint(4)));
    let enrol = example("enrol: P-256, all roles");
    add("evidence level 3", enrol.with(&[6, 4, 2], |_| Item::Uint(3)));
    add("role 4", enrol.with(&[6, 6, 0, 0], |_| Item::Uint(4)));
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
    add("a signing key on P-384", enrol.with(&[6, 5, 0], |_| p384.clone().at(&[6, 4, 0]).clone()));
    let genesis = example("genesis");
    add("a genesis of RSA", genesis.with(&[6, 2], |_| rsa.clone().at(&[6, 4, 0]).clone()));
    let part = |index, change: fn(&mut Vec<u8>)| {
        rsa.with(&[6, 4, 0, index], |part| {
            let Item::Bytes(mut bytes) = part.clone() else { panic!("no bytes") };
            change(&mut bytes);
            Item::Bytes(bytes)
        })
    };
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
    let mut longer = enrol.clone();
    longer.at(&[6, 4, 0]).elements().push(Item::Null);
    add("a P-256 key with one more element", longer);
    add(
        "a role `open` with a prefix",
        enrol.with(&[6, 6, 0], |_| Item::Array(vec![Item::Uint(1), Item::Text("prod".into())])),
    );
}

/// The four parts of a COSE_Sign1, as items.
struct Sign1 {
    protected: Vec<u8>,
    unprotected: Vec<u8>,
    payload: Item,
    signature: Vec<u8>,
}

impl Sign1 {
    fn parts(&self) -> [Vec<u8>; 4] {
        let bytes = |bytes: &[u8]| Item::Bytes(bytes.to_vec()).encode();
        let payload = bytes(&self.payload.encode());
        [bytes(&self.protected), self.unprotected.clone(), payload, bytes(&self.signature)]
    }

    fn encode(&self) -> Vec<u8> {
        [vec![0x84], self.parts().concat()].concat()
    }
}

/// A good batch: what each twin differs from in one thing.
fn sign1() -> Sign1 {
    let device = SoftDevice::new(0xd1, "any");
    let statements: Vec<Vec<u8>> =
        examples()[10..11].iter().map(|(_, statement)| statement.encode()).collect();
    let seen = Position { n: 23, chain: Hash([0xcc; 32]) };
    let signed = device.batch(StoreId([0x5a; 32]), &statements, seen, Hash([0xad; 32])).encode();
    let protected = [&[0xa2, 0x01, 0x26, 0x04, 0x50][..], &[0xd1; 16]].concat();
    let payload = &signed[1 + 1 + protected.len() + 1 + 2..signed.len() - 66];
    let sign1 = Sign1 {
        protected,
        unprotected: vec![0xa0],
        payload: Item::parse(payload).unwrap(),
        signature: signed[signed.len() - 64..].to_vec(),
    };
    assert_eq!(sign1.encode(), signed);
    sign1
}

fn batches() -> Vec<Twin> {
    let mut all = Vec::new();
    envelopes(&mut all);
    headers(&mut all);
    payloads(&mut all);
    signatures(&mut all);
    all
}

fn envelopes(all: &mut Vec<Twin>) {
    let mut add = |comment: &str, bytes: Vec<u8>| all.push((format!("envelope: {comment}"), bytes));
    let (good, parts) = (sign1().encode(), sign1().parts());
    add("empty", Vec::new());
    add("tagged as COSE_Sign1", [&[0xd2], &good[..]].concat());
    add("tagged as COSE_Sign1, tag in two bytes", [&[0xd8, 18], &good[..]].concat());
    add("a byte after the end", [&good[..], &[0]].concat());
    add("the last byte missing", good[..good.len() - 1].to_vec());
    add("of indefinite length", [&[0x9f], &good[1..], &[0xff]].concat());
    add("its length in two bytes", [&[0x98, 4], &good[1..]].concat());
    add("three parts", [vec![0x83], parts[..3].concat()].concat());
    add("five parts", [vec![0x85], parts.concat(), vec![0xf6]].concat());
    add("a COSE_Sign of one signature", {
        let signature = [vec![0x81, 0x83], parts[0].clone(), vec![0xa0], parts[3].clone()].concat();
        [vec![0x84, 0x40, 0xa0], parts[2].clone(), signature].concat()
    });
    add(
        "a nil payload",
        [vec![0x84], parts[0].clone(), parts[1].clone(), vec![0xf6], parts[3].clone()].concat(),
    );
    add("the payload not in a byte string", {
        let payload = sign1().payload.encode();
        [vec![0x84], parts[0].clone(), parts[1].clone(), payload, parts[3].clone()].concat()
    });
    add("the payload in chunks", {
        let payload = [&[0x5f], &parts[2][..], &[0xff]].concat();
        [vec![0x84], parts[0].clone(), parts[1].clone(), payload, parts[3].clone()].concat()
    });
    add("the payload's length in three bytes", {
        let payload = sign1().payload.encode();
        let payload = [wide_head(2, payload.len() as u64, 2), payload].concat();
        [vec![0x84], parts[0].clone(), parts[1].clone(), payload, parts[3].clone()].concat()
    });
    add("over 1024 bytes", [good, vec![0; 1024]].concat());
}

fn headers(all: &mut Vec<Twin>) {
    let mut add = |comment: &str, sign1: Sign1| all.push((format!("header: {comment}"), sign1.encode()));
    let kid = [&[0x04, 0x50][..], &[0xd1; 16]].concat();
    let protected = |bytes: Vec<u8>| Sign1 { protected: bytes, ..sign1() };
    add("none", protected(Vec::new()));
    add("an empty map", protected(vec![0xa0]));
    add("no algorithm", protected([&[0xa1][..], &kid].concat()));
    add("no key id", protected(vec![0xa1, 0x01, 0x26]));
    add("algorithm ES384", protected([&[0xa2, 0x01, 0x38, 34][..], &kid].concat()));
    add("algorithm EdDSA", protected([&[0xa2, 0x01, 0x27][..], &kid].concat()));
    add("algorithm ESP256", protected([&[0xa2, 0x01, 0x28][..], &kid].concat()));
    add("algorithm as text", protected([&[0xa2, 0x01, 0x65][..], b"ES256", &kid].concat()));
    add("key id before algorithm", protected([&[0xa2][..], &kid, &[0x01, 0x26]].concat()));
    add("algorithm twice", protected([&[0xa3, 0x01, 0x26, 0x01, 0x26][..], &kid].concat()));
    add("algorithm not shortest", protected([&[0xa2, 0x01, 0x38, 6][..], &kid].concat()));
    add("a content type as well", protected([&[0xa3, 0x01, 0x26, 0x03, 0x00][..], &kid].concat()));
    add("a critical header as well", protected([&[0xa3, 0x01, 0x26, 0x02, 0x81, 0x04][..], &kid].concat()));
    add("an unknown header as well", protected([&[0xa3, 0x01, 0x26][..], &kid, &[0x18, 99, 0xf6]].concat()));
    add("of indefinite length", protected([&[0xbf, 0x01, 0x26][..], &kid, &[0xff]].concat()));
    add("a key id of 15 bytes", protected([&[0xa2, 0x01, 0x26, 0x04, 0x4f][..], &[0xd1; 15]].concat()));
    add("a key id of 17 bytes", protected([&[0xa2, 0x01, 0x26, 0x04, 0x51][..], &[0xd1; 17]].concat()));
    add("a byte after the map", protected([&[0xa2, 0x01, 0x26][..], &kid, &[0]].concat()));
    let unprotected = |bytes: Vec<u8>| Sign1 { unprotected: bytes, ..sign1() };
    add("the key id unprotected as well", unprotected([&[0xa1][..], &kid].concat()));
    add("an unknown unprotected header", unprotected(vec![0xa1, 0x18, 99, 0xf6]));
    add("an unprotected header of indefinite length", unprotected(vec![0xbf, 0xff]));
    add("the unprotected header missing", unprotected(vec![0xf6]));
}

fn payloads(all: &mut Vec<Twin>) {
    let mut add = |comment: &str, payload: Item| {
        all.push((format!("payload: {comment}"), Sign1 { payload, ..sign1() }.encode()));
    };
    let good = sign1().payload;
    add("empty", Item::Raw(Vec::new()));
    add("version 2", good.with(&[0], |_| Item::Uint(2)));
    let mut longer = good.clone();
    longer.elements().push(Item::Null);
    add("eight elements", longer.clone());
    add("version 2 with eight elements", longer.with(&[0], |_| Item::Uint(2)));
    let mut shorter = good.clone();
    shorter.elements().pop();
    add("six elements", shorter);
    add("a size of 0", good.with(&[2], |_| Item::Uint(0)));
    add("a size of 10001", good.with(&[2], |_| Item::Uint(10_001)));
    add("a size of 2^63", good.with(&[2], |_| Item::Uint(1 << 63)));
    add("a size in two bytes", good.with(&[2], |_| Item::Raw(wide_head(0, 1, 1))));
    add("a store id of 31 bytes", good.with(&[1], |_| Item::Bytes(vec![0x5a; 31])));
    add("a root of 64 bytes", good.with(&[3], |_| Item::Bytes(vec![0x5a; 64])));
    add("a negative position", good.with(&[4], |_| Item::Raw(vec![0x20])));
    add("a byte after the end", Item::Raw([good.encode(), vec![0]].concat()));
    add("of indefinite length", Item::Raw([&[0x9f], &good.encode()[1..], &[0xff]].concat()));
    add("a map", Item::Raw([vec![0xa7], map_of(&good)].concat()));
}

fn signatures(all: &mut Vec<Twin>) {
    let mut add = |comment: &str, signature: Vec<u8>| {
        all.push((format!("signature: {comment}"), Sign1 { signature, ..sign1() }.encode()));
    };
    let good = sign1().signature;
    let (r, s) = good.split_at(32);
    add("the other half of s", [r, &negated(s)].concat());
    add("an s of 0", [r, &[0; 32]].concat());
    add("an r of 0", [&[0; 32], s].concat());
    add("an s of n", [r, &ORDER].concat());
    add("an r of n", [&ORDER, s].concat());
    add("empty", Vec::new());
    add("63 bytes", good[..63].to_vec());
    add("65 bytes", [&good[..], &[0]].concat());
    add("as DER", p256::ecdsa::Signature::from_slice(&good).unwrap().to_der().as_bytes().to_vec());
}

/// The order of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// n − s.
fn negated(s: &[u8]) -> [u8; 32] {
    let mut difference = [0; 32];
    let mut borrow = 0;
    for i in (0..32).rev() {
        let digit = i16::from(ORDER[i]) - i16::from(s[i]) - borrow;
        borrow = i16::from(digit < 0);
        difference[i] = (digit + 256 * borrow) as u8;
    }
    difference
}
