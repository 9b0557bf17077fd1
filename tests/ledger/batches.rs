//! Batches, Merkle roots and chains: the signature is deterministic, so the bytes are the same for ever.

use crate::fields::{bytes, list, parsed};
use crate::files::{add_missing, vectors};
use crate::soft_devices::SoftDevice;
use crate::statements::examples;
use serde_json::{Value, json};
use strongroom::device::PublicKey;
use strongroom::ledger::{Batch, Hash, LogPosition, SignedBatch, StoreId, leaf, merkle};

#[test]
fn every_batch_encodes_and_decodes() {
    for vector in vectors("batches") {
        let (comment, encoded) = (&vector["comment"], bytes(&vector["bytes"]));
        let number = vector["device"].as_u64().unwrap().try_into().unwrap();
        let author = match (vector.get("curve"), vector.get("rsa")) {
            (Some(_), _) => SoftDevice::on_p384(number, "any"),
            (_, Some(_)) => SoftDevice::by_rsa(number, "any"),
            (None, None) => SoftDevice::new(number, "any"),
        };
        let leaves = list(&vector["statements"], |v| leaf(&bytes(v)));
        let seen =
            LogPosition { n: vector["seen"]["n"].as_u64().unwrap(), chain: parsed(&vector["seen"]["chain"]) };
        let admin_head = parsed(&vector["admin_head"]);
        let batch =
            Batch::over(parsed(&vector["store"]), parsed(&vector["author"]), &leaves, seen, admin_head);
        assert_eq!(hex::encode(batch.digest(author.by())), vector["digest"], "{comment}");
        assert_eq!(batch.root.to_string(), vector["root"], "{comment}");

        let decoded = SignedBatch::decode(&encoded).unwrap_or_else(|e| panic!("{comment}: {e:?}"));
        assert_eq!((&decoded.batch, decoded.encode()), (&batch, encoded.clone()), "{comment}");
        let key = match vector.get("rsa") {
            Some(rsa) => PublicKey::RsaPss { n: bytes(&rsa["n"]), e: bytes(&rsa["e"]) },
            None => PublicKey::from_point(&bytes(&vector["key"])).unwrap(),
        };
        assert!(decoded.is_signed_by(&key) && key == author.signing(), "{comment}");
        assert!(!decoded.is_signed_by(&SoftDevice::new(0x33, "another").signing()), "{comment}");
        assert!(!decoded.is_signed_by(&SoftDevice::on_p384(0x33, "another").signing()), "{comment}");
        assert!(!decoded.is_signed_by(&another_rsa_key()), "{comment}");

        let signed = batch.sign_with(author.by(), &author.sign(&decoded.batch.digest(author.by()))).unwrap();
        assert_eq!(signed.encode(), encoded, "{comment}");
    }
}

/// With the vectors' exponent and a modulus of the same length.
fn another_rsa_key() -> PublicKey {
    let PublicKey::RsaPss { mut n, e } = SoftDevice::by_rsa(0, "any").signing() else { panic!() };
    n[100] ^= 1;
    PublicKey::RsaPss { n, e }
}

#[test]
fn every_root_path_and_chain_value_is_as_stated() {
    for vector in vectors("merkle") {
        let leaves: Vec<Hash> = list(&vector["statements"], |v| leaf(&bytes(v)));
        let shown = |hashes: &[Hash]| hashes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(json!(shown(&leaves)), vector["hashes"]);
        assert_eq!(merkle::root(&leaves).to_string(), vector["root"]);
        for (index, path) in vector["paths"].as_array().unwrap().iter().enumerate() {
            assert_eq!(json!(shown(&merkle::path(&leaves, index))), *path, "{index}");
        }
        let chain: Vec<Hash> = leaves
            .iter()
            .scan(LogPosition::START, |position, leaf| {
                *position = position.after(*leaf);
                Some(position.chain)
            })
            .collect();
        assert_eq!(json!(shown(&chain)), vector["chain"]);
    }
}

