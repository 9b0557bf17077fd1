//! `p256tag <tag> <enc>` (C2SP age, "The tag recipient type") and `strongroom/p384tag`, which is the same on another curve: the
//! file key under HPKE to an EC key.
//!
//! The `hpke` crate does the sealing. Opening needs one raw ECDH from the device; the rest of HPKE (RFC 9180,
//! DHKEM of the curve, HKDF-SHA256, ChaCha20Poly1305, base mode) runs here, on the device's answer.

use super::{BASE64, TAG_BYTES, decoded, encoded, tampered};
use crate::device::{PrivateOperation, PublicKey};
use crate::error::{Error, Kind, Result};
use age_core::format::Stanza;
use age_core::primitives::{hpke_open, hpke_seal};
use base64::Engine;
use hpke::generic_array::ArrayLength;
use hpke::generic_array::typenum::{U32, U48, U65, U97};
use hpke::kdf::{HkdfSha256, HkdfSha384, extract_and_expand};
use hpke::kem::{DhP256HkdfSha256, DhP384HkdfSha384, SharedSecret};
use hpke::rand_core::{CryptoRng, RngCore};
use hpke::{Deserializable, HpkeError, Kem, Serializable};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use rand_core::OsRng;
use ring::hmac;
use sha2::{Digest, Sha256};
use std::fmt::Debug;
use std::marker::PhantomData;
use zeroize::Zeroizing;

/// The parameters of one of the two stanzas.
pub(super) trait Curve: Clone + Debug + Eq + 'static {
    /// The stanza's type.
    const TYPE: &'static str;
    /// HPKE's `info`, and the key of the tag.
    const INFO: &'static [u8];
    /// For people.
    const NAME: &'static str;
    /// RFC 9180 table 2.
    const KEM_ID: u16;
    /// RFC 9180 §7.1.
    type Kem: Kem;
    /// Bytes of an uncompressed point.
    type PointSize: ArrayLength<u8>;
    /// Bytes of a coordinate, and of the KEM's shared secret (RFC 9180 table 2).
    type SecretSize: ArrayLength<u8>;

    /// RFC 9180 §4.1, ExtractAndExpand, with the KEM's hash.
    fn extract_and_expand(dh: &[u8], suite: &[u8], kem_context: &[u8], secret: &mut [u8]) -> bool;

    /// Whether these bytes are a point of the curve.
    fn has(point: &[u8]) -> bool;

    /// The secret under HPKE to a point: the encapsulated key, and the secret with its tag of 16 bytes. `None` unless these bytes
    /// are a point of the curve.
    fn wrap(public: &[u8], secret: &[u8]) -> Option<Stanza> {
        let recipient = <Self::Kem as Kem>::PublicKey::from_bytes(public).ok()?;
        let (enc, body) = hpke_seal::<Self::Kem, _>(&recipient, Self::INFO, secret, &mut OsRng);
        let enc = enc.to_bytes();
        let tag = tag::<Self>(&enc, public);
        Some(Stanza { tag: Self::TYPE.into(), args: vec![encoded(&tag), encoded(&enc)], body })
    }

    /// Bytes of an uncompressed point.
    fn point_bytes() -> usize {
        <Self::PointSize as hpke::generic_array::typenum::Unsigned>::USIZE
    }

    /// Bytes of a coordinate.
    fn coordinate_bytes() -> usize {
        <Self::SecretSize as hpke::generic_array::typenum::Unsigned>::USIZE
    }
}

/// EC P-256: DHKEM(P-256, HKDF-SHA256).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct P256;

/// EC P-384: DHKEM(P-384, HKDF-SHA384).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct P384;

impl Curve for P256 {
    const TYPE: &'static str = "p256tag";
    const INFO: &'static [u8] = b"age-encryption.org/p256tag";
    const NAME: &'static str = "P-256";
    const KEM_ID: u16 = 0x0010;
    type Kem = DhP256HkdfSha256;
    type PointSize = U65;
    type SecretSize = U32;

    fn extract_and_expand(dh: &[u8], suite: &[u8], kem_context: &[u8], secret: &mut [u8]) -> bool {
        extract_and_expand::<HkdfSha256>(dh, suite, kem_context, secret).is_ok()
    }

    fn has(point: &[u8]) -> bool {
        p256::PublicKey::from_sec1_bytes(point).is_ok()
    }
}

impl Curve for P384 {
    const TYPE: &'static str = "strongroom/p384tag";
    const INFO: &'static [u8] = b"strongroom/p384tag";
    const NAME: &'static str = "P-384";
    const KEM_ID: u16 = 0x0011;
    type Kem = DhP384HkdfSha384;
    type PointSize = U97;
    type SecretSize = U48;

    fn extract_and_expand(dh: &[u8], suite: &[u8], kem_context: &[u8], secret: &mut [u8]) -> bool {
        extract_and_expand::<HkdfSha384>(dh, suite, kem_context, secret).is_ok()
    }

    fn has(point: &[u8]) -> bool {
        p384::PublicKey::from_sec1_bytes(point).is_ok()
    }
}

