//! Checkpoints: vectors in both directions, what is refused, and what a reader makes of those that stand.

use crate::fields::{bytes, parsed, text};
use crate::files::{add_missing, load, vectors};
use crate::item::{Item, head, wide_head};
use crate::soft_devices::SoftDevice;
use serde_json::{Value, json};
use strongroom::device::PublicKey;
use strongroom::ledger::checkpoint::{Freshness, MAX_AHEAD, Verdict};
use strongroom::ledger::verify::{Chain, StoredBatch};
use strongroom::ledger::{AccessHead, Checkpoint, Hash, LogPosition, SignedBatch, SignedCheckpoint, StoreId};
use strongroom::replica::{Replica, StorePin};
use test_support::memory_store::MemoryStore;

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn device_of(vector: &Value) -> SoftDevice {
    let number = number(&vector["device"]).try_into().unwrap();
    match (vector.get("curve"), vector.get("rsa")) {
        (Some(_), _) => SoftDevice::on_p384(number, "any"),
        (_, Some(_)) => SoftDevice::by_rsa(number, "any"),
        (None, None) => SoftDevice::new(number, "any"),
    }
}

#[test]
fn every_checkpoint_encodes_and_decodes() {
    for vector in vectors("checkpoints") {
        let (comment, encoded) = (&vector["comment"], bytes(&vector["bytes"]));
        let witness = device_of(&vector);
        let checkpoint = Checkpoint {
            store: parsed(&vector["store"]),
            witness: parsed(&vector["witness"]),
            position: LogPosition { n: number(&vector["n"]), chain: parsed(&vector["chain"]) },
            root: parsed(&vector["root"]),
            time: number(&vector["time"]),
            accesses: AccessHead {
                count: number(&vector["accesses"]["count"]),
                chain: parsed(&vector["accesses"]["chain"]),
            },
        };
        assert_eq!(hex::encode(checkpoint.digest(witness.by())), vector["digest"], "{comment}");
        assert_eq!(checkpoint.tlog_text(), vector["tlog"], "{comment}");
        let decoded = SignedCheckpoint::decode(&encoded).unwrap_or_else(|e| panic!("{comment}: {e:?}"));
        assert_eq!((&decoded.checkpoint, decoded.encode()), (&checkpoint, encoded.clone()), "{comment}");
        assert!(decoded.is_signed_by(&witness.signing()), "{comment}");
        assert!(!decoded.is_signed_by(&SoftDevice::new(0x33, "another").signing()), "{comment}");
        assert_eq!(sign(checkpoint, &witness), encoded, "{comment}");
    }
}

#[test]
fn every_malformed_checkpoint_is_refused_for_its_reason() {
    for vector in vectors("malformed-checkpoints") {
        let error = SignedCheckpoint::decode(&bytes(&vector["bytes"])).expect_err(&text(&vector["comment"]));
        assert_eq!(error.0, vector["error"], "{}", vector["comment"]);
    }
}

/// The envelope is a batch's, so what no batch may be no checkpoint is.
#[test]
fn a_checkpoint_and_a_batch_do_not_stand_for_each_other() {
    for vector in vectors("batches") {
        assert!(SignedCheckpoint::decode(&bytes(&vector["bytes"])).is_err(), "{}", vector["comment"]);
    }
    for vector in vectors("checkpoints") {
        assert!(SignedBatch::decode(&bytes(&vector["bytes"])).is_err(), "{}", vector["comment"]);
    }
    for vector in vectors("malformed-batches") {
        assert!(SignedCheckpoint::decode(&bytes(&vector["bytes"])).is_err(), "{}", vector["comment"]);
    }
}

#[test]
fn every_checkpoint_is_judged_as_stated() {
    let store = load("quorum-store");
    for vector in vectors("judged-checkpoints") {
        let comment = &vector["comment"];
        let replica = replica_of(&store, number(&vector["batches"]) as usize);
        let found = match SignedCheckpoint::decode(&bytes(&vector["bytes"])) {
            Ok(signed) => judged(&signed, &vector, &replica),
            Err(_) => "ignored",
        };
        assert_eq!(found, vector["verdict"], "{comment}");
    }
}

