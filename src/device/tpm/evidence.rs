//! Verifies that a key is in a genuine TPM, in four steps, each based on the one before:
//!
//! 1. The TPM holds a certificate for an endorsement key (EK) with a chain to a root that the operator trusts. The maker states:
//!    this key is in one of our TPMs.
//! 2. The TPM makes an attestation key (AK) and decrypts a value that we encrypted, in software, to the key *in the certificate* and
//!    bound to the AK's name. This proves that the AK, with the attributes that its name covers, is in the same TPM.
//! 3. The AK signs only structures that its TPM has composed. It signs the name of Strongroom's key together with a fresh nonce
//!    (TPM2_Certify). This proves that the key is in the TPM now.
//! 4. The name covers the key's public area: fixedTPM, fixedParent, sensitiveDataOrigin, its policy and its point.
//!
//! The channel to the TPM need not be trusted: only the signatures and the decrypted value count. Nothing is recorded, because
//! step 2 convinces only the party that chose the value. A record would prove nothing to others.

use super::connection::{self, Connection};
use super::credential;
use super::ek::{self, EkCertificates, Kind as EkKind};
use super::error::{DriverError, WithCommand};
use super::esys::{self, Esys};
use super::key_blob::KeyBlob;
use super::templates;
use crate::device::certificates::{Certificate, EK_CERTIFICATE, verify_chain};
use crate::device::{Evidence, EvidenceLevel};
use crate::error::{Error, Kind};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use std::time::SystemTime;
use tss_esapi::Context;
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{AuthHandle, KeyHandle, ObjectHandle, SessionHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    Attest, AttestInfo, Auth, Data, Digest, EncryptedSecret, IdObject, Nonce, Public, Signature,
    SignatureScheme, SymmetricDefinition,
};
use tss_esapi::traits::Marshall;
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

const OPERATION: &str = "attest the key";

/// The claims that are checked besides the key's own attributes.
const PROVEN: [&str; 3] = ["EK certificate", "TPM2_ActivateCredential", "TPM2_Certify"];

/// The evidence for a new key: `attested` if roots are given, else `otherwise`. First flushes the connection's keys and
/// sessions, because a TPM may have only three slots.
///
/// # Errors
/// `Evidence`, naming what failed. A failed proof never falls back to a weaker level.
pub fn gather(
    connection: &mut Connection<Esys>,
    material: &KeyBlob,
    pin: Option<&Zeroizing<Vec<u8>>>,
    roots: Option<&[Vec<u8>]>,
    otherwise: EvidenceLevel,
) -> Result<Evidence, DriverError> {
    let mut claims = templates::claims(&material.key.public);
    let Some(roots) = roots else { return Ok(Evidence { level: otherwise, claims }) };
    let endorsement = endorsement(&mut connection.tpm.context, roots)?;
    connection.end_session();
    connection.unload();
    let tpm = &mut connection.tpm;
    let (attesting, public) = make_attesting_key(&mut tpm.context)?;
    let proven = prove(tpm, material, pin, &endorsement, (attesting, &public));
    tpm.context.flush_context(attesting.into()).with_command("TPM2_FlushContext")?;
    proven?;
    claims.extend(PROVEN.map(|proven| (proven.to_owned(), true)));
    Ok(Evidence { level: EvidenceLevel::Attested, claims })
}

/// Steps 2 and 3.
fn prove(
    tpm: &mut Esys,
    material: &KeyBlob,
    pin: Option<&Zeroizing<Vec<u8>>>,
    endorsement: &Endorsement,
    (attesting, public): (KeyHandle, &Public),
) -> Result<(), DriverError> {
    let name = templates::name(public).with_command("TPM2_CreatePrimary")?;
    activate(&mut tpm.context, endorsement, attesting, &name)?;
    certify(tpm, material, pin, attesting, public)
}

/// An endorsement key with a verified certificate.
struct Endorsement {
    kind: EkKind,
    certificate: Certificate,
}

