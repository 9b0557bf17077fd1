//! Public areas: what the keys are made like, and what a public area says of a key.

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

/// Where the TCG provisioning guidance (v1.0 §7.8) has the shared storage root key.
pub const SRK: u32 = 0x8100_0001;

/// What every key here has: made in this TPM, and never to leave it.
fn kept() -> ObjectAttributesBuilder {
    ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
}

/// The storage root key: TCG EK credential profile's ECC template H-2 without policy, as the provisioning guidance has it.
/// The unique field is 2 × 32 zero bytes: another one is another key.
pub fn srk() -> Result<Public> {
    let zeroes = EccParameter::try_from(vec![0; 32])?;
    let attributes =
        kept().with_user_with_auth(true).with_no_da(true).with_restricted(true).with_decrypt(true).build()?;
    let parameters = PublicEccParametersBuilder::new_restricted_decryption_key(
        SymmetricDefinitionObject::AES_128_CFB,
        EccCurve::NistP256,
    );
    ecc(attributes, parameters.build()?, EccPoint::new(zeroes.clone(), zeroes), None)
}

/// A key that signs what its TPM says of other keys, and nothing else.
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

/// A key that opens (ECDH) or signs (ECDSA), by this policy alone.
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
pub fn name(public: &Public) -> Result<[u8; 34]> {
    let mut name = [0; 34];
    name[1] = 0x0b;
    name[2..].copy_from_slice(&Sha256::digest(public.marshall()?));
    Ok(name)
}

/// The point of a P-256 key, uncompressed; `None` for any other key, and off the curve.
pub fn point(public: &Public) -> Option<[u8; 65]> {
    let Public::Ecc { parameters, unique, .. } = public else { return None };
    if parameters.ecc_curve() != EccCurve::NistP256 {
        return None;
    }
    let mut point = [0; 65];
    point[0] = 4;
    point[1..33].copy_from_slice(&coordinate(unique.x())?);
    point[33..].copy_from_slice(&coordinate(unique.y())?);
    let encoded = p256::EncodedPoint::from_bytes(point).ok()?;
    bool::from(p256::PublicKey::from_encoded_point(&encoded).is_some()).then_some(point)
}

/// 32 bytes, big-endian: TPMs may leave leading zeroes out.
pub fn coordinate(value: &EccParameter) -> Option<[u8; 32]> {
    let mut padded = [0; 32];
    let value = value.value();
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

/// What the evidence rests on: TPMA_OBJECT, part 2 §8.3.
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
