//! Signed PCR policies: TPM2_PolicyAuthorize.
//!
//! Such a key is bound to a signer's public key, not to values. Before an update, the signer signs the values that the PCRs will
//! have. The signatures are in a JSON file in the format of `systemd-measure sign`:
//!
//! ```json
//! {"sha256": [{"pcrs": [11], "pkfp": "…", "pol": "digest of PolicyPCR, hex", "sig": "base64"}]}
//! ```
//!
//! The signature is over policyDigest ‖ policyRef, with SHA-256: RSASSA-PKCS1-v1_5, or ECDSA on P-256 in DER.

use super::commands::Commands;
use super::error::DriverError;
use super::pcr::{Bank, Pcrs};
use super::policy_digest;
use crate::error::{Error, Kind, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rsa::pkcs8::SubjectPublicKeyInfoRef;
use rsa::pkcs8::der::Decode;
use rsa::traits::PublicKeyParts;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tss_esapi::attributes::ObjectAttributesBuilder;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::structures::{
    Digest, EccParameter, EccPoint, EccScheme, EccSignature, HashScheme, Public, PublicBuilder,
    PublicEccParametersBuilder, PublicKeyRsa, PublicRsaParametersBuilder, RsaExponent, RsaScheme,
    RsaSignature, Signature,
};

/// The files to search for signatures, in this order, when the URI has no `pcr-signature`.
pub const PLACES: [&str; 5] = [
    "/etc/strongroom/tpm2-pcr-signature.json",
    "/run/strongroom/tpm2-pcr-signature.json",
    "/etc/systemd/tpm2-pcr-signature.json",
    "/run/systemd/tpm2-pcr-signature.json",
    "/usr/lib/systemd/tpm2-pcr-signature.json",
];

/// The limit on the file's size in bytes.
const LARGEST: u64 = 1 << 20;

/// A signer of PCR policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// TPMT_PUBLIC.
    pub public: Public,
    /// policyRef, the purpose of the signature. Empty, as in systemd.
    pub reference: Vec<u8>,
}

/// One signed policy.
#[derive(Deserialize)]
struct Entry {
    pcrs: Vec<u8>,
    pol: String,
    sig: String,
}

/// By bank.
type Entries = BTreeMap<String, Vec<Entry>>;

impl Signer {
    /// Reads a PEM file with a SubjectPublicKeyInfo: RSA of 2048 to 4096 bits, or EC P-256.
    ///
    /// # Errors
    /// `Usage` for another kind of file; `Unsupported` for other keys.
    pub fn from_pem(path: &Path) -> Result<Self> {
        let wrong = |kind, message: &str| {
            Error::new(kind, "read the PCR policy key", message)
                .with_target(path.display().to_string())
                .with_hint("make one with `openssl ecparam -name prime256v1 -genkey -noout -out pcr-key.pem`, and name what \
                         `openssl pkey -in pcr-key.pem -pubout` writes")
        };
        let text = read_small(path).map_err(|e| wrong(Kind::Io, &e))?;
        let der = pem(&text).ok_or_else(|| wrong(Kind::Usage, "it is not a PEM file with a PUBLIC KEY"))?;
        let key = SubjectPublicKeyInfoRef::from_der(&der).map_err(|e| wrong(Kind::Usage, &e.to_string()))?;
        let bits = key.subject_public_key.as_bytes().unwrap_or_default();
        let public = match key.algorithm.oid.to_string().as_str() {
            "1.2.840.10045.2.1" => p256::PublicKey::from_sec1_bytes(bits).ok().and_then(|key| ecc(&key)),
            "1.2.840.113549.1.1.1" => rsa::RsaPublicKey::try_from(key).ok().and_then(|key| rsa(&key)),
            _ => None,
        };
        let public = public.ok_or_else(|| {
            wrong(Kind::Unsupported, "the key is neither RSA of 2048, 3072 or 4096 bits nor EC P-256")
        })?;
        Ok(Self { public, reference: Vec::new() })
    }

