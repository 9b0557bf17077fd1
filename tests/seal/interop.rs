//! Other age implementations read past Strongroom's stanzas, and Strongroom reads theirs.

use crate::forge::{Forge, split};
use crate::keys::{CONTEXT, SoftKey, seal_to};
use age::secrecy::ExposeSecret;
use age::{Encryptor, Recipient, x25519};
use age_core::format::{FileKey, Stanza};
use std::collections::HashSet;
use std::io::Write;
use std::process::Command;
use strongroom::device::{OaepHash, PublicKey};
use strongroom::seal::recipient_string;

/// A sealed file that an x25519 identity opens as well.
fn with_x25519(identity: &x25519::Identity, plaintext: &[u8]) -> Vec<u8> {
    let keys = [SoftKey::p256(), SoftKey::rsa(OaepHash::Sha256), SoftKey::aes()];
    let recipients: Vec<_> = keys.iter().collect();
    let mut forge = Forge::new(&seal_to(&recipients, plaintext, &CONTEXT).unwrap(), &keys[0]);
    let (stanzas, _) = identity.to_public().wrap_file_key(&forge.file_key).unwrap();
    forge.stanzas.extend(stanzas);
    let file = forge.file();
    keys.iter().for_each(|key| assert_eq!(key.open(&file, &CONTEXT).unwrap().expose(), plaintext));
    file
}

#[test]
fn the_age_command_reads_past_our_stanzas() {
    if Command::new("age").arg("--version").output().is_err() {
        test_support::skip::skip("the `age` command is missing (Debian: apt install age)");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (identity_file, sealed_file) =
        (directory.path().join("identity"), directory.path().join("token.age"));
    let identity = x25519::Identity::generate();
    let plaintext: Vec<u8> = (0..200_000_u32).map(|i| (i % 253) as u8).collect();
    std::fs::write(&identity_file, identity.to_string().expose_secret()).unwrap();
    std::fs::write(&sealed_file, with_x25519(&identity, &plaintext)).unwrap();
    let age = Command::new("age").arg("-d").arg("-i").args([&identity_file, &sealed_file]).output().unwrap();
    assert!(age.status.success(), "{}", String::from_utf8_lossy(&age.stderr));
    assert!(age.stdout == plaintext);
}

#[test]
fn the_age_crate_reads_past_our_stanzas() {
    let identity = x25519::Identity::generate();
    assert_eq!(age::decrypt(&identity, &with_x25519(&identity, b"token")).unwrap(), b"token");
}

#[test]
fn a_file_by_the_age_crate_opens() {
    let key = SoftKey::p256();
    let sealed = by_the_age_crate(&key, b"token");
    assert_eq!(key.open(&sealed, &CONTEXT).unwrap().expose(), b"token");

    let recipient: age::tag::Recipient = recipient_string(&key.public).unwrap().parse().unwrap();
    let without_context = age::encrypt(&recipient, b"token").unwrap();
    let error = key.open(&without_context, &CONTEXT).unwrap_err();
    assert!(error.message().contains("no context stanza"), "{error}");
}

/// Sealed by age's own recipient, with a context stanza beside it.
pub fn by_the_age_crate(key: &SoftKey, plaintext: &[u8]) -> Vec<u8> {
    struct Context;
    impl Recipient for Context {
        fn wrap_file_key(&self, _: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
            let (tag, args) =
                CONTEXT.to_string().split_once(' ').map(|(t, a)| (t.to_owned(), a.to_owned())).unwrap();
            let args = args.split(' ').map(String::from).collect();
            Ok((vec![Stanza { tag, args, body: vec![] }], HashSet::new()))
        }
    }
    let recipient: age::tag::Recipient = recipient_string(&key.public).unwrap().parse().unwrap();
    let recipients: [&dyn Recipient; 2] = [&Context, &recipient];
    let mut sealed = Vec::new();
    let encryptor = Encryptor::with_recipients(recipients.into_iter()).unwrap();
    let mut writer = encryptor.wrap_output(&mut sealed).unwrap();
    writer.write_all(plaintext).unwrap();
    writer.finish().unwrap();
    sealed
}

#[test]
fn recipient_strings_are_ages_own() {
    let key = SoftKey::p256();
    let text = recipient_string(&key.public).unwrap();
    assert_eq!(text.parse::<age::tag::Recipient>().unwrap().to_string(), text);
    assert_eq!(recipient_string(&SoftKey::rsa(OaepHash::Sha256).public), None);
    assert_eq!(recipient_string(&SoftKey::aes().public), None);
    assert_eq!(recipient_string(&PublicKey::P256([4; 65])), None);
}

#[test]
fn stanzas_stand_in_the_order_of_the_recipients() {
    let keys = [SoftKey::aes(), SoftKey::p256(), SoftKey::rsa(OaepHash::Sha1)];
    let recipients: Vec<_> = keys.iter().collect();
    let (header, _) = split(&seal_to(&recipients, b"token", &CONTEXT).unwrap());
    let lines: Vec<_> = header.lines().filter_map(|line| line.strip_prefix("-> ")).collect();
    let types: Vec<_> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(
        types[..4],
        ["strongroom/context", "strongroom/hsm-aes-gcm", "p256tag", "strongroom/rsa-oaep"]
    );
    assert_eq!(lines[0], CONTEXT.to_string());
    assert!(types[4].ends_with("-grease"));
    assert_eq!(types.len(), 5);
}
