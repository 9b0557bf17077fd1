//! `p256tag <tag> <enc>` (C2SP age, "The tag recipient type"): the file key under HPKE to a P-256 key.
//!
//! Sealing is the `age` crate's own. Opening needs one raw ECDH from the device; the rest of HPKE (RFC 9180,
//! DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, base mode) runs here, on the device's answer.

use super::{broken, decoded, file_key};
use crate::device::{Challenge, PublicKey};
use crate::error::{Error, Kind, Result};
use age::Recipient as _;
use age_core::format::{FileKey, Stanza};
use age_core::primitives::hpke_open;
use hpke::generic_array::typenum::{U32, U65};
use hpke::kdf::{HkdfSha256, extract_and_expand};
use hpke::kem::SharedSecret;
use hpke::rand_core::{CryptoRng, RngCore};
use hpke::{Deserializable, HpkeError, Kem, Serializable};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use ring::hmac;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The stanza's type.
pub(super) const TYPE: &str = "p256tag";

/// HPKE's `info`, and the key of the tag.
const INFO: &[u8] = b"age-encryption.org/p256tag";

/// A well-formed stanza: the encapsulated key and the 16-byte file key under HPKE.
pub(super) struct P256Tag {
    tag: [u8; 4],
    enc: [u8; 65],
    body: [u8; 32],
}

impl P256Tag {
    pub(super) fn from_stanza(stanza: &Stanza) -> Option<Self> {
        let [tag, enc] = stanza.args.as_slice() else { return None };
        let body = stanza.body.as_slice().try_into().ok()?;
        Some(Self { tag: decoded(tag)?, enc: decoded(enc)?, body })
    }

    /// Whether the tag is the one that a stanza to `public` would carry. Four bytes: others may carry it too.
    pub(super) fn is_for(&self, public: &[u8; 65]) -> bool {
        self.tag == tag(&self.enc, public)
    }

    /// What the device is asked; an error unless `enc` is an uncompressed point of the curve. A device that skips this
    /// check answers an invalid point with bits of its private key.
    pub(super) fn challenge(&self) -> Result<Challenge<'_>> {
        let on_curve = self.enc[0] == 4 && p256::PublicKey::from_sec1_bytes(&self.enc).is_ok();
        if !on_curve {
            return Err(broken("its p256tag stanza holds no point of the curve P-256"));
        }
        Ok(Challenge::Ecdh { peer: &self.enc })
    }

    /// The file key, from the device's answer.
    pub(super) fn unlock(&self, public: &[u8; 65], answer: &[u8]) -> Result<FileKey> {
        let x_coordinate = answer.try_into().map(Zeroizing::new).map_err(|_| {
            let answer = format!("the ECDH answer has {} bytes, an x-coordinate has 32", answer.len());
            Error::new(Kind::Device, "open the sealed token", answer)
        })?;
        let answered = AnsweredKey { x_coordinate, public: Point(*public) };
        let opened = hpke_open::<AnsweredKem>(&Point(self.enc), &answered, INFO, &self.body)
            .map_err(|_| broken("its p256tag stanza does not open"))?;
        file_key(&Zeroizing::new(opened))
    }
}

/// Wraps a file key to an uncompressed point; `None` when that is no point of the curve.
pub(super) fn wrap(public: &[u8; 65], file_key: &FileKey) -> Option<Stanza> {
    let recipient: age::tag::Recipient = encode_recipient(public)?.parse().ok()?;
    let (mut stanzas, _) = recipient.wrap_file_key(file_key).ok()?;
    stanzas.pop()
}

/// The recipient as other age programs take it, `age1tag1…`; `None` for keys that only Strongroom can seal to.
pub fn recipient_string(public: &PublicKey) -> Option<String> {
    match public {
        PublicKey::P256(point) => encode_recipient(point),
        PublicKey::Rsa { .. } | PublicKey::Aes256 { .. } => None,
    }
}

fn encode_recipient(public: &[u8; 65]) -> Option<String> {
    let point = p256::PublicKey::from_sec1_bytes(public).ok()?;
    let hrp = bech32::Hrp::parse("age1tag").ok()?;
    bech32::encode::<bech32::Bech32>(hrp, point.to_encoded_point(true).as_bytes()).ok()
}

/// HKDF-Extract (RFC 5869 §2.2) with the salt [`INFO`] over enc ‖ SHA-256(compressed point)[..4], cut to 4 bytes.
fn tag(enc: &[u8; 65], public: &[u8; 65]) -> [u8; 4] {
    let key_hash = Sha256::digest(compressed(public));
    let mut extract = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, INFO));
    extract.update(enc);
    extract.update(&key_hash[..4]);
    super::first_four(extract.sign().as_ref())
}

