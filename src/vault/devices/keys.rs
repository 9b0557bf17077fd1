//! The keys of a device to enrol: find or create them, check their evidence, test them.

use crate::device::{
    Algorithm, CreateOptions, Device, DeviceWorker, KeyInfo, KeyRef, PrivateOperation, PublicKey, Purpose,
};
use crate::error::{Error, Kind, Result};
use crate::ledger::SignatureAlgorithm;
use crate::ledger::{Batch, DeviceId, Hash, LogPosition, StoreId};
use crate::prompt::Prompter;
use crate::seal::{self, Context, Opened, Recipient, Sealed};
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
    worker.for_making_keys().call("make the keys", prompter, move |device, prompter| {
        find_or_create(device, &found, &wanted, prompter)
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

/// Looks at everything that can be refused before it creates a key, so that a refusal leaves nothing in the device.
fn find_or_create(
    device: &mut dyn Device,
    found: &[KeyInfo],
    wanted: &KeySpec,
    prompter: &mut dyn Prompter,
) -> Result<Keys> {
    let find = |purpose: Purpose| found.iter().find(|key| key.purpose == purpose).cloned();
    let (opening, signing) = (find(Purpose::Open), find(Purpose::Sign));
    if let (Some(key), Some(algorithm)) = (&opening, wanted.algorithm)
        && key.public.algorithm() != algorithm
    {
        return Err(other_algorithm(key, algorithm, device.name()));
    }
    for key in opening.iter().chain(&signing) {
        key.evidence.check(key)?;
    }
    let opening_algorithm = choose(device, Purpose::Open, wanted.algorithm, opening.is_some())?;
    let signing_algorithm = choose(device, Purpose::Sign, None, signing.is_some())?;
    let created = [opening.is_none(), signing.is_none()];
    let opening = match opening {
        Some(key) => key,
        None => create(device, Purpose::Open, opening_algorithm, wanted, prompter)?,
    };
    let signing = match signing {
        Some(key) => Ok(key),
        None => create(device, Purpose::Sign, signing_algorithm, wanted, prompter),
    };
    let signing = signing.inspect_err(|error| {
        let new = std::iter::once(&opening).filter(|_| created[0]);
        discard_useless(device, new, error, prompter);
    })?;
    let keys = [opening, signing];
    self_test(device, &keys, prompter).inspect_err(|error| {
        let new = keys.iter().zip(created).filter_map(|(key, created)| created.then_some(key));
        discard_useless(device, new, error, prompter);
    })?;
    Ok((keys, created))
}

/// Destroys new keys that cannot be used. Keys stay after other failures, and the next run finds them.
fn discard_useless<'a>(
    device: &mut dyn Device,
    keys: impl Iterator<Item = &'a KeyInfo>,
    error: &Error,
    prompter: &mut dyn Prompter,
) {
    let is_useless = matches!(error.kind(), Kind::Unsupported | Kind::Device | Kind::Evidence);
    let Some(provision) = device.provisioning().filter(|_| is_useless) else { return };
    for key in keys {
        if let Err(error) = provision.destroy(key, prompter) {
            log::warn!("the {} key that was made stays in the device: {error}", key.purpose);
        }
    }
}

/// The algorithm of a key to create. Any, if the key is there.
fn choose(
    device: &mut dyn Device,
    purpose: Purpose,
    wanted: Option<Algorithm>,
    is_there: bool,
) -> Result<Algorithm> {
    if is_there {
        return Ok(Algorithm::P256);
    }
    let name = device.name().to_owned();
    let unsupported = |message: &str| {
        Error::new(Kind::Unsupported, format!("make the {purpose} key"), message).with_target(name.as_str())
    };
    let provision = device.provisioning().ok_or_else(|| unsupported("the device's driver makes no keys"))?;
    if let Some(algorithm) = wanted {
        return Ok(algorithm);
    }
    provision.algorithms(purpose)?.first().copied().ok_or_else(|| match purpose {
        Purpose::Open => unsupported("the device has none of P-256 ECDH, RSA-OAEP and AES-256-GCM"),
        Purpose::Sign => unsupported("the device has neither ECDSA on P-256 or P-384 nor RSASSA-PSS"),
    })
}

fn other_algorithm(key: &KeyInfo, wanted: Algorithm, device: &str) -> Error {
    let message = format!("it has an opening key already, of another algorithm ({})", key.public.algorithm());
    Error::new(Kind::Conflict, format!("make a {wanted} opening key"), message).with_target(device).with_hint(
        "leave --algorithm out to use that key, or name other keys with object= in the device's URI",
    )
}

fn create(
    device: &mut dyn Device,
    purpose: Purpose,
    algorithm: Algorithm,
    wanted: &KeySpec,
    prompter: &mut dyn Prompter,
) -> Result<KeyInfo> {
    let message = "the device's driver makes no keys";
    let none = Error::new(Kind::Unsupported, format!("make the {purpose} key"), message);
    let none = none.with_target(device.name());
    device.provisioning().ok_or(none)?.create(purpose, algorithm, &wanted.create, prompter)
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
    let sealed = seal::seal(&plain, &context, &[recipient], 1, &mut |request| match device.wrapping() {
        Some(wrap) => wrap.wrap(&key, request.iv, request.aad, request.secret, prompter),
        None => seal::without_device(request),
    })?;
    let mut ask = |challenge: PrivateOperation<'_>| device.open_key(&key, challenge, prompter);
    let opened = Sealed::parse(&sealed)?.open(&context, 1, &opening.public, &mut ask)?;
    if !matches!(opened, Opened::Token(token) if token == plain) {
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
