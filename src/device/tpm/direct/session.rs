//! The cryptography of a session: part 1 §§11.4.10, 19.6, 21.3, Annex C.6.1. All of it with SHA-256 and AES-128-CFB.

use super::marshal::{Reader, Writer};
use crate::device::tpm::kdf::SHA256;
use aes::cipher::{AsyncStreamCipher, KeyIvInit};
use hmac::{Hmac, Mac};
use p256::elliptic_curve::ecdh::EphemeralSecret;
use p256::elliptic_curve::sec1::{EncodedPoint, FromEncodedPoint, ModulusSize, ToEncodedPoint};
use p256::elliptic_curve::{AffinePoint, CurveArithmetic, FieldBytes, FieldBytesSize, PublicKey};
use rand_core::{OsRng, RngCore};
use sha2::{Digest as _, Sha256};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::structures::Public;
use zeroize::Zeroizing;

/// TPMA_SESSION (part 2 §8.4): the session goes on after the command.
pub const CONTINUE: u8 = 1;
/// The command's first parameter is encrypted.
pub const DECRYPT: u8 = 1 << 5;
/// The response's first parameter is encrypted.
pub const ENCRYPT: u8 = 1 << 6;

/// A key, a nonce, a digest.
type Bytes = [u8; 32];

/// What a session's key is derived from, and the same encrypted to the storage root key.
pub struct Salt {
    /// TPM2B_ENCRYPTED_SECRET without its size (part 2 §11.4.3).
    pub encrypted: Vec<u8>,
    /// The salt.
    pub secret: Zeroizing<Vec<u8>>,
}

