use crate::keys::{CONTEXT, SoftKey, seal_to};
use strongroom::device::OaepHash;
use strongroom::{Kind, secret::MAX_TOKEN_BYTES};

#[test]
fn each_kind_of_key_opens_what_was_sealed_to_it() {
    for key in SoftKey::all() {
        let sealed = seal_to(&[&key], b"token", &CONTEXT).unwrap();
        assert_eq!(key.open(&sealed, &CONTEXT).unwrap().expose(), b"token", "{:?}", key.public.algorithm());
    }
}

#[test]
fn kinds_mix_and_each_opens() {
    let keys = [SoftKey::p256(), SoftKey::rsa(OaepHash::Sha256), SoftKey::aes(), SoftKey::p256_of(9)];
    let recipients: Vec<_> = keys.iter().collect();
    let sealed = seal_to(&recipients, b"token", &CONTEXT).unwrap();
    for key in &keys {
        assert_eq!(key.open(&sealed, &CONTEXT).unwrap().expose(), b"token", "{:?}", key.public.algorithm());
    }
    let stranger = SoftKey::p256_of(10).open(&sealed, &CONTEXT).unwrap_err();
    assert_eq!(stranger.kind(), Kind::SealedElsewhere, "{stranger}");
}

#[test]
fn sizes_around_the_chunks_and_the_limit() {
    let key = SoftKey::p256();
    for size in [1, 65_535, 65_536, 65_537, 131_072, MAX_TOKEN_BYTES - 1, MAX_TOKEN_BYTES] {
        let plaintext: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let sealed = seal_to(&[&key], &plaintext, &CONTEXT).unwrap();
        assert_eq!(key.open(&sealed, &CONTEXT).unwrap().expose(), plaintext, "{size} bytes");
    }
    for size in [0, MAX_TOKEN_BYTES + 1] {
        assert_eq!(
            seal_to(&[&key], &vec![1; size], &CONTEXT).unwrap_err().kind(),
            Kind::Usage,
            "{size} bytes"
        );
    }
}
