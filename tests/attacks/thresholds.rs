//! Thresholds: no writer lowers one, no name leads around one, and what a statement says of one is what its file must say.

use strongroom::Kind;
use strongroom::ledger::body::{Put, Rename, Reseal, Seal, Settings, State, StateChange};
use strongroom::ledger::judge::LedgerView;
use strongroom::ledger::{Body, TokenId, sha256};
use strongroom::seal::{self, Context, Recipient};
use strongroom::vault::{PutOptions, Vault};
use strongroom::{Secret, device::PublicKey};
use test_support::forged_batch::{Draft, put, sealed, token};
use test_support::test_store::{Actor, TestStore, name, secret};

/// Seals to the devices' public keys, so many of which open it together.
fn shared(
    test_store: &TestStore,
    token: TokenId,
    version: u64,
    text: &str,
    threshold: u64,
    to: &[&Actor],
) -> Vec<u8> {
    let keys: Vec<_> = to.iter().map(|actor| PublicKey::P256(actor.device.opening_point())).collect();
    let recipients: Vec<_> = keys.iter().map(|public| Recipient { public, name: "somebody" }).collect();
    let context = Context { store: test_store.id.0, token: token.0, version };
    let plaintext = Secret::new(text.as_bytes().to_vec());
    seal::seal(&plaintext, &context, &recipients, threshold, &mut seal::without_device).unwrap()
}

fn of(threshold: u64) -> PutOptions {
    PutOptions { threshold: Some(threshold), ..PutOptions::default() }
}

fn id_of(vault: &Vault, token: &str) -> TokenId {
    vault.replica().find(token).unwrap().unwrap().id
}

/// A store in which `w/shared@1` and `prod/two@1` open with two devices, and the settings ask for that below `prod/two`.
fn with_thresholds() -> TestStore {
    let test_store = TestStore::populated();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    vault.put(&name("w/shared"), &secret("of two"), &of(2)).unwrap();
    vault.put(&name("prod/two"), &secret("of two"), &of(2)).unwrap();
    let mut settings = vault.settings().unwrap();
    settings.thresholds = vec![("prod/two".into(), 2), ("w/strict".into(), 2)];
    vault.set_settings(&settings).unwrap();
    test_store
}

#[test]
fn a_writer_does_not_lower_a_threshold() {
    let test_store = with_thresholds();
    let vault = test_store.client("admin", &[]).unwrap();
    let (writer, admin, opener) = (&test_store.writer, &test_store.admin, &test_store.opener);
    let (own, two) = (id_of(&vault, "w/shared"), id_of(&vault, "prod/two"));
    let put_of = |token: TokenId, name: &str, version, threshold| {
        let bytes = sealed(test_store.id, token, version, "planted", &[admin, opener]);
        Body::Put(Box::new(Put { threshold, ..put(token, name, version, &bytes, &[admin, opener]) }))
    };
    let lower = "only an admin lets fewer devices open it";
    let settings = Settings { thresholds: Vec::new(), ..Settings::default() };
    let seals = |vault: &Vault, token: &TokenId, version| {
        vault.replica().seals(token, version).unwrap().iter().map(|seal| seal.digest).collect::<Vec<_>>()
    };
    let reseal = |token: TokenId, version, threshold| {
        let bytes = sealed(test_store.id, token, version, "planted", &[admin, opener]);
        let mut recipients = vec![admin.id, opener.id];
        recipients.sort();
        let add = vec![Seal { digest: sha256(&bytes), length: bytes.len() as u64, recipients }];
        Body::Reseal(Reseal { token, version, threshold, drop: seals(&vault, &token, version), add })
    };
    test_store.each_is_ineffective(vec![
        (writer, put_of(own, "w/shared", 2, 1), lower),
        (writer, put_of(own, "w/shared", 2, 0), "the settings ask for more devices"),
        (writer, Body::Settings(Box::new(settings)), "`admin` role"),
        // Not even an admin, below what the settings ask for, or for a version that there is.
        (admin, put_of(two, "prod/two", 2, 1), "the settings ask for more devices"),
        (admin, put_of(token(0x77), "w/strict/new", 1, 1), "the settings ask for more devices"),
        (admin, put_of(own, "w/shared", 2, 0), "the settings ask for more devices"),
        (admin, put_of(own, "w/shared", 2, 3), "more devices than there are"),
        (admin, reseal(own, 1, 1), "keeps the threshold"),
        (writer, reseal(own, 1, 3), "`admin` role"),
    ]);
}