/// The first certificate in the TPM with a chain to one of the roots. None is an error, so hiding a certificate cannot lower the level.
fn endorsement(context: &mut Context, roots: &[Vec<u8>]) -> Result<Endorsement, DriverError> {
    let certificates = EkCertificates::look(context)?;
    let (mut chain, mut objection) = (None, None);
    for kind in EkKind::ALL {
        let Some(der) = certificates.certificate(context, kind)? else { continue };
        let between = match &chain {
            Some(between) => between,
            None => chain.insert(certificates.chain(context)?),
        };
        match believed(&der, between, roots) {
            Ok(certificate) => return Ok(Endorsement { kind, certificate }),
            Err(error) => objection = objection.or_else(|| Some(distrusted(kind, &error))),
        }
    }
    Err(objection.unwrap_or_else(uncertified).into())
}

fn believed(der: &[u8], between: &[Vec<u8>], roots: &[Vec<u8>]) -> crate::error::Result<Certificate> {
    verify_chain(der, between, roots, Some(&EK_CERTIFICATE), SystemTime::now())?;
    Certificate::parse(der)
}

/// Makes the attestation key. It is restricted: it signs only what its TPM composed, never an external digest that looks alike
/// (part 1 §25.1.2).
fn make_attesting_key(context: &mut Context) -> Result<(KeyHandle, Public), DriverError> {
    const COMMAND: &str = "TPM2_CreatePrimary";
    let template = templates::attesting().with_command(COMMAND)?;
    let asked = template.clone();
    let made = context.execute_with_session(Some(AuthSession::Password), |context| {
        context.create_primary(Hierarchy::Endorsement, asked, None, None, None, None)
    });
    let made = match made.with_command(COMMAND) {
        // TPM_RC_BAD_AUTH
        Err(fault) if fault.is(0xa2) => return Err(guarded().into()),
        made => made?,
    };
    if templates::pointless(&made.out_public) == templates::pointless(&template)
        && templates::point(&made.out_public).is_some()
    {
        return Ok((made.key_handle, made.out_public));
    }
    let _ = context.flush_context(made.key_handle.into());
    Err(failed("the TPM did not make the requested attestation key").into())
}

/// Step 2: TPM2_ActivateCredential decrypts the value that was encrypted to the key in the certificate.
fn activate(
    context: &mut Context,
    endorsement: &Endorsement,
    attesting: KeyHandle,
    name: &[u8; 34],
) -> Result<(), DriverError> {
    let (key, public) = ek::make(context, endorsement.kind)?;
    holding(context, key.into(), |context| {
        let certified = endorsement.certificate.key()?;
        if !ek::is_about(&public, certified) {
            return Err(another_key(endorsement).into());
        }
        let challenge = credential::challenge(certified, name)
            .ok_or_else(|| failed("the key in the EK certificate does not support encryption"))?;
        let answer = if endorsement.kind.is_used_by_policy() {
            let session = start_policy(context)?;
            holding(context, SessionHandle::from(session).into(), |context| {
                authorise(context, session)?;
                answer(context, attesting, key, session, &challenge)
            })
        } else {
            answer(context, attesting, key, AuthSession::Password, &challenge)
        }?;
        if answer.value() == challenge.answer.as_slice() { Ok(()) } else { Err(not_in_the_tpm().into()) }
    })
}

/// PolicySecret(endorsement), which authorises keys of the low range. The hierarchy's authorisation is empty.
fn authorise(context: &mut Context, session: AuthSession) -> Result<(), DriverError> {
    let policy = esys::policy(session)?;
    let asserted = context.execute_with_session(Some(AuthSession::Password), |context| {
        let (nonce, digest) = (Nonce::default(), Digest::default());
        context.policy_secret(policy, AuthHandle::Endorsement, nonce.clone(), digest, nonce, None)
    });
    asserted.with_command("TPM2_PolicySecret").map(drop)
}

