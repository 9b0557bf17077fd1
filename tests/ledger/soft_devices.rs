//! Devices in software, with the same keys for ever: RFC 6979 signatures, and a salt that is always the same, make batches
//! reproducible.

use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use rand_core::{CryptoRng, RngCore};
use rsa::{BigUint, Pss, RsaPrivateKey};
use strongroom::device::{Evidence, EvidenceLevel, OaepHash, PublicKey};
use strongroom::ledger::SignatureAlgorithm;
use strongroom::ledger::body::{Body, Enrol, EnrolledKey, Genesis, Role};
use strongroom::ledger::verify::StoredBatch;
use strongroom::ledger::{Batch, DeviceId, Hash, LogPosition, SignedBatch, Statement, StoreId, sorted_roles};

/// A device whose keys follow from its number.
#[derive(Clone)]
pub struct SoftDevice {
    pub id: DeviceId,
    pub name: &'static str,
    pub opening: PublicKey,
    signing: Signing,
}

#[derive(Clone)]
enum Signing {
    P256(SigningKey),
    P384(p384::ecdsa::SigningKey),
    Rsa(Box<RsaPrivateKey>),
}

/// What a salt is made of that is always the same.
struct Salt;

impl RngCore for Salt {
    fn next_u32(&mut self) -> u32 {
        0x5a5a_5a5a
    }

    fn next_u64(&mut self) -> u64 {
        0x5a5a_5a5a_5a5a_5a5a
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.fill(0x5a);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        bytes.fill(0x5a);
        Ok(())
    }
}

impl CryptoRng for Salt {}

fn key(number: u8, purpose: u8) -> SigningKey {
    let mut scalar = [purpose; 32];
    scalar[31] = number;
    SigningKey::from_slice(&scalar).unwrap()
}

fn point(key: &SigningKey) -> [u8; 65] {
    key.verifying_key().to_encoded_point(false).as_bytes().try_into().unwrap()
}

/// A part of the RSA key of `tests/vectors/seal/keys.json`.
fn rsa_part(name: &str) -> Vec<u8> {
    let keys: serde_json::Value = serde_json::from_str(include_str!("../vectors/seal/keys.json")).unwrap();
    hex::decode(keys["rsa2048"][name].as_str().unwrap()).unwrap()
}

/// Its public half, for opening.
pub fn rsa(oaep: OaepHash) -> PublicKey {
    PublicKey::Rsa { n: rsa_part("n"), e: rsa_part("e"), oaep }
}

/// The P-384 key there.
pub fn p384() -> PublicKey {
    let keys: serde_json::Value = serde_json::from_str(include_str!("../vectors/seal/keys.json")).unwrap();
    let point = hex::decode(keys["p384"]["public"].as_str().unwrap()).unwrap();
    PublicKey::P384(point.try_into().unwrap())
}

impl SoftDevice {
    /// With a P-256 opening key.
    pub fn new(number: u8, name: &'static str) -> Self {
        let opening = PublicKey::P256(point(&key(number, 1)));
        Self { id: DeviceId([number; 16]), name, opening, signing: Signing::P256(key(number, 2)) }
    }

    /// With a signing key on P-384.
    pub fn on_p384(number: u8, name: &'static str) -> Self {
        let mut scalar = [2; 48];
        scalar[47] = number;
        let signing = Signing::P384(p384::ecdsa::SigningKey::from_slice(&scalar).unwrap());
        Self { signing, ..Self::new(number, name) }
    }

    /// With an RSA signing key, the same for all numbers.
    pub fn by_rsa(number: u8, name: &'static str) -> Self {
        let part = |name: &str| BigUint::from_bytes_be(&rsa_part(name));
        let key = RsaPrivateKey::from_p_q(part("p"), part("q"), part("e")).unwrap();
        Self { signing: Signing::Rsa(Box::new(key)), ..Self::new(number, name) }
    }

    /// With another opening key.
    pub fn opened_by(self, opening: PublicKey) -> Self {
        Self { opening, ..self }
    }

    /// Under another device's id.
    pub fn called(self, id: DeviceId) -> Self {
        Self { id, ..self }
    }

    /// Its signing key.
    pub fn signing(&self) -> PublicKey {
        match &self.signing {
            Signing::P256(key) => PublicKey::P256(point(key)),
            Signing::P384(key) => {
                PublicKey::from_point(key.verifying_key().to_encoded_point(false).as_bytes()).unwrap()
            }
            Signing::Rsa(_) => PublicKey::RsaPss { n: rsa_part("n"), e: rsa_part("e") },
        }
    }

    /// How it signs.
    pub fn by(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::from_key(&self.signing()).unwrap()
    }

    pub fn genesis(&self) -> Body {
        Body::Genesis(Genesis { nonce: [0x0e; 16], device: self.id, signing: self.signing() })
    }

    pub fn enrol(&self, roles: &[Role]) -> Body {
        let slot = |key: PublicKey, object: &str| EnrolledKey {
            key,
            uri: format!("pkcs11:token={};object=strongroom-{object}", self.name),
            evidence: Evidence {
                level: EvidenceLevel::Simulator,
                claims: vec![("CKA_LOCAL".into(), true), ("CKA_EXTRACTABLE".into(), false)],
            },
            material: Vec::new(),
        };
        Body::Enrol(Box::new(Enrol {
            device: self.id,
            name: self.name.into(),
            model: "SoftHSM v2".into(),
            serial: format!("{:016}", self.id.0[0]),
            opening: slot(self.opening.clone(), "open"),
            signing: slot(self.signing(), "sign"),
            roles: sorted_roles(roles.to_vec()),
            replaces: None,
        }))
    }

    /// A signature over a digest, deterministic.
    pub fn sign(&self, digest: &[u8]) -> Vec<u8> {
        match &self.signing {
            Signing::P256(key) => {
                let signature: Signature = key.sign_prehash(digest).unwrap();
                signature.to_bytes().to_vec()
            }
            Signing::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign_prehash(digest).unwrap();
                signature.to_bytes().to_vec()
            }
            Signing::Rsa(key) => key.sign_with_rng(&mut Salt, Pss::new::<sha2::Sha256>(), digest).unwrap(),
        }
    }

    /// A batch of its own over encoded statements.
    pub fn batch(
        &self,
        store: StoreId,
        statements: &[Vec<u8>],
        seen: LogPosition,
        admin_head: Hash,
    ) -> SignedBatch {
        let leaves: Vec<Hash> = statements.iter().map(|bytes| strongroom::ledger::leaf(bytes)).collect();
        let batch = Batch::over(store, self.id, &leaves, seen, admin_head);
        let signature = self.sign(&batch.digest(self.by()));
        batch.sign_with(self.by(), &signature).unwrap()
    }

    /// As [`SoftDevice::batch`], as it lies in a store.
    pub fn stored(
        &self,
        store: StoreId,
        first: u64,
        statements: &[Statement],
        seen: LogPosition,
        admin_head: Hash,
    ) -> StoredBatch {
        let statements: Vec<Vec<u8>> = statements.iter().map(Statement::encode).collect();
        StoredBatch { first, sign1: self.batch(store, &statements, seen, admin_head).encode(), statements }
    }
}
