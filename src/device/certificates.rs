//! X.509 certificates (RFC 5280) in which the makers of devices vouch for them.
//!
//! `rustls-webpki` builds and judges chains; `x509-cert` reads what a certificate says, which counts only once its chain holds.
//! Nothing here asks the network: revocation lists are not fetched, and the certificates in between are those the caller has.
//!
//! What the makers' certificates have that the Web's have not, and how it is met:
//!
//! - A TPM's endorsement key certificate names the TPM in a critical alternative name of directory names (TCG EK Credential
//!   Profile §3.2). webpki knows the extension and passes over such names, which nobody asks about.
//! - The key purpose has to be in the leaf. A certificate above it either does not speak of purposes or has to allow this one, as
//!   everywhere but on the Web; webpki's own `required` demands it of all of them.
//! - Some makers' older intermediate certificates are signed with SHA-1 or have critical policies, which webpki refuses. They may be
//!   given as roots, which says that the operator trusts them as they are.
//! - Serial numbers may be long or negative. They are read as they are.
//! - A YubiKey 4 carries an attestation certificate that is not marked as a CA's, which RFC 5280 §6.1.4(k) refuses, and so does
//!   this: the attesting keys of these devices may come from a generator with a known weakness (ROCA).

use crate::error::{Error, Kind, Result};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage};

mod files;

pub use files::{first_certificate, from_pem, roots_from};
pub use x509_cert::der::oid::ObjectIdentifier as Oid;

/// `tcg-kp-EKCertificate` (TCG EK Credential Profile §3.2): the key is the endorsement key of a TPM.
pub static EK_CERTIFICATE: Oid = Oid::new_unwrap("2.23.133.8.1");

/// Checks that one of `roots` vouches for `leaf`, if need be by way of some of `intermediates`, in any order: signatures, names,
/// times, CA flags and path lengths (RFC 5280 §6.1). All in DER. With `required_eku` the leaf has to be for that purpose.
///
/// A root is trusted with all that it issued, also when its own validity is over (§6.1.1 d).
///
/// Returns which of the roots it was.
///
/// # Errors
/// `Evidence`, saying what is wrong.
pub fn verify_chain(
    leaf: &[u8],
    intermediates: &[Vec<u8>],
    roots: &[Vec<u8>],
    required_eku: Option<&'static Oid>,
    at: SystemTime,
) -> Result<usize> {
    let certificate = Certificate::parse(leaf)?;
    let leaf = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&leaf).map_err(broken)?;
    let roots: Vec<_> = roots.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let anchors: Result<Vec<_>, _> = roots.iter().map(webpki::anchor_from_trusted_cert).collect();
    let anchors: Vec<TrustAnchor<'_>> = anchors.map_err(broken)?;
    let between: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let time = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO));
    let path = leaf
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &between,
            time,
            Purpose(required_eku),
            None,
            None,
        )
        .map_err(broken)?;
    match required_eku {
        Some(purpose) if !certificate.is_for(purpose) => Err(refused(format!(
            "the certificate of {} does not say that it is for {purpose}",
            certificate.subject()
        ))),
        _ => Ok(anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor())).unwrap_or_default()),
    }
}

