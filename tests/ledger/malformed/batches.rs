//! Nearly batches.

use super::Twin;
use super::statements::map_of;
use crate::item::{Item, wide_head};
use crate::soft_devices::SoftDevice;
use crate::statements::examples;
use p384::elliptic_curve::PrimeField;
use strongroom::ledger::{Hash, LogPosition, StoreId};

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
    sign1_of(&SoftDevice::new(0xd1, "any"), &[0x26])
}

/// The same, signed on P-384.
fn sign1_on_p384() -> Sign1 {
    sign1_of(&SoftDevice::on_p384(0xd1, "any"), &[0x38, 34])
}

/// The same, signed with RSA.
fn sign1_by_rsa() -> Sign1 {
    sign1_of(&SoftDevice::by_rsa(0xd1, "any"), &[0x38, 36])
}

/// `algorithm` is its number as CBOR.
fn sign1_of(device: &SoftDevice, algorithm: &[u8]) -> Sign1 {
    let key = device.signing();
    let signature = key.rsa().map_or_else(|| key.point().unwrap().len() - 1, |(n, _)| n.len());
    let statements: Vec<Vec<u8>> =
        examples()[10..11].iter().map(|(_, statement)| statement.encode()).collect();
    let seen = LogPosition { n: 23, chain: Hash([0xcc; 32]) };
    let signed = device.batch(StoreId([0x5a; 32]), &statements, seen, Hash([0xad; 32])).encode();
    let protected = [&[0xa2, 0x01], algorithm, &[0x04, 0x50], &[0xd1; 16]].concat();
    let head = if signature < 256 { 2 } else { 3 };
    let payload = &signed[1 + 1 + protected.len() + 1 + 2..signed.len() - signature - head];
    let sign1 = Sign1 {
        protected,
        unprotected: vec![0xa0],
        payload: Item::parse(payload).unwrap(),
        signature: signed[signed.len() - signature..].to_vec(),
    };
    assert_eq!(sign1.encode(), signed);
    sign1
}

pub fn batches() -> Vec<Twin> {
    let mut all = Vec::new();
    envelopes(&mut all);
    headers(&mut all);
    payloads(&mut all);
    signatures(&mut all);
    on_p384(&mut all);
    by_rsa(&mut all);
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

fn on_p384(all: &mut Vec<Twin>) {
    let mut add = |comment: &str, sign1: Sign1| all.push((format!("on P-384: {comment}"), sign1.encode()));
    let kid = [&[0x04, 0x50][..], &[0xd1; 16]].concat();
    let protected = |bytes: Vec<u8>| Sign1 { protected: bytes, ..sign1_on_p384() };
    add("algorithm ES256", protected([&[0xa2, 0x01, 0x26][..], &kid].concat()));
    add("algorithm ES512", protected([&[0xa2, 0x01, 0x38, 35][..], &kid].concat()));
    add("algorithm ESP384", protected([&[0xa2, 0x01, 0x38, 50][..], &kid].concat()));
    let good = sign1_on_p384().signature;
    let signature = |signature: Vec<u8>| Sign1 { signature, ..sign1_on_p384() };
    let (r, s) = good.split_at(48);
    let s = p384::Scalar::from_repr(p384::FieldBytes::clone_from_slice(s)).unwrap();
    add("the other half of s", signature([r, &(-s).to_repr()].concat()));
    add("an s of 0", signature([r, &[0; 48]].concat()));
    add("95 bytes", signature(good[..95].to_vec()));
    add("97 bytes", signature([&good[..], &[0]].concat()));
    add("a signature on P-256", signature(sign1().signature));
    add("under ES256", Sign1 { signature: good, ..sign1() });
}

fn by_rsa(all: &mut Vec<Twin>) {
    let mut add = |comment: &str, sign1: Sign1| all.push((format!("by RSA: {comment}"), sign1.encode()));
    let kid = [&[0x04, 0x50][..], &[0xd1; 16]].concat();
    let protected = |bytes: Vec<u8>| Sign1 { protected: bytes, ..sign1_by_rsa() };
    add("algorithm ES256", protected([&[0xa2, 0x01, 0x26][..], &kid].concat()));
    add("algorithm PS384", protected([&[0xa2, 0x01, 0x38, 37][..], &kid].concat()));
    add("algorithm RS256", protected([&[0xa2, 0x01, 0x39, 0x01, 0x00][..], &kid].concat()));
    let good = sign1_by_rsa().signature;
    let signature = |signature: Vec<u8>| Sign1 { signature, ..sign1_by_rsa() };
    add("255 bytes", signature(good[..255].to_vec()));
    add("513 bytes", signature(vec![1; 513]));
    add("a signature on P-256", signature(sign1().signature));
    add("under ES256", Sign1 { signature: good, ..sign1() });
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
