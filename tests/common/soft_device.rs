//! A device in software: its keys follow from its name, so that any process can have it. Fast, and no hardware at all.
#![allow(dead_code, clippy::unwrap_used)]

use p256::SecretKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use strongroom::device::{
    Challenge, Device, DeviceIdentity, Evidence, EvidenceLevel, KeyInfo, KeyRef, Provision, PublicKey,
    Purpose,
};
use strongroom::error::{Error, Kind, Result};
use strongroom::prompt::Prompter;
use strongroom::uri::{DeviceUri, Scheme};
use zeroize::Zeroizing;

/// Two P-256 keys in plain sight.
#[derive(Clone)]
pub struct SoftDevice {
    identity: DeviceIdentity,
    name: String,
    opening: SecretKey,
    signing: SigningKey,
}

fn scalar(name: &str, purpose: &str) -> [u8; 32] {
    let mut scalar = strongroom::ledger::sha256(format!("{purpose} of {name}").as_bytes()).0;
    // Below the order of the curve, whatever the name.
    scalar[0] &= 0x7f;
    scalar
}

fn point(key: &p256::PublicKey) -> [u8; 65] {
    key.to_encoded_point(false).as_bytes().try_into().unwrap()
}

impl SoftDevice {
    /// The device of this name: always the same keys.
    pub fn named(name: &str) -> Self {
        let identity = DeviceIdentity {
            scheme: Scheme::Pkcs11,
            maker: "Tests".into(),
            model: "software".into(),
            serial: format!("serial of {name}"),
            firmware: "1.0".into(),
            label: name.into(),
            simulator: true,
        };
        Self {
            identity,
            name: format!("pkcs11:token={name}"),
            opening: SecretKey::from_slice(&scalar(name, "opening key")).unwrap(),
            signing: SigningKey::from_slice(&scalar(name, "signing key")).unwrap(),
        }
    }

    /// How a configuration would name it.
    pub fn uri(&self) -> DeviceUri {
        DeviceUri::parse(&self.name).unwrap()
    }

    /// The key that tokens are sealed to, SEC1 uncompressed.
    pub fn opening_point(&self) -> [u8; 65] {
        point(&self.opening.public_key())
    }

    /// The key that statements are verified with, SEC1 uncompressed.
    pub fn signing_point(&self) -> [u8; 65] {
        point(&p256::PublicKey::from(self.signing.verifying_key()))
    }

    /// Its two keys as a driver would report them, the opening one first.
    pub fn key_infos(&self) -> [KeyInfo; 2] {
        let good = ["CKA_LOCAL", "CKA_SENSITIVE", "CKA_ALWAYS_SENSITIVE", "CKA_NEVER_EXTRACTABLE"];
        let claims = good.into_iter().map(|claim| (claim, true)).chain([("CKA_EXTRACTABLE", false)]);
        let claims: Vec<_> = claims.map(|(claim, holds)| (claim.to_owned(), holds)).collect();
        let key = |purpose, object: &str, point| KeyInfo {
            uri: format!("{};object={object}", self.name),
            purpose,
            public: PublicKey::P256(point),
            evidence: Evidence { level: EvidenceLevel::Simulator, claims: claims.clone() },
            material: Vec::new(),
        };
        [
            key(Purpose::Open, "strongroom-open", self.opening_point()),
            key(Purpose::Sign, "strongroom-sign", self.signing_point()),
        ]
    }

    /// r ‖ s over any digest, whatever it is of.
    pub fn sign_digest(&self, digest: &[u8; 32]) -> [u8; 64] {
        let signature: Signature = self.signing.sign_prehash(digest).unwrap();
        signature.to_bytes().into()
    }

    fn own(&self, key: &KeyRef) -> Result<()> {
        match self.key_infos().iter().any(|own| KeyRef::from(own) == *key) {
            true => Ok(()),
            false => Err(Error::new(Kind::KeyMissing, "use a key", "it is another device's").on(&self.name)),
        }
    }
}

impl Device for SoftDevice {
    fn identity(&self) -> &DeviceIdentity {
        &self.identity
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn keys(&mut self, _: &mut dyn Prompter) -> Result<Vec<KeyInfo>> {
        Ok(self.key_infos().into())
    }

    fn open_key(
        &mut self,
        key: &KeyRef,
        challenge: Challenge<'_>,
        _: &mut dyn Prompter,
    ) -> Result<Zeroizing<Vec<u8>>> {
        self.own(key)?;
        let Challenge::Ecdh { peer } = challenge else {
            return Err(Error::new(Kind::Unsupported, "answer", "it only does ECDH").on(&self.name));
        };
        let peer = p256::PublicKey::from_sec1_bytes(peer).unwrap();
        let shared = p256::ecdh::diffie_hellman(self.opening.to_nonzero_scalar(), peer.as_affine());
        Ok(Zeroizing::new(shared.raw_secret_bytes().to_vec()))
    }

    fn sign(&mut self, key: &KeyRef, digest: &[u8; 32], _: &mut dyn Prompter) -> Result<[u8; 64]> {
        self.own(key)?;
        Ok(self.sign_digest(digest))
    }

    fn lock(&mut self) {}

    fn provisioning(&mut self) -> Option<&mut dyn Provision> {
        None
    }
}
