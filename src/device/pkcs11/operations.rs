//! The private-key operations, on a session that is logged in.

use super::error::{DriverError, code};
use super::login::OperationLogin;
use super::objects::{PrivateKey, der_point};
use crate::device::{OaepHash, PrivateOperation, PublicKey};
use crate::error::{Error, Kind};
use cryptoki::error::{Error as CallError, RvError};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;
use rand_core::{OsRng, RngCore};
use zeroize::Zeroizing;

/// Bits of an AES-GCM tag.
const TAG_BITS: Ulong = Ulong::new(128);

/// The RSASSA-PSS parameters of signing keys.
const PSS: PkcsPssParams =
    PkcsPssParams { hash_alg: MechanismType::SHA256, mgf: PkcsMgfType::MGF1_SHA256, s_len: Ulong::new(32) };

/// What an operation with a private key needs.
pub struct Operation<'a> {
    pub session: &'a Session,
    pub key: PrivateKey,
    /// Logs in for the operation, if the key wants that.
    pub login: &'a OperationLogin,
}

impl Operation<'_> {
    /// C_Decrypt. A key with CKA_ALWAYS_AUTHENTICATE wants a login between C_DecryptInit and the rest (PKCS#11 v2.40 §5.6.9), and the crate
    /// lets others in only between the parts of an operation.
    fn decrypt(
        &self,
        mechanism: &Mechanism<'_>,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, DriverError> {
        let (session, key) = (self.session, self.key.handle);
        if !self.key.asks_always {
            return Ok(Zeroizing::new(session.decrypt(mechanism, key, ciphertext)?));
        }
        session.decrypt_init(mechanism, key)?;
        self.login.send(session)?;
        let start = Zeroizing::new(session.decrypt_update(ciphertext).map_err(in_parts)?);
        let rest = Zeroizing::new(session.decrypt_final().map_err(in_parts)?);
        Ok(Zeroizing::new([&start[..], &rest].concat()))
    }

    /// C_Sign, with a login as in [`Operation::decrypt`].
    fn sign(&self, mechanism: &Mechanism<'_>, digest: &[u8]) -> Result<Vec<u8>, DriverError> {
        let (session, key) = (self.session, self.key.handle);
        if !self.key.asks_always {
            return Ok(session.sign(mechanism, key, digest)?);
        }
        session.sign_init(mechanism, key)?;
        self.login.send(session)?;
        session.sign_update(digest).map_err(in_parts)?;
        session.sign_final().map_err(in_parts)
    }
}

/// A module need not do an operation in parts.
fn in_parts(error: CallError) -> DriverError {
    let unable = match &error {
        CallError::NullFunctionPointer => true,
        error => matches!(code(error), Some(RvError::FunctionNotSupported | RvError::FunctionNotParallel)),
    };
    if !unable {
        return error.into();
    }
    let message = "the key wants the PIN at every use (CKA_ALWAYS_AUTHENTICATE), and the module does no such operation in parts";
    Error::new(Kind::Unsupported, "use the key", message).with_hint(ASKS_ONCE).caused_by(error).into()
}

/// What to do about a key that wants the PIN at every use.
const ASKS_ONCE: &str =
    "use a key that wants the PIN once: let Strongroom create its own, with another object= in the URI";

/// Answers a challenge with a private or secret key.
pub fn answer(
    operation: &Operation<'_>,
    challenge: PrivateOperation<'_>,
) -> Result<Zeroizing<Vec<u8>>, DriverError> {
    match challenge {
        PrivateOperation::Ecdh { .. } if operation.key.asks_always => Err(cannot_agree()),
        PrivateOperation::Ecdh { peer } => ecdh(operation.session, operation.key.handle, peer),
        PrivateOperation::Oaep { hash, ciphertext } => oaep(operation, hash, ciphertext),
        PrivateOperation::AesGcm { iv, aad, ciphertext } => {
            let mut iv = *iv;
            let parameters = GcmParams::new(&mut iv, aad, TAG_BITS)?;
            operation.decrypt(&Mechanism::AesGcm(parameters), ciphertext)
        }
    }
}

