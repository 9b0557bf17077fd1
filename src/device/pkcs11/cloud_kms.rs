//! Keys in Google Cloud KMS, whose module (libkmsp11) makes none by the standard's templates: it takes a label and an algorithm of its own, and
//! no other attribute. It decides the rest, which is checked afterwards as everywhere.

use super::error::DriverError;
use super::objects::{self, Located, pair};
use crate::device::{Algorithm, Purpose};
use crate::error::{Error, Kind};
use crate::uri::DeviceUri;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType};
use cryptoki::session::Session;
use cryptoki::types::Ulong;

/// CK_TOKEN_INFO `manufacturerID`.
pub const MAKER: &str = "Google";

/// CKA_KMS_ALGORITHM of its header file, kmsp11.h.
const ALGORITHM: AttributeType = AttributeType::VendorDefined(0x8001_e101);

/// Makes a key pair.
///
/// # Errors
/// `Unsupported` for keys that it does not have; the module's.
pub fn generate(
    session: &Session,
    uri: &DeviceUri,
    purpose: Purpose,
    algorithm: Algorithm,
) -> Result<Located, DriverError> {
    let Some(number) = number(purpose, algorithm) else {
        let message = format!("Cloud KMS has no {algorithm} keys for {purpose} that PKCS#11 reaches");
        return Err(Error::new(Kind::Unsupported, "create the key", message).into());
    };
    let mechanism = match algorithm {
        Algorithm::Rsa(_) => Mechanism::RsaPkcsKeyPairGen,
        _ => Mechanism::EccKeyPairGen,
    };
    let private = [
        Attribute::Label(objects::label(uri, purpose).into()),
        Attribute::VendorDefined((ALGORITHM, number.to_ne_bytes().to_vec())),
    ];
    pair(session, session.generate_key_pair(&mechanism, &[], &private)?)
}

/// The number of an algorithm along with its purpose and padding: CryptoKeyVersionAlgorithm in its API.
fn number(purpose: Purpose, algorithm: Algorithm) -> Option<Ulong> {
    let number = match (purpose, algorithm) {
        // RSA_SIGN_PSS_*_SHA256
        (Purpose::Sign, Algorithm::Rsa(2048)) => 2,
        (Purpose::Sign, Algorithm::Rsa(3072)) => 3,
        (Purpose::Sign, Algorithm::Rsa(4096)) => 4,
        // RSA_DECRYPT_OAEP_*_SHA256
        (Purpose::Open, Algorithm::Rsa(2048)) => 8,
        (Purpose::Open, Algorithm::Rsa(3072)) => 9,
        (Purpose::Open, Algorithm::Rsa(4096)) => 10,
        // EC_SIGN_P256_SHA256 and EC_SIGN_P384_SHA384
        (Purpose::Sign, Algorithm::P256) => 12,
        (Purpose::Sign, Algorithm::P384) => 13,
        _ => return None,
    };
    Some(Ulong::new(number))
}