/// A well-formed stanza: the encapsulated key and a secret under HPKE.
pub(super) struct EcTag<C> {
    tag: [u8; 4],
    enc: Vec<u8>,
    body: Vec<u8>,
    curve: PhantomData<C>,
}

impl<C: Curve> EcTag<C> {
    /// A stanza that seals so many bytes.
    pub(super) fn from_stanza(stanza: &Stanza, secret_bytes: usize) -> Option<Self> {
        let [tag, enc] = stanza.args.as_slice() else { return None };
        let body = Some(stanza.body.clone()).filter(|body| body.len() == secret_bytes + TAG_BYTES)?;
        let enc = BASE64.decode(enc).ok().filter(|enc| enc.len() == C::point_bytes())?;
        Some(Self { tag: decoded(tag)?, enc, body, curve: PhantomData })
    }

    /// Whether the tag is that of a stanza to `public`. It has four bytes, so other keys may share it.
    pub(super) fn is_for(&self, public: &[u8]) -> bool {
        self.tag == tag::<C>(&self.enc, public)
    }

    /// The challenge for the device. Fails unless `enc` is an uncompressed point of the curve: a device that skips this
    /// check would leak bits of its private key.
    pub(super) fn challenge(&self) -> Result<PrivateOperation<'_>> {
        if self.enc[0] != 4 || !C::has(&self.enc) {
            return Err(tampered(format!("its {} stanza holds no point of the curve {}", C::TYPE, C::NAME)));
        }
        Ok(PrivateOperation::Ecdh { peer: &self.enc })
    }

    /// What is sealed, from the device's answer.
    pub(super) fn unlock(&self, public: &[u8], answer: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let wanted = C::coordinate_bytes();
        if answer.len() != wanted {
            let message = format!("the ECDH answer has {} bytes, an x-coordinate has {wanted}", answer.len());
            return Err(Error::new(Kind::Device, "open the sealed token", message));
        }
        let x_coordinate = Zeroizing::new(answer.to_vec());
        let answered = AnsweredKey { x_coordinate, public: Point::<C>(public.to_vec(), PhantomData) };
        let enc = Point(self.enc.clone(), PhantomData);
        let opened = hpke_open::<AnsweredKem<C>>(&enc, &answered, C::INFO, &self.body)
            .map_err(|_| tampered(format!("its {} stanza does not open", C::TYPE)))?;
        Ok(Zeroizing::new(opened))
    }
}

/// The recipient for other age programs, `age1tag1…`; `None` for keys that only Strongroom can seal to.
pub fn recipient_string(public: &PublicKey) -> Option<String> {
    match public {
        PublicKey::P256(point) => encode_recipient(point),
        PublicKey::P384(_) | PublicKey::Rsa { .. } | PublicKey::RsaPss { .. } | PublicKey::Aes256 { .. } => {
            None
        }
    }
}

fn encode_recipient(public: &[u8]) -> Option<String> {
    let point = p256::PublicKey::from_sec1_bytes(public).ok()?;
    let hrp = bech32::Hrp::parse("age1tag").ok()?;
    bech32::encode::<bech32::Bech32>(hrp, point.to_encoded_point(true).as_bytes()).ok()
}

/// HKDF-Extract (RFC 5869 §2.2) with SHA-256 and the info as salt over enc ‖ SHA-256(compressed point)[..4], cut to 4 bytes.
fn tag<C: Curve>(enc: &[u8], public: &[u8]) -> [u8; 4] {
    let key_hash = Sha256::digest(compressed(public));
    let mut extract = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, C::INFO));
    extract.update(enc);
    extract.update(&key_hash[..4]);
    super::first_four(extract.sign().as_ref())
}

/// SEC1 §2.3.3: the parity of y, then x.
pub(super) fn compressed(public: &[u8]) -> Vec<u8> {
    let (x, y) = public[1..].split_at(public.len() / 2);
    let parity = y.last().map_or(0, |last| last & 1);
    [&[2 + parity], x].concat()
}

/// DHKEM's receiving side, after the device has done the Diffie-Hellman.
struct AnsweredKem<C>(PhantomData<C>);

/// The "private key" of [`AnsweredKem`]: it serves only the encapsulated key that the device was asked about.
#[derive(Clone, PartialEq, Eq)]
struct AnsweredKey<C> {
    x_coordinate: Zeroizing<Vec<u8>>,
    public: Point<C>,
}

/// SEC1 uncompressed point.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point<C>(Vec<u8>, PhantomData<C>);

impl<C: Curve> Kem for AnsweredKem<C> {
    type PublicKey = Point<C>;
    type PrivateKey = AnsweredKey<C>;
    type EncappedKey = Point<C>;
    type NSecret = C::SecretSize;
    const KEM_ID: u16 = C::KEM_ID;

    fn sk_to_pk(key: &AnsweredKey<C>) -> Point<C> {
        key.public.clone()
    }

