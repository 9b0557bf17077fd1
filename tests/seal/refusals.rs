//! What is never sealed, never opened and never asked of a device.

use crate::keys::{CONTEXT, SoftKey, open, seal_to};
use proptest::prelude::*;
use std::cell::Cell;
use strongroom::device::{OaepHash, PrivateOperation, PublicKey};
use strongroom::seal::{self, Context, MAX_RECIPIENTS, MAX_SEALED_BYTES, Recipient, Sealed};
use strongroom::{Error, Kind, Result, Secret};
use zeroize::Zeroizing;

fn seal_to_public(public: &PublicKey) -> Result<Vec<u8>> {
    let recipient = Recipient { public, name: "the device" };
    seal::seal(&Secret::new(b"token".to_vec()), &CONTEXT, &[recipient], 1, &mut seal::without_device)
}

#[test]
fn recipients_none_twice_and_too_many() {
    let key = SoftKey::p256();
    assert_eq!(seal_to(&[], b"token", &CONTEXT).unwrap_err().kind(), Kind::Usage);
    assert_eq!(seal_to(&[&key, &key], b"token", &CONTEXT).unwrap_err().kind(), Kind::Usage);
    let (modern, old) = (SoftKey::rsa(OaepHash::Sha256), SoftKey::rsa(OaepHash::Sha1));
    assert_eq!(seal_to(&[&modern, &old], b"token", &CONTEXT).unwrap_err().kind(), Kind::Usage);

    let many: Vec<_> = (1..=MAX_RECIPIENTS as u8 + 1).map(SoftKey::p256_of).collect();
    let many: Vec<_> = many.iter().collect();
    assert_eq!(seal_to(&many, b"token", &CONTEXT).unwrap_err().kind(), Kind::Usage);
    let sealed = seal_to(&many[1..], b"token", &CONTEXT).unwrap();
    assert_eq!(many[MAX_RECIPIENTS].open(&sealed, &CONTEXT).unwrap().expose(), b"token");
}

#[test]
fn keys_that_cannot_be_sealed_to() {
    let (mut off_curve, mut off_p384) = ([7; 65], [7; 97]);
    (off_curve[0], off_p384[0]) = (4, 4);
    let short = PublicKey::Rsa { n: vec![0xc5; 128], e: vec![1, 0, 1], oaep: OaepHash::Sha256 };
    let even = PublicKey::Rsa { n: vec![0xc5; 256], e: vec![2], oaep: OaepHash::Sha256 };
    let empty = PublicKey::Rsa { n: vec![], e: vec![], oaep: OaepHash::Sha1 };
    let symmetric = PublicKey::Aes256 { id: [1; 16] };
    for public in [PublicKey::P256(off_curve), PublicKey::P384(off_p384), short, even, empty, symmetric] {
        let error = seal_to_public(&public).unwrap_err();
        assert_eq!((error.kind(), error.target()), (Kind::Unsupported, Some("the device")), "{error}");
    }
}

#[test]
fn a_wrapping_device_that_fails_or_answers_nonsense() {
    let key = SoftKey::aes();
    let recipient = Recipient { public: &key.public, name: "the hsm" };
    let sealing_with = |answer: &mut dyn FnMut() -> Result<Vec<u8>>| {
        seal::seal(&Secret::new(b"token".to_vec()), &CONTEXT, &[recipient], 1, &mut |_| answer()).unwrap_err()
    };
    let gone = sealing_with(&mut || {
        Err(Error::new(Kind::DeviceGone, "encrypt", "CKR_DEVICE_REMOVED").with_target("slot 1"))
    });
    assert_eq!(gone.to_string(), "cannot encrypt: slot 1: CKR_DEVICE_REMOVED");
    assert_eq!(gone.kind(), Kind::DeviceGone);
    let short = sealing_with(&mut || Ok(vec![0; 31]));
    assert_eq!((short.kind(), short.target()), (Kind::Device, Some("the hsm")));
}

#[test]
fn another_context_is_refused_before_the_device_is_asked() {
    let key = SoftKey::p256();
    let sealed = seal_to(&[&key], b"token", &CONTEXT).unwrap();
    let others = [
        (Context { store: [1; 32], ..CONTEXT }, "another store"),
        (Context { token: [1; 16], ..CONTEXT }, "another token"),
        (Context { version: 8, ..CONTEXT }, "another version"),
    ];
    for (context, words) in others {
        let error = open(&sealed, &context, &key.public, &mut |_| panic!("asked")).unwrap_err();
        assert_eq!(error.kind(), Kind::Tampered);
        assert!(error.message().contains(words), "{error}");
        let finished = Sealed::parse(&sealed).unwrap().finish(key.file_key(&sealed), &context);
        let error = finished.unwrap_err();
        assert!(error.message().contains(words), "{error}");
    }
}

