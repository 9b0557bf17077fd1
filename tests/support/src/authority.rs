//! A certificate authority for tests. Writes the DER itself, so that it can also write what no authority should.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

/// Times of validity, as UTCTime.
pub const VALID: [&str; 2] = ["200101000000Z", "491231235959Z"];
/// `tcg-kp-EKCertificate`.
pub const EK_PURPOSE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];

/// An extension's id (the contents of its DER), whether it is critical, and its value.
pub type Extension = (Vec<u8>, bool, Vec<u8>);

/// What a certificate is to say. `Default` is a leaf without extensions.
pub struct Wish<'a> {
    /// The common name.
    pub subject: &'a str,
    /// `SubjectPublicKeyInfo`; empty: a new key.
    pub key: Vec<u8>,
    /// From and until, as UTCTime.
    pub valid: [&'a str; 2],
    /// In this order.
    pub extensions: Vec<Extension>,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Self { subject: "a device", key: Vec::new(), valid: VALID, extensions: Vec::new() }
    }
}

/// Issues certificates, with a P-256 key of its own.
pub struct Authority {
    name: String,
    key: EcdsaKeyPair,
    /// Its own certificate, DER.
    pub certificate: Vec<u8>,
}

impl Authority {
    /// Signs itself.
    pub fn root(name: &str) -> Self {
        let key = new_key();
        let root = Self { name: name.into(), key, certificate: Vec::new() };
        let wish =
            Wish { subject: name, key: root.spki(), extensions: vec![ca(true, None)], ..Wish::default() };
        Self { certificate: root.issue(wish), ..root }
    }

    /// Another authority, with a certificate from this one.
    pub fn below(&self, name: &str, extensions: Vec<Extension>) -> Self {
        let below = Self { name: name.into(), key: new_key(), certificate: Vec::new() };
        let wish = Wish { subject: name, key: below.spki(), extensions, ..Wish::default() };
        Self { certificate: self.issue(wish), ..below }
    }

    /// A certificate, DER.
    pub fn issue(&self, wish: Wish<'_>) -> Vec<u8> {
        let key = if wish.key.is_empty() { spki(&new_key()) } else { wish.key };
        let ecdsa_with_sha256 = sequence(&[oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02])]);
        let tbs = sequence(&[
            tlv(0xa0, &tlv(2, &[2])),
            tlv(
                2,
                &ring::rand::generate::<[u8; 8]>(&SystemRandom::new())
                    .unwrap()
                    .expose()
                    .map(|b| b & 0x7f | 1),
            ),
            ecdsa_with_sha256.clone(),
            name(&self.name),
            sequence(&wish.valid.map(|time| tlv(0x17, time.as_bytes()))),
            name(wish.subject),
            key,
            extensions(&wish.extensions),
        ]);
        let signature = self.key.sign(&SystemRandom::new(), &tbs).unwrap();
        sequence(&[tbs, ecdsa_with_sha256, bits(signature.as_ref())])
    }

    /// Its key's `SubjectPublicKeyInfo`.
    pub fn spki(&self) -> Vec<u8> {
        spki(&self.key)
    }
}

/// Basic constraints.
pub fn ca(is: bool, path: Option<u8>) -> Extension {
    let mut inner = Vec::new();
    if is {
        inner.push(tlv(1, &[0xff]));
    }
    inner.extend(path.map(|path| tlv(2, &[path])));
    (vec![0x55, 0x1d, 0x13], true, sequence(&inner))
}

/// Extended key usage.
pub fn purpose(ids: &[&[u8]]) -> Extension {
    (vec![0x55, 0x1d, 0x25], false, sequence(&ids.iter().map(|id| oid(id)).collect::<Vec<_>>()))
}

/// The critical alternative name of an endorsement key's certificate: a directory name.
pub fn tpm_name() -> Extension {
    (vec![0x55, 0x1d, 0x11], true, sequence(&[tlv(0xa4, &name("id:00001014"))]))
}

/// `SubjectPublicKeyInfo` of a P-256 key.
pub fn spki(key: &EcdsaKeyPair) -> Vec<u8> {
    ec_spki(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], key.public_key().as_ref())
}

/// `SubjectPublicKeyInfo` of a point on a curve.
pub fn ec_spki(curve: &[u8], point: &[u8]) -> Vec<u8> {
    let algorithm = sequence(&[oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]), oid(curve)]);
    sequence(&[algorithm, bits(point)])
}

/// `SubjectPublicKeyInfo` of an RSA key.
pub fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let rsa = sequence(&[oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]), tlv(5, &[])]);
    let unsigned = |bytes: &[u8]| tlv(2, &[&[0], bytes].concat());
    let exponent = tlv(2, exponent);
    sequence(&[rsa, bits(&sequence(&[unsigned(modulus), exponent]))])
}

/// PEM of a certificate in DER.
pub fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn new_key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap()
}

fn extensions(wished: &[Extension]) -> Vec<u8> {
    let one = |(id, critical, value): &Extension| {
        let critical = if *critical { tlv(1, &[0xff]) } else { Vec::new() };
        sequence(&[oid(id), critical, tlv(4, value)])
    };
    if wished.is_empty() {
        Vec::new()
    } else {
        tlv(0xa3, &sequence(&wished.iter().map(one).collect::<Vec<_>>()))
    }
}

/// A distinguished name of one common name.
fn name(common: &str) -> Vec<u8> {
    sequence(&[tlv(0x31, &sequence(&[oid(&[0x55, 0x04, 0x03]), tlv(0x0c, common.as_bytes())]))])
}

fn oid(contents: &[u8]) -> Vec<u8> {
    tlv(6, contents)
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    tlv(3, &[&[0], bytes].concat())
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).unwrap();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(length as u8),
        0x80..=0xff => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(contents);
    out
}
