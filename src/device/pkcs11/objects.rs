//! Finds keys and reads their attributes.

use super::error::DriverError;
use super::operations::der_point;
use crate::device::{Algorithm, Evidence, EvidenceLevel, PublicKey, Purpose};
use crate::error::{Error, Kind};
use crate::uri::DeviceUri;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

/// The object identifier secp256r1 in DER (RFC 5480 §2.1.1.1), as in CKA_EC_PARAMS.
pub const P256_OID: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// secp384r1, in DER (SEC2 §2.5.1).
pub const P384_OID: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// The objects with one label.
pub struct Located {
    /// The private or secret key.
    pub private: ObjectHandle,
    /// The public key, where there is exactly one.
    pub public: Option<ObjectHandle>,
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
) -> Result<(Vec<ObjectHandle>, Vec<ObjectHandle>), DriverError> {
    let mut template = vec![Attribute::Token(true), Attribute::Label(label.into())];
    template.extend(uri.id().map(|id| Attribute::Id(id.into())));
    let (mut private, mut public) = (Vec::new(), Vec::new());
    for object in session.find_objects(&template)? {
        match session.get_attributes(object, &[AttributeType::Class])?.first() {
            Some(Attribute::Class(ObjectClass::PRIVATE_KEY | ObjectClass::SECRET_KEY)) => {
                private.push(object)
            }
            Some(Attribute::Class(ObjectClass::PUBLIC_KEY)) => public.push(object),
            _ => {}
        }
    }
    Ok((private, public))
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
    Ok(Some(Located { private, public: Some(public) }))
}

/// Reads the public key. `padded` makes an RSA key of the modulus and exponent and determines its padding.
pub fn public_key(
    session: &Session,
    located: &Located,
    padded: impl FnOnce(Vec<u8>, Vec<u8>) -> Result<PublicKey, DriverError>,
) -> Result<PublicKey, DriverError> {
    match session.get_attributes(located.private, &[AttributeType::KeyType])?.first() {
        Some(Attribute::KeyType(KeyType::EC)) => ec_key(session, located),
        Some(Attribute::KeyType(KeyType::RSA)) => {
            let (n, e) = modulus(session, located.private)?;
            if n.len() < 256 {
                return Err(unfit(format!(
                    "an RSA key of {} bits is too short: at least 2048 are needed",
                    n.len() * 8
                ))
                .into());
            }
            padded(n, e)
        }
        Some(Attribute::KeyType(KeyType::AES)) => aes_id(session, located.private),
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
            modulus(session, located.private)? != (n.clone(), e.clone())
        }
        PublicKey::Aes256 { .. } => aes_id(session, located.private)? != *enrolled,
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
    let curve = session.get_attributes(located.private, &[AttributeType::EcParams])?;
    let wanted = match curve.first() {
        Some(Attribute::EcParams(oid)) if oid[..] == P256_OID => Algorithm::P256,
        Some(Attribute::EcParams(oid)) if oid[..] == P384_OID => Algorithm::P384,
        _ => return Err(unfit("its curve is neither P-256 nor P-384").into()),
    };
    let key = read_point(session, located.public.unwrap_or(located.private))?;
    key.filter(|key| key.algorithm() == wanted).ok_or_else(|| {
        unfit("not exactly one public key object has its label, and the private key object does not reveal the point").into()
    })
}

/// The standard makes CKA_EC_POINT a DER OCTET STRING. Some modules return the bare point.
fn read_point(session: &Session, object: ObjectHandle) -> Result<Option<PublicKey>, DriverError> {
    let attributes = session.get_attributes(object, &[AttributeType::EcPoint])?;
    let Some(Attribute::EcPoint(bytes)) = attributes.first() else { return Ok(None) };
    let point = match bytes.as_slice() {
        [0x04, length, point @ ..] if usize::from(*length) == point.len() => point,
        raw => raw,
    };
    Ok(PublicKey::from_point(point))
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