    /// aHash, the signed digest (part 3 §23.16).
    fn hash(&self, approved: &[u8; 32]) -> [u8; 32] {
        Sha256::new().chain_update(approved).chain_update(&self.reference).finalize().into()
    }

    /// What `verify` makes of aHash and the first of the signatures that is the signer's; `None` if none is.
    pub fn first_verified<T>(
        &self,
        approved: &[u8; 32],
        signatures: &[Vec<u8>],
        mut verify: impl FnMut([u8; 32], Signature) -> Result<T, DriverError>,
    ) -> Result<Option<T>, DriverError> {
        let hash = self.hash(approved);
        for signature in signatures.iter().filter_map(|bytes| self.signature(bytes)) {
            match verify(hash, signature) {
                Ok(ticket) => return Ok(Some(ticket)),
                Err(fault) if fault.is_foreign_signature() => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(None)
    }

    /// TPMT_SIGNATURE; `None` for bytes that are no signature of this kind of key.
    fn signature(&self, bytes: &[u8]) -> Option<Signature> {
        match self.public {
            Public::Rsa { .. } => {
                let bytes = PublicKeyRsa::try_from(bytes.to_vec()).ok()?;
                RsaSignature::create(HashingAlgorithm::Sha256, bytes).ok().map(Signature::RsaSsa)
            }
            _ => {
                let signature = p256::ecdsa::Signature::from_der(bytes).ok()?;
                let half = |bytes: &[u8]| EccParameter::try_from(bytes.to_vec()).ok();
                let (r, s) = (half(&signature.r().to_bytes())?, half(&signature.s().to_bytes())?);
                EccSignature::create(HashingAlgorithm::Sha256, r, s).ok().map(Signature::EcDsa)
            }
        }
    }
}

/// PolicyPCR with the current values, then PolicyAuthorize with a signature over them.
pub fn satisfy<C: Commands + ?Sized>(
    tpm: &mut C,
    enrolled: &Pcrs,
    signer: &Signer,
    file: Option<&Path>,
) -> Result<(), DriverError> {
    let now = Pcrs::read_from(tpm, enrolled.bank(), &enrolled.indices())?;
    let approved = policy_digest::pcr_digest(&now);
    let (path, signatures) = signatures(file, &now, &approved)?;
    if signatures.is_empty() {
        return Err(unsigned(&path, &now, &enrolled.changed(&now)).into());
    }
    tpm.policy_pcr(now.digest(), now.bank(), &now.indices())?;
    if tpm.policy_authorize(approved, signer, &signatures)? {
        return Ok(());
    }
    let message = "no signature over the current values is by the enrolled key";
    let refusal = Error::new(Kind::Refused, "satisfy the PCR policy", message);
    Err(refusal.with_target(path.display().to_string()).into())
}

/// Whether there is a signature over these values, checked without the TPM, and the file that was searched.
///
/// # Errors
/// `Io` and `Usage` for a file that cannot be read.
pub fn has_signature(file: Option<&Path>, pcrs: &Pcrs) -> Result<(PathBuf, bool)> {
    let (path, found) = signatures(file, pcrs, &policy_digest::pcr_digest(pcrs))?;
    Ok((path, !found.is_empty()))
}

/// The signatures over one policy, from the named file or the first that exists.
fn signatures(file: Option<&Path>, pcrs: &Pcrs, approved: &[u8; 32]) -> Result<(PathBuf, Vec<Vec<u8>>)> {
    let places = || PLACES.iter().map(Path::new).find(|path| path.exists());
    let Some(path) = file.or_else(places) else {
        let message = "the key is bound to signed PCR values, and there is no file with signatures";
        return Err(Error::new(Kind::Refused, "satisfy the PCR policy", message).with_hint(format!(
            "have the values signed (docs/reference/tpm.md says how), and put the signatures into {} or name them with \
             pcr-signature= in the device's URI",
            PLACES[0]
        )));
    };
    let wrong = |kind, message: String| {
        Error::new(kind, "read the PCR signatures", message).with_target(path.display().to_string())
    };
    let text = read_small(path).map_err(|e| wrong(Kind::Io, e))?;
    let entries: Entries = serde_json::from_str(&text).map_err(|e| wrong(Kind::Usage, e.to_string()))?;
    let wanted = hex::encode(approved);
    let fits = |entry: &&Entry| {
        let mut listed = entry.pcrs.clone();
        listed.sort_unstable();
        listed == pcrs.indices() && entry.pol.eq_ignore_ascii_case(&wanted)
    };
    let own = entries.iter().filter(|(bank, _)| Bank::named(bank) == Some(pcrs.bank()));
    let found = own.flat_map(|(_, entries)| entries.iter().filter(fits));
    let found = found.filter_map(|entry| BASE64_STANDARD.decode(&entry.sig).ok()).collect();
    Ok((path.into(), found))
}

fn unsigned(path: &Path, now: &Pcrs, changed: &[u8]) -> Error {
    let message = match changed {
        [] => format!("it has no signature over the current values of {}", now.shown()),
        _ => format!(
            "PCR {} changed since enrolment, and the file has no signature over the current values",
            super::pcr::listed(changed)
        ),
    };
    Error::new(Kind::Refused, "satisfy the PCR policy", message).with_target(path.display().to_string()).with_hint(
        "have the signer sign the current values: `strongroom device pcrs NAME --policy-digest` prints the digest to sign; \
         for a device that is not enrolled yet, `tpm2_createpolicy --policy-pcr` computes it",
    )
}

fn ecc(key: &p256::PublicKey) -> Option<Public> {
    use p256::elliptic_curve::sec1::ToEncodedPoint;
    let point = key.to_encoded_point(false);
    let half = |bytes: &[u8]| EccParameter::try_from(bytes.to_vec()).ok();
    let scheme = EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256));
    let parameters = PublicEccParametersBuilder::new_unrestricted_signing_key(scheme, EccCurve::NistP256);
    verifier(PublicAlgorithm::Ecc)?
        .with_ecc_parameters(parameters.build().ok()?)
        .with_ecc_unique_identifier(EccPoint::new(half(point.x()?)?, half(point.y()?)?))
        .build()
        .ok()
}

