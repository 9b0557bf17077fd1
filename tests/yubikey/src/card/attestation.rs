//! Attestation: certificates that say a key was born in the card, as Yubico's firmware words them.
//!
//! The certificates are put together here, byte by byte (RFC 5280 §4.1), so that the code that verifies them is not checked
//! against itself.

use super::memory::{ATTESTATION_SLOT, Origin};
use super::{Answer, Card};
use crate::apdu::Status;
use crate::key::{Algorithm, Key};
use crate::tlv;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Yubico's arc for what an attestation says: 1.3.6.1.4.1.41482.3.
const YUBICO: [u8; 9] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0xc4, 0x0a, 0x03];
const ECDSA_WITH_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const EC_PUBLIC_KEY: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: [u8; 5] = [0x2b, 0x81, 0x04, 0x00, 0x22];
const RSA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x13];
const INTERMEDIATE: &str = "Yubico PIV Attestation";

/// Whoever certifies attestation keys: in hardware Yubico, here a test.
pub struct Authority {
    name: String,
    key: Key,
}

/// The root that every virtual YubiKey hangs on unless told otherwise. Its key follows from this source, so that it is
/// worth nothing: a chain to it is a simulator's.
pub fn simulator_root() -> Authority {
    Authority::new("Strongroom Virtual YubiKey Root CA", 0x5742_4b00)
}

impl Authority {
    /// One of this common name, whose key follows from the seed.
    pub fn new(name: &str, seed: u64) -> Self {
        let key = Key::generate(Algorithm::P256, &mut StdRng::seed_from_u64(seed), 0).expect("a P-256 key");
        Self { name: name.into(), key }
    }

    /// Its self-signed certificate, in DER. Always the same bytes.
    pub fn certificate(&self) -> Vec<u8> {
        let subject = Subject { name: &self.name, key: &self.key, serial: [1; 16] };
        issue(&self.name, &self.key, &subject, &[authority(1)])
    }

    /// Its self-signed certificate, in PEM.
    pub fn pem(&self) -> String {
        pem(&self.certificate())
    }

    /// Its public key's uncompressed point.
    pub fn point(&self) -> Vec<u8> {
        self.key.point()
    }

    /// The certificate of a card's attestation key.
    pub(super) fn certify(&self, key: &Key, rng: &mut StdRng) -> Vec<u8> {
        let subject = Subject { name: INTERMEDIATE, key, serial: serial(rng) };
        issue(&self.name, &self.key, &subject, &[authority(0)])
    }
}

impl Card {
    /// ATTEST: a certificate by the attestation key for a key that was generated here.
    pub(super) fn attest(&mut self, slot: u8) -> Answer {
        let held = self.memory.slots.get(&slot).ok_or(Status::REFERENCE_NOT_FOUND)?;
        if held.origin != Origin::Generated {
            return Err(Status::BAD_DATA);
        }
        let issuer = self.memory.slots.get(&ATTESTATION_SLOT).ok_or(Status::REFERENCE_NOT_FOUND)?.key()?;
        let said = [
            statement(3, &self.profile.firmware),
            statement(7, &integer(&self.profile.serial.to_be_bytes())),
            statement(8, &[held.pin_policy, held.touch_policy]),
            // USB-A keychain.
            statement(9, &[1]),
        ];
        let name = format!("YubiKey PIV Attestation {slot:02x}");
        let subject = Subject { name: &name, key: &held.key()?, serial: serial(&mut self.rng) };
        Ok(issue(INTERMEDIATE, &issuer, &subject, &said))
    }
}

struct Subject<'a> {
    name: &'a str,
    key: &'a Key,
    serial: [u8; 16],
}

/// A certificate, version 3, valid from 2016 to 2052 as Yubico's are.
fn issue(issuer: &str, issuer_key: &Key, subject: &Subject<'_>, extensions: &[Vec<u8>]) -> Vec<u8> {
    let algorithm = sequence(&[oid(&ECDSA_WITH_SHA256)]);
    let validity = sequence(&[tlv::encode(0x17, b"160314000000Z"), tlv::encode(0x18, b"20520417000000Z")]);
    let to_be_signed = sequence(&[
        tlv::encode(0xa0, &integer(&[2])),
        integer(&subject.serial),
        algorithm.clone(),
        common_name(issuer),
        validity,
        common_name(subject.name),
        public_key_info(subject.key),
        tlv::encode(0xa3, &sequence(extensions)),
    ]);
    let signature = ecdsa_sha256(issuer_key, &to_be_signed);
    sequence(&[to_be_signed, algorithm, bit_string(&signature)])
}

/// The attestation key may be any that was put into its slot; what is not P-256 signs nothing, and the certificate is void.
fn ecdsa_sha256(key: &Key, message: &[u8]) -> Vec<u8> {
    use p256::ecdsa::signature::Signer;
    match key {
        Key::P256(key) => {
            let signature: p256::ecdsa::DerSignature = p256::ecdsa::SigningKey::from(key).sign(message);
            signature.as_bytes().to_vec()
        }
        _ => Vec::new(),
    }
}

fn public_key_info(key: &Key) -> Vec<u8> {
    let (algorithm, bits) = match key {
        Key::P256(_) => (sequence(&[oid(&EC_PUBLIC_KEY), oid(&P256)]), key.point()),
        Key::P384(_) => (sequence(&[oid(&EC_PUBLIC_KEY), oid(&P384)]), key.point()),
        Key::Rsa(_) => {
            let public = key.public();
            let number = |tag| integer(tlv::find(&public, tag).unwrap_or_default());
            (sequence(&[oid(&RSA), tlv::encode(5, &[])]), sequence(&[number(0x81), number(0x82)]))
        }
    };
    sequence(&[algorithm, bit_string(&bits)])
}

/// Basic constraints of an authority, critical.
fn authority(path_length: u8) -> Vec<u8> {
    let value = sequence(&[tlv::encode(1, &[0xff]), integer(&[path_length])]);
    sequence(&[oid(&BASIC_CONSTRAINTS), tlv::encode(1, &[0xff]), tlv::encode(4, &value)])
}

/// One of Yubico's extensions.
fn statement(number: u8, value: &[u8]) -> Vec<u8> {
    sequence(&[oid(&[&YUBICO[..], &[number]].concat()), tlv::encode(4, value)])
}

fn common_name(name: &str) -> Vec<u8> {
    let attribute = sequence(&[oid(&[0x55, 4, 3]), tlv::encode(0x0c, name.as_bytes())]);
    sequence(&[tlv::encode(0x31, &attribute)])
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv::encode(0x30, &parts.concat())
}

fn oid(bytes: &[u8]) -> Vec<u8> {
    tlv::encode(6, bytes)
}

fn bit_string(bytes: &[u8]) -> Vec<u8> {
    tlv::encode(3, &[&[0], bytes].concat())
}

/// An unsigned number.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeroes = bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len().saturating_sub(1));
    let trimmed = &bytes[zeroes..];
    let sign: &[u8] = if trimmed.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    tlv::encode(2, &[sign, trimmed].concat())
}

fn serial(rng: &mut StdRng) -> [u8; 16] {
    let mut serial = [0; 16];
    rng.fill_bytes(&mut serial);
    serial[0] = serial[0] & 0x3f | 0x40;
    serial
}

/// PEM (RFC 7468 §5).
pub(crate) fn pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits =
                group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            for i in 0..4 {
                let symbol = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize];
                out.push(if i <= group.len() { symbol.into() } else { '=' });
            }
        }
        out.push('\n');
    }
    out + "-----END CERTIFICATE-----\n"
}
