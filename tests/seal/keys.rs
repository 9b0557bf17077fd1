//! Opening keys in software: what a device would answer.

use age_core::format::FileKey;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rsa::{BigUint, RsaPrivateKey};
use serde::Deserialize;
use strongroom::device::{OaepHash, PrivateOperation, PublicKey};
use strongroom::seal::{Context, Opened, Recipient, Sealed, Share, WrapRequest, seal};
use strongroom::{Error, Kind, Result, Secret};
use zeroize::Zeroizing;

/// A key whose private half lies in plain sight.
#[derive(Clone)]
pub struct SoftKey {
    pub public: PublicKey,
    private: Private,
}

#[derive(Clone)]
enum Private {
    P256(p256::SecretKey),
    P384(p384::SecretKey),
    Rsa(Box<RsaPrivateKey>),
    Aes([u8; 32]),
}

/// `tests/vectors/seal/keys.json`.
#[derive(Deserialize)]
struct KeyFile {
    p256: EcFile,
    p384: EcFile,
    rsa2048: RsaFile,
    aes256: AesFile,
}

#[derive(Deserialize)]
struct EcFile {
    private: String,
    public: String,
}

#[derive(Deserialize)]
struct RsaFile {
    n: String,
    e: String,
    d: String,
    p: String,
    q: String,
}

#[derive(Deserialize)]
struct AesFile {
    id: String,
    key: String,
}