fn answer(
    context: &mut Context,
    attesting: KeyHandle,
    endorsement: KeyHandle,
    by: AuthSession,
    challenge: &credential::Challenge,
) -> Result<Digest, DriverError> {
    const COMMAND: &str = "TPM2_ActivateCredential";
    let blob = IdObject::try_from(challenge.blob.clone()).with_command(COMMAND)?;
    let secret = EncryptedSecret::try_from(challenge.secret.clone()).with_command(COMMAND)?;
    let sessions = (Some(AuthSession::Password), Some(by), None);
    let answer = context.execute_with_sessions(sessions, |context| {
        context.activate_credential(attesting, endorsement, blob, secret)
    });
    match answer.with_command(COMMAND) {
        // TPM_RC_INTEGRITY, TPM_RC_VALUE, TPM_RC_SIZE: the value was encrypted for another endorsement or attestation key.
        Err(fault) if [0x9f, 0x84, 0x95].into_iter().any(|code| fault.is(code)) => {
            Err(not_in_the_tpm().into())
        }
        other => other,
    }
}

/// Step 3: TPM2_Certify, with a check of the signed structure.
fn certify(
    tpm: &mut Esys,
    material: &KeyBlob,
    pin: Option<&Zeroizing<Vec<u8>>>,
    attesting: KeyHandle,
    attesting_public: &Public,
) -> Result<(), DriverError> {
    const COMMAND: &str = "TPM2_Certify";
    let mut number = [0; 32];
    SystemRandom::new().fill(&mut number).map_err(|_| failed("the system has no random numbers"))?;
    let fresh = Data::try_from(number.to_vec()).with_command(COMMAND)?;
    let (attest, signature) = with_key(tpm, material, pin, |context, key, by| {
        let sessions = (Some(by), Some(AuthSession::Password), None);
        let certified = context.execute_with_sessions(sessions, |context| {
            context.certify(key.into(), attesting, fresh, SignatureScheme::Null)
        });
        certified.with_command(COMMAND)
    })?;
    let name = templates::name(&material.key.public).with_command(COMMAND)?;
    let names = (&material.parent.name, &name);
    check(&attest, &signature, attesting_public, names, &number).map_err(|what| failed(what).into())
}

/// The loaded key and the session that authorises it. A PIN only enters the session's HMAC and is never sent.
fn with_key<T>(
    tpm: &mut Esys,
    material: &KeyBlob,
    pin: Option<&Zeroizing<Vec<u8>>>,
    job: impl FnOnce(&mut Context, KeyHandle, AuthSession) -> Result<T, DriverError>,
) -> Result<T, DriverError> {
    let parent = connection::storage_root_key(tpm, &material.parent).map_err(|fault| match fault {
        DriverError::Final(error) if error.kind() == Kind::KeyMissing => {
            failed("the storage root key is not the key's parent").into()
        }
        fault => fault,
    });
    let (parent, transient) = parent?;
    let (parent, context) = (KeyHandle::from(parent), &mut tpm.context);
    let load = |context: &mut Context| {
        let key = esys::load(context, parent, &material.key)?;
        let Some(pin) = pin else { return Ok((key, None)) };
        let ready = Auth::try_from(pin.to_vec())
            .and_then(|auth| context.tr_set_auth(key.into(), auth))
            .with_command("TPM2_Certify")
            .and_then(|()| esys::start_session(context, parent, SessionType::Hmac));
        match ready {
            Ok(session) => Ok((key, Some(session))),
            Err(fault) => {
                let _ = context.flush_context(key.into());
                Err(fault)
            }
        }
    };
    let (key, session) = if transient { holding(context, parent.into(), load) } else { load(context) }?;
    holding(context, key.into(), |context| match session {
        Some(session) => {
            let handle = SessionHandle::from(session).into();
            holding(context, handle, |context| job(context, key, session))
        }
        None => job(context, key, AuthSession::Password),
    })
}