fn judged(signed: &SignedCheckpoint, vector: &Value, replica: &Replica) -> &'static str {
    let now = (number(&vector["clock"]), number(&vector["newest"]), number(&vector["max_age"]));
    match signed.judge(number(&vector["taken"]), replica).unwrap() {
        Verdict::Ignored(_) => "ignored",
        Verdict::Forked => "forked",
        Verdict::Withheld => "withheld",
        Verdict::Agrees => match signed.checkpoint.freshness(now.0, now.1, now.2) {
            Freshness::Fresh => "fresh",
            Freshness::Old => "old",
            Freshness::Ahead => "ahead",
        },
    }
}

/// A replica of the first so many batches of a store.
fn replica_of(store: &Value, count: usize) -> Replica {
    let batches: Vec<StoredBatch> = store["batches"].as_array().unwrap()[..count]
        .iter()
        .map(|step| &step["batch"])
        .map(|batch| StoredBatch {
            first: number(&batch["first"]),
            sign1: bytes(&batch["sign1"]),
            statements: batch["statements"].as_array().unwrap().iter().map(bytes).collect(),
        })
        .collect();
    let (id, directory) = (parsed(&store["store"]), tempfile::tempdir().unwrap());
    let mut replica = Replica::open(&directory.path().join("replica.sqlite"), id).unwrap();
    let mut memory = MemoryStore::of(&batches);
    replica.sync(&mut memory, &StorePin::from_store(id), u64::MAX, &mut |_, _| {}).unwrap();
    replica
}

fn sign(checkpoint: Checkpoint, by: &SoftDevice) -> Vec<u8> {
    let signature = by.sign(&checkpoint.digest(by.by()));
    checkpoint.sign_with(by.by(), &signature).unwrap().encode()
}

fn example(witness: &SoftDevice) -> Checkpoint {
    Checkpoint {
        store: StoreId([0x5a; 32]),
        witness: witness.id,
        position: LogPosition { n: 23, chain: Hash([0xcc; 32]) },
        root: Hash([0x77; 32]),
        time: 1_800_000_000_000,
        accesses: AccessHead { count: 7, chain: Hash([0xac; 32]) },
    }
}

/// Writes the vectors that are missing. Those that exist stay as they are.
#[test]
#[ignore = "writes into tests/vectors"]
fn write_missing_vectors() {
    let far = |witness: &SoftDevice| Checkpoint {
        position: LogPosition { n: u64::MAX, chain: Hash([0xcd; 32]) },
        time: u64::MAX,
        accesses: AccessHead { count: u64::MAX, chain: Hash([0xad; 32]) },
        ..example(witness)
    };
    let (one, two) = (SoftDevice::new(0xd1, "any"), SoftDevice::on_p384(0x38, "any"));
    let three = SoftDevice::by_rsa(0x25, "any");
    let unread = Checkpoint { accesses: AccessHead::EMPTY, ..example(&one) };
    let mut on_p384 = vector("signed on P-384", example(&two), &two);
    on_p384["curve"] = "p384".into();
    add_missing(
        "checkpoints",
        [
            vector("of a device with lines in the access log", example(&one), &one),
            vector("of a device without lines", unread, &one),
            vector("the greatest numbers", far(&one), &one),
            on_p384,
            vector("signed with RSA; the salt is 32 times 5a", example(&three), &three),
        ],
    );
    add_missing(
        "malformed-checkpoints",
        malformed().into_iter().map(|(comment, bytes)| {
            let error = SignedCheckpoint::decode(&bytes).expect_err(&comment);
            json!({ "comment": comment, "bytes": hex::encode(bytes), "error": error.0 })
        }),
    );
    add_missing("judged-checkpoints", judgements());
}

