//! A device in software: its keys follow from its name, so that any process can have it. Fast, and no hardware at all.
//!
//! With [`SoftDevice::outside`] its keys lie outside it, as a TPM's do, bound to the state it was started in; with
//! [`SoftDevice::counting_in`] it has counters, which are files.

use p256::SecretKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use std::path::PathBuf;
use std::sync::Arc;
use strongroom::device::{
    Algorithm, CreateOptions, Device, DeviceIdentity, Evidence, EvidenceLevel, KeyInfo, KeyRef,
    MonotonicCounter, PrivateOperation, Provision, PublicKey, Purpose,
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
    /// What its keys outside are bound to.
    boot: Option<u8>,
    evidence: Option<Evidence>,
    counters: Option<PathBuf>,
    at_signing: Option<Hook>,
    at_opening: Option<Hook>,
}

/// What happens while a device signs or opens.
type Hook = Arc<dyn Fn() -> Result<()> + Send + Sync>;

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
            boot: None,
            evidence: None,
            counters: None,
            at_signing: None,
            at_opening: None,
        }
    }

    /// The same, with weaker evidence.
    pub fn with_evidence(name: &str, evidence: Evidence) -> Self {
        Self { evidence: Some(evidence), ..Self::named(name) }
    }

    /// The same, with keys that lie outside and open only after a start in this state.
    pub fn outside(name: &str, boot: u8) -> Self {
        Self { boot: Some(boot), ..Self::named(name) }
    }

    /// The same, with counters that are files in this directory. While there is a file `stuck`, none goes up.
    pub fn counting_in(self, directory: impl Into<PathBuf>) -> Self {
        Self { counters: Some(directory.into()), ..self }
    }

    /// The same; `hook` runs before each signature, which fails if it does.
    pub fn signing_after(self, hook: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        Self { at_signing: Some(Arc::new(hook)), ..self }
    }

    /// The same; `hook` runs before each challenge is answered, which fails if it does.
    pub fn opening_after(self, hook: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        Self { at_opening: Some(Arc::new(hook)), ..self }
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
        let good = Evidence { level: EvidenceLevel::Simulator, claims };
        let evidence = self.evidence.clone().unwrap_or(good);
        let key = |purpose, object: &str, point| KeyInfo {
            uri: format!("{};object={object}", self.name),
            purpose,
            public: PublicKey::P256(point),
            evidence: evidence.clone(),
            material: Vec::new(),
        };
        [
            key(Purpose::Open, "strongroom-open", self.opening_point()),
            key(Purpose::Sign, "strongroom-sign", self.signing_point()),
        ]
    }

    /// r ‖ s over any digest, whatever it is of.
    pub fn sign_digest(&self, digest: &[u8]) -> Vec<u8> {
        let signature: Signature = self.signing.sign_prehash(digest).unwrap();
        signature.to_bytes().to_vec()
    }

    /// The private half of a key that lies outside; the material says of which.
    fn loaded(&self, key: &KeyRef) -> Result<SecretKey> {
        let failed = |what: &str| Error::new(Kind::KeyMissing, "use a key", what).with_target(&self.name);
        let secret = self.derived(key.purpose, &key.material);
        if PublicKey::P256(point(&secret.public_key())) != key.public {
            return Err(failed("it is another device's"));
        }
        match key.material.first() == self.boot.as_ref() {
            true => Ok(secret),
            false => {
                Err(Error::new(Kind::Device, "use a key", "what was measured changed")
                    .with_target(&self.name))
            }
        }
    }

    fn derived(&self, purpose: Purpose, material: &[u8]) -> SecretKey {
        SecretKey::from_slice(&scalar(&format!("{} {material:?}", self.name), &purpose.to_string())).unwrap()
    }

    fn own(&self, key: &KeyRef) -> Result<()> {
        match self.key_infos().iter().any(|own| KeyRef::from(own) == *key) {
            true => Ok(()),
            false => {
                Err(Error::new(Kind::KeyMissing, "use a key", "it is another device's")
                    .with_target(&self.name))
            }
        }
    }

    fn counter(&self, index: u32) -> Result<(PathBuf, u64)> {
        let path = self.counters.as_ref().unwrap().join(index.to_string());
        let stands = std::fs::read_to_string(&path);
        let stands = stands.map_err(|_| Error::new(Kind::KeyMissing, "read the counter", "there is none"))?;
        Ok((path, stands.trim().parse().unwrap()))
    }
}

