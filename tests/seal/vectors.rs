//! `tests/vectors/seal`: files that every version of Strongroom opens.

use crate::forge::{p256tag, split};
use crate::keys::{CONTEXT, SoftKey, open_share, seal_to_any};
use crate::tampering::compressed;
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use strongroom::device::{OaepHash, PrivateOperation};
use strongroom::seal::{Context, Sealed, combine, recipient_string};

#[derive(Serialize, Deserialize)]
struct Vector {
    comment: String,
    /// Names in `keys.json`, an RSA key with its hash. Each opens the file, or so many together as the threshold says.
    keys: Vec<String>,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    threshold: u64,
    store: String,
    token: String,
    version: u64,
    plaintext: String,
    sealed: String,
}

fn one() -> u64 {
    1
}

fn is_one(threshold: &u64) -> bool {
    *threshold == 1
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/seal")
}

fn key(name: &str) -> SoftKey {
    match name {
        "p256" => SoftKey::p256(),
        "p384" => SoftKey::p384(),
        "rsa2048/sha256" => SoftKey::rsa(OaepHash::Sha256),
        "rsa2048/sha1" => SoftKey::rsa(OaepHash::Sha1),
        "aes256" => SoftKey::aes(),
        other => panic!("no key {other}"),
    }
}

#[test]
fn every_vector_opens() {
    let mut count = 0;
    for entry in std::fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("keys.json") || path.ends_with("p256tag-tags.json") {
            continue;
        }
        let vector: Vector = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let context = Context {
            store: hex::decode(&vector.store).unwrap().try_into().unwrap(),
            token: hex::decode(&vector.token).unwrap().try_into().unwrap(),
            version: vector.version,
        };
        let sealed = hex::decode(&vector.sealed).unwrap();
        assert_eq!(Sealed::parse(&sealed).unwrap().context(), &context, "{}", path.display());
        assert!(split(&sealed).0.contains(&format!("\n-> {context}\n\n")), "{}", path.display());
        if vector.threshold > 1 {
            count += opens_together(&vector, &sealed, &context);
            continue;
        }
        for name in &vector.keys {
            let opened = key(name).open(&sealed, &context).unwrap();
            assert_eq!(hex::encode(opened.expose()), vector.plaintext, "{} with {name}", path.display());
            count += 1;
        }
    }
    assert!(count >= 23, "only {count}");
}

/// As many keys as the threshold open it, from each of them on. Returns how many such choices there were.
fn opens_together(vector: &Vector, sealed: &[u8], context: &Context) -> usize {
    for start in 0..vector.keys.len() {
        let chosen = vector.keys.iter().cycle().skip(start).take(usize::try_from(vector.threshold).unwrap());
        let share = |name: &String| {
            let key = key(name);
            let ask = &mut |challenge: PrivateOperation<'_>| key.answer(challenge);
            open_share(sealed, context, vector.threshold, &key.public, ask).unwrap()
        };
        let shares: Vec<_> = chosen.map(share).collect();
        let token = combine(sealed, context, &shares).unwrap();
        assert_eq!(hex::encode(token.expose()), vector.plaintext, "{}", vector.comment);
    }
    vector.keys.len()
}

#[derive(Serialize, Deserialize)]
struct TagVector {
    recipient: String,
    public: String,
    enc: String,
    tag: String,
}

/// Tags as the `age` crate wrote them, against the rule of the C2SP text; and what Strongroom finds by them.
#[test]
fn p256tag_tags_follow_the_rule() {
    let text = std::fs::read(directory().join("p256tag-tags.json")).unwrap();
    for vector in serde_json::from_slice::<Vec<TagVector>>(&text).unwrap() {
        let point: [u8; 65] = hex::decode(&vector.public).unwrap().try_into().unwrap();
        let public = strongroom::device::PublicKey::P256(point);
        let enc = hex::decode(&vector.enc).unwrap();
        assert_eq!(recipient_string(&public).unwrap(), vector.recipient);
        assert_eq!(p256tag(&enc, &compressed(&public)), vector.tag);
        let (stanza, mac) = (format!("{} {}", vector.tag, BASE64.encode(&enc)), "A".repeat(43));
        let body = "A".repeat(43);
        let file = format!(
            "age-encryption.org/v1\n-> {CONTEXT}\n\n-> p256tag {stanza}\n{body}\n--- {mac}\n0123456789abcdef"
        );
        assert_eq!(Sealed::parse(file.as_bytes()).unwrap().locks(&public).count(), 1, "{}", vector.tag);
    }
}

/// Writes the vectors that are missing. Those that exist stay as they are.
#[test]
#[ignore = "writes into tests/vectors"]
fn write_missing_vectors() {
    let cases: [(&str, u64, &[&str]); 9] = [
        ("p256", 1, &["p256"]),
        ("p384", 1, &["p384"]),
        ("mixed-curves", 1, &["p384", "p256"]),
        ("rsa-oaep-sha256", 1, &["rsa2048/sha256"]),
        ("rsa-oaep-sha1", 1, &["rsa2048/sha1"]),
        ("hsm-aes-gcm", 1, &["aes256"]),
        ("mixed", 1, &["p256", "rsa2048/sha256", "aes256"]),
        ("shares-2-of-3", 2, &["p256", "rsa2048/sha1", "aes256"]),
        ("shares-4-of-4", 4, &["p256", "p384", "rsa2048/sha256", "aes256"]),
    ];
    for (name, threshold, keys) in cases {
        let plaintext = format!("the token of {name}\n");
        let soft: Vec<_> = keys.iter().map(|name| key(name)).collect();
        let recipients: Vec<_> = soft.iter().collect();
        write_missing(
            name,
            &Vector {
                comment: "sealed by Strongroom".into(),
                keys: keys.iter().map(|name| (*name).to_owned()).collect(),
                threshold,
                store: hex::encode(CONTEXT.store),
                token: hex::encode(CONTEXT.token),
                version: CONTEXT.version,
                sealed: hex::encode(
                    seal_to_any(threshold, &recipients, plaintext.as_bytes(), &CONTEXT).unwrap(),
                ),
                plaintext: hex::encode(plaintext),
            },
        );
    }
    let tags = [SoftKey::p256(), SoftKey::p256_of(1), SoftKey::p256_of(2)].map(|key| {
        let (header, _) = split(&crate::interop::by_the_age_crate(&key, b"token"));
        let line = header.lines().find_map(|line| line.strip_prefix("-> p256tag ")).unwrap();
        let (tag, enc) = line.split_once(' ').unwrap();
        let strongroom::device::PublicKey::P256(point) = key.public else { unreachable!() };
        TagVector {
            recipient: recipient_string(&key.public).unwrap(),
            public: hex::encode(point),
            enc: hex::encode(BASE64.decode(enc).unwrap()),
            tag: tag.into(),
        }
    });
    write_missing("p256tag-tags", &tags);
}

fn write_missing(name: &str, value: &impl Serialize) {
    let path = directory().join(format!("{name}.json"));
    if !path.exists() {
        std::fs::write(path, serde_json::to_string_pretty(value).unwrap() + "\n").unwrap();
    }
}
