//! Finds keys and reads their attributes.

use super::error::DriverError;
use crate::device::{Algorithm, Evidence, EvidenceLevel, PublicKey, Purpose};
use crate::error::{Error, Kind};
use crate::uri::DeviceUri;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

/// The object identifier secp256r1 in DER (RFC 5480 §2.1.1.1), as in CKA_EC_PARAMS.
pub const P256_OID: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// secp384r1, in DER (SEC2 §2.5.1).
pub const P384_OID: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// A private or secret key.
#[derive(Clone, Copy)]
pub struct PrivateKey {
    pub handle: ObjectHandle,
    /// CKA_ALWAYS_AUTHENTICATE: it wants a login for every operation.
    pub asks_always: bool,
}

/// The objects with one label.
pub struct Located {
    /// The private or secret key.
    pub private: PrivateKey,
    /// The public key, where there is exactly one.
    pub public: Option<ObjectHandle>,
}

/// The key pair that a module has just made: the public key, and the private one.
pub fn pair(session: &Session, made: (ObjectHandle, ObjectHandle)) -> Result<Located, DriverError> {
    let (public, private) = made;
    Ok(Located { private: private_key(session, private)?, public: Some(public) })
}

/// CKA_LABEL of a key.
pub fn label(uri: &DeviceUri, purpose: Purpose) -> String {
    match purpose {
        Purpose::Open => format!("{}-open", uri.object()),
        Purpose::Sign => format!("{}-sign", uri.object()),
    }
}

/// All token objects with a label (and CKA_ID, where the URI has one): private or secret keys, and public keys.
///
/// A single search finds both, because searching is slow and its time grows with the number of objects in the token.
pub fn search(
    session: &Session,
    uri: &DeviceUri,
    label: &str,
) -> Result<(Vec<PrivateKey>, Vec<ObjectHandle>), DriverError> {
    let mut template = vec![Attribute::Token(true), Attribute::Label(label.into())];
    template.extend(uri.id().map(|id| Attribute::Id(id.into())));
    let (mut private, mut public) = (Vec::new(), Vec::new());
    for object in session.find_objects(&template)? {
        // Both in one call, because every call is a round trip to a network HSM.
        let attributes =
            session.get_attributes(object, &[AttributeType::Class, AttributeType::AlwaysAuthenticate])?;
        match attributes.first() {
            Some(Attribute::Class(ObjectClass::PRIVATE_KEY | ObjectClass::SECRET_KEY)) => {
                private.push(PrivateKey { handle: object, asks_always: asks_always(&attributes) })
            }
            Some(Attribute::Class(ObjectClass::PUBLIC_KEY)) => public.push(object),
            _ => {}
        }
    }
    Ok((private, public))
}

/// The private key with this handle.
pub fn private_key(session: &Session, handle: ObjectHandle) -> Result<PrivateKey, DriverError> {
    let attributes = session.get_attributes(handle, &[AttributeType::AlwaysAuthenticate])?;
    Ok(PrivateKey { handle, asks_always: asks_always(&attributes) })
}

fn asks_always(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| matches!(attribute, Attribute::AlwaysAuthenticate(true)))
}

/// The one key with a label.
///
/// # Errors
/// `Missing` when there is none; `KeyMissing` when there are several.
pub fn locate(session: &Session, uri: &DeviceUri, label: &str) -> Result<Located, DriverError> {
    let (private, public) = search(session, uri, label)?;
    match private[..] {
        [] => Err(DriverError::Missing { label: label.into() }),
        [private] => Ok(Located { private, public: public.first().copied().filter(|_| public.len() == 1) }),
        _ => Err(Error::new(
            Kind::KeyMissing,
            "find the key",
            format!("{} keys are labelled `{label}`", private.len()),
        )
        .with_target(uri.display_name())
        .with_hint("delete or relabel all but one, or name one by id= in the URI")
        .into()),
    }
}