/// What certificates may be for, where they speak of it.
struct Purpose(Option<&'static Oid>);

impl ExtendedKeyUsageValidator for Purpose {
    fn validate(&self, stated: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        match self.0 {
            Some(purpose) => KeyUsage::required_if_present(purpose.as_bytes()).validate(stated),
            None => Ok(()),
        }
    }
}

/// What a certificate says. To be believed once [`verify_chain`] found its bytes good.
#[derive(Debug)]
pub struct Certificate(CertificateInner<Raw>);

/// The key a certificate is about (RFC 3279 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKey<'a> {
    /// `RSAPublicKey` of PKCS #1, in DER.
    Rsa(&'a [u8]),
    /// On an elliptic curve.
    Ec {
        /// The curve's name: 1.2.840.10045.3.1.7 is P-256, 1.3.132.0.34 is P-384.
        curve: Oid,
        /// SEC1 point.
        point: &'a [u8],
    },
}

const RSA_ENCRYPTION: Oid = Oid::new_unwrap("1.2.840.113549.1.1.1");
/// The endorsement keys of some TPMs are for this alone (RFC 4055 §4.1).
const RSAES_OAEP: Oid = Oid::new_unwrap("1.2.840.113549.1.1.7");
const EC_PUBLIC_KEY: Oid = Oid::new_unwrap("1.2.840.10045.2.1");

impl Certificate {
    /// Reads a DER certificate, of which nothing may be left over.
    ///
    /// # Errors
    /// `Evidence`.
    pub fn parse(der: &[u8]) -> Result<Self> {
        let parsed = CertificateInner::from_der(der);
        parsed.map(Self).map_err(|error| refused(format!("it is no X.509 certificate: {error}")))
    }

    /// The subject's distinguished name (RFC 4514). May steer a terminal: show it [`crate::error::printable`].
    pub fn subject(&self) -> String {
        named(self.0.tbs_certificate().subject().to_string())
    }

    /// The distinguished name of who issued it, as [`Certificate::subject`].
    pub fn issuer(&self) -> String {
        named(self.0.tbs_certificate().issuer().to_string())
    }

    /// The key it is about.
    ///
    /// # Errors
    /// `Evidence` when it is neither RSA nor on a named curve.
    pub fn key(&self) -> Result<SubjectKey<'_>> {
        let key = self.0.tbs_certificate().subject_public_key_info();
        let bits = key.subject_public_key.as_bytes();
        let parameters = key.algorithm.parameters.as_ref();
        let curve = || parameters.and_then(|curve| curve.decode_as::<Oid>().ok());
        match (key.algorithm.oid, bits) {
            (RSA_ENCRYPTION | RSAES_OAEP, Some(der)) => Some(SubjectKey::Rsa(der)),
            (EC_PUBLIC_KEY, Some(point)) => curve().map(|curve| SubjectKey::Ec { curve, point }),
            _ => None,
        }
        .ok_or_else(|| {
            refused(format!("the certificate of {} is about a key of an unknown kind", self.subject()))
        })
    }

    /// The value of an extension, without its octet string: DER of the extension's own.
    pub fn extension(&self, id: &Oid) -> Option<&[u8]> {
        let mut extensions = self.0.tbs_certificate().extensions()?.iter();
        extensions.find(|extension| extension.extn_id == *id).map(|extension| extension.extn_value.as_bytes())
    }

    /// Whether it may issue others.
    pub fn is_ca(&self) -> bool {
        let constraints = self.0.tbs_certificate().get_extension::<BasicConstraints>();
        matches!(constraints, Ok(Some((_, BasicConstraints { ca: true, .. }))))
    }

    /// Whether it says that its key is for this.
    fn is_for(&self, purpose: &Oid) -> bool {
        let stated = self.0.tbs_certificate().get_extension::<ExtendedKeyUsage>();
        matches!(stated, Ok(Some((_, stated))) if stated.0.contains(purpose))
    }
}

fn named(name: String) -> String {
    if name.is_empty() { "an unnamed subject".into() } else { format!("`{name}`") }
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(Kind::Evidence, "trust the certificate", crate::error::printable(&message.into()))
}

fn broken(error: webpki::Error) -> Error {
    use webpki::Error as E;
    let message = match &error {
        E::UnknownIssuer => "none of the trusted certificates issued it, nor one that they vouch for".into(),
        E::CertExpired { .. } => "it, or one above it, is no longer valid".into(),
        E::CertNotValidYet { .. } => "it, or one above it, is not valid yet; is the clock right?".into(),
        E::InvalidSignatureForPublicKey => "a signature in its chain is wrong".into(),
        E::EndEntityUsedAsCa => "the one that issued it is not a CA's".into(),
        E::CaUsedAsEndEntity => "it is a CA's, not a device's".into(),
        E::PathLenConstraintViolated => "a CA in its chain may not have so many CAs below it".into(),
        E::UnsupportedCriticalExtension => {
            "it, or one above it, has a critical extension that is not known here; one above it may be trusted as a root".into()
        }
        E::UnsupportedSignatureAlgorithmContext(_) => {
            "a signature in its chain is of a kind that is not good enough; one above it may be trusted as a root".into()
        }
        E::RequiredEkuNotFoundContext(_) => "it, or one above it, is for other purposes".into(),
        other => format!("its chain does not hold: {other:?}"),
    };
    refused(message).caused_by(error)
}