/// Writes the vectors that are missing. Those that exist stay as they are.
#[test]
#[ignore = "writes into tests/vectors"]
fn write_missing_vectors() {
    let statements: Vec<Vec<u8>> = examples().iter().map(|(_, statement)| statement.encode()).collect();
    let seen = LogPosition { n: 23, chain: Hash([0xcc; 32]) };
    let far = LogPosition { n: u64::MAX, chain: Hash([0xcd; 32]) };
    add_missing(
        "batches",
        [
            batch("nothing came before", 0xd1, &statements[..2], LogPosition::START, Hash::ZERO),
            batch("one statement", 0xd1, &statements[10..11], seen, Hash([0xad; 32])),
            batch("three statements, far on", 0x07, &statements[11..14], far, Hash([0xad; 32])),
            batch("all statements", 0x07, &statements, seen, Hash([0xad; 32])),
        ],
    );
    let mut on_p384 = batch_by(
        &SoftDevice::on_p384(0x38, "any"),
        "three statements, signed on P-384",
        0x38,
        &statements[11..14],
        (seen, Hash([0xad; 32])),
    );
    on_p384["curve"] = "p384".into();
    let by_rsa = batch_by(
        &SoftDevice::by_rsa(0x25, "any"),
        "two statements, signed with RSA; the salt is 32 times 5a",
        0x25,
        &statements[11..13],
        (seen, Hash([0xad; 32])),
    );
    add_missing("batches", [on_p384, by_rsa]);
    let short: Vec<Vec<u8>> = (0..9u8).map(|i| vec![i; usize::from(i)]).collect();
    add_missing("merkle", [0, 1, 2, 3, 4, 5, 8, 9].map(|count| merkle(&short[..count])));
}

fn batch(comment: &str, number: u8, statements: &[Vec<u8>], seen: LogPosition, admin_head: Hash) -> Value {
    batch_by(&SoftDevice::new(number, "any"), comment, number, statements, (seen, admin_head))
}

fn batch_by(
    device: &SoftDevice,
    comment: &str,
    number: u8,
    statements: &[Vec<u8>],
    (seen, admin_head): (LogPosition, Hash),
) -> Value {
    let store = StoreId([0x5a; 32]);
    let signed = device.batch(store, statements, seen, admin_head);
    let (field, key) = match device.signing() {
        PublicKey::RsaPss { n, e } => ("rsa", json!({ "n": hex::encode(n), "e": hex::encode(e) })),
        key => ("key", hex::encode(key.point().unwrap()).into()),
    };
    json!({
        "comment": comment,
        "device": number,
        field: key,
        "store": store.to_string(),
        "author": device.id.to_string(),
        "statements": statements.iter().map(hex::encode).collect::<Vec<_>>(),
        "root": signed.batch.root.to_string(),
        "seen": { "n": seen.n, "chain": seen.chain.to_string() },
        "admin_head": admin_head.to_string(),
        "digest": hex::encode(signed.batch.digest(device.by())),
        "bytes": hex::encode(signed.encode()),
    })
}

fn merkle(statements: &[Vec<u8>]) -> Value {
    let leaves: Vec<Hash> = statements.iter().map(|bytes| leaf(bytes)).collect();
    let shown = |hashes: &[Hash]| hashes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let chain = leaves.iter().scan(LogPosition::START, |position, leaf| {
        *position = position.after(*leaf);
        Some(position.chain.to_string())
    });
    json!({
        "comment": format!("{} statements", leaves.len()),
        "statements": statements.iter().map(hex::encode).collect::<Vec<_>>(),
        "hashes": shown(&leaves),
        "root": merkle::root(&leaves).to_string(),
        "paths": (0..leaves.len()).map(|index| shown(&merkle::path(&leaves, index))).collect::<Vec<_>>(),
        "chain": chain.collect::<Vec<_>>(),
    })
}