/// SEC1 §2.3.3: the parity of y, then x.
fn compressed(public: &[u8; 65]) -> [u8; 33] {
    let mut point = [0; 33];
    point[0] = 2 + (public[64] & 1);
    point[1..].copy_from_slice(&public[1..33]);
    point
}

/// DHKEM(P-256, HKDF-SHA256), receiving side, whose Diffie-Hellman the device has already done.
struct AnsweredKem;

/// The "private key" of [`AnsweredKem`]: good for one encapsulated key only, the one that the device was asked about.
#[derive(Clone, PartialEq, Eq)]
struct AnsweredKey {
    x_coordinate: Zeroizing<[u8; 32]>,
    public: Point,
}

/// SEC1 uncompressed point.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point([u8; 65]);

impl Kem for AnsweredKem {
    type PublicKey = Point;
    type PrivateKey = AnsweredKey;
    type EncappedKey = Point;
    type NSecret = U32;
    const KEM_ID: u16 = 0x0010;

    fn sk_to_pk(key: &AnsweredKey) -> Point {
        key.public.clone()
    }

    /// RFC 9180 §4.1, Decap, from the line after DH.
    fn decap(
        key: &AnsweredKey,
        sender: Option<&Point>,
        enc: &Point,
    ) -> Result<SharedSecret<Self>, HpkeError> {
        if sender.is_some() {
            return Err(HpkeError::DecapError);
        }
        let mut kem_context = [0; 130];
        kem_context[..65].copy_from_slice(&enc.0);
        kem_context[65..].copy_from_slice(&key.public.0);
        let mut secret = SharedSecret::<Self>::default();
        extract_and_expand::<HkdfSha256>(&*key.x_coordinate, b"KEM\x00\x10", &kem_context, &mut secret.0)
            .map_err(|_| HpkeError::DecapError)?;
        Ok(secret)
    }

    fn encap<R: CryptoRng + RngCore>(
        _: &Point,
        _: Option<(&AnsweredKey, &Point)>,
        _: &mut R,
    ) -> Result<(SharedSecret<Self>, Point), HpkeError> {
        Err(HpkeError::EncapError)
    }

    fn derive_keypair(_: &[u8]) -> (AnsweredKey, Point) {
        unreachable!("keys are made in devices")
    }
}

impl Serializable for Point {
    type OutputSize = U65;

    fn write_exact(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.0);
    }
}

impl Deserializable for Point {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        bytes.try_into().map(Self).map_err(|_| HpkeError::IncorrectInputLength(65, bytes.len()))
    }
}

// `Kem` wants private keys that can be written and read; receiving does neither.
impl Serializable for AnsweredKey {
    type OutputSize = U32;

    fn write_exact(&self, _: &mut [u8]) {
        unreachable!("a device's answer is never written out")
    }
}

impl Deserializable for AnsweredKey {
    fn from_bytes(_: &[u8]) -> Result<Self, HpkeError> {
        Err(HpkeError::ValidationError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        hex::decode(hex).unwrap().try_into().unwrap()
    }

    /// RFC 9180 Appendix A.5.1: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, base mode.
    #[test]
    fn decapsulates_as_rfc_9180_does() {
        let receiver = p256::SecretKey::from_bytes(
            &bytes("a4d1c55836aa30f9b3fbb6ac98d338c877c2867dd3a77396d13f68d3ab150d3b").into(),
        )
        .unwrap();
        let enc = bytes(
            "04c07836a0206e04e31d8ae99bfd549380b072a1b1b82e563c935c095827824fc1559eac6fb9e3c70cd3193968994e7fe9781a\
             a103f5b50e934b5b2f387e381291",
        );
        let peer = p256::PublicKey::from_sec1_bytes(&enc).unwrap();
        let exchanged = p256::ecdh::diffie_hellman(receiver.to_nonzero_scalar(), peer.as_affine());
        let public = receiver.public_key().to_encoded_point(false).as_bytes().try_into().map(Point).unwrap();
        let key =
            AnsweredKey { x_coordinate: Zeroizing::new((*exchanged.raw_secret_bytes()).into()), public };
        let secret = AnsweredKem::decap(&key, None, &Point(enc)).unwrap();
        assert_eq!(
            hex::encode(&secret.0),
            "806520f82ef0b03c823b7fc524b6b55a088f566b9751b89551c170f4113bd850"
        );
    }

    #[test]
    fn compresses_as_p256_does() {
        for seed in 1..40 {
            let point = p256::SecretKey::from_slice(&[seed; 32]).unwrap().public_key();
            let uncompressed = point.to_encoded_point(false).as_bytes().try_into().unwrap();
            assert_eq!(compressed(&uncompressed), point.to_encoded_point(true).as_bytes());
        }
    }
}