/// The key with this public key, whatever its label. Some modules choose labels themselves: ykcs11 uses "Private key for
/// Key Management". `None` when there is not exactly one, or the module does not reveal points.
pub fn locate_by_public(session: &Session, enrolled: &PublicKey) -> Result<Option<Located>, DriverError> {
    let halves = match (enrolled.point(), enrolled.rsa()) {
        (Some(point), _) => vec![Attribute::EcPoint(der_point(point)), Attribute::EcPoint(point.to_vec())],
        (_, Some((n, _))) => vec![Attribute::Modulus(n.to_vec())],
        _ => return Ok(None),
    };
    let mut found = Vec::new();
    for half in halves {
        found.extend(session.find_objects(&[Attribute::Class(ObjectClass::PUBLIC_KEY), half])?);
    }
    let [public] = found[..] else { return Ok(None) };
    let Some(Attribute::Id(id)) = session.get_attributes(public, &[AttributeType::Id])?.pop() else {
        return Ok(None);
    };
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(id)];
    let [private] = session.find_objects(&template)?[..] else { return Ok(None) };
    Ok(Some(Located { private: private_key(session, private)?, public: Some(public) }))
}

/// Reads the public key. `padded` makes an RSA key of the modulus and exponent and determines its padding.
pub fn public_key(
    session: &Session,
    located: &Located,
    padded: impl FnOnce(Vec<u8>, Vec<u8>) -> Result<PublicKey, DriverError>,
) -> Result<PublicKey, DriverError> {
    let private = located.private.handle;
    match session.get_attributes(private, &[AttributeType::KeyType])?.first() {
        Some(Attribute::KeyType(KeyType::EC)) => ec_key(session, located),
        Some(Attribute::KeyType(KeyType::RSA)) => {
            let (n, e) = modulus(session, private)?;
            if n.len() < 256 {
                return Err(unfit(format!(
                    "an RSA key of {} bits is too short: at least 2048 are needed",
                    n.len() * 8
                ))
                .into());
            }
            padded(n, e)
        }
        Some(Attribute::KeyType(KeyType::AES)) => aes_id(session, private),
        _ => Err(unfit("its key type is neither EC, RSA nor AES").into()),
    }
}

/// Whether the key in the device is visibly not `enrolled`.
pub fn is_another(session: &Session, located: &Located, enrolled: &PublicKey) -> Result<bool, DriverError> {
    Ok(match enrolled {
        PublicKey::P256(_) | PublicKey::P384(_) => match located.public {
            Some(public) => read_point(session, public)?.as_ref() != Some(enrolled),
            // Nothing to compare. A wrong key will give a wrong result.
            None => false,
        },
        PublicKey::Rsa { n, e, .. } | PublicKey::RsaPss { n, e } => {
            modulus(session, located.private.handle)? != (n.clone(), e.clone())
        }
        PublicKey::Aes256 { .. } => aes_id(session, located.private.handle)? != *enrolled,
    })
}

/// The attributes that say whether a key can leave the device, by their standard names (PKCS#11 v2.40 §4.9).
pub fn evidence(session: &Session, private: ObjectHandle, simulator: bool) -> Result<Evidence, DriverError> {
    let asked = [
        AttributeType::Local,
        AttributeType::Sensitive,
        AttributeType::AlwaysSensitive,
        AttributeType::NeverExtractable,
        AttributeType::Extractable,
    ];
    let answers = session.get_attributes(private, &asked)?;
    let claims = answers.iter().filter_map(|attribute| match *attribute {
        Attribute::Local(is) => Some(("CKA_LOCAL".into(), is)),
        Attribute::Sensitive(is) => Some(("CKA_SENSITIVE".into(), is)),
        Attribute::AlwaysSensitive(is) => Some(("CKA_ALWAYS_SENSITIVE".into(), is)),
        Attribute::NeverExtractable(is) => Some(("CKA_NEVER_EXTRACTABLE".into(), is)),
        Attribute::Extractable(is) => Some(("CKA_EXTRACTABLE".into(), is)),
        _ => None,
    });
    let level = if simulator { EvidenceLevel::Simulator } else { EvidenceLevel::Reported };
    Ok(Evidence { level, claims: claims.collect() })
}

/// An EC public key. The point is read from the public object, or from the private one in modules that keep it there.
fn ec_key(session: &Session, located: &Located) -> Result<PublicKey, DriverError> {
    let private = located.private.handle;
    let curve = session.get_attributes(private, &[AttributeType::EcParams])?;
    let wanted = match curve.first() {
        Some(Attribute::EcParams(oid)) if oid[..] == P256_OID => Algorithm::P256,
        Some(Attribute::EcParams(oid)) if oid[..] == P384_OID => Algorithm::P384,
        _ => return Err(unfit("its curve is neither P-256 nor P-384").into()),
    };
    let key = read_point(session, located.public.unwrap_or(private))?;
    key.filter(|key| key.algorithm() == wanted).ok_or_else(|| {
        unfit("not exactly one public key object has its label, and the private key object does not reveal the point").into()
    })
}