fn rsa(key: &rsa::RsaPublicKey) -> Option<Public> {
    let bits = match key.size() {
        256 => RsaKeyBits::Rsa2048,
        384 => RsaKeyBits::Rsa3072,
        512 => RsaKeyBits::Rsa4096,
        _ => return None,
    };
    let exponent = RsaExponent::create(
        u32::try_from(key.e().to_bytes_be().iter().fold(0u64, |e, b| e << 8 | u64::from(*b))).ok()?,
    );
    let scheme = RsaScheme::RsaSsa(HashScheme::new(HashingAlgorithm::Sha256));
    let parameters = PublicRsaParametersBuilder::new_unrestricted_signing_key(scheme, bits, exponent.ok()?);
    verifier(PublicAlgorithm::Rsa)?
        .with_rsa_parameters(parameters.build().ok()?)
        .with_rsa_unique_identifier(PublicKeyRsa::try_from(key.n().to_bytes_be()).ok()?)
        .build()
        .ok()
}

fn verifier(algorithm: PublicAlgorithm) -> Option<PublicBuilder> {
    let attributes =
        ObjectAttributesBuilder::new().with_sign_encrypt(true).with_user_with_auth(true).build().ok()?;
    Some(
        PublicBuilder::new()
            .with_public_algorithm(algorithm)
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes)
            .with_auth_policy(Digest::default()),
    )
}

fn read_small(path: &Path) -> std::result::Result<String, String> {
    let said = |e: std::io::Error| e.to_string();
    match std::fs::metadata(path).map_err(said)?.len() {
        0..=LARGEST => std::fs::read_to_string(path).map_err(said),
        _ => Err("it is too large".into()),
    }
}

/// The bytes between `-----BEGIN PUBLIC KEY-----` and its end.
fn pem(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = rest.split_once("-----END PUBLIC KEY-----")?;
    let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    BASE64_STANDARD.decode(body).ok()
}