/// Checks the contents of TPMS_ATTEST (part 2 §10.12.8) and the attestation key's signature.
fn check(
    attest: &Attest,
    signature: &Signature,
    attesting: &Public,
    (parent, name): (&[u8; 34], &[u8; 34]),
    fresh: &[u8; 32],
) -> Result<(), &'static str> {
    let AttestInfo::Certify { info } = attest.attested() else {
        return Err("TPM2_Certify returned a statement that is not about a key");
    };
    if attest.extra_data().value() != fresh {
        return Err("TPM2_Certify returned an old statement, or one made for another request");
    }
    if info.name().value() != name {
        return Err("TPM2_Certify returned a statement about another key");
    }
    if info.qualified_name().value() != qualified(parent, name) {
        return Err("TPM2_Certify returned another storage root key as the key's parent");
    }
    let unsigned = "the attestation key did not sign what TPM2_Certify returned";
    let point = templates::point(attesting).ok_or(unsigned)?;
    let Signature::EcDsa(halves) = signature else { return Err(unsigned) };
    let halves = [halves.signature_r(), halves.signature_s()].map(|half| templates::coordinate(half.value()));
    let [Some(r), Some(s)] = halves else { return Err(unsigned) };
    // Marshalling is canonical, so only the TPM's exact bytes verify.
    let message = attest.marshall().map_err(|_| unsigned)?;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(&message, &[r, s].concat()).map_err(|_| unsigned)
}

/// The Qualified Name of a key under a primary key of the owner hierarchy (part 1 §16): each level hashes the parent's and a name.
fn qualified(parent: &[u8; 34], name: &[u8; 34]) -> Vec<u8> {
    // TPM_RH_OWNER; TPM_ALG_SHA256
    [parent, name].into_iter().fold(0x4000_0001_u32.to_be_bytes().to_vec(), |above, name| {
        let hash = digest(&SHA256, &[above.as_slice(), name].concat());
        [&[0, 0x0b], hash.as_ref()].concat()
    })
}

/// A session for PolicySecret alone, which transfers no secret.
fn start_policy(context: &mut Context) -> Result<AuthSession, DriverError> {
    let started = context.execute_without_session(|context| {
        let (symmetric, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
        context.start_auth_session(None, None, None, SessionType::Policy, symmetric, hash)
    });
    let session = started.with_command("TPM2_StartAuthSession")?;
    session.ok_or_else(|| Error::new(Kind::Device, "open a session", "the TPM gave none").into())
}

/// Runs a job and flushes the handle afterwards, even if the job fails.
fn holding<T>(
    context: &mut Context,
    handle: ObjectHandle,
    job: impl FnOnce(&mut Context) -> Result<T, DriverError>,
) -> Result<T, DriverError> {
    let done = job(context);
    let flushed = context.flush_context(handle).with_command("TPM2_FlushContext");
    done.and_then(|done| flushed.map(|()| done))
}

fn failed(answer: impl Into<String>) -> Error {
    Error::new(Kind::Evidence, OPERATION, answer)
        .with_hint("find out what is between this program and the TPM before you trust this machine")
}

fn distrusted(kind: EkKind, error: &Error) -> Error {
    let answer = format!(
        "its {kind} EK certificate (NV index {:#010x}) cannot be trusted: {}",
        kind.index(),
        error.message()
    );
    Error::new(Kind::Evidence, OPERATION, answer).with_hint(
        "put the CA certificates of the TPM's maker into the directory of --ek-roots, those in between as well; \
         without --ek-roots the key is recorded as `reported`",
    )
}

fn uncertified() -> Error {
    Error::new(Kind::Evidence, OPERATION, "the TPM has no endorsement key certificate")
        .with_hint("without --ek-roots the key is recorded as `reported`")
}

fn another_key(endorsement: &Endorsement) -> Error {
    let kind = endorsement.kind;
    failed(format!(
        "the {kind} endorsement key of this TPM is not the one in its EK certificate (NV index {:#010x}), which is \
         another TPM's, or was made by a template of its maker's own",
        kind.index()
    ))
}

fn guarded() -> Error {
    let answer = "the TPM's endorsement hierarchy has a password, and attesting keys needs it empty";
    Error::new(Kind::Device, OPERATION, answer).with_hint(
        "empty it for the enrolment (`tpm2_changeauth -c endorsement -p VALUE`), or enrol without --ek-roots",
    )
}

fn not_in_the_tpm() -> Error {
    failed("the attestation key is not in the TPM of the EK certificate (TPM2_ActivateCredential)")
}
