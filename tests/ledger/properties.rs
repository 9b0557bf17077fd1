//! What holds for every statement, every byte string and every order of things.

use crate::arbitrary::{bodies, statement};
use crate::fields::{read, show};
use crate::item::Item;
use crate::soft_devices::SoftDevice;
use crate::statements::examples;
use crate::store_builder::{Chronicle, empty_replica, follow};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::collection::vec;
use proptest::prelude::*;
use sha2::Sha256;
use strongroom::ledger::body::{Body, Role, State};
use strongroom::ledger::judge::LedgerView;
use strongroom::ledger::verify::Chain;
use strongroom::ledger::{DeviceId, Hash, Name, SignedBatch, Statement, leaf, merkle};

/// What is taken has one encoding, and a strict reader of deterministic CBOR agrees with it.
fn decodes_only_canonically(bytes: &[u8]) -> Option<Statement> {
    let statement = Statement::decode(bytes).ok()?;
    assert_eq!(statement.encode(), bytes);
    assert_eq!(Item::parse(bytes).expect("a strict reader takes it").encode(), bytes);
    Some(statement)
}

#[test]
fn a_flipped_bit_makes_another_statement_or_none() {
    for (comment, statement) in examples() {
        let encoded = statement.encode();
        for at in 0..encoded.len() {
            let mut bytes = encoded.clone();
            bytes[at] ^= 1 << (at % 8);
            let decoded = decodes_only_canonically(&bytes);
            assert_ne!(decoded.as_ref(), Some(&statement), "{comment}, byte {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn encoding_and_decoding_are_inverse(statement in statement()) {
        let encoded = statement.encode();
        prop_assert_eq!(decodes_only_canonically(&encoded), Some(statement.clone()));
        prop_assert_eq!(read(&show(&statement)), statement);
    }

    #[test]
    fn a_changed_byte_makes_another_statement_or_none(
        statement in statement(), at in any::<prop::sample::Index>(), change in 1u8..,
    ) {
        let mut bytes = statement.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert_ne!(decodes_only_canonically(&bytes), Some(statement));
    }

    #[test]
    fn any_bytes_are_refused_in_good_order(bytes in vec(any::<u8>(), 0..300)) {
        decodes_only_canonically(&bytes);
        SignedBatch::decode(&bytes).ok();
        // A beginning that is right leads further in.
        for (_, statement) in examples().iter().step_by(5) {
            let encoded = statement.encode();
            let keep = bytes.len() % encoded.len();
            decodes_only_canonically(&[&encoded[..keep], &bytes[..]].concat());
        }
    }

    #[test]
    fn roots_and_paths_are_those_of_rfc_6962(leaves in vec(vec(any::<u8>(), 0..5), 1..70)) {
        let hashes: Vec<Hash> = leaves.iter().map(|bytes| leaf(bytes)).collect();
        let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        leaves.iter().for_each(|bytes| tree.push(bytes.clone()));
        let root = tree.root();
        prop_assert_eq!(&merkle::root(&hashes).0[..], &root.as_bytes()[..]);
        for index in 0..leaves.len() {
            let path: Vec<u8> = merkle::path(&hashes, index).iter().flat_map(|hash| hash.0).collect();
            prop_assert_eq!(path, tree.prove_inclusion(index).as_bytes().to_vec());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 32, ..ProptestConfig::default() })]

    /// Whatever enrolled devices sign, the store goes on: no statement of theirs stops a reader, and what has no effect
    /// moves no head.
    #[test]
    fn no_enrolled_device_stops_a_reader(
        batches in vec((prop::sample::select(vec![0, 0, 0, 1, 2]), 0..5, bodies()), 1..40),
    ) {
        let devices = [(1, "first"), (2, "second"), (3, "third")].map(|(number, name)| SoftDevice::new(number, name));
        let all = [Role::Open(String::new()), Role::Write(String::new()), Role::Admin];
        let mut c = Chronicle::begin(&devices[0], &all);
        c.state("two more", &devices[0], [devices[1].enrol(&all), devices[2].enrol(&[Role::Write("prod".into())])]);
        for (author, mend, mut bodies) in batches {
            if mend > 0 {
                bodies.iter_mut().for_each(|body| make_plausible(&c, body));
            }
            let before = c.replica.position().n;
            let draft = c.draft(&devices[author], bodies);
            let verdicts = c.land("", &devices[author], &draft);
            prop_assert_eq!(c.replica.position().n, before + verdicts.len() as u64);
            check_heads(&c, &draft.statements, &verdicts);
        }
        let (mut fresh, _directory) = empty_replica(c.id);
        follow(&mut fresh, &mut c.store).unwrap();
        prop_assert_eq!(fresh.differences(&c.replica).unwrap(), []);
    }
}

/// The fields that chance never hits: the next version, the current name, where a repair stands.
fn make_plausible(c: &Chronicle, body: &mut Body) {
    let name_of = |token, name: &str| match c.replica.token(token).unwrap() {
        Some(token) => token.name,
        None if Name::parse(name).is_ok() => name.to_owned(),
        None => "prod/other".to_owned(),
    };
    match body {
        Body::Put(put) => {
            put.name = name_of(&put.token, &put.name);
            put.version = c.replica.token(&put.token).unwrap().map_or(1, |token| token.latest + 1);
            put.seals.truncate(1);
            for seal in &mut put.seals {
                seal.length = seal.length.clamp(1, 1000);
                seal.recipients = vec![DeviceId([1; 16])];
            }
            put.threshold = 1;
            put.labels = vec![("env".into(), "prod".into())];
            put.description.clear();
            if put.state != State::Staged {
                put.state = State::Active;
            }
            put.keep = put.keep.map(|keep| keep.max(1));
        }
        Body::Enrol(enrol) => {
            let number = c.replica.position().n;
            enrol.device.0[..8].copy_from_slice(&number.to_be_bytes());
            enrol.name = format!("device-{number}");
        }
        Body::Repair(repair) => {
            let at = c.replica.position();
            (repair.kept, repair.chain) = (at.n, at.chain);
        }
        Body::Destroy(destroy) => destroy.name = name_of(&destroy.token, &destroy.name),
        Body::Rename(rename) => rename.from = name_of(&rename.token, &rename.from),
        _ => {}
    }
}

/// A subject's head is the last statement that advanced it with effect.
fn check_heads(c: &Chronicle, statements: &[Statement], verdicts: &[Option<String>]) {
    for (index, (statement, verdict)) in statements.iter().zip(verdicts).enumerate() {
        for (subject, _) in &statement.advances {
            let later = statements[index + 1..].iter().zip(&verdicts[index + 1..]);
            let overtaken =
                later.clone().any(|(s, v)| v.is_none() && s.advances.iter().any(|(s, _)| s == subject));
            if !overtaken {
                let is_head = c.replica.head(subject).unwrap() == statement.hash();
                assert_eq!(is_head, verdict.is_none(), "{statement:?}: {verdict:?}");
            }
        }
    }
}