#[test]
fn a_device_error_arrives_whole_and_ends_the_asking() {
    let key = SoftKey::p256();
    let sealed = seal_to(&[&key], b"token", &CONTEXT).unwrap();
    for kind in [Kind::PinWrong, Kind::PinLocked, Kind::DeviceGone, Kind::Device] {
        let error = open(&sealed, &CONTEXT, &key.public, &mut |_| {
            Err(Error::new(kind, "log in", "as it came")
                .with_target("pkcs11:token=demo")
                .with_hint("try another"))
        });
        let error = error.unwrap_err();
        assert_eq!((error.kind(), error.hint()), (kind, Some("try another")));
        assert_eq!(error.to_string(), "cannot log in: pkcs11:token=demo: as it came");
    }
}

#[test]
fn answers_of_the_wrong_length_are_the_devices_fault() {
    for (key, right) in [(SoftKey::p256(), 32), (SoftKey::p384(), 48)] {
        let sealed = seal_to(&[&key], b"token", &CONTEXT).unwrap();
        for length in [0, 31, 33, 47, 49, 65] {
            assert_ne!(length, right);
            let answer = open(&sealed, &CONTEXT, &key.public, &mut |_| Ok(Zeroizing::new(vec![1; length])));
            assert_eq!(answer.unwrap_err().kind(), Kind::Device, "{length}");
        }
    }
}

#[test]
fn a_wrong_key_of_the_right_name_opens_nothing() {
    let asked = Cell::new(0);
    for key in SoftKey::all() {
        let sealed = seal_to(&[&key], b"token", &CONTEXT).unwrap();
        let error = open(&sealed, &CONTEXT, &key.public, &mut |challenge| {
            asked.set(asked.get() + 1);
            let length = match challenge {
                PrivateOperation::Ecdh { peer } => peer.len() / 2,
                _ => 16,
            };
            Ok(Zeroizing::new(vec![9; length]))
        });
        assert_eq!(error.unwrap_err().kind(), Kind::Tampered);
    }
    assert_eq!(asked.get(), 5);
}

#[test]
fn input_that_would_cost_much_is_refused_at_once() {
    let refused = |bytes: &[u8]| {
        let error = Sealed::parse(bytes).err().unwrap();
        assert_eq!(error.kind(), Kind::Tampered, "{error}");
        error.message().to_owned()
    };
    assert!(refused(&vec![b'a'; MAX_SEALED_BYTES + 1]).contains("larger"));
    let mut stanzas = b"age-encryption.org/v1\n".to_vec();
    stanzas.extend(b"-> x\n\n".repeat(10_000));
    stanzas.extend(b"--- AAAA\n");
    assert!(refused(&stanzas).contains("more than 256 stanzas"));
    let mut endless = b"age-encryption.org/v1\n-> x\n".to_vec();
    endless.extend([&[b'A'; 64][..], b"\n"].concat().repeat(10_000));
    assert!(refused(&endless).contains("64 KiB"));
    refused(b"");
    refused(b"--- \n");
    refused(b"age-encryption.org/v2\n--- AAAA\n");
    refused(b"age-encryption.org/v1\n-> scrypt AAAA 30\n\n--- AAAA\n");
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(Sealed::parse(&bytes).is_err());
    }

    #[test]
    fn any_header_text_is_refused_without_a_panic(lines in proptest::collection::vec(
        "(-> )?(p256tag|strongroom/context|strongroom/rsa-oaep|strongroom/hsm-aes-gcm|x)?( [0-9a-zA-Z+/]{0,70}){0,4}",
        0..12,
    )) {
        let text = format!("age-encryption.org/v1\n{}\n--- {}\n0123456789abcdef", lines.join("\n"), "A".repeat(43));
        let _ = Sealed::parse(text.as_bytes());
    }

    #[test]
    fn whatever_is_sealed_opens(
        plaintext in proptest::collection::vec(any::<u8>(), 1..5000),
        store: [u8; 32],
        token: [u8; 16],
        version: u64,
    ) {
        let context = Context { store, token, version };
        let key = SoftKey::aes();
        let sealed = seal_to(&[&key], &plaintext, &context).unwrap();
        let opened = key.open(&sealed, &context).unwrap();
        prop_assert_eq!(opened.expose(), plaintext.as_slice());
    }
}
