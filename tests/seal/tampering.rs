//! Altered files, and files by an author who is allowed to write but not to be trusted.

use crate::forge::{Forge, copy, ec_tag, p256tag, split};
use crate::keys::{CONTEXT, SoftKey, open, seal_to};
use age_core::format::Stanza;
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD as BASE64};
use std::cell::Cell;
use std::collections::HashMap;
use strongroom::device::{OaepHash, PrivateOperation, PublicKey};
use strongroom::seal::{Context, Sealed};
use strongroom::{Error, Kind, Result, Secret};

/// Refused, and as tampering or by the device; with the key that would have opened the original.
fn assert_refused(outcome: Result<Secret>, what: impl std::fmt::Display) {
    let error = outcome.expect_err(&format!("{what} was accepted"));
    assert!(
        matches!(error.kind(), Kind::Tampered | Kind::SealedElsewhere | Kind::Device),
        "{what}: {error:?}"
    );
}

#[test]
fn every_flipped_byte_is_refused() {
    // RSA's private operation takes long in software: one flip for each byte must do.
    let all = &[0x01, 0x20, 0x80][..];
    for (key, masks) in
        [(SoftKey::p256(), all), (SoftKey::rsa(OaepHash::Sha256), &all[..1]), (SoftKey::aes(), all)]
    {
        let sealed = seal_to(&[&key], b"token", &CONTEXT).unwrap();
        // Most flips leave the challenge as it was.
        let mut answers = HashMap::new();
        let mut ask = |challenge: PrivateOperation<'_>| {
            let answer =
                answers.entry(format!("{challenge:?}")).or_insert_with(|| key.answer(challenge).ok());
            answer.clone().ok_or_else(|| Error::new(Kind::Device, "decrypt", "CKR_ENCRYPTED_DATA_INVALID"))
        };
        assert_eq!(open(&sealed, &CONTEXT, &key.public, &mut ask).unwrap().expose(), b"token");
        for position in 0..sealed.len() {
            for mask in masks {
                let mut altered = sealed.clone();
                altered[position] ^= mask;
                let outcome = open(&altered, &CONTEXT, &key.public, &mut ask);
                assert_refused(outcome, format!("byte {position} ^ {mask:#x}"));
            }
        }
    }
}

#[test]
fn every_truncation_and_any_addition_is_refused() {
    for key in SoftKey::all() {
        let sealed = seal_to(&[&key], b"token", &CONTEXT).unwrap();
        for length in 0..sealed.len() {
            assert_refused(key.open(&sealed[..length], &CONTEXT), format!("the first {length} bytes"));
        }
        assert_refused(key.open(&[&sealed[..], b"\0"].concat(), &CONTEXT), "a byte more");
        assert_refused(key.open(&[b"\n", &sealed[..]].concat(), &CONTEXT), "a byte before");
    }
}

#[test]
fn payload_chunks_cannot_be_moved_dropped_or_repeated() {
    const CHUNK: usize = 65_536 + 16;
    let key = SoftKey::p256();
    let sealed = seal_to(&[&key], &vec![7; 3 * 65_536], &CONTEXT).unwrap();
    let body = sealed.len() - 3 * CHUNK;
    let (head, chunks) = sealed.split_at(body);
    let chunk = |n: usize| &chunks[n * CHUNK..(n + 1) * CHUNK];
    for order in [&[0, 1][..], &[1, 0, 2], &[0, 2, 1], &[0, 0, 1, 2], &[0, 1, 2, 2], &[2], &[]] {
        let chunks: Vec<_> = order.iter().map(|n| chunk(*n)).collect();
        assert_refused(key.open(&[head, &chunks.concat()].concat(), &CONTEXT), format!("chunks {order:?}"));
    }
}

#[test]
fn parts_of_two_files_do_not_go_together() {
    for key in SoftKey::all() {
        let [one, two] = [b"one", b"two"].map(|token| seal_to(&[&key], token, &CONTEXT).unwrap());
        let ((header, _), (_, payload)) = (split(&one), split(&two));
        assert_refused(key.open(&[header.as_bytes(), &payload].concat(), &CONTEXT), "header and payload");

        let mut mixed = Forge::new(&one, &key);
        let stanza = copy(&Forge::new(&two, &key).stanzas[1]);
        mixed.stanzas[1] = stanza;
        assert_refused(key.open(&mixed.file(), &CONTEXT), "another file's stanza");
    }
}

