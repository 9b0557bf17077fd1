//! The life of a token, from `init` to `destroy`.

use strongroom::device::{Algorithm, EvidenceLevel};
use strongroom::ledger::Name;
use strongroom::ledger::body::State;
use strongroom::uri::DeviceUri;
use strongroom::vault::{ImportItem, InitOptions, PutOptions, Setup, TokenBackend, TokenRef, Vault};
use strongroom::{Kind, Secret};
use test_support::softhsm::{self, SoftHsm};

fn setup(hsm: &SoftHsm, store: &str) -> Setup {
    let device = (DeviceUri::parse(&hsm.uri()).unwrap(), None);
    Setup::new(format!("sqlite://{}/{store}", hsm.dir.display()), vec![device], hsm.dir.join("state"))
}

fn name(s: &str) -> Name {
    Name::parse(s).unwrap()
}

fn secret(s: &str) -> Secret {
    Secret::new(s.as_bytes().to_vec())
}

fn refusal(vault: &mut Vault, s: &str, version: Option<u64>) -> (Kind, String) {
    let error = vault.get(&name(s), version).unwrap_err();
    (error.kind(), error.to_string())
}

fn life_of_a_token(hsm: &SoftHsm, algorithm: Algorithm) {
    let options = InitOptions { algorithm: Some(algorithm), ..InitOptions::default() };
    let (mut vault, report) = Vault::init(setup(hsm, "a.sqlite"), &options).unwrap();
    assert_eq!(report.first.evidence, EvidenceLevel::Simulator);
    assert_eq!(report.first.created, [true, true]);
    assert_eq!(report.first.keys[0].public.algorithm(), algorithm);

    let db = name("prod/db");
    assert_eq!(vault.put(&db, &secret("one"), &PutOptions::default()).unwrap().version, 1);
    assert_eq!(vault.put(&db, &secret("two"), &PutOptions::default()).unwrap().version, 2);
    drop(vault);

    let mut vault = Vault::open(setup(hsm, "a.sqlite")).unwrap();
    assert_eq!(vault.get(&db, None).unwrap().expose(), b"two");
    assert_eq!(vault.get(&db, Some(1)).unwrap().expose(), b"one");
    assert_eq!(refusal(&mut vault, "prod/bd", None).0, Kind::NotFound);

    vault.set_state(&db, Some(1), State::Revoked, "leaked").unwrap();
    let (kind, words) = refusal(&mut vault, "prod/db", Some(1));
    assert!(kind == Kind::Refused && words.contains("leaked"), "{words}");
    assert_eq!(vault.set_state(&db, Some(1), State::Active, "").unwrap_err().kind(), Kind::Refused);

    vault.set_state(&db, None, State::Suspended, "holiday").unwrap();
    assert_eq!(refusal(&mut vault, "prod/db", None).0, Kind::Refused);
    vault.set_state(&db, None, State::Active, "").unwrap();
    vault.rename(&db, &name("prod/pg")).unwrap();
    assert_eq!(vault.get(&name("prod/pg"), None).unwrap().expose(), b"two");

    let many: Vec<_> = (0..12).map(|i| name(&format!("many/{i}"))).collect();
    for name in &many {
        vault.put(name, &secret(name.as_str()), &PutOptions::default()).unwrap();
    }
    let wanted: Vec<_> = many.iter().map(|name| TokenRef { name: name.clone(), version: None }).collect();
    for (name, token) in many.iter().zip(vault.open_all(&wanted)) {
        assert_eq!(token.unwrap().expose(), name.as_str().as_bytes());
    }

    assert_eq!(vault.destroy(&name("prod/pg"), None, "gone").unwrap(), 2);
    assert_eq!(refusal(&mut vault, "prod/pg", None).0, Kind::NotFound);
    assert_eq!(vault.put(&name("prod/pg"), &secret("new"), &PutOptions::default()).unwrap().version, 1);

    let report = vault.verify(&mut |_, _, _| {}).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!((report.statements, report.ineffective, report.sealed), (22, 0, 13));
    assert_eq!(report.accesses, 19);
}

#[test]
fn life_on_p256() {
    softhsm::isolated(|hsm| life_of_a_token(hsm, Algorithm::P256));
}

#[test]
fn with_p384() {
    softhsm::isolated(|hsm| life_of_a_token(hsm, Algorithm::P384));
}

#[test]
fn life_on_rsa() {
    softhsm::isolated(|hsm| life_of_a_token(hsm, Algorithm::Rsa(2048)));
}

#[test]
fn life_on_aes() {
    softhsm::isolated(|hsm| life_of_a_token(hsm, Algorithm::Aes256));
}

/// More metadata than one batch may hold: it takes two signatures, and nobody has to know.
#[test]
fn an_import_larger_than_a_batch() {
    softhsm::isolated(|hsm| {
        let (mut vault, _) = Vault::init(setup(hsm, "a.sqlite"), &InitOptions::default()).unwrap();
        let labels: Vec<_> = (0..32).map(|i| (format!("label-{i}"), "v".repeat(250))).collect();
        let items = (0..2_200).map(|i| {
            let options = PutOptions { labels: Some(labels.clone()), ..PutOptions::default() };
            Ok(ImportItem { name: name(&format!("many/{i}")), token: secret("token"), options })
        });
        let imported = vault.import(items, &mut |_| {}).unwrap();
        assert_eq!((imported.tokens, imported.batches), (2_200, 2));
        assert_eq!(vault.get(&name("many/2199"), None).unwrap().expose(), b"token");
    });
}