fn key_file() -> KeyFile {
    serde_json::from_str(include_str!("../vectors/seal/keys.json")).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

impl SoftKey {
    /// The vectors' P-256 key.
    pub fn p256() -> Self {
        let file = key_file().p256;
        let key = Self::from_scalar(&bytes(&file.private));
        assert_eq!(key.public, PublicKey::P256(bytes(&file.public).try_into().unwrap()));
        key
    }

    /// The vectors' P-384 key.
    pub fn p384() -> Self {
        use p384::elliptic_curve::sec1::ToEncodedPoint;
        let file = key_file().p384;
        let private = p384::SecretKey::from_slice(&bytes(&file.private)).unwrap();
        let point = private.public_key().to_encoded_point(false);
        assert_eq!(hex::encode(point.as_bytes()), file.public);
        let public = PublicKey::P384(point.as_bytes().try_into().unwrap());
        Self { public, private: Private::P384(private) }
    }

    /// Another P-256 key.
    pub fn p256_of(seed: u8) -> Self {
        let mut scalar = [seed; 32];
        // Below the order of the curve, whatever the seed.
        scalar[0] &= 0x7f;
        Self::from_scalar(&scalar)
    }

    fn from_scalar(scalar: &[u8]) -> Self {
        use p256::elliptic_curve::sec1::ToEncodedPoint;
        let private = p256::SecretKey::from_slice(scalar).unwrap();
        let point = private.public_key().to_encoded_point(false);
        let public = PublicKey::P256(point.as_bytes().try_into().unwrap());
        Self { public, private: Private::P256(private) }
    }

    /// The vectors' RSA key.
    pub fn rsa(oaep: OaepHash) -> Self {
        let file = key_file().rsa2048;
        let number = |hex: &str| BigUint::from_bytes_be(&bytes(hex));
        let primes = vec![number(&file.p), number(&file.q)];
        let private =
            RsaPrivateKey::from_components(number(&file.n), number(&file.e), number(&file.d), primes)
                .unwrap();
        let public = PublicKey::Rsa { n: bytes(&file.n), e: bytes(&file.e), oaep };
        Self { public, private: Private::Rsa(Box::new(private)) }
    }

    /// The vectors' AES key.
    pub fn aes() -> Self {
        let file = key_file().aes256;
        Self::aes_of(bytes(&file.id).try_into().unwrap(), bytes(&file.key).try_into().unwrap())
    }

    /// An AES key.
    pub fn aes_of(id: [u8; 16], key: [u8; 32]) -> Self {
        Self { public: PublicKey::Aes256 { id }, private: Private::Aes(key) }
    }

    /// One of each kind.
    pub fn all() -> [Self; 5] {
        [Self::p256(), Self::p384(), Self::rsa(OaepHash::Sha256), Self::rsa(OaepHash::Sha1), Self::aes()]
    }

    /// What a device with this key answers.
    pub fn answer(&self, challenge: PrivateOperation<'_>) -> Result<Zeroizing<Vec<u8>>> {
        let answer = match (&self.private, challenge) {
            (Private::P256(key), PrivateOperation::Ecdh { peer }) => {
                let peer = p256::PublicKey::from_sec1_bytes(peer).unwrap();
                Some(
                    p256::ecdh::diffie_hellman(key.to_nonzero_scalar(), peer.as_affine())
                        .raw_secret_bytes()
                        .to_vec(),
                )
            }
            (Private::P384(key), PrivateOperation::Ecdh { peer }) => {
                let peer = p384::PublicKey::from_sec1_bytes(peer).unwrap();
                let shared = p384::ecdh::diffie_hellman(key.to_nonzero_scalar(), peer.as_affine());
                Some(shared.raw_secret_bytes().to_vec())
            }
            (Private::Rsa(key), PrivateOperation::Oaep { hash, ciphertext }) => {
                let padding = match hash {
                    OaepHash::Sha256 => rsa::Oaep::new::<sha2::Sha256>(),
                    OaepHash::Sha1 => rsa::Oaep::new::<sha1::Sha1>(),
                };
                key.decrypt(padding, ciphertext).ok()
            }
            (Private::Aes(key), PrivateOperation::AesGcm { iv, aad, ciphertext }) => {
                let mut bytes = ciphertext.to_vec();
                let opened =
                    gcm(key).open_in_place(Nonce::assume_unique_for_key(*iv), Aad::from(aad), &mut bytes);
                opened.ok().map(|plaintext| plaintext.to_vec())
            }
            _ => panic!("a challenge of another algorithm"),
        };
        answer
            .map(Zeroizing::new)
            .ok_or_else(|| Error::new(Kind::Device, "decrypt", "CKR_ENCRYPTED_DATA_INVALID"))
    }

    /// What a device with this key makes of it.
    pub fn wrap(&self, request: &WrapRequest<'_>) -> Vec<u8> {
        let Private::Aes(key) = &self.private else { panic!("not asked to wrap") };
        let mut bytes = request.secret.to_vec();
        let nonce = Nonce::assume_unique_for_key(*request.iv);
        gcm(key).seal_in_place_append_tag(nonce, Aad::from(request.aad), &mut bytes).unwrap();
        bytes
    }

    /// Opens with this key.
    pub fn open(&self, sealed: &[u8], context: &Context) -> Result<Secret> {
        open(sealed, context, &self.public, &mut |challenge| self.answer(challenge))
    }

    /// The file key that was sealed to this key.
    pub fn file_key(&self, sealed: &[u8]) -> FileKey {
        let sealed = Sealed::parse(sealed).unwrap();
        let lock = sealed.locks(&self.public).next().unwrap().unwrap();
        let secret = lock.unlock(&self.answer(lock.challenge()).unwrap()).unwrap();
        FileKey::init_with_mut(|key| key.copy_from_slice(&secret))
    }
}

/// Opens a file that any one device opens.
pub fn open(
    sealed: &[u8],
    context: &Context,
    key: &PublicKey,
    ask: &mut dyn FnMut(PrivateOperation<'_>) -> Result<Zeroizing<Vec<u8>>>,
) -> Result<Secret> {
    match Sealed::parse(sealed)?.open(context, 1, key, ask)? {
        Opened::Token(token) => Ok(token),
        Opened::Share(share) => panic!("{share:?} of a file that any device opens"),
    }
}

/// Opens a share of a file that so many devices open together.
pub fn open_share(
    sealed: &[u8],
    context: &Context,
    threshold: u64,
    key: &PublicKey,
    ask: &mut dyn FnMut(PrivateOperation<'_>) -> Result<Zeroizing<Vec<u8>>>,
) -> Result<Share> {
    match Sealed::parse(sealed)?.open(context, threshold, key, ask)? {
        Opened::Share(share) => Ok(share),
        Opened::Token(_) => panic!("a token, of a file that several devices open together"),
    }
}

fn gcm(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap())
}

/// Seals to software keys.
pub fn seal_to(keys: &[&SoftKey], plaintext: &[u8], context: &Context) -> Result<Vec<u8>> {
    seal_to_any(1, keys, plaintext, context)
}

/// Seals to software keys, of which so many open it together.
pub fn seal_to_any(
    threshold: u64,
    keys: &[&SoftKey],
    plaintext: &[u8],
    context: &Context,
) -> Result<Vec<u8>> {
    let recipients: Vec<_> = keys.iter().map(|key| Recipient { public: &key.public, name: "soft" }).collect();
    seal(&Secret::new(plaintext.to_vec()), context, &recipients, threshold, &mut |request| {
        let key = keys.iter().find(|key| &key.public == request.recipient.public).unwrap();
        Ok(key.wrap(&request))
    })
}

/// The context that most tests use.
pub const CONTEXT: Context = Context { store: [0x5a; 32], token: [0xc3; 16], version: 7 };