/// The file is good in itself, and was signed for: only the context tells that it is another token's.
#[test]
fn the_context_stanza_stands_once_and_canonical() {
    let key = SoftKey::p256();
    let sealed = seal_to(&[&key], b"token", &CONTEXT).unwrap();
    let refused = |change: &dyn Fn(&mut Vec<Stanza>)| {
        let mut forge = Forge::new(&sealed, &key);
        change(&mut forge.stanzas);
        let error = open(&forge.file(), &CONTEXT, &key.public, &mut |_| panic!("asked")).unwrap_err();
        assert_eq!(error.kind(), Kind::Tampered);
        error.message().to_owned()
    };
    assert!(refused(&|stanzas| drop(stanzas.remove(0))).contains("no context"));
    assert!(refused(&|stanzas| stanzas.push(copy(&stanzas[0]))).contains("more than one"));
    assert!(refused(&|stanzas| stanzas[0].args[2] = "007".into()).contains("malformed"));
    assert!(refused(&|stanzas| stanzas[0].args[0] = stanzas[0].args[0].to_uppercase()).contains("malformed"));
    assert!(refused(&|stanzas| stanzas[0].body = vec![0]).contains("malformed"));
    assert!(refused(&|stanzas| stanzas[0].args[2] = "8".into()).contains("another version"));
    assert!(Forge::new(&sealed, &key).stanzas[0].tag == "strongroom/context");
}

/// Files of age's first betas have such stanzas, and the crate reads them still: no other reader of a sealed token does.
#[test]
fn a_stanza_ends_with_a_short_line() {
    let key = SoftKey::p256();
    let sealed = seal_to(&[&key], b"token", &CONTEXT).unwrap();
    let (header, payload) = split(&sealed);
    let context = format!("-> {CONTEXT}\n");
    let joined = header.replace(&format!("{context}\n"), &context);
    assert_eq!(joined.len(), header.len() - 1);
    let full = "A".repeat(64);
    let last = header.replace("\n--- ", &format!("\n-> other\n{full}\n--- "));
    for (header, good) in [(&header, true), (&joined, false), (&last, false)] {
        let file = [header.as_bytes(), &payload].concat();
        let refusal = Sealed::parse(&file).err().map(|error| error.message().to_owned());
        let wanted = (!good).then(|| "a stanza of its header has no end".to_owned());
        assert_eq!(refusal, wanted, "{header}");
    }
}

#[test]
fn malformed_stanzas_of_known_types_are_refused() {
    for (key, tag) in SoftKey::all().iter().zip(TYPES) {
        let sealed = seal_to(&[key], b"token", &CONTEXT).unwrap();
        let changes: [fn(&mut Stanza); 6] = [
            |stanza| drop(stanza.args.pop()),
            |stanza| stanza.args.push("x".into()),
            |stanza| stanza.args[0].push_str("AA"),
            |stanza| stanza.args[0].replace_range(.., "!!!!!!"),
            |stanza| stanza.args[1].push('='),
            |stanza| stanza.args.swap(0, 1),
        ];
        for (n, change) in changes.iter().enumerate() {
            let mut forge = Forge::new(&sealed, key);
            change(forge.of_type(tag));
            let error = Sealed::parse(&forge.file()).err().unwrap();
            assert!(error.message().contains("malformed"), "{tag} {n}: {error}");
        }
        for body in [vec![], vec![1; 16], vec![1; 31], vec![1; 33]] {
            let mut forge = Forge::new(&sealed, key);
            forge.of_type(tag).body = body;
            assert_refused(open(&forge.file(), &CONTEXT, &key.public, &mut |_| panic!("asked")), tag);
        }
    }
}

/// The stanza type of each key in [`SoftKey::all`].
const TYPES: [&str; 5] =
    ["p256tag", "strongroom/p384tag", "strongroom/rsa-oaep", "strongroom/rsa-oaep", "strongroom/hsm-aes-gcm"];

#[test]
fn stanzas_of_the_same_tag_are_all_tried() {
    for (key, tag) in SoftKey::all().iter().zip(TYPES) {
        let sealed = seal_to(&[key], b"token", &CONTEXT).unwrap();
        let mut forge = Forge::new(&sealed, key);
        let decoy = colliding(forge.of_type(tag));
        forge.stanzas.insert(1, decoy);
        let asked = Cell::new(0);
        let opened = open(&forge.file(), &CONTEXT, &key.public, &mut |challenge| {
            asked.set(asked.get() + 1);
            key.answer(challenge)
        });
        assert_eq!(opened.unwrap().expose(), b"token", "{tag}");
        assert_eq!(asked.get(), 2, "{tag}");

        forge.stanzas.remove(2);
        assert_refused(key.open(&forge.file(), &CONTEXT), tag);
    }
}

/// A stanza of the same tag, as if to another key, that does not open.
fn colliding(stanza: &Stanza) -> Stanza {
    let mut decoy = copy(stanza);
    *decoy.body.last_mut().unwrap() ^= 1;
    decoy
}

