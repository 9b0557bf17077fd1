//! A dishonest author: files with any stanzas, and yet a MAC that fits.

use crate::keys::SoftKey;
use age_core::format::{FileKey, Stanza};
use age_core::primitives::hkdf;
use age_core::secrecy::ExposeSecret;
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD as BASE64};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce};
use ring::hmac;

/// A sealed file taken apart by one who holds the file key.
pub struct Forge {
    pub stanzas: Vec<Stanza>,
    pub file_key: FileKey,
    pub payload: Vec<u8>,
}

impl Forge {
    /// Takes a file apart with a key that it was sealed to.
    pub fn new(sealed: &[u8], key: &SoftKey) -> Self {
        let (header, payload) = split(sealed);
        Self { stanzas: stanzas(&header), file_key: key.file_key(sealed), payload }
    }

    /// The payload of `token` under another file key: a nonce, and the one chunk under ChaCha20Poly1305.
    pub fn with_file_key(mut self, file_key: [u8; 16], token: &[u8]) -> Self {
        let nonce = [5; 16];
        let key =
            ring::aead::UnboundKey::new(&CHACHA20_POLY1305, &hkdf(&nonce, b"payload", &file_key)).unwrap();
        let mut chunk = token.to_vec();
        let last = Nonce::assume_unique_for_key([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        LessSafeKey::new(key).seal_in_place_append_tag(last, Aad::empty(), &mut chunk).unwrap();
        self.payload = [&nonce, chunk.as_slice()].concat();
        self.file_key = FileKey::init_with_mut(|key| *key = file_key);
        self
    }

    /// Only the stanzas of this type.
    pub fn of_type(&mut self, tag: &str) -> &mut Stanza {
        self.stanzas.iter_mut().find(|stanza| stanza.tag == tag).unwrap()
    }

    /// Puts it together again.
    pub fn file(&self) -> Vec<u8> {
        let mut header = String::from("age-encryption.org/v1\n");
        self.stanzas.iter().for_each(|stanza| header.push_str(&text(stanza)));
        header.push_str("---");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &hkdf(&[], b"header", self.file_key.expose_secret()));
        let mac = hmac::sign(&key, header.as_bytes());
        header.push_str(&format!(" {}\n", BASE64.encode(mac)));
        [header.as_bytes(), &self.payload].concat()
    }
}

/// The header up to and with its last line, and the rest.
pub fn split(sealed: &[u8]) -> (String, Vec<u8>) {
    let mac = sealed.windows(5).position(|bytes| bytes == b"\n--- ").unwrap() + 1;
    let end = mac + sealed[mac..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
    (String::from_utf8(sealed[..end].to_vec()).unwrap(), sealed[end..].to_vec())
}

/// The header's stanzas.
pub fn stanzas(header: &str) -> Vec<Stanza> {
    let mut stanzas: Vec<(Stanza, String)> = Vec::new();
    for line in header.lines().skip(1).take_while(|line| !line.starts_with("--- ")) {
        if let Some(words) = line.strip_prefix("-> ") {
            let mut words = words.split(' ').map(String::from);
            stanzas.push((
                Stanza { tag: words.next().unwrap(), args: words.collect(), body: Vec::new() },
                String::new(),
            ));
        } else {
            stanzas.last_mut().unwrap().1.push_str(line);
        }
    }
    let decoded = |(stanza, body): (Stanza, String)| Stanza { body: BASE64.decode(body).unwrap(), ..stanza };
    stanzas.into_iter().map(decoded).collect()
}

fn text(stanza: &Stanza) -> String {
    let words: Vec<_> = std::iter::once(&stanza.tag).chain(&stanza.args).map(String::as_str).collect();
    let body = BASE64.encode(&stanza.body);
    let mut text = format!("-> {}\n", words.join(" "));
    for line in body.as_bytes().chunks(64) {
        text.push_str(&format!("{}\n", String::from_utf8_lossy(line)));
    }
    if body.len().is_multiple_of(64) {
        text.push('\n');
    }
    text
}

/// A copy: the crate's stanzas have no `Clone`.
pub fn copy(stanza: &Stanza) -> Stanza {
    Stanza { tag: stanza.tag.clone(), args: stanza.args.clone(), body: stanza.body.clone() }
}

/// The tag of a `p256tag` stanza, by the C2SP text.
pub fn p256tag(enc: &[u8], compressed: &[u8]) -> String {
    ec_tag(b"age-encryption.org/p256tag", enc, compressed)
}

/// A tag under this info: HKDF-Extract, which is HMAC with the salt as the key.
pub fn ec_tag(info: &[u8], enc: &[u8], compressed: &[u8]) -> String {
    let key_hash = ring::digest::digest(&ring::digest::SHA256, compressed);
    let salt = hmac::Key::new(hmac::HMAC_SHA256, info);
    BASE64.encode(&hmac::sign(&salt, &[enc, &key_hash.as_ref()[..4]].concat()).as_ref()[..4])
}
