//! The keys of a device to enrol: find or create them, check their evidence, test them.

use crate::device::{
    Algorithm, CreateOptions, Device, DeviceWorker, KeyInfo, KeyRef, PrivateOperation, PublicKey, Purpose,
};
use crate::error::{Error, Kind, Result};
use crate::ledger::SignatureAlgorithm;
use crate::ledger::{Batch, DeviceId, Hash, LogPosition, StoreId};
use crate::prompt::Prompter;
use crate::seal::{self, Context, Recipient};
use crate::secret::Secret;
use crate::vault::random;

/// What to create if a key is missing.
#[derive(Clone)]
pub(crate) struct KeySpec {
    /// The opening key's algorithm; the best the device supports by default.
    pub(crate) algorithm: Option<Algorithm>,
    pub(crate) create: CreateOptions,
}

/// The opening and the signing key, and whether each was created now.
pub(crate) type Keys = ([KeyInfo; 2], [bool; 2]);

/// Finds or creates the two keys in a device, and tests them.
pub(crate) fn prepare_keys(
    worker: &DeviceWorker,
    found: Vec<KeyInfo>,
    wanted: KeySpec,
    prompter: &mut dyn Prompter,
) -> Result<Keys> {
    worker.call_to_make_keys("make the keys", prompter, move |device, prompter| {
        let (keys, created) = find_or_create(device, &found, &wanted, prompter)?;
        self_test(device, &keys, prompter)?;
        Ok((keys, created))
    })
}

/// The device's existing keys, with evidence for enrolment.
pub(crate) fn existing_keys(
    worker: &DeviceWorker,
    options: &CreateOptions,
    prompter: &mut dyn Prompter,
) -> Result<Vec<KeyInfo>> {
    let options = options.clone();
    worker.call("list the keys", prompter, move |device, prompter| device.keys_judged_by(&options, prompter))
}

fn find_or_create(
    device: &mut dyn Device,
    found: &[KeyInfo],
    wanted: &KeySpec,
    prompter: &mut dyn Prompter,
) -> Result<Keys> {
    let mut key = |purpose: Purpose| match found.iter().find(|key| key.purpose == purpose) {
        Some(key) => Ok((key.clone(), false)),
        None => create(device, purpose, wanted, prompter).map(|key| (key, true)),
    };
    let ((opening, opening_new), (signing, signing_new)) = (key(Purpose::Open)?, key(Purpose::Sign)?);
    if let Some(algorithm) = wanted.algorithm.filter(|algorithm| *algorithm != opening.public.algorithm()) {
        let message =
            format!("it has an opening key already, of another algorithm ({})", opening.public.algorithm());
        return Err(Error::new(Kind::Conflict, format!("make a {algorithm} opening key"), message)
            .with_target(device.name())
            .with_hint(
                "leave --algorithm out to use that key, or name other keys with object= in the device's URI",
            ));
    }
    for key in [&opening, &signing] {
        key.evidence.check(key)?;
    }
    Ok(([opening, signing], [opening_new, signing_new]))
}

fn create(
    device: &mut dyn Device,
    purpose: Purpose,
    wanted: &KeySpec,
    prompter: &mut dyn Prompter,
) -> Result<KeyInfo> {
    let name = device.name().to_owned();
    let none = |what: &str| {
        Error::new(Kind::Unsupported, format!("make the {purpose} key"), what).with_target(name.clone())
    };
    let provision = device.provisioning().ok_or_else(|| none("the device's driver makes no keys"))?;
    let algorithm = match (purpose, wanted.algorithm) {
        (Purpose::Sign, _) => Algorithm::P256,
        (Purpose::Open, Some(algorithm)) => algorithm,
        (Purpose::Open, None) => *provision
            .algorithms()?
            .first()
            .ok_or_else(|| none("it can do none of P-256 ECDH, RSA-OAEP and AES-256-GCM"))?,
    };
    provision.create(purpose, algorithm, &wanted.create, prompter)
}

/// Seals and opens, signs and verifies: a key that does not work must not be enrolled.
fn self_test(device: &mut dyn Device, keys: &[KeyInfo; 2], prompter: &mut dyn Prompter) -> Result<()> {
    let [opening, signing] = keys;
    let name = device.name().to_owned();
    let failed = |what: &str| Error::new(Kind::Device, "prove the keys", what).with_target(name.clone());
    let mut plain = vec![0; 32];
    random(&mut plain)?;
    let (plain, key) = (Secret::new(plain), KeyRef::from(opening));
    let context = Context { store: [0; 32], token: [0; 16], version: 1 };
    let recipient = Recipient { public: &opening.public, name: &name };
    let sealed = seal::seal(&plain, &context, &[recipient], &mut |request| match device.wrapping() {
        Some(wrap) => wrap.wrap(&key, request.iv, request.aad, request.file_key, prompter),
        None => seal::without_device(request),
    })?;
    let mut ask = |challenge: PrivateOperation<'_>| device.open_key(&key, challenge, prompter);
    if seal::open(&sealed, &context, &opening.public, &mut ask)? != plain {
        return Err(failed("what was sealed to the opening key did not come back from it"));
    }
    let batch = Batch::over(StoreId::ZERO, DeviceId([0; 16]), &[Hash::ZERO], LogPosition::START, Hash::ZERO);
    let by = signature_of(&signing.public, &name)?;
    let signature = device.sign(&KeyRef::from(signing), &batch.digest(by), prompter)?;
    match batch.sign_with(by, &signature) {
        Ok(signed) if signed.is_signed_by(&signing.public) => Ok(()),
        _ => Err(failed("what the signing key signed does not verify with its public key")),
    }
}

/// The signature algorithm of a device's signing key.
///
/// # Errors
/// `Unsupported` for a key that signs nothing.
pub(crate) fn signature_of(key: &PublicKey, device: &str) -> Result<SignatureAlgorithm> {
    SignatureAlgorithm::from_key(key).ok_or_else(|| {
        let message = format!("{} keys cannot sign", key.algorithm());
        Error::new(Kind::Unsupported, "sign", message).with_target(device)
    })
}

/// The name for a device: its label unless another is given.
pub(crate) fn device_name(device: &DeviceWorker, name: Option<&str>) -> Result<String> {
    let name = name.map(str::to_owned).unwrap_or_else(|| sanitize_label(&device.identity().label));
    crate::ledger::name::check_short(&name).map_err(|e| {
        Error::new(Kind::Usage, "name the device", e)
            .with_target(device.name())
            .with_hint("choose a name with --name")
    })?;
    Ok(name)
}

/// Turns a label into a device name: `-` replaces what is not allowed.
fn sanitize_label(label: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._+:".contains(c) { c } else { '-' };
    let name: String = label.chars().map(safe).take(crate::ledger::name::MAX_SEGMENT_BYTES).collect();
    match name.trim_matches('-') {
        "" | "." | ".." => "device".into(),
        name => name.into(),
    }
}