fn read_point(session: &Session, object: ObjectHandle) -> Result<Option<PublicKey>, DriverError> {
    let attributes = session.get_attributes(object, &[AttributeType::EcPoint])?;
    let Some(Attribute::EcPoint(bytes)) = attributes.first() else { return Ok(None) };
    Ok(point_of(bytes))
}

/// A point in a DER OCTET STRING. Points here are shorter than 128 bytes, so the length takes one byte.
pub fn der_point(point: &[u8]) -> Vec<u8> {
    [&[0x04, point.len() as u8], point].concat()
}

/// The standard makes CKA_EC_POINT a DER OCTET STRING (v2.40 §2.3.3). Some modules return the bare point. Its first byte is the same, and
/// one in 256 has a second byte that could be a length.
fn point_of(bytes: &[u8]) -> Option<PublicKey> {
    let in_der = match bytes {
        [0x04, length, point @ ..] if usize::from(*length) == point.len() => PublicKey::from_point(point),
        _ => None,
    };
    in_der.or_else(|| PublicKey::from_point(bytes))
}

/// Modulus and exponent, big-endian without leading zeroes.
fn modulus(session: &Session, private: ObjectHandle) -> Result<(Vec<u8>, Vec<u8>), DriverError> {
    let trim = |bytes: &[u8]| bytes.iter().copied().skip_while(|b| *b == 0).collect::<Vec<_>>();
    let asked = [AttributeType::Modulus, AttributeType::PublicExponent];
    match &session.get_attributes(private, &asked)?[..] {
        [Attribute::Modulus(n), Attribute::PublicExponent(e)] => Ok((trim(n), trim(e))),
        _ => Err(unfit("the device does not reveal its modulus and public exponent").into()),
    }
}

fn aes_id(session: &Session, secret: ObjectHandle) -> Result<PublicKey, DriverError> {
    match &session.get_attributes(secret, &[AttributeType::Id, AttributeType::ValueLen])?[..] {
        [Attribute::Id(_), Attribute::ValueLen(length)] if **length != 32 => {
            Err(unfit("its AES key does not have 256 bits").into())
        }
        [Attribute::Id(id), ..] => match id.as_slice().try_into() {
            Ok(id) => Ok(PublicKey::Aes256 { id }),
            Err(_) => Err(unfit("its CKA_ID is not 16 random bytes, as for Strongroom's AES keys").into()),
        },
        _ => Err(unfit("the device does not reveal its CKA_ID").into()),
    }
}

fn unfit(message: impl Into<String>) -> Error {
    Error::new(Kind::Unsupported, "use the key", message)
        .with_hint("let Strongroom create its own key: choose another object= in the URI")
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::elliptic_curve::sec1::ToEncodedPoint;

    /// Points whose x-coordinate begins with what would be the length in DER.
    fn lookalikes() -> [Vec<u8>; 2] {
        let compressed = |bytes: usize, last: u8| {
            let mut point = vec![0; bytes];
            (point[0], point[1], point[bytes - 1]) = (0x02, 2 * bytes as u8 - 3, last);
            point
        };
        let mut of_p256 = (0..=255).filter_map(|x| p256::PublicKey::from_sec1_bytes(&compressed(33, x)).ok());
        let mut of_p384 = (0..=255).filter_map(|x| p384::PublicKey::from_sec1_bytes(&compressed(49, x)).ok());
        let (p256, p384) = (of_p256.next().unwrap(), of_p384.next().unwrap());
        [p256.to_encoded_point(false).as_bytes().to_vec(), p384.to_encoded_point(false).as_bytes().to_vec()]
    }

    #[test]
    fn a_point_is_read_bare_and_in_der() {
        for point in lookalikes() {
            assert_eq!(usize::from(point[1]), point.len() - 2);
            let key = PublicKey::from_point(&point);
            assert!(key.is_some());
            assert_eq!(point_of(&point), key);
            assert_eq!(point_of(&der_point(&point)), key);
            assert_eq!(point_of(&point[1..]), None);
        }
        assert_eq!(point_of(&[]), None);
    }
}
