//! Tokens that several devices open together. The dishonest author's sharing is made here, not by the crate that Strongroom uses.

use crate::forge::{Forge, copy, split};
use crate::keys::{CONTEXT, SoftKey, open, open_share, seal_to, seal_to_any};
use age_core::format::Stanza;
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD as BASE64};
use ring::digest::{SHA256, digest};
use strongroom::device::OaepHash;
use strongroom::seal::{Context, Sealed, Share, WrapRequest, combine};
use strongroom::{Kind, Result};

const FILE_KEY: [u8; 16] = [0x42; 16];

fn share(sealed: &[u8], threshold: u64, key: &SoftKey) -> Result<Share> {
    open_share(sealed, &CONTEXT, threshold, &key.public, &mut |challenge| key.answer(challenge))
}

/// What a file opens to with these keys together.
fn together(sealed: &[u8], threshold: u64, keys: &[&SoftKey]) -> Result<Vec<u8>> {
    let shares = keys.iter().map(|key| share(sealed, threshold, key)).collect::<Result<Vec<_>>>()?;
    combine(sealed, &CONTEXT, &shares).map(|token| token.expose().to_vec())
}

fn tampered<T>(outcome: Result<T>, words: &str) {
    let error = outcome.err().unwrap_or_else(|| panic!("accepted: {words}"));
    assert_eq!(error.kind(), Kind::Tampered, "{error}");
    assert!(error.message().contains(words), "{error}");
}

/// A file that must not be shown to any device.
fn refused_unasked(sealed: &[u8], threshold: u64, key: &SoftKey, words: &str) {
    let mut ask = |_: strongroom::device::PrivateOperation<'_>| panic!("a device was asked: {words}");
    match threshold {
        1 => tampered(open(sealed, &CONTEXT, &key.public, &mut ask), words),
        _ => tampered(open_share(sealed, &CONTEXT, threshold, &key.public, &mut ask), words),
    }
}