#[test]
fn no_name_and_no_activation_leads_around_the_settings() {
    let test_store = with_thresholds();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    vault.put(&name("w/plain"), &secret("plain"), &PutOptions::default()).unwrap();
    vault.put(&name("w/staged"), &secret("active"), &PutOptions::default()).unwrap();
    vault
        .put(&name("w/staged"), &secret("staged"), &PutOptions { staged: true, ..PutOptions::default() })
        .unwrap();
    let mut settings = vault.settings().unwrap();
    settings.thresholds.push(("w/staged".into(), 2));
    settings.thresholds.sort();
    vault.set_settings(&settings).unwrap();
    let (plain, staged, admin) = (id_of(&vault, "w/plain"), id_of(&vault, "w/staged"), &test_store.admin);
    let rename = |to: &str| Body::Rename(Rename { token: plain, from: "w/plain".into(), to: to.into() });
    let activate =
        Body::State(StateChange { token: staged, version: 2, state: State::Active, reason: String::new() });
    test_store.each_is_ineffective(vec![
        (admin, rename("prod/two/plain"), "the new name asks for more devices"),
        (admin, rename("w/strict/plain"), "the new name asks for more devices"),
        (admin, activate.clone(), "the settings ask for more devices"),
        (&test_store.writer, activate, "the settings ask for more devices"),
    ]);
}

/// The statement says one thing and the file another: it opens for nobody, and no device is asked.
#[test]
fn a_file_of_another_threshold_than_its_statement() {
    let test_store = with_thresholds();
    let (admin, opener) = (&test_store.admin, &test_store.opener);
    let own = id_of(&test_store.client("admin", &[]).unwrap(), "w/shared");
    let cases = [
        // Anybody could open it alone.
        (2, 2, sealed(test_store.id, own, 2, "plain", &[admin, opener]), "the ledger says 2"),
        (3, 2, shared(&test_store, own, 3, "of one fewer", 2, &[admin, opener]), ""),
        (4, 2, shared(&test_store, own, 3, "transplanted", 2, &[admin, opener]), "another version"),
    ];
    for (version, threshold, bytes, words) in cases {
        let vault = test_store.client("admin", &[]).unwrap();
        let body = Put { threshold, ..put(own, "w/shared", version, &bytes, &[admin, opener]) };
        let draft = Draft::on(&vault, admin, [Body::Put(Box::new(body))]);
        test_store.append(&draft, &[&bytes]);
        let mut vault = test_store.client("both", &[admin, opener]).unwrap();
        let opened = vault.get(&name("w/shared"), Some(version));
        match words {
            "" => assert_eq!(opened.unwrap().expose(), b"of one fewer"),
            words => {
                let error = opened.unwrap_err();
                assert_eq!(error.kind(), Kind::Tampered, "{error}");
                assert!(error.message().contains(words), "{error}");
                let report = vault.verify(&mut |_, _, _| {}).unwrap();
                assert!(report.problems.iter().any(|problem| problem.what.contains(words)));
            }
        }
    }
    // The other way round: a file with shares where any device should open it.
    let vault = test_store.client("admin", &[]).unwrap();
    let fresh = token(0x55);
    let bytes = shared(&test_store, fresh, 1, "closed", 2, &[admin, opener]);
    let draft =
        Draft::on(&vault, admin, [Body::Put(Box::new(put(fresh, "w/closed", 1, &bytes, &[admin, opener])))]);
    test_store.append(&draft, &[&bytes]);
    let mut vault = test_store.client("both", &[admin, opener]).unwrap();
    let error = vault.get(&name("w/closed"), None).unwrap_err();
    assert!(error.message().contains("the ledger says 1"), "{error}");
}

/// One device alone opens nothing, not even in the guise of an older version.
#[test]
fn one_device_is_too_few() {
    let test_store = with_thresholds();
    let mut both = test_store.client("both", &[&test_store.admin, &test_store.opener]).unwrap();
    assert_eq!(both.get(&name("w/shared"), None).unwrap().expose(), b"of two");
    let mut one = test_store.client("one", &[&test_store.opener]).unwrap();
    let error = one.get(&name("w/shared"), None).unwrap_err();
    assert_eq!(error.kind(), Kind::SealedElsewhere);
    // An older version that any device opens is not opened in its place.
    vault_puts_plain_and_shared(&test_store);
    let error = one.get(&name("w/both"), None).unwrap_err();
    assert!(error.to_string().contains("w/both@2"), "{error}");
    assert_eq!(one.get(&name("w/both"), Some(1)).unwrap().expose(), b"plain");
}

fn vault_puts_plain_and_shared(test_store: &TestStore) {
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    vault.put(&name("w/both"), &secret("plain"), &PutOptions::default()).unwrap();
    vault.put(&name("w/both"), &secret("shared"), &of(2)).unwrap();
}
