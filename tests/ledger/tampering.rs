//! Batches that are not what an enrolled device signed: refused, at the position where they stand.

use crate::fields::{parsed, text};
use crate::files::{add_missing, load, vectors};
use crate::item::Item;
use crate::soft_devices::SoftDevice;
use crate::store_builder::{Chronicle, Draft, empty_replica, follow, put, read_batch, show_batch};
use crate::whole_store::Cast;
use serde_json::json;
use strongroom::ledger::body::{Body, Role};
use strongroom::ledger::verify::{Chain, Fault, StoredBatch, check_batch};
use strongroom::ledger::{Hash, LogPosition, NEWER_FORMAT, Statement, StoreId, Subject, Tampering};
use strongroom::replica::Replica;
use test_support::memory_store::MemoryStore;

/// How many batches of `whole-store.json` come before: so many that the stranger is none, the hsm is retired.
const AFTER: usize = 58;

fn chronicle_batches(count: usize) -> (StoreId, Vec<StoredBatch>) {
    let vector = load("whole-store");
    let batches = vector["batches"].as_array().unwrap();
    (parsed(&vector["store"]), batches[..count].iter().map(|step| read_batch(&step["batch"])).collect())
}

/// A replica that verified this many batches of the whole store.
fn replica_after(count: usize) -> (Replica, tempfile::TempDir) {
    let (id, batches) = chronicle_batches(count);
    let (mut replica, directory) = empty_replica(id);
    follow(&mut replica, &mut MemoryStore::of(&batches)).unwrap();
    (replica, directory)
}

/// Why the replica does not take this batch.
#[track_caller]
fn refusal(replica: &Replica, batch: &StoredBatch, comment: &str) -> Tampering {
    match check_batch(batch, replica) {
        Err(Fault::Tampering(tampering)) => tampering,
        other => panic!("{comment}: {other:?}"),
    }
}

fn is_newer(tampering: &Tampering) -> bool {
    matches!(tampering, Tampering::Statement { what, .. } | Tampering::Batch { what, .. } if *what == NEWER_FORMAT)
}

#[test]
fn every_forged_batch_is_refused() {
    let (early, late) = (replica_after(0), replica_after(AFTER));
    for vector in vectors("refused-batches") {
        let comment = text(&vector["comment"]);
        let replica = if vector["after"] == 0 { &early.0 } else { &late.0 };
        let tampering = refusal(replica, &read_batch(&vector["batch"]), &comment);
        assert_eq!(tampering.to_string(), vector["error"], "{comment}");
        assert_eq!(is_newer(&tampering), vector["newer"], "{comment}");
    }
}

/// Every bit of a stored batch is covered: by its signature, its root, or the canonical form.
#[test]
fn every_flipped_bit_is_noticed() {
    let last = chronicle_batches(2).1.pop().unwrap();
    let (replica, _directory) = replica_after(1);
    let refused = |batch: &StoredBatch| matches!(check_batch(batch, &replica), Err(Fault::Tampering(_)));
    assert!(!refused(&last));
    for at in 0..last.sign1.len() * 8 {
        let mut batch = last.clone();
        batch.sign1[at / 8] ^= 1 << (at % 8);
        assert!(refused(&batch), "bit {at} of the signature's structure");
    }
    for n in 0..last.statements.len() {
        for at in 0..last.statements[n].len() {
            let mut batch = last.clone();
            batch.statements[n][at] ^= 1 << (at % 8);
            assert!(refused(&batch), "byte {at} of statement {n}");
        }
    }
}

/// Writes the vectors that are missing. Those that exist stay as they are.
#[test]
#[ignore = "writes into tests/vectors"]
fn write_missing_vectors() {
    let (early, late) = (replica_after(0), replica_after(AFTER));
    let forged = forgeries().into_iter().map(|forgery| (AFTER, forgery));
    let all = forged.chain(beginnings().into_iter().map(|forgery| (0, forgery)));
    let vector = |(after, (comment, batch)): (usize, Forgery)| {
        let tampering = refusal(if after == 0 { &early.0 } else { &late.0 }, &batch, comment);
        let (newer, error) = (is_newer(&tampering), tampering.to_string());
        json!({ "comment": comment, "after": after, "batch": show_batch(&batch), "newer": newer, "error": error })
    };
    add_missing("refused-batches", all.map(vector));
}

