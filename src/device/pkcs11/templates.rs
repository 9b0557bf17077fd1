//! The templates of new keys.

use super::cloud_kms;
use super::error::{DriverError, code};
use super::objects::{self, Located, P256_OID, P384_OID, pair};
use super::session::OperationContext;
use crate::device::{Algorithm, Purpose};
use crate::uri::DeviceUri;
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::Session;
use cryptoki::types::Ulong;
use rand_core::{OsRng, RngCore};

/// Generates a key. Modules differ in the attributes that they accept, so this tries smaller and smaller templates. What a module
/// decides by itself is checked afterwards.
pub fn generate(
    session: &Session,
    context: &OperationContext<'_>,
    purpose: Purpose,
    algorithm: Algorithm,
) -> Result<Located, DriverError> {
    let uri = context.uri;
    if context.info.identity.maker == cloud_kms::MAKER {
        return cloud_kms::generate(session, uri, purpose, algorithm);
    }
    let mut random = [0; 16];
    OsRng.fill_bytes(&mut random);
    let id = uri.id().unwrap_or(&random);
    let mut outcome = Err(DriverError::Stale);
    for detail in [Detail::Full, Detail::Granted, Detail::Named] {
        outcome = generate_with(session, &Template { uri, id, purpose, detail }, algorithm);
        match &outcome {
            Err(DriverError::Call(error)) if refuses_template(code(error)) => {
                log::debug!("the module refuses the {detail:?} template: {error}");
            }
            _ => break,
        }
    }
    outcome
}

/// Attributes for what a key may do, and whether it may.
type Usage = [(fn(bool) -> Attribute, bool)];

/// How much a template says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// Everything that matters, also what the key must not do.
    Full,
    /// Without what the key must not do.
    Granted,
    /// The name and the kind of key only.
    Named,
}

/// What the templates of a key pair have in common.
struct Template<'a> {
    uri: &'a DeviceUri,
    id: &'a [u8],
    purpose: Purpose,
    detail: Detail,
}

impl Template<'_> {
    fn named(&self) -> Vec<Attribute> {
        let label = objects::label(self.uri, self.purpose);
        vec![Attribute::Token(true), Attribute::Label(label.into()), Attribute::Id(self.id.into())]
    }

    /// A private or secret key's: `kind` is required to make it, `usage` is what it may and may not do.
    fn private(&self, kind: &[Attribute], usage: &Usage) -> Vec<Attribute> {
        let kept = [Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(false)];
        let kept = if self.detail == Detail::Named { &[][..] } else { &kept };
        [&self.named(), kept, kind, &self.usage(usage)].concat()
    }

    fn public(&self, kind: &[Attribute], usage: &Usage) -> Vec<Attribute> {
        let open = if self.detail == Detail::Named { &[][..] } else { &[Attribute::Private(false)] };
        [&self.named(), open, kind, &self.usage(usage)].concat()
    }

    fn usage(&self, usage: &Usage) -> Vec<Attribute> {
        let said = |(attribute, granted): &(fn(bool) -> Attribute, bool)| match self.detail {
            Detail::Full => Some(attribute(*granted)),
            Detail::Granted | Detail::Named => granted.then(|| attribute(true)),
        };
        usage.iter().filter_map(said).collect()
    }
}

fn generate_with(
    session: &Session,
    template: &Template<'_>,
    algorithm: Algorithm,
) -> Result<Located, DriverError> {
    let opens = template.purpose == Purpose::Open;
    match algorithm {
        Algorithm::P256 | Algorithm::P384 => {
            let curve = if algorithm == Algorithm::P256 { P256_OID.to_vec() } else { P384_OID.to_vec() };
            let made = session.generate_key_pair(
                &Mechanism::EccKeyPairGen,
                &template.public(&[Attribute::EcParams(curve)], &[(Attribute::Verify, !opens)]),
                &template.private(&[], &[(Attribute::Derive, opens), (Attribute::Sign, !opens)]),
            );
            pair(session, made?)
        }
        Algorithm::Rsa(bits) => {
            let size =
                [Attribute::ModulusBits(Ulong::new(bits.into())), Attribute::PublicExponent(vec![1, 0, 1])];
            let made = session.generate_key_pair(
                &Mechanism::RsaPkcsKeyPairGen,
                &template.public(&size, &[(Attribute::Encrypt, opens), (Attribute::Verify, !opens)]),
                &template.private(
                    &[],
                    &[(Attribute::Decrypt, opens), (Attribute::Sign, !opens), (Attribute::Unwrap, false)],
                ),
            );
            pair(session, made?)
        }
        Algorithm::Aes256 => {
            let usage: &Usage = &[
                (Attribute::Encrypt, true),
                (Attribute::Decrypt, true),
                (Attribute::Wrap, false),
                (Attribute::Unwrap, false),
            ];
            let length = [Attribute::ValueLen(Ulong::new(32))];
            let secret = session.generate_key(&Mechanism::AesKeyGen, &template.private(&length, usage))?;
            Ok(Located { private: objects::private_key(session, secret)?, public: None })
        }
    }
}

/// The codes that modules return for a template with attributes or values that they do not take. tpm2-pkcs11 knows only a general error.
fn refuses_template(code: Option<RvError>) -> bool {
    use RvError::*;
    matches!(
        code,
        Some(
            AttributeTypeInvalid
                | AttributeValueInvalid
                | AttributeReadOnly
                | TemplateInconsistent
                | ArgumentsBad
                | GeneralError
        )
    )
}