/// For an agreement there is no C_…Init, and so no place for a login.
pub fn cannot_agree() -> DriverError {
    let message = "the key wants the PIN at every use (CKA_ALWAYS_AUTHENTICATE), and PKCS#11 has no way to give it to C_DeriveKey";
    Error::new(Kind::Unsupported, "agree on a key", message).with_hint(ASKS_ONCE).into()
}

/// AES-256-GCM: ciphertext and tag.
pub fn wrap(
    session: &Session,
    key: ObjectHandle,
    iv: &[u8; 12],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, DriverError> {
    let mut own = *iv;
    let parameters = GcmParams::new(&mut own, aad, TAG_BITS)?;
    let sealed = session.encrypt(&Mechanism::AesGcm(parameters), key, plaintext)?;
    // Some HSMs replace the IV with their own. The ciphertext could never be opened.
    if own != *iv || sealed.len() != plaintext.len() + 16 {
        let message = "the device does not follow the AES-GCM parameters: it chose its own IV or tag length";
        return Err(Error::new(Kind::Unsupported, "seal in the device", message).into());
    }
    Ok(sealed)
}

/// ECDSA over a digest, r ‖ s; or RSASSA-PSS.
pub fn sign(operation: &Operation<'_>, public: &PublicKey, digest: &[u8]) -> Result<Vec<u8>, DriverError> {
    let (mechanism, wanted) = match public.rsa() {
        Some((n, _)) => (Mechanism::RsaPkcsPss(PSS), n.len()),
        None => (Mechanism::Ecdsa, 2 * digest.len()),
    };
    let signature = operation.sign(&mechanism, digest)?;
    let is = signature.len();
    match is == wanted {
        true => Ok(signature),
        false => {
            let message = format!("the device's signature has {is} bytes, not {wanted}");
            Err(Error::new(Kind::Device, "sign", message).into())
        }
    }
}

/// A secret of this session in the device, destroyed on drop.
struct SessionKey<'a> {
    session: &'a Session,
    secret: ObjectHandle,
}

impl Drop for SessionKey<'_> {
    fn drop(&mut self) {
        let _ = self.session.destroy_object(self.secret);
    }
}

/// CKM_ECDH1_DERIVE with CKD_NULL: the x-coordinate of the shared point, half as long as the peer's point. The standard allows the
/// bare point and its DER encoding (v2.40 §2.3.6); some modules take only one of them.
fn ecdh(session: &Session, key: ObjectHandle, peer: &[u8]) -> Result<Zeroizing<Vec<u8>>, DriverError> {
    match derive(session, key, peer, peer.len() / 2) {
        Err(DriverError::Call(error)) if refuses_point(code(&error)) => {
            derive(session, key, &der_point(peer), peer.len() / 2)
        }
        derived => derived,
    }
}

fn derive(
    session: &Session,
    key: ObjectHandle,
    peer: &[u8],
    bytes: usize,
) -> Result<Zeroizing<Vec<u8>>, DriverError> {
    let parameters = Ecdh1DeriveParams::new(EcKdf::null(), peer);
    // Modules differ in their defaults for SENSITIVE and EXTRACTABLE, so set both.
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::ValueLen(Ulong::new(bytes as u64)),
    ];
    let secret = session.derive_key(&Mechanism::Ecdh1Derive(parameters), key, &template)?;
    let derived = SessionKey { session, secret };
    match session.get_attributes(derived.secret, &[AttributeType::Value])?.pop() {
        // Some modules drop leading zeroes.
        Some(Attribute::Value(value)) if value.len() <= bytes => {
            let value = Zeroizing::new(value);
            let mut x = Zeroizing::new(vec![0; bytes]);
            x[bytes - value.len()..].copy_from_slice(&value);
            Ok(x)
        }
        _ => {
            Err(Error::new(Kind::Unsupported, "agree on a key", "the device does not reveal the ECDH secret")
                .with_hint("use a key of another algorithm: --algorithm rsa3072 or aes256")
                .into())
        }
    }
}

