//! Creating and destroying keys.

use super::device::Pkcs11Device;
use super::error::{DriverError, code, decode};
use super::objects::{self, Located};
use super::operations;
use super::session::{OperationContext, TokenSession};
use super::templates::generate;
use crate::device::{Algorithm, CreateOptions, KeyInfo, KeyRef, Provision, Purpose};
use crate::error::{Error, Kind, Result};
use crate::prompt::Prompter;
use crate::uri::Scheme;
use cryptoki::error::RvError;
use cryptoki::mechanism::MechanismType;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

/// The RSA sizes on offer, best first: 3072 bits are as strong as P-256 (NIST SP 800-57 part 1, table 2).
const RSA_BITS: [u16; 3] = [3072, 4096, 2048];

impl Provision for Pkcs11Device {
    fn create(
        &mut self,
        purpose: Purpose,
        algorithm: Algorithm,
        options: &CreateOptions,
        prompter: &mut dyn Prompter,
    ) -> Result<KeyInfo> {
        let operation = format!("create the {purpose} key");
        options.only_for(Scheme::Pkcs11, self)?;
        if !self.makes(purpose, algorithm)? {
            let message = format!("the device does not support {algorithm} keys for {purpose}");
            let able: Vec<_> = self.algorithms(purpose)?.iter().map(Algorithm::to_string).collect();
            let hint = match &able[..] {
                [] => self.who_makes_keys().to_owned(),
                able => format!("it makes: {}", able.join(", ")),
            };
            return Err(Error::new(Kind::Unsupported, operation, message)
                .with_target(&self.name)
                .with_hint(hint));
        }
        let made = self
            .operate(&operation, prompter, |context, session| create(context, session, purpose, algorithm));
        made.map_err(|error| match error.kind() {
            Kind::Device | Kind::Unsupported => error.with_hint(self.who_makes_keys()),
            _ => error,
        })
    }

    fn algorithms(&mut self, purpose: Purpose) -> Result<Vec<Algorithm>> {
        let rsa = RSA_BITS.map(Algorithm::Rsa);
        let wanted = [Algorithm::P256, Algorithm::P384].into_iter().chain(rsa).chain([Algorithm::Aes256]);
        let mut makes = |a| self.makes(purpose, a).map(|makes| makes.then_some(a));
        wanted.filter_map(|a| makes(a).transpose()).collect()
    }

    fn destroy(&mut self, key: &KeyInfo, prompter: &mut dyn Prompter) -> Result<()> {
        self.operate("destroy the key", prompter, |context, session| {
            let private = context.private_key(session, &KeyRef::from(key))?;
            let (_, public) =
                objects::search(&session.raw, context.uri, &objects::label(context.uri, key.purpose))?;
            session.forget_keys();
            let writable = context.live.open_rw_session(session.slot)?;
            writable.destroy_object(private.handle)?;
            public.into_iter().try_for_each(|object| destroy_public(&writable, object))
        })?;
        self.found = false;
        if let Some(session) = &mut self.session {
            session.found = false;
        }
        Ok(())
    }
}

