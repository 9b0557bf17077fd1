//! TPM2_MakeCredential in software: TPM 2.0 part 1 §24 (credential protection).
//!
//! Encrypts a value to an endorsement key and binds it to the name of another key, so that only a TPM with both keys can recover
//! it. The TPM has a command for this, too. We must not use it, because it would reveal the value to an impostor of the very TPM
//! that is to be verified.
//!
//! The primitives are from ring and RustCrypto's `rsa`, `aes` and `cfb-mode`, the standard's key derivation functions from
//! `kdf.rs`. Tested against TPM2_ActivateCredential, the inverse operation.

use super::ek;
use super::kdf::{SHA256, SHA384, Suite};
use crate::device::certificates::SubjectKey;
use cfb_mode::cipher::{AsyncStreamCipher, KeyIvInit};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{agreement, hmac};
use rsa::pkcs1::DecodeRsaPublicKey;
use zeroize::Zeroizing;

/// The length of the value. Any length up to the digest's is allowed.
const ANSWER_BYTES: usize = 32;

/// What the TPM gets to undo, and what has to come back.
pub struct Challenge {
    /// TPMS_ID_OBJECT, marshalled.
    pub blob: Vec<u8>,
    /// TPM2B_ENCRYPTED_SECRET, without its size.
    pub secret: Vec<u8>,
    /// The value that the TPM must return.
    pub answer: Zeroizing<[u8; ANSWER_BYTES]>,
}

/// A challenge that only the TPM with this endorsement key can answer, and only if it holds the object with this name.
///
/// `None` for an invalid key or one that no profile defines, and when the system has no random numbers.
pub fn challenge(endorsement: SubjectKey<'_>, name: &[u8]) -> Option<Challenge> {
    let mut answer = Zeroizing::new([0; ANSWER_BYTES]);
    SystemRandom::new().fill(answer.as_mut()).ok()?;
    let (suite, seed, secret) =
        match endorsement {
            SubjectKey::Rsa(der) => rsa_seed(der).map(|(seed, secret)| (&SHA256, seed, secret))?,
            SubjectKey::Ec { curve: ek::P256, point } => ec_seed(&SHA256, &agreement::ECDH_P256, point)
                .map(|(seed, secret)| (&SHA256, seed, secret))?,
            SubjectKey::Ec { curve: ek::P384, point } => ec_seed(&SHA384, &agreement::ECDH_P384, point)
                .map(|(seed, secret)| (&SHA384, seed, secret))?,
            SubjectKey::Ec { .. } => return None,
        };
    let identity = encrypted(suite, &seed, name, &sized(&answer[..])?)?;
    // outerHMAC over the encrypted identity and the name (§24.5).
    let key = suite.kdfa(&seed, "INTEGRITY", &[], suite.digest.output_len() as u32 * 8);
    let outer = hmac::sign(&hmac::Key::new(suite.hmac, &key), &[&identity, name].concat());
    let blob = [sized(outer.as_ref())?, identity].concat();
    Some(Challenge { blob, secret, answer })
}

/// The seed, and the seed encrypted to an RSA key: RSAES-OAEP with the key's name algorithm and this label (annex B.10.4).
fn rsa_seed(der: &[u8]) -> Option<(Zeroizing<Vec<u8>>, Vec<u8>)> {
    let key = rsa::RsaPublicKey::from_pkcs1_der(der).ok()?;
    let mut seed = Zeroizing::new(vec![0; SHA256.digest.output_len()]);
    SystemRandom::new().fill(&mut seed).ok()?;
    let padding = rsa::Oaep::new_with_label::<sha2::Sha256, _>("IDENTITY\0");
    let secret = key.encrypt(&mut rand_core::OsRng, padding, &seed).ok()?;
    Some((seed, secret))
}

/// The seed agreed between an ephemeral key and an EC key, and the ephemeral point (annex C.6.4).
fn ec_seed(
    suite: &Suite,
    curve: &'static agreement::Algorithm,
    point: &[u8],
) -> Option<(Zeroizing<Vec<u8>>, Vec<u8>)> {
    let ephemeral = agreement::EphemeralPrivateKey::generate(curve, &SystemRandom::new()).ok()?;
    let own = ephemeral.compute_public_key().ok()?;
    // Uncompressed points, as ring checks for its own and for the peer's.
    let (x, y) = own.as_ref().get(1..)?.split_at(own.as_ref().len() / 2);
    let peer_x = point.get(1..1 + x.len())?;
    let peer = agreement::UnparsedPublicKey::new(curve, point);
    let seed = agreement::agree_ephemeral(ephemeral, &peer, |z| suite.kdfe(z, "IDENTITY", x, peer_x)).ok()?;
    Some((seed, [sized(x)?, sized(y)?].concat()))
}

/// encIdentity: AES-CFB with a key derived from the seed and the name, and a zero initialisation vector (§24.4).
fn encrypted(suite: &Suite, seed: &[u8], name: &[u8], identity: &[u8]) -> Option<Vec<u8>> {
    let key = suite.kdfa(seed, "STORAGE", name, suite.aes_bits);
    let (zeroes, mut identity) = ([0; 16], identity.to_vec());
    match suite.aes_bits {
        128 => {
            cfb_mode::Encryptor::<aes::Aes128>::new_from_slices(&key, &zeroes).ok()?.encrypt(&mut identity)
        }
        _ => cfb_mode::Encryptor::<aes::Aes256>::new_from_slices(&key, &zeroes).ok()?.encrypt(&mut identity),
    }
    Some(identity)
}

/// A TPM2B: its size in two bytes, then the bytes.
fn sized(bytes: &[u8]) -> Option<Vec<u8>> {
    Some([&u16::try_from(bytes.len()).ok()?.to_be_bytes(), bytes].concat())
}
