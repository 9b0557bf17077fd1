//! Public areas: the templates of keys, and what a public area says about a key.

use crate::device::Purpose;
use p256::elliptic_curve::sec1::FromEncodedPoint;
use sha2::{Digest as _, Sha256};
use tss_esapi::Result;
use tss_esapi::attributes::{ObjectAttributes, ObjectAttributesBuilder};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::structures::{
    Digest, EccParameter, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, Public,
    PublicBuilder, PublicEccParameters, PublicEccParametersBuilder, SymmetricDefinitionObject,
};
use tss_esapi::traits::Marshall;

/// An object's name: the algorithm and a SHA-256 digest (part 1 §16).
pub type Name = [u8; 34];

/// No object has it.
pub const NO_NAME: Name = [0; 34];

/// The shared storage root key's handle (TCG provisioning guidance v1.0 §7.8).
pub const SRK: u32 = 0x8100_0001;

/// Attributes of every key: made in this TPM, and bound to it.
fn kept() -> ObjectAttributesBuilder {
    ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
}

/// The templates of storage root keys, by which the hierarchy's seed yields the same key again. Strongroom makes the first: the ECC
/// template H-2 of the TCG EK Credential Profile without its policy, as in the provisioning guidance, whose unique field is 2 × 32
/// zero bytes. systemd leaves that field empty, which yields another key.
pub fn storage_root_keys() -> Result<[Public; 2]> {
    let zeroes = EccParameter::try_from(vec![0; 32])?;
    Ok([storage_root_key(EccPoint::new(zeroes.clone(), zeroes))?, storage_root_key(EccPoint::default())?])
}

fn storage_root_key(unique: EccPoint) -> Result<Public> {
    let attributes =
        kept().with_user_with_auth(true).with_no_da(true).with_restricted(true).with_decrypt(true).build()?;
    let parameters = PublicEccParametersBuilder::new_restricted_decryption_key(
        SymmetricDefinitionObject::AES_128_CFB,
        EccCurve::NistP256,
    );
    ecc(attributes, parameters.build()?, unique, None)
}

/// Whether a key may be the parent of keys that must not leave the TPM: a restricted decryption key of this TPM, whichever template
/// it was made from (part 1 §25). Only a name of SHA-256 fits into an enrolment.
pub fn is_storage_key(public: &Public) -> bool {
    let attributes = public.object_attributes();
    attributes.fixed_tpm()
        && attributes.fixed_parent()
        && attributes.sensitive_data_origin()
        && attributes.user_with_auth()
        && attributes.restricted()
        && attributes.decrypt()
        && !attributes.sign_encrypt()
        && public.name_hashing_algorithm() == HashingAlgorithm::Sha256
}

/// An attestation key: it signs only its TPM's statements about other keys.
pub fn attesting() -> Result<Public> {
    let scheme = EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256));
    let attributes = kept()
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_sign_encrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_ecc_scheme(scheme)
        .with_curve(EccCurve::NistP256)
        .with_is_signing_key(true)
        .with_restricted(true)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null);
    ecc(attributes, parameters.build()?, EccPoint::default(), None)
}

/// An opening (ECDH) or signing (ECDSA) key, authorised only by this policy.
pub fn key(purpose: Purpose, policy: [u8; 32], pin: bool) -> Result<Public> {
    let opens = purpose == Purpose::Open;
    let hash = HashScheme::new(HashingAlgorithm::Sha256);
    let scheme = if opens { EccScheme::EcDh(hash) } else { EccScheme::EcDsa(hash) };
    let attributes = kept().with_no_da(!pin).with_decrypt(opens).with_sign_encrypt(!opens).build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_ecc_scheme(scheme)
        .with_curve(EccCurve::NistP256)
        .with_is_decryption_key(opens)
        .with_is_signing_key(!opens)
        .with_restricted(false)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null);
    ecc(attributes, parameters.build()?, EccPoint::default(), Some(Digest::try_from(policy.to_vec())?))
}

fn ecc(
    attributes: ObjectAttributes,
    parameters: PublicEccParameters,
    unique: EccPoint,
    policy: Option<Digest>,
) -> Result<Public> {
    let builder = PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(unique);
    match policy {
        Some(policy) => builder.with_auth_policy(policy),
        None => builder,
    }
    .build()
}

/// The name of an object with nameAlg SHA-256 (TPM 2.0 part 1 §16): 000B ‖ SHA-256 of its TPMT_PUBLIC.
pub fn name(public: &Public) -> Result<Name> {
    Ok(name_of(&public.marshall()?))
}

/// The name of a TPMT_PUBLIC with nameAlg SHA-256.
pub fn name_of(public: &[u8]) -> Name {
    let mut name = NO_NAME;
    name[1] = 0x0b;
    name[2..].copy_from_slice(&Sha256::digest(public));
    name
}

/// The uncompressed point of a P-256 key; `None` for other keys and points off the curve.
pub fn point(public: &Public) -> Option<[u8; 65]> {
    let Public::Ecc { parameters, unique, .. } = public else { return None };
    if parameters.ecc_curve() != EccCurve::NistP256 {
        return None;
    }
    let mut point = [0; 65];
    point[0] = 4;
    point[1..33].copy_from_slice(&coordinate(unique.x().value())?);
    point[33..].copy_from_slice(&coordinate(unique.y().value())?);
    let encoded = p256::EncodedPoint::from_bytes(point).ok()?;
    bool::from(p256::PublicKey::from_encoded_point(&encoded).is_some()).then_some(point)
}

/// Pads to 32 bytes, big-endian, because TPMs may omit leading zeroes.
pub fn coordinate(value: &[u8]) -> Option<[u8; 32]> {
    let mut padded = [0; 32];
    padded.get_mut(32usize.checked_sub(value.len())?..)?.copy_from_slice(value);
    Some(padded)
}

/// The public area without the point.
pub fn pointless(public: &Public) -> Public {
    let mut public = public.clone();
    if let Public::Ecc { unique, .. } = &mut public {
        *unique = EccPoint::default();
    }
    public
}

/// The attributes that evidence is based on: TPMA_OBJECT, part 2 §8.3.
pub fn claims(public: &Public) -> Vec<(String, bool)> {
    let attributes = public.object_attributes();
    [
        ("fixedTPM", attributes.fixed_tpm()),
        ("fixedParent", attributes.fixed_parent()),
        ("sensitiveDataOrigin", attributes.sensitive_data_origin()),
    ]
    .map(|(name, is)| (name.to_owned(), is))
    .into()
}