#[test]
fn any_m_of_the_devices_open_it_and_fewer_do_not() {
    let keys = [
        SoftKey::p256(),
        SoftKey::p384(),
        SoftKey::rsa(OaepHash::Sha256),
        SoftKey::aes(),
        SoftKey::p256_of(3),
    ];
    let all: Vec<&SoftKey> = keys.iter().collect();
    for m in 2..=5 {
        let sealed = seal_to_any(m, &all, b"token", &CONTEXT).unwrap();
        assert_eq!(Sealed::parse(&sealed).unwrap().threshold(), m);
        for chosen in 1..1_u32 << 5 {
            let some: Vec<_> = (0..5).filter(|i| chosen >> i & 1 == 1).map(|i| all[i]).collect();
            match some.len() as u64 >= m {
                true => assert_eq!(together(&sealed, m, &some).unwrap(), b"token", "{m}: {chosen:b}"),
                false => tampered(together(&sealed, m, &some), "fewer shares"),
            }
        }
    }
    assert_eq!(seal_to_any(6, &all, b"token", &CONTEXT).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(seal_to_any(0, &all, b"token", &CONTEXT).unwrap_err().kind(), Kind::Conflict);
}

#[test]
fn the_most_devices_there_can_be() {
    let keys: Vec<_> = (1..=254).map(SoftKey::p256_of).collect();
    let all: Vec<&SoftKey> = keys.iter().collect();
    assert!(seal_to_any(254, &all, b"token", &CONTEXT).is_ok());
    let sealed = seal_to_any(3, &all, b"token", &CONTEXT).unwrap();
    assert_eq!(together(&sealed, 3, &[all[253], all[127], all[0]]).unwrap(), b"token");
}

/// The ledger says how many devices open it together. A file that says otherwise is shown to none.
#[test]
fn another_threshold_than_was_stated_is_refused_before_a_device_is_asked() {
    let keys = [SoftKey::p256(), SoftKey::p256_of(1), SoftKey::p256_of(2)];
    let all: Vec<&SoftKey> = keys.iter().collect();
    let any = seal_to(&all, b"token", &CONTEXT).unwrap();
    let two = seal_to_any(2, &all, b"token", &CONTEXT).unwrap();
    refused_unasked(&any, 2, &keys[0], "the ledger says 2");
    refused_unasked(&two, 1, &keys[0], "the ledger says 1");
    refused_unasked(&two, 3, &keys[0], "the ledger says 3");
    let elsewhere = Context { version: 8, ..CONTEXT };
    let shown = open_share(&two, &elsewhere, 2, &keys[0].public, &mut |_| panic!("asked"));
    tampered(shown, "another version");
}

#[test]
fn shares_of_two_files_do_not_go_together() {
    let (one, two) = (SoftKey::p256(), SoftKey::p256_of(1));
    let [a, b] = [(); 2].map(|()| seal_to_any(2, &[&one, &two], b"token", &CONTEXT).unwrap());
    let mixed = [share(&a, 2, &one).unwrap(), share(&b, 2, &two).unwrap()];
    tampered(combine(&a, &CONTEXT, &mixed), "MAC");
    // The third is the right one for the first.
    let [right, wrong] = mixed;
    let third = share(&a, 2, &two).unwrap();
    assert_eq!(combine(&a, &CONTEXT, &[wrong, right, third]).unwrap().expose(), b"token");
}

/// A product in the field of AES, bit by bit.
fn product(mut a: u8, mut b: u8) -> u8 {
    let mut sum = 0;
    while b != 0 {
        sum ^= if b & 1 == 1 { a } else { 0 };
        a = (a << 1) ^ if a & 0x80 != 0 { 0x1b } else { 0 };
        b >>= 1;
    }
    sum
}

/// The share at `x`, with the polynomial key + 7·x for each byte.
fn y(x: u8) -> [u8; 16] {
    FILE_KEY.map(|byte| byte ^ product(7, x))
}

/// What a share's stanza seals, by the format's page.
fn to_seal(m: &str, x: &str, y: &[u8]) -> Vec<u8> {
    let place = format!("strongroom/share\0{CONTEXT}\0{m}\0{x}");
    [digest(&SHA256, place.as_bytes()).as_ref(), y].concat()
}

/// A stanza that seals anything to an AES key, as a share of this number.
fn stanza(key: &SoftKey, m: &str, x: &str, secret: &[u8]) -> Stanza {
    let recipient = strongroom::seal::Recipient { public: &key.public, name: "soft" };
    let (iv, aad) = ([9; 12], CONTEXT.to_string());
    let body = key.wrap(&WrapRequest { recipient, iv: &iv, aad: aad.as_bytes(), secret });
    let strongroom::device::PublicKey::Aes256 { id } = &key.public else { panic!() };
    let tag = digest(&SHA256, &[b"strongroom/hsm-aes-gcm", id.as_slice()].concat());
    let (tag, iv) = (BASE64.encode(&tag.as_ref()[..4]), BASE64.encode(iv));
    let args = [m, x, "strongroom/hsm-aes-gcm", &tag, &iv].map(String::from).into();
    Stanza { tag: "strongroom/share".into(), args, body }
}

fn keys() -> [SoftKey; 3] {
    [1, 2, 3].map(|number| SoftKey::aes_of([number; 16], [number; 32]))
}

/// A file of the threshold 2 that a dishonest author made for three devices, after a change.
fn forged(change: impl FnOnce(&mut Vec<Stanza>)) -> Vec<u8> {
    let keys = keys();
    let any = seal_to(&[&keys[0]], b"token", &CONTEXT).unwrap();
    let mut forge = Forge::new(&any, &keys[0]).with_file_key(FILE_KEY, b"token");
    let share = |i: usize| {
        let x = (i + 1).to_string();
        stanza(&keys[i], "2", &x, &to_seal("2", &x, &y(i as u8 + 1)))
    };
    forge.stanzas.truncate(1);
    forge.stanzas.extend((0..3).map(share));
    change(&mut forge.stanzas);
    forge.file()
}

#[test]
fn shares_made_by_other_arithmetic_open() {
    let (sealed, keys) = (forged(|_| {}), keys());
    for (i, j) in [(0, 1), (1, 2), (2, 0)] {
        assert_eq!(together(&sealed, 2, &[&keys[i], &keys[j]]).unwrap(), b"token");
    }
}

#[test]
fn files_with_shares_that_do_not_fit_together_are_shown_to_no_device() {
    let keys = keys();
    let secret = |m: &str, x: &str| to_seal(m, x, &y(1));
    type Change<'a> = &'a dyn Fn(&mut Vec<Stanza>);
    let cases: [(&str, Change<'_>); 14] = [
        ("different thresholds", &|stanzas| stanzas[3] = stanza(&keys[2], "3", "3", &secret("3", "3"))),
        ("a share twice", &|stanzas| stanzas[3] = stanza(&keys[2], "2", "1", &secret("2", "1"))),
        ("a share twice", &|stanzas| stanzas.push(copy(&stanzas[1]))),
        ("fewer shares", &|stanzas| stanzas.truncate(2)),
        ("some are not", &|stanzas| {
            let one = seal_to(&[&SoftKey::p256()], b"token", &CONTEXT).unwrap();
            stanzas.push(copy(&Forge::new(&one, &SoftKey::p256()).stanzas[1]));
        }),
        ("malformed", &|stanzas| stanzas[1].args[0] = "1".into()),
        ("malformed", &|stanzas| stanzas[1].args[0] = "02".into()),
        ("malformed", &|stanzas| stanzas[1].args[0] = "255".into()),
        ("malformed", &|stanzas| stanzas[1].args[1] = "0".into()),
        ("malformed", &|stanzas| stanzas[1].args[1] = "256".into()),
        ("malformed", &|stanzas| stanzas[1].args[2] = "strongroom/share".into()),
        ("malformed", &|stanzas| stanzas[1].args[2] = "X25519".into()),
        ("malformed", &|stanzas| stanzas[1].args.push("more".into())),
        ("malformed", &|stanzas| stanzas[1].body.truncate(63)),
    ];
    for (words, change) in cases {
        refused_unasked(&forged(change), 2, &keys[0], words);
    }
    // In a version that any device opens, there is none.
    refused_unasked(&forged(|stanzas| stanzas.truncate(2)), 1, &keys[0], "fewer shares");
}

/// Anything that a device can be made to open, and that is not this share, stays in it.
#[test]
fn what_belongs_elsewhere_is_no_share() {
    let keys = keys();
    let (good, elsewhere) = (to_seal("2", "1", &y(1)), "belongs elsewhere");
    let place = |text: String| [digest(&SHA256, text.as_bytes()).as_ref(), &y(1)].concat();
    let other_version = Context { version: 8, ..CONTEXT };
    for secret in [
        // Another coordinate, another threshold, another version.
        to_seal("2", "2", &y(2)),
        to_seal("3", "1", &y(1)),
        place(format!("strongroom/share\0{other_version}\x002\x001")),
        place(format!("strongroom/share\0{CONTEXT}\x0021\x00")),
        vec![0; 48],
    ] {
        let sealed = forged(|stanzas| stanzas[1] = stanza(&keys[0], "2", "1", &secret));
        tampered(share(&sealed, 2, &keys[0]), elsewhere);
        // The others open it all the same.
        assert_eq!(together(&sealed, 2, &[&keys[1], &keys[2]]).unwrap(), b"token");
    }
    for other_length in [&FILE_KEY[..], &good[..47], &[good.as_slice(), b"1"].concat()] {
        let sealed = forged(|stanzas| stanzas[1] = stanza(&keys[0], "2", "1", other_length));
        refused_unasked(&sealed, 2, &keys[0], "malformed");
    }
}

/// RSA hides how long its plaintext is: the file key of somebody else's file looks like a share until it is opened.
#[test]
fn a_key_passed_off_as_a_share() {
    let (rsa, other) = (SoftKey::rsa(OaepHash::Sha256), keys());
    let victim = Context { token: [0xee; 16], ..CONTEXT };
    let theirs = seal_to(&[&rsa], b"somebody else's", &victim).unwrap();
    let stolen = copy(&Forge::new(&theirs, &rsa).stanzas[1]);
    let as_share = |stanza: &Stanza| {
        let args = ["2", "3", &stanza.tag].map(String::from).into_iter().chain(stanza.args.clone()).collect();
        Stanza { tag: "strongroom/share".into(), args, body: stanza.body.clone() }
    };
    let sealed = forged(|stanzas| stanzas[3] = as_share(&stolen));
    tampered(share(&sealed, 2, &rsa), "belongs elsewhere");

    // The other way round: a share taken for the file key of a file that any device opens.
    let shared = seal_to_any(2, &[&rsa, &other[0]], b"token", &CONTEXT).unwrap();
    let mut forge = Forge::new(&seal_to(&[&rsa], b"token", &CONTEXT).unwrap(), &rsa);
    let (header, _) = split(&shared);
    let taken = crate::forge::stanzas(&header).remove(1);
    forge.stanzas[1] =
        Stanza { tag: taken.args[2].clone(), args: taken.args[3..].to_vec(), body: taken.body };
    tampered(rsa.open(&forge.file(), &CONTEXT), "holds no file key");
}

/// The author signs for a share that is bound to its place and is wrong: with one more device it opens.
#[test]
fn one_wrong_share_does_not_close_it() {
    let keys = keys();
    let sealed = forged(|stanzas| stanzas[1] = stanza(&keys[0], "2", "1", &to_seal("2", "1", &[1; 16])));
    tampered(together(&sealed, 2, &[&keys[0], &keys[1]]), "MAC");
    tampered(together(&sealed, 2, &[&keys[2], &keys[0]]), "MAC");
    let [first, second, third] = [0, 1, 2].map(|i| share(&sealed, 2, &keys[i]).unwrap());
    let token = combine(&sealed, &CONTEXT, &[first, second, third]).unwrap();
    assert_eq!(token.expose(), b"token");
}

#[test]
fn every_flipped_byte_is_refused() {
    let keys = [SoftKey::p256(), SoftKey::aes()];
    let sealed = seal_to_any(2, &[&keys[0], &keys[1]], b"token", &CONTEXT).unwrap();
    for position in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[position] ^= 1;
        let outcome = together(&altered, 2, &[&keys[0], &keys[1]]);
        assert!(outcome.is_err(), "byte {position}");
    }
}
