//! Opening a token beside the module's own operation, on the same kind of session: ECDH and RSA-OAEP on SoftHSM.
//!
//! `scripts/bench` runs it and makes a table of ratios; absolute times say little.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use criterion::{BenchmarkId, Criterion};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};
use strongroom::Secret;
use strongroom::device::Algorithm;
use strongroom::ledger::Name;
use strongroom::uri::DeviceUri;
use strongroom::vault::{InitOptions, PutOptions, Setup, TokenBackend, TokenRef, Vault};
use test_support::softhsm::{self, SoftHsm};

fn main() {
    softhsm::benchmark(measure);
}

fn measure(hsm: &SoftHsm) {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(20)
        .configure_from_args();
    for algorithm in [Algorithm::P256, Algorithm::Rsa(2048)] {
        let mut vault = vault_with_tokens(hsm, algorithm);
        let name = algorithm.to_string();
        for threads in [1, 2] {
            criterion.bench_with_input(
                BenchmarkId::new(format!("{name}-raw"), threads),
                &threads,
                |b, threads| {
                    b.iter_custom(|rounds| raw(algorithm, *threads, rounds));
                },
            );
        }
        let one = Name::parse("token/0").unwrap();
        criterion.bench_function(&format!("{name}-get/1"), |b| b.iter(|| vault.get(&one, None).unwrap()));
        let wanted: Vec<_> = (0..BATCH).map(wanted).collect();
        criterion.bench_function(&format!("{name}-get/2"), |b| {
            b.iter_custom(|rounds| {
                let started = Instant::now();
                for _ in 0..rounds {
                    vault.open_all(&wanted).into_iter().for_each(|token| drop(token.unwrap()));
                }
                started.elapsed() / u32::try_from(BATCH).unwrap()
            });
        });
    }
    criterion.final_summary();
}

const BATCH: usize = 32;

fn wanted(i: usize) -> TokenRef {
    TokenRef { name: Name::parse(&format!("token/{i}")).unwrap(), version: None }
}

fn vault_with_tokens(hsm: &SoftHsm, algorithm: Algorithm) -> Vault {
    let uri = hsm.uri_with_pin(&format!("token=demo;object={algorithm}"), softhsm::PIN);
    let directory = hsm.dir.join(algorithm.to_string());
    let store = format!("sqlite://{}/store.sqlite", directory.display());
    let setup = Setup::new(store, vec![(DeviceUri::parse(&uri).unwrap(), None)], directory.join("state"));
    let options = InitOptions { algorithm: Some(algorithm), ..InitOptions::default() };
    let (mut vault, _) = Vault::init(setup, &options).unwrap();
    for i in 0..BATCH {
        vault.put(&wanted(i).name, &Secret::new(vec![b'x'; 40]), &PutOptions::default()).unwrap();
    }
    vault
}

/// `rounds` private operations, shared by so many threads with a session each.
fn raw(algorithm: Algorithm, threads: u64, rounds: u64) -> Duration {
    // Never finalised: that would end the vault's sessions in this process too.
    let module = ManuallyDrop::new(Pkcs11::new(softhsm::module().unwrap()).unwrap());
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).ok();
    let labelled =
        |slot: &Slot| module.get_token_info(*slot).is_ok_and(|token| token.label() == softhsm::LABEL);
    let slot = module.get_slots_with_token().unwrap().into_iter().find(labelled).unwrap();
    let sessions: Vec<Session> = (0..threads).map(|_| module.open_ro_session(slot).unwrap()).collect();
    sessions[0].login(UserType::User, Some(&AuthPin::new(softhsm::PIN.into()))).ok();
    let label = Attribute::Label(format!("{algorithm}-open").into_bytes());
    let find = |class| sessions[0].find_objects(&[Attribute::Class(class), label.clone()]).unwrap()[0];
    let (public, private) = (find(ObjectClass::PUBLIC_KEY), find(ObjectClass::PRIVATE_KEY));
    let input = match algorithm {
        Algorithm::P256 => point(&sessions[0], public),
        _ => sessions[0].encrypt(&oaep(), public, &[7; 16]).unwrap(),
    };
    let started = Instant::now();
    std::thread::scope(|scope| {
        for session in sessions {
            let input = &input;
            scope.spawn(move || {
                (0..rounds.div_ceil(threads)).for_each(|_| operate(&session, algorithm, private, input))
            });
        }
    });
    started.elapsed()
}

fn operate(session: &Session, algorithm: Algorithm, key: ObjectHandle, input: &[u8]) {
    if algorithm != Algorithm::P256 {
        assert_eq!(session.decrypt(&oaep(), key, input).unwrap(), [7; 16]);
        return;
    }
    let derive = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), input));
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::ValueLen(32.into()),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ];
    let secret = session.derive_key(&derive, key, &template).unwrap();
    assert_eq!(session.get_attributes(secret, &[AttributeType::Value]).unwrap().len(), 1);
    session.destroy_object(secret).unwrap();
}

fn point(session: &Session, public: ObjectHandle) -> Vec<u8> {
    match session.get_attributes(public, &[AttributeType::EcPoint]).unwrap().remove(0) {
        // The point lies in a DER OCTET STRING.
        Attribute::EcPoint(der) => der[der.len() - 65..].to_vec(),
        other => panic!("{}", other.attribute_type()),
    }
}

fn oaep() -> Mechanism<'static> {
    let source = PkcsOaepSource::empty();
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1, source))
}