fn vector(comment: &str, checkpoint: Checkpoint, by: &SoftDevice) -> Value {
    let (field, key) = match by.signing() {
        PublicKey::RsaPss { n, e } => ("rsa", json!({ "n": hex::encode(n), "e": hex::encode(e) })),
        key => ("key", hex::encode(key.point().unwrap()).into()),
    };
    json!({
        "comment": comment,
        "device": by.id.0[0],
        field: key,
        "store": checkpoint.store.to_string(),
        "witness": checkpoint.witness.to_string(),
        "n": checkpoint.position.n,
        "chain": checkpoint.position.chain.to_string(),
        "root": checkpoint.root.to_string(),
        "time": checkpoint.time,
        "accesses": { "count": checkpoint.accesses.count, "chain": checkpoint.accesses.chain.to_string() },
        "tlog": checkpoint.tlog_text(),
        "digest": hex::encode(checkpoint.digest(by.by())),
        "bytes": hex::encode(sign(checkpoint, by)),
    })
}

/// Payloads that nearly are a checkpoint's, in an envelope that is right. What is wrong with envelopes stands with the
/// batches.
fn malformed() -> Vec<(String, Vec<u8>)> {
    let witness = SoftDevice::new(0xd1, "any");
    let signed = sign(example(&witness), &witness);
    // 0x84, the protected header, an empty map, and the payload, whose length takes two bytes.
    let (begin, protected) = (1, 1 + 21);
    let at = begin + protected + 1;
    let payload = &signed[at + 2..signed.len() - 66];
    let good = Item::parse(payload).unwrap();
    let enveloped = |payload: Vec<u8>| {
        let payload = [head(2, payload.len() as u64), payload].concat();
        [&signed[..at], &payload, &signed[signed.len() - 66..]].concat()
    };
    assert_eq!(enveloped(payload.to_vec()), signed);
    let mut all = Vec::new();
    let mut add = |comment: &str, payload: Item| all.push((comment.to_owned(), enveloped(payload.encode())));
    let resized = |change: &dyn Fn(&mut Vec<Item>)| {
        let mut item = good.clone();
        change(item.elements());
        item
    };
    add("an empty payload", Item::Raw(Vec::new()));
    add("version 2", good.with(&[0], |_| Item::Uint(2)));
    add("version 0", good.with(&[0], |_| Item::Uint(0)));
    add("eight elements", resized(&|items| items.push(Item::Null)));
    add("six elements", resized(&|items| drop(items.pop())));
    add(
        "version 2 with eight elements",
        resized(&|items| items.push(Item::Null)).with(&[0], |_| Item::Uint(2)),
    );
    add("a store id of 31 bytes", good.with(&[1], |_| Item::Bytes(vec![0x5a; 31])));
    add("a negative position", good.with(&[2], |_| Item::Raw(vec![0x20])));
    add("a position in two bytes", good.with(&[2], |_| Item::Raw(wide_head(0, 23, 1))));
    add("a chain value of 33 bytes", good.with(&[3], |_| Item::Bytes(vec![0xcc; 33])));
    add("a root that is missing", good.with(&[4], |_| Item::Null));
    add("a time as text", good.with(&[5], |_| Item::Text("now".into())));
    add("a time as a float", good.with(&[5], |_| Item::Raw(vec![0xf9, 0x3c, 0x00])));
    add("no access log", good.with(&[6], |_| Item::Null));
    add("an access log of one element", good.with(&[6], |_| Item::Array(vec![Item::Uint(7)])));
    add("a chain of the access log of 16 bytes", good.with(&[6, 1], |_| Item::Bytes(vec![0xac; 16])));
    add("a byte after the end", Item::Raw([good.encode(), vec![0]].concat()));
    add("of indefinite length", Item::Raw([&[0x9f], &good.encode()[1..], &[0xff]].concat()));
    all.push(("the last byte missing".into(), signed[..signed.len() - 1].to_vec()));
    all.push(("a byte after the envelope".into(), [&signed[..], &[0]].concat()));
    all.push(("empty".into(), Vec::new()));
    all
}