impl Device for SoftDevice {
    fn identity(&mut self) -> DeviceIdentity {
        self.identity.clone()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn keys(&mut self, _: &mut dyn Prompter) -> Result<Vec<KeyInfo>> {
        Ok(if self.boot.is_some() { Vec::new() } else { self.key_infos().into() })
    }

    fn has_key(&mut self, key: &KeyRef, _: &mut dyn Prompter) -> Result<bool> {
        let own = self.key_infos().iter().any(|own| KeyRef::from(own) == *key);
        let derived = || PublicKey::P256(point(&self.derived(key.purpose, &key.material).public_key()));
        Ok(if self.boot.is_some() { derived() == key.public } else { own })
    }

    fn open_key(
        &mut self,
        key: &KeyRef,
        challenge: PrivateOperation<'_>,
        _: &mut dyn Prompter,
    ) -> Result<Zeroizing<Vec<u8>>> {
        if let Some(hook) = &self.at_opening {
            hook()?;
        }
        let opening = match self.boot {
            Some(_) => self.loaded(key)?,
            None => self.own(key).map(|()| self.opening.clone())?,
        };
        let PrivateOperation::Ecdh { peer } = challenge else {
            return Err(Error::new(Kind::Unsupported, "answer", "it only does ECDH").with_target(&self.name));
        };
        let peer = p256::PublicKey::from_sec1_bytes(peer).unwrap();
        let shared = p256::ecdh::diffie_hellman(opening.to_nonzero_scalar(), peer.as_affine());
        Ok(Zeroizing::new(shared.raw_secret_bytes().to_vec()))
    }

    fn sign(&mut self, key: &KeyRef, digest: &[u8], _: &mut dyn Prompter) -> Result<Vec<u8>> {
        if let Some(hook) = &self.at_signing {
            hook()?;
        }
        if self.boot.is_some() {
            let signature: Signature = SigningKey::from(self.loaded(key)?).sign_prehash(digest).unwrap();
            return Ok(signature.to_bytes().to_vec());
        }
        self.own(key)?;
        Ok(self.sign_digest(digest))
    }

    fn lock(&mut self) {}

    fn provisioning(&mut self) -> Option<&mut dyn Provision> {
        if self.boot.is_some() { Some(self) } else { None }
    }

    fn monotonic_counter(&mut self) -> Option<&mut dyn MonotonicCounter> {
        if self.counters.is_some() { Some(self) } else { None }
    }
}

impl Provision for SoftDevice {
    fn create(
        &mut self,
        purpose: Purpose,
        _: Algorithm,
        _: &CreateOptions,
        _: &mut dyn Prompter,
    ) -> Result<KeyInfo> {
        use rand_core::{OsRng, RngCore};
        let material = [&[self.boot.unwrap()][..], &OsRng.next_u64().to_be_bytes()].concat();
        let public = PublicKey::P256(point(&self.derived(purpose, &material).public_key()));
        let [like, _] = self.key_infos();
        Ok(KeyInfo { purpose, public, material, uri: self.name.clone(), ..like })
    }

    fn algorithms(&mut self, _: Purpose) -> Result<Vec<Algorithm>> {
        Ok(vec![Algorithm::P256])
    }

    fn destroy(&mut self, _: &KeyInfo, _: &mut dyn Prompter) -> Result<()> {
        Ok(())
    }
}

impl MonotonicCounter for SoftDevice {
    fn make_counter(&mut self) -> Result<(u32, u64)> {
        let directory = self.counters.clone().unwrap();
        std::fs::create_dir_all(&directory).unwrap();
        let index = (0x0180_0000..).find(|index: &u32| !directory.join(index.to_string()).exists()).unwrap();
        // A new counter goes on from the greatest that ever was (TPM 2.0 part 1 §37.2.4).
        std::fs::write(directory.join(index.to_string()), "41").unwrap();
        Ok((index, 41))
    }

    fn read_counter(&mut self, index: u32) -> Result<u64> {
        Ok(self.counter(index)?.1)
    }

    fn raise_counter(&mut self, index: u32) -> Result<u64> {
        let (path, stands) = self.counter(index)?;
        if path.with_file_name("stuck").exists() {
            return Err(
                Error::new(Kind::Device, "raise the counter", "the device is stuck").with_target(&self.name)
            );
        }
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, (stands + 1).to_string()).unwrap();
        std::fs::rename(fresh, path).unwrap();
        Ok(stands + 1)
    }

    fn remove_counter(&mut self, index: u32) -> Result<()> {
        std::fs::remove_file(self.counter(index)?.0).unwrap();
        Ok(())
    }
}