impl Salt {
    /// A new one; `None` for a key that it cannot be encrypted to: other than P-256, P-384 and RSA, or no key at all.
    pub fn to(public: &Public) -> Option<Self> {
        match public {
            Public::Rsa { parameters, unique, .. } => {
                let exponent = match parameters.exponent().value() {
                    0 => 65_537,
                    other => other,
                };
                let modulus = rsa::BigUint::from_bytes_be(unique.value());
                to_rsa(&rsa::RsaPublicKey::new(modulus, exponent.into()).ok()?)
            }
            Public::Ecc { parameters, unique, .. } => {
                let (x, y) = (unique.x().value(), unique.y().value());
                match parameters.ecc_curve() {
                    EccCurve::NistP256 => to_ecc::<p256::NistP256>(x, y),
                    EccCurve::NistP384 => to_ecc::<p384::NistP384>(x, y),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// RSAES_OAEP: part 1 §B.10.3.
fn to_rsa(key: &rsa::RsaPublicKey) -> Option<Salt> {
    let secret = Zeroizing::new(nonce().to_vec());
    let padding = rsa::Oaep::new_with_label::<Sha256, _>("SECRET\0");
    let encrypted = key.encrypt(&mut OsRng, padding, &secret).ok()?;
    Some(Salt { encrypted, secret })
}

/// One-pass Diffie-Hellman: part 1 §C.6.1.
fn to_ecc<C>(x: &[u8], y: &[u8]) -> Option<Salt>
where
    C: CurveArithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromEncodedPoint<C> + ToEncodedPoint<C>,
{
    let x = padded::<C>(x)?;
    let point = EncodedPoint::<C>::from_affine_coordinates(&x, &padded::<C>(y)?, false);
    let theirs = Option::<PublicKey<C>>::from(PublicKey::from_encoded_point(&point))?;
    let own = EphemeralSecret::<C>::random(&mut OsRng);
    let shared = own.diffie_hellman(&theirs);
    let point = own.public_key().to_encoded_point(false);
    let (own_x, own_y) = (point.x()?, point.y()?);
    let encrypted = Writer::default().sized(own_x).sized(own_y).0;
    let secret = SHA256.kdfe(shared.raw_secret_bytes(), "SECRET", own_x, &x);
    Some(Salt { encrypted, secret })
}

/// TPMs may omit leading zeroes.
fn padded<C: CurveArithmetic>(coordinate: &[u8]) -> Option<FieldBytes<C>> {
    let mut padded = FieldBytes::<C>::default();
    let from = padded.len().checked_sub(coordinate.len())?;
    padded[from..].copy_from_slice(coordinate);
    Some(padded)
}

/// A nonce.
pub fn nonce() -> Bytes {
    let mut nonce = [0; 32];
    OsRng.fill_bytes(&mut nonce);
    nonce
}

/// There is always one: HMAC takes keys of any length.
fn mac(key: &[u8], parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).ok()?;
    parts.iter().for_each(|part| mac.update(part));
    Some(mac)
}

/// A started session.
pub struct Session {
    /// Its handle.
    pub handle: u32,
    key: Zeroizing<Vec<u8>>,
    /// The TPM's newest.
    nonce: Vec<u8>,
}

/// One command under a session.
pub struct Authorization {
    /// The key of the HMACs and of the encryption: the session's, and the authValue.
    key: Zeroizing<Vec<u8>>,
    nonce: Bytes,
    attributes: u8,
}

impl Session {
    /// sessionKey, §19.6.8. `nonce` is the one that TPM2_StartAuthSession sent.
    pub fn new(handle: u32, salt: &Salt, nonce: &Bytes, nonce_tpm: &[u8]) -> Self {
        let key = SHA256.kdfa(&salt.secret, "ATH", &[nonce_tpm, nonce].concat(), 256);
        Self { handle, key, nonce: nonce_tpm.into() }
    }

    /// Begins a command under the session with a nonce of ours. A policy session's HMAC has the PIN in its key if its policy says so.
    pub fn begin(&self, pin: Option<&[u8]>, nonce: Bytes, attributes: u8) -> Authorization {
        let key = Zeroizing::new([&self.key[..], pin.unwrap_or_default()].concat());
        Authorization { key, nonce, attributes }
    }

    /// Encrypts the first parameter in place. It is a TPM2B, whose size stays: §21.3.
    pub fn encrypt(&self, by: &Authorization, parameters: &mut [u8]) -> Option<()> {
        let size = Reader(parameters).sized()?.len();
        let derived = SHA256.kdfa(&by.key, "CFB", &[&by.nonce[..], &self.nonce].concat(), 256);
        cfb::<cfb_mode::Encryptor<aes::Aes128>>(&derived)?.encrypt(&mut parameters[2..2 + size]);
        Some(())
    }

    /// TPMS_AUTH_COMMAND (part 2 §10.13.2). cpHash covers the command's code, the names of what it is about and its parameters.
    pub fn authorize(
        &self,
        by: &Authorization,
        code: u32,
        names: &[&[u8]],
        parameters: &[u8],
    ) -> Option<Vec<u8>> {
        let mut hash = Sha256::new().chain_update(code.to_be_bytes());
        names.iter().for_each(|name| hash.update(name));
        let hash = hash.chain_update(parameters).finalize();
        let mac = mac(&by.key, &[&hash, &by.nonce, &self.nonce, &[by.attributes]])?.finalize().into_bytes();
        Some(Writer::default().u32(self.handle).sized(&by.nonce).u8(by.attributes).sized(&mac).0)
    }

    /// Checks TPMS_AUTH_RESPONSE (part 2 §10.13.3) in constant time, and takes over the TPM's nonce. `None` if it is wrong.
    pub fn verify(
        &mut self,
        by: &Authorization,
        code: u32,
        parameters: &[u8],
        response: &[u8],
    ) -> Option<()> {
        let mut reader = Reader(response);
        let (nonce, attributes, theirs) = (reader.sized()?, reader.u8()?, reader.sized()?);
        reader.end()?;
        let hash = Sha256::new().chain_update(0_u32.to_be_bytes()).chain_update(code.to_be_bytes());
        let hash = hash.chain_update(parameters).finalize();
        mac(&by.key, &[&hash, nonce, &by.nonce, &[attributes]])?.verify_slice(theirs).ok()?;
        self.nonce = nonce.into();
        Some(())
    }

    /// Decrypts a response's first parameter. Only after [`Session::verify`].
    pub fn decrypt(&self, by: &Authorization, parameters: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut parameter = Zeroizing::new(Reader(parameters).sized()?.to_vec());
        let derived = SHA256.kdfa(&by.key, "CFB", &[&self.nonce[..], &by.nonce].concat(), 256);
        cfb::<cfb_mode::Decryptor<aes::Aes128>>(&derived)?.decrypt(&mut parameter);
        Some(parameter)
    }
}

/// Key and IV.
fn cfb<M: KeyIvInit>(derived: &[u8]) -> Option<M> {
    M::new_from_slices(&derived[..16], &derived[16..]).ok()
}

#[cfg(test)]
impl Session {
    /// What the TPM answers with.
    pub fn respond(&self, by: &Authorization, code: u32, parameters: &[u8], nonce: &Bytes) -> Vec<u8> {
        let hash = Sha256::new().chain_update([0; 4]).chain_update(code.to_be_bytes());
        let hash = hash.chain_update(parameters).finalize();
        let mac = mac(&by.key, &[&hash, nonce, &by.nonce, &[by.attributes]]).unwrap().finalize().into_bytes();
        Writer::default().sized(nonce).u8(by.attributes).sized(&mac).0
    }
}