/// Checkpoints of the devices of the store with a quorum: bob is a witness, carol was one, alice is none.
fn judgements() -> Vec<Value> {
    const BATCHES: usize = 110;
    const TIME: u64 = 1_800_000_000_000;
    let store = load("quorum-store");
    let at = |batches: usize| {
        let replica = replica_of(&store, batches);
        let position = replica.position();
        (position, replica.root_at(position.n).unwrap().unwrap())
    };
    let (bob, carol, alice) =
        (SoftDevice::new(2, "bob"), SoftDevice::new(3, "carol"), SoftDevice::new(1, "alice"));
    let ((end, root), (before, before_root), (after, after_root)) = (at(BATCHES), at(60), at(114));
    let good = Checkpoint {
        store: parsed(&store["store"]),
        witness: bob.id,
        position: end,
        root,
        time: TIME,
        accesses: AccessHead::EMPTY,
    };
    let judged = |comment: &str, bytes: Vec<u8>, taken: u64, clock: u64, newest: u64, verdict: &str| {
        json!({
            "comment": comment, "batches": BATCHES, "bytes": hex::encode(bytes), "taken": taken, "clock": clock,
            "newest": newest, "max_age": 60_000, "verdict": verdict,
        })
    };
    let by_bob = |checkpoint: Checkpoint| sign(checkpoint, &bob);
    let of = |comment: &str, checkpoint: Checkpoint, verdict: &str| {
        judged(comment, by_bob(checkpoint), 0, TIME, 0, verdict)
    };
    let timed = |comment: &str, clock: u64, newest: u64, verdict: &str| {
        judged(comment, by_bob(good.clone()), 0, clock, newest, verdict)
    };
    let moved = |position: LogPosition, root: Hash| Checkpoint { position, root, ..good.clone() };
    let by = |witness: &SoftDevice| sign(Checkpoint { witness: witness.id, ..good.clone() }, witness);
    let another = SoftDevice::new(0x33, "another").called(bob.id);
    let mut found = vec![
        of("at the end", good.clone(), "fresh"),
        of("at an earlier end", moved(before, before_root), "fresh"),
        of("in the midst of a batch", moved(LogPosition { n: 4, ..before }, before_root), "ignored"),
        of("of nothing", moved(LogPosition::START, root), "ignored"),
        of("beyond the end", moved(after, after_root), "withheld"),
        of("of the greatest number", moved(LogPosition { n: u64::MAX, ..end }, root), "withheld"),
        of("with another chain value", moved(LogPosition { chain: Hash([9; 32]), ..end }, root), "forked"),
        of("with another root", moved(end, Hash([9; 32])), "forked"),
        of("with an earlier root", moved(end, before_root), "forked"),
        of("of another store", Checkpoint { store: StoreId([9; 32]), ..good.clone() }, "ignored"),
        timed("just in time", TIME + 60_000, 0, "fresh"),
        timed("a millisecond too old", TIME + 60_001, 0, "old"),
        timed("too old for the newest time", TIME, TIME + 60_001, "old"),
        timed("a clock that is 5 minutes ahead", TIME - MAX_AHEAD, 0, "fresh"),
        timed("a clock that is further ahead", TIME - MAX_AHEAD - 1, 0, "ahead"),
        timed("ahead of the clock, whatever the newest time", TIME - MAX_AHEAD - 1, TIME, "ahead"),
        timed("a clock that began", 0, TIME, "ahead"),
    ];
    let same = |bytes: Vec<u8>, comment: &str, taken: u64, verdict: &str| {
        judged(comment, bytes, taken, TIME, 0, verdict)
    };
    found.extend([
        same(by_bob(good.clone()), "as far as one before", end.n, "fresh"),
        same(by_bob(good.clone()), "taken back", end.n + 1, "ignored"),
        same(by_bob(moved(after, after_root)), "beyond the end, and taken back", after.n + 1, "ignored"),
        same(by(&carol), "of a witness that was retired", 0, "ignored"),
        same(by(&alice), "of a device that is no witness", 0, "ignored"),
        same(by(&SoftDevice::new(0x33, "another")), "of a device that is not enrolled", 0, "ignored"),
        same(sign(good.clone(), &another), "with another's signature", 0, "ignored"),
        same(bytes(&store["batches"][60]["batch"]["sign1"]), "a batch", 0, "ignored"),
        same(Vec::new(), "nothing", 0, "ignored"),
    ]);
    found
}