impl Pkcs11Device {
    /// What to do when the module makes no keys for the user.
    fn who_makes_keys(&self) -> &'static str {
        let identity = &self.info.identity;
        let is_yubikey = [&identity.maker, &identity.model, &identity.label]
            .iter()
            .any(|text| text.contains("Yubi") || text.contains("PIV_II"));
        match is_yubikey {
            true => "have Strongroom's own driver make them: `strongroom init --device piv:`",
            false => {
                "if only the security officer makes keys in this device: make two with the vendor's tool, with the labels \
                 <object>-open and <object>-sign, and name <object> with object= in the URI"
            }
        }
    }

    /// Whether the device has the mechanisms to make and use such a key of this size.
    fn makes(&mut self, purpose: Purpose, algorithm: Algorithm) -> Result<bool> {
        let failed = |e, name: &str| decode(e, "list the device's mechanisms", name);
        let generation = self.ensure_session()?;
        let live = self
            .module
            .live(generation)
            .map_err(|fault| self.report(fault, "list the device's mechanisms"))?;
        let Some(session) = &self.session else { return Ok(false) };
        let there = live.get_mechanism_list(session.slot).map_err(|e| failed(e, &self.name))?;
        let (make, used) = match algorithm {
            Algorithm::P256 | Algorithm::P384 if purpose == Purpose::Sign => {
                (MechanismType::ECC_KEY_PAIR_GEN, MechanismType::ECDSA)
            }
            Algorithm::P256 | Algorithm::P384 => {
                (MechanismType::ECC_KEY_PAIR_GEN, MechanismType::ECDH1_DERIVE)
            }
            Algorithm::Rsa(_) if purpose == Purpose::Sign => {
                (MechanismType::RSA_PKCS_KEY_PAIR_GEN, MechanismType::RSA_PKCS_PSS)
            }
            Algorithm::Rsa(_) => (MechanismType::RSA_PKCS_KEY_PAIR_GEN, MechanismType::RSA_PKCS_OAEP),
            Algorithm::Aes256 if purpose == Purpose::Sign => return Ok(false),
            Algorithm::Aes256 => (MechanismType::AES_KEY_GEN, MechanismType::AES_GCM),
        };
        if !there.contains(&make) || !there.contains(&used) {
            return Ok(false);
        }
        let bits = match algorithm {
            Algorithm::Rsa(bits) => bits,
            Algorithm::P384 => 384,
            Algorithm::P256 | Algorithm::Aes256 => return Ok(true),
        };
        let limits = live.get_mechanism_info(session.slot, make).map_err(|e| failed(e, &self.name))?;
        Ok((limits.min_key_size()..=limits.max_key_size()).contains(&bits.into()))
    }
}

/// Creates a key and checks its attributes. Destroys it if the check fails.
fn create(
    context: &OperationContext<'_>,
    session: &mut TokenSession,
    purpose: Purpose,
    algorithm: Algorithm,
) -> Result<KeyInfo, DriverError> {
    let label = objects::label(context.uri, purpose);
    let (private, public) = objects::search(&session.raw, context.uri, &label)?;
    if !private.is_empty() || !public.is_empty() {
        return Err(exists(&label).into());
    }
    let writable = context.live.open_rw_session(session.slot)?;
    let made = generate(&writable, context, purpose, algorithm)?;
    let found = session.found;
    let proved = prove(context, session, &made, &label, purpose);
    if proved.is_err() {
        session.found = found;
        let objects = [made.private.handle].into_iter().chain(made.public);
        objects.for_each(|object| drop(writable.destroy_object(object)));
    }
    proved
}

/// Reads the new key back. If two programs made the key at the same moment, both fail.
fn prove(
    context: &OperationContext<'_>,
    session: &mut TokenSession,
    made: &Located,
    label: &str,
    purpose: Purpose,
) -> Result<KeyInfo, DriverError> {
    if objects::search(&session.raw, context.uri, label)?.0.len() > 1 {
        return Err(exists(label).into());
    }
    let key = context.key_info(session, made, purpose)?;
    key.evidence.check(&key)?;
    operations::prove_kept(&session.raw, made.private.handle)?;
    Ok(key)
}

/// Destroys a public key, unless the module has destroyed it along with the private one.
fn destroy_public(session: &Session, public: ObjectHandle) -> Result<(), DriverError> {
    match session.destroy_object(public) {
        Err(e) if !matches!(code(&e), Some(RvError::ObjectHandleInvalid | RvError::ActionProhibited)) => {
            Err(e.into())
        }
        _ => Ok(()),
    }
}

fn exists(label: &str) -> Error {
    Error::new(Kind::Conflict, "create the key", format!("an object labelled `{label}` already exists"))
        .with_hint("use the existing key, or choose another object= in the URI")
}