fn oaep(
    operation: &Operation<'_>,
    hash: OaepHash,
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, DriverError> {
    let (hash, mask) = match hash {
        OaepHash::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
        OaepHash::Sha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
    };
    let parameters = PkcsOaepParams::new(hash, mask, PkcsOaepSource::empty());
    operation.decrypt(&Mechanism::RsaPkcsOaep(parameters), ciphertext)
}

/// The OAEP hash that works with this key: SHA-256, or SHA-1 if the device supports no other. Mechanism lists are unreliable,
/// so this seals a random message in software and has the device open it.
pub fn prove_oaep(operation: &Operation<'_>, n: &[u8], e: &[u8]) -> Result<OaepHash, DriverError> {
    for hash in [OaepHash::Sha256, OaepHash::Sha1] {
        let mut message = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(&mut *message);
        match oaep(operation, hash, &seal_to(n, e, hash, &*message)?) {
            Ok(opened) if opened[..] == message[..] => return Ok(hash),
            Err(DriverError::Call(error)) if !refuses_padding(code(&error)) => return Err(error.into()),
            Err(DriverError::Final(error)) => return Err(error.into()),
            _ => log::debug!("RSA-OAEP with {hash:?}: not in this device"),
        }
    }
    let message = "RSA-OAEP works neither with SHA-256 nor with SHA-1";
    Err(Error::new(Kind::Unsupported, "open with the RSA key", message).into())
}

/// Tries to take a private or secret key out of the device: reads its value, and wraps it with a key of its own. What a module
/// reports of a key is a claim, and some modules' claims are wrong.
///
/// # Errors
/// `Evidence` if either works.
pub fn prove_kept(session: &Session, key: ObjectHandle) -> Result<(), DriverError> {
    let refused = |how: &str| {
        let message = format!("the device says that the key cannot leave it, but {how} works");
        let hint = "do not use this device for keys that must stay in it";
        DriverError::from(Error::new(Kind::Evidence, "trust the key", message).with_hint(hint))
    };
    for value in [AttributeType::Value, AttributeType::PrivateExponent] {
        let read = session.get_attributes(key, &[value]).unwrap_or_default();
        let is_revealed = |attribute: &Attribute| matches!(attribute, Attribute::Value(bytes) | Attribute::PrivateExponent(bytes) if !bytes.is_empty());
        if read.iter().any(is_revealed) {
            return Err(refused("reading its value"));
        }
    }
    let template = [
        Attribute::Token(false),
        Attribute::ValueLen(Ulong::new(32)),
        Attribute::Encrypt(true),
        Attribute::Wrap(true),
    ];
    // Devices that make no wrapping keys wrap nothing.
    let Ok(wrapping) = session.generate_key(&Mechanism::AesKeyGen, &template) else { return Ok(()) };
    let wrapping = SessionKey { session, secret: wrapping };
    let mechanisms = [Mechanism::AesKeyWrapPad, Mechanism::AesKeyWrap, Mechanism::AesCbcPad([0; 16])];
    match mechanisms.iter().any(|mechanism| session.wrap_key(mechanism, wrapping.secret, key).is_ok()) {
        true => Err(refused("wrapping it")),
        false => Ok(()),
    }
}

/// The codes that modules return for a point in an unexpected encoding. CKR_GENERAL_ERROR is SoftHSM's for one bare point in
/// 256, which it takes for DER.
fn refuses_point(code: Option<RvError>) -> bool {
    use RvError::*;
    matches!(
        code,
        Some(
            ArgumentsBad
                | MechanismParamInvalid
                | DomainParamsInvalid
                | DataInvalid
                | DataLenRange
                | GeneralError
        )
    )
}

/// The codes that modules return for an unknown padding.
fn refuses_padding(code: Option<RvError>) -> bool {
    use RvError::*;
    let Some(code) = code else { return false };
    matches!(
        code,
        ArgumentsBad
            | MechanismInvalid
            | MechanismParamInvalid
            | FunctionNotSupported
            | EncryptedDataInvalid
            | EncryptedDataLenRange
            | DataInvalid
            | FunctionFailed
            | GeneralError
    )
}

fn seal_to(n: &[u8], e: &[u8], hash: OaepHash, message: &[u8]) -> Result<Vec<u8>, DriverError> {
    let (n, e) = (rsa::BigUint::from_bytes_be(n), rsa::BigUint::from_bytes_be(e));
    let sealed =
        rsa::RsaPublicKey::new(n, e).and_then(|key| key.encrypt(&mut OsRng, hash.padding(), message));
    sealed.map_err(|e| Error::new(Kind::Unsupported, "use the RSA key", e.to_string()).into())
}