type Forgery = (&'static str, StoredBatch);

fn forgeries() -> Vec<Forgery> {
    let (id, batches) = chronicle_batches(AFTER);
    let (mut c, cast) = (Chronicle::resume(id, &batches), Cast::new());
    let new = |token: u8| Body::Put(Box::new(put(token, &format!("team/{token}"), 1, &[&cast.owner])));
    let one = c.draft(&cast.owner, [new(0x40)]);
    let three = c.draft(&cast.owner, [new(0x40), new(0x41), new(0x42)]);
    let good = c.signed(&cast.owner, &three);
    let mut all = contents(&good);
    all.extend(signers(&c, &cast, &one));
    all.extend(places(&c, &cast, &one));
    all.extend(claims(&c, &cast, &one));
    all
}

/// A sound signature over statements that are not those that were signed.
fn contents(good: &StoredBatch) -> Vec<Forgery> {
    let changed = |change: fn(&mut StoredBatch)| {
        let mut batch = good.clone();
        change(&mut batch);
        batch
    };
    vec![
        ("the middle statement left out", changed(|b| drop(b.statements.remove(1)))),
        ("the last statement left out", changed(|b| drop(b.statements.pop()))),
        ("all statements left out", changed(|b| b.statements.clear())),
        ("two statements in each other's place", changed(|b| b.statements.swap(0, 1))),
        ("the last statement twice", changed(|b| b.statements.push(b.statements[2].clone()))),
        ("a byte of a statement changed", changed(|b| b.statements[1][200] ^= 1)),
        ("a position left out", changed(|b| b.first += 1)),
        ("a position that was there before", changed(|b| b.first -= 1)),
        ("a signature's bytes that are nothing", changed(|b| b.sign1.clear())),
    ]
}

fn signers(c: &Chronicle, cast: &Cast, one: &Draft) -> Vec<Forgery> {
    let by = |device: &SoftDevice| {
        let mut draft = one.clone();
        draft.statements.iter_mut().for_each(|statement| statement.author = device.id);
        (device.clone(), draft)
    };
    let (stranger, strangers) = by(&cast.stranger);
    let impostor = cast.stranger.clone().called(cast.owner.id);
    let author_unlike_kid = c.signed(&cast.writer, one);
    let statement = Item::parse(&one.statements[0].encode()).unwrap().with(&[0], |_| Item::Uint(2)).encode();
    let newer_by = |device: &SoftDevice| StoredBatch {
        first: c.replica.position().n + 1,
        sign1: device.batch(c.id, std::slice::from_ref(&statement), one.seen, one.admin_head).encode(),
        statements: vec![statement.clone()],
    };
    vec![
        ("signed by a device that was never enrolled", c.signed(&stranger, &strangers)),
        ("signed by a stranger's key under the owner's id", c.signed(&impostor, one)),
        ("an author unlike the kid", author_unlike_kid),
        ("a newer statement that an enrolled device signed", newer_by(&cast.owner)),
        ("a newer statement that a writer signed", newer_by(&cast.writer)),
        ("a newer statement that a stranger signed", newer_by(&cast.stranger)),
        ("a newer statement under the owner's id, signed by a stranger's key", newer_by(&impostor)),
    ]
}

fn places(c: &Chronicle, cast: &Cast, one: &Draft) -> Vec<Forgery> {
    let seen = |n, chain| {
        let draft = Draft { seen: LogPosition { n, chain }, ..one.clone() };
        c.signed(&cast.owner, &draft)
    };
    let here = c.replica.position();
    let end_of_three = c.store.batches.iter().find(|batch| batch.statements.len() == 3).unwrap().first + 2;
    let chain = |n| c.replica.chain_at(n).unwrap();
    let inside = c.store.batches.iter().flat_map(|batch| &batch.statements).take(end_of_three as usize - 1);
    let inside = inside.fold(LogPosition::START, |at, bytes| at.after(strongroom::ledger::leaf(bytes)));
    vec![
        ("seen on another chain", seen(here.n, Hash([0xee; 32]))),
        ("seen before everything, on another chain", seen(0, Hash([0xee; 32]))),
        ("seen in the middle of a batch", seen(inside.n, inside.chain)),
        ("seen at its own position", seen(here.n + 1, here.chain)),
        ("seen in the future", seen(u64::MAX, here.chain)),
        ("seen at another place than that chain value's", seen(end_of_three, chain(2).unwrap())),
    ]
}

/// Statements that say of themselves what they may not.
fn claims(c: &Chronicle, cast: &Cast, one: &Draft) -> Vec<Forgery> {
    let other_store = StoreId([0x77; 32]);
    let changed = |change: &dyn Fn(&mut Statement)| {
        let mut draft = one.clone();
        draft.statements.iter_mut().for_each(change);
        c.signed(&cast.owner, &draft)
    };
    let genesis = changed(&|statement| {
        statement.body = cast.owner.genesis();
        statement.advances = vec![(Subject::Store, Hash::ZERO)];
    });
    let first = c.replica.position().n + 1;
    let envelope = cast.owner.stored(other_store, first, &one.statements, one.seen, one.admin_head);
    let not_one = StoredBatch {
        first,
        sign1: cast.owner.batch(c.id, &[vec![0x80]], one.seen, one.admin_head).encode(),
        statements: vec![vec![0x80]],
    };
    vec![
        ("a statement for another store", changed(&|statement| statement.store = other_store)),
        ("a statement for the unborn store", changed(&|statement| statement.store = StoreId::ZERO)),
        ("a batch for another store", envelope),
        ("a second genesis", genesis),
        ("signed bytes that are no statement", not_one),
    ]
}

/// First batches that are none.
fn beginnings() -> Vec<Forgery> {
    let cast = Cast::new();
    let good =
        Chronicle::begin(&cast.owner, &[Role::Open(String::new()), Role::Write(String::new()), Role::Admin]);
    let statements: Vec<Statement> =
        good.store.batches[0].statements.iter().map(|bytes| Statement::decode(bytes).unwrap()).collect();
    let first = |device: &SoftDevice, statements: &[Statement], seen, admin_head| {
        device.stored(good.id, 1, statements, seen, admin_head)
    };
    let plain = |statements: &[Statement]| first(&cast.owner, statements, LogPosition::START, Hash::ZERO);
    let enrolled = |body: Body| {
        let mut statements = statements.clone();
        statements[1].body = body;
        statements[1].advances = Vec::new();
        for subject in statements[1].body.subjects() {
            let prev = if subject == Subject::Store { statements[0].hash() } else { Hash::ZERO };
            statements[1].advances.push((subject, prev));
        }
        statements
    };
    let mut other_nonce = statements.clone();
    let Body::Genesis(genesis) = &mut other_nonce[0].body else { panic!("no genesis") };
    genesis.nonce = [0x0f; 16];
    let mut unlinked = statements.clone();
    unlinked[1].advances[0].1 = Hash::ZERO;
    let mut later = statements.clone();
    later[0].advances[0].1 = Hash([1; 32]);
    let third = {
        let mut three = statements.clone();
        let mut statement = statements[1].clone();
        statement.body = Body::Put(Box::new(put(1, "a", 1, &[&cast.owner])));
        statement.advances =
            statement.body.subjects().into_iter().map(|subject| (subject, Hash::ZERO)).collect();
        three.push(statement);
        three
    };
    let second_author = cast.stranger.clone().called(cast.owner.id);
    let wrong_seen = LogPosition { n: 0, chain: Hash([1; 32]) };
    vec![
        ("beginning: another genesis", plain(&other_nonce)),
        ("beginning: genesis alone", plain(&statements[..1])),
        ("beginning: the enrolment alone", plain(&statements[1..])),
        ("beginning: a third statement", plain(&third)),
        ("beginning: another device enrolled", plain(&enrolled(cast.writer.enrol(&[Role::Admin])))),
        ("beginning: another signing key enrolled", plain(&enrolled(second_author.enrol(&[Role::Admin])))),
        (
            "beginning: an enrolment without admin",
            plain(&enrolled(cast.owner.enrol(&[Role::Open(String::new())]))),
        ),
        ("beginning: an enrolment that links nowhere", plain(&unlinked)),
        ("beginning: a genesis with a past", plain(&later)),
        (
            "beginning: signed by another key",
            first(&second_author, &statements, LogPosition::START, Hash::ZERO),
        ),
        ("beginning: something seen", first(&cast.owner, &statements, wrong_seen, Hash::ZERO)),
        ("beginning: an admin head", first(&cast.owner, &statements, LogPosition::START, Hash([1; 32]))),
        ("beginning: no statement", StoredBatch { statements: Vec::new(), ..plain(&statements) }),
    ]
}