#[test]
fn after_a_wrong_pin_no_further_stanza_is_tried() {
    let key = SoftKey::p256();
    let sealed = seal_to(&[&key], b"token", &CONTEXT).unwrap();
    let mut forge = Forge::new(&sealed, &key);
    let decoy = colliding(forge.of_type("p256tag"));
    forge.stanzas.insert(1, decoy);
    let asked = Cell::new(0);
    let error = open(&forge.file(), &CONTEXT, &key.public, &mut |_| {
        asked.set(asked.get() + 1);
        Err(Error::new(Kind::PinWrong, "log in", "CKR_PIN_INCORRECT"))
    });
    assert_eq!((error.unwrap_err().kind(), asked.get()), (Kind::PinWrong, 1));
}

#[test]
fn a_real_collision_of_two_keys_opens_for_both() {
    let (one, two) = (SoftKey::p256(), SoftKey::p256_of(3));
    let sealed = seal_to(&[&two], b"token", &CONTEXT).unwrap();
    let mut forge = Forge::new(&sealed, &two);
    let both = seal_to(&[&one], b"other", &CONTEXT).unwrap();
    let mut foreign = copy(Forge::new(&both, &one).of_type("p256tag"));
    let enc = BASE64.decode(&foreign.args[1]).unwrap();
    foreign.args[0] = p256tag(&enc, &compressed(&two.public));
    forge.stanzas.insert(1, foreign);
    assert_eq!(two.open(&forge.file(), &CONTEXT).unwrap().expose(), b"token");
}

pub fn compressed(public: &PublicKey) -> Vec<u8> {
    let point = public.point().unwrap();
    let last = point.len() - 1;
    [&[2 + (point[last] & 1)], &point[1..=last / 2]].concat()
}

#[test]
fn the_oaep_hash_is_the_enrolled_one_or_nothing() {
    for (written, enrolled) in [(OaepHash::Sha1, OaepHash::Sha256), (OaepHash::Sha256, OaepHash::Sha1)] {
        let (author, device) = (SoftKey::rsa(written), SoftKey::rsa(enrolled));
        let sealed = seal_to(&[&author], b"token", &CONTEXT).unwrap();
        let error = open(&sealed, &CONTEXT, &device.public, &mut |_| panic!("asked")).unwrap_err();
        assert_eq!(error.kind(), Kind::Tampered);
        assert!(error.message().contains("enrolled with"), "{error}");

        let mut relabelled = Forge::new(&sealed, &author);
        relabelled.of_type("strongroom/rsa-oaep").args[1] = "sha512".into();
        assert_eq!(Sealed::parse(&relabelled.file()).err().unwrap().kind(), Kind::Tampered);
    }
}

#[test]
fn the_device_never_sees_a_point_off_the_curve() {
    let curves: [(SoftKey, &str, &[u8]); 2] = [
        (SoftKey::p256(), "p256tag", b"age-encryption.org/p256tag"),
        (SoftKey::p384(), "strongroom/p384tag", b"strongroom/p384tag"),
    ];
    for (key, stanza_type, info) in curves {
        let sealed = seal_to(&[&key], b"token", &CONTEXT).unwrap();
        let mut forge = Forge::new(&sealed, &key);
        let honest = BASE64.decode(&forge.of_type(stanza_type).args[1]).unwrap();
        let last = honest.len() - 1;
        let with_first = |first: u8| [&[first], &honest[1..]].concat();
        let mut off_curve = honest.clone();
        off_curve[last] ^= 1;
        let above_the_field = [vec![4], vec![0xff; last]].concat();
        let hybrid = with_first(6 + (honest[last] & 1));
        let padded_compressed = with_first(2 + (honest[last] & 1));
        let nothing = vec![0; honest.len()];
        for enc in [off_curve, above_the_field, hybrid, padded_compressed, with_first(0), nothing] {
            let stanza = forge.of_type(stanza_type);
            stanza.args = vec![ec_tag(info, &enc, &compressed(&key.public)), BASE64.encode(&enc)];
            let error = open(&forge.file(), &CONTEXT, &key.public, &mut |_| panic!("asked")).unwrap_err();
            assert!(error.message().contains("no point of the curve"), "{error}");
        }
    }
}

/// The writer of version 7 holds its file key; he does not get the HSM to accept its stanza in version 8.
#[test]
fn an_hsm_stanza_opens_for_its_version_only() {
    let key = SoftKey::aes();
    let sealed = seal_to(&[&key], b"token", &CONTEXT).unwrap();
    let mut forge = Forge::new(&sealed, &key);
    forge.stanzas[0].args[2] = "8".into();
    let error = key.open(&forge.file(), &Context { version: 8, ..CONTEXT }).unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::Device, "CKR_ENCRYPTED_DATA_INVALID"));
}

#[test]
fn an_empty_or_oversized_payload_is_no_token() {
    let key = SoftKey::p256();
    for size in [0, (1 << 20) + 1] {
        let sealed = crate::interop::by_the_age_crate(&key, &vec![1; size]);
        assert_refused(key.open(&sealed, &CONTEXT), format!("{size} bytes"));
    }
}