    /// RFC 9180 §4.1, Decap, from the line after DH.
    fn decap(
        key: &AnsweredKey<C>,
        sender: Option<&Point<C>>,
        enc: &Point<C>,
    ) -> Result<SharedSecret<Self>, HpkeError> {
        if sender.is_some() {
            return Err(HpkeError::DecapError);
        }
        let kem_context = [enc.0.as_slice(), &key.public.0].concat();
        let suite = [b"KEM".as_slice(), &C::KEM_ID.to_be_bytes()].concat();
        let mut secret = SharedSecret::<Self>::default();
        match C::extract_and_expand(&key.x_coordinate, &suite, &kem_context, &mut secret.0) {
            true => Ok(secret),
            false => Err(HpkeError::DecapError),
        }
    }

    fn encap<R: CryptoRng + RngCore>(
        _: &Point<C>,
        _: Option<(&AnsweredKey<C>, &Point<C>)>,
        _: &mut R,
    ) -> Result<(SharedSecret<Self>, Point<C>), HpkeError> {
        Err(HpkeError::EncapError)
    }

    fn derive_keypair(_: &[u8]) -> (AnsweredKey<C>, Point<C>) {
        unreachable!("keys are made in devices")
    }
}

impl<C: Curve> Serializable for Point<C> {
    type OutputSize = C::PointSize;

    fn write_exact(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.0);
    }
}

impl<C: Curve> Deserializable for Point<C> {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        match bytes.len() == C::point_bytes() {
            true => Ok(Self(bytes.into(), PhantomData)),
            false => Err(HpkeError::IncorrectInputLength(C::point_bytes(), bytes.len())),
        }
    }
}

// `Kem` wants private keys that can be written and read; receiving does neither.
impl<C: Curve> Serializable for AnsweredKey<C> {
    type OutputSize = C::SecretSize;

    fn write_exact(&self, _: &mut [u8]) {
        unreachable!("a device's answer is never written out")
    }
}

impl<C: Curve> Deserializable for AnsweredKey<C> {
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
        let enc: [u8; 65] = bytes(
            "04c07836a0206e04e31d8ae99bfd549380b072a1b1b82e563c935c095827824fc1559eac6fb9e3c70cd3193968994e7fe9781a\
             a103f5b50e934b5b2f387e381291",
        );
        let peer = p256::PublicKey::from_sec1_bytes(&enc).unwrap();
        let exchanged = p256::ecdh::diffie_hellman(receiver.to_nonzero_scalar(), peer.as_affine());
        let public =
            Point::<P256>(receiver.public_key().to_encoded_point(false).as_bytes().into(), PhantomData);
        let key = AnsweredKey { x_coordinate: Zeroizing::new(exchanged.raw_secret_bytes().to_vec()), public };
        let secret = AnsweredKem::decap(&key, None, &Point(enc.into(), PhantomData)).unwrap();
        assert_eq!(
            hex::encode(&secret.0),
            "806520f82ef0b03c823b7fc524b6b55a088f566b9751b89551c170f4113bd850"
        );
    }

    /// What the hpke crate seals to a P-384 key opens with the key's ECDH.
    #[test]
    fn opens_what_hpke_seals_to_p384() {
        let receiver = p384::SecretKey::from_slice(&[7; 48]).unwrap();
        let public = receiver.public_key().to_encoded_point(false);
        let stanza = P384::wrap(public.as_bytes(), &[9; 16]).unwrap();
        let parsed = EcTag::<P384>::from_stanza(&stanza, 16).unwrap();
        assert!(parsed.is_for(public.as_bytes()));
        let PrivateOperation::Ecdh { peer } = parsed.challenge().unwrap() else { panic!() };
        let peer = p384::PublicKey::from_sec1_bytes(peer).unwrap();
        let shared = p384::ecdh::diffie_hellman(receiver.to_nonzero_scalar(), peer.as_affine());
        let opened = parsed.unlock(public.as_bytes(), shared.raw_secret_bytes()).unwrap();
        assert_eq!(opened.as_slice(), &[9; 16]);
        let mut wrong = shared.raw_secret_bytes().to_vec();
        wrong[0] ^= 1;
        assert_eq!(parsed.unlock(public.as_bytes(), &wrong).err().unwrap().kind(), Kind::Tampered);
        assert_eq!(parsed.unlock(public.as_bytes(), &wrong[1..]).err().unwrap().kind(), Kind::Device);
        assert!(
            EcTag::<P256>::from_stanza(&stanza, 16).is_none()
                && EcTag::<P384>::from_stanza(&stanza, 48).is_none()
        );
    }

    #[test]
    fn compresses_as_the_curves_crates_do() {
        for seed in 1..40 {
            let point = p256::SecretKey::from_slice(&[seed; 32]).unwrap().public_key();
            let uncompressed = point.to_encoded_point(false);
            assert_eq!(compressed(uncompressed.as_bytes()), point.to_encoded_point(true).as_bytes());
            let point = p384::SecretKey::from_slice(&[seed; 48]).unwrap().public_key();
            let uncompressed = point.to_encoded_point(false);
            assert_eq!(compressed(uncompressed.as_bytes()), point.to_encoded_point(true).as_bytes());
        }
    }
}
