//! A new store: keys, evidence, a proof that they work, genesis.

use super::author::Prepared;
use super::{Setup, Vault, random, random_id};
use crate::device::{
    self, Algorithm, Challenge, CreateOptions, Device, EvidenceLevel, KeyInfo, KeyRef, PublicKey, Purpose,
};
use crate::error::{Error, Kind, Result};
use crate::ledger::body::{Body, Enrol, Genesis, Role, Slot};
use crate::ledger::{Batch, DeviceId, Hash, Position, Statement, StoreId};
use crate::prompt::Prompter;
use crate::replica::Pin;
use crate::seal::{self, Context, Recipient};
use crate::secret::Secret;
use crate::store::Store;
use crate::uri::DeviceUri;

const TRIED: &str = "create the store";

/// How a store is begun.
#[derive(Clone, Debug, Default)]
pub struct InitOptions {
    /// What the first device is called; its own label by default.
    pub device_name: Option<String>,
    /// The opening key's algorithm; the best the device can do by default.
    pub algorithm: Option<Algorithm>,
    /// What else its keys should be like.
    pub create: CreateOptions,
}

/// What `init` found and made.
#[derive(Clone, Debug)]
pub struct InitReport {
    /// The new store.
    pub store: StoreId,
    /// The first device.
    pub device: DeviceId,
    /// What it is called.
    pub device_name: String,
    /// Maker and model.
    pub model: String,
    /// Its opening and its signing key.
    pub keys: [KeyInfo; 2],
    /// Which of them were made now; the others were found.
    pub created: [bool; 2],
    /// The weaker of the keys' evidence.
    pub evidence: EvidenceLevel,
}

impl Vault {
    /// Creates a store whose first device is the only one of `setup`, with all roles.
    ///
    /// # Errors
    /// `Conflict` when there is a store already; `Evidence` for keys that could leave the device; the device's and store's.
    pub fn init(setup: Setup, options: &InitOptions) -> Result<(Self, InitReport)> {
        let Setup { store: url, devices, connected, state, mut prompter, clock, reader } = setup;
        let (uri, connected) = only_one(devices, connected)?;
        expect_none(&url)?;
        let mut device = connected.map_or_else(|| device::connect(&uri), Ok)?;
        let name = device_name(&*device, options)?;
        // Whatever can fail without leaving a trace comes before the file, and the file before the keys.
        let found = device.keys(&mut *prompter)?;
        let mut store = open_or_create(&url)?;
        let (keys, created) = find_or_create(&mut *device, &found, options, &mut *prompter)?;
        prove(&mut *device, &keys, &mut *prompter)?;
        let report = report(&*device, name, keys, created)?;
        let (id, prepared) = genesis(&report, &*device, clock())?;
        let report = InitReport { store: id, ..report };
        let batch = Batch::over(id, report.device, &prepared.leaves(), Position::START, Hash::ZERO);
        let key = KeyRef::from(&report.keys[1]);
        let signature = device.sign(&key, &batch.digest(), &mut *prompter)?;
        let signed =
            batch.sign_with(signature).map_err(|e| Error::new(Kind::Device, TRIED, e.0).on(device.name()))?;
        // The pin comes first: once the store has its genesis, this machine knows it.
        crate::paths::make_private(&state)?;
        Pin::forget(&state, store.location())?;
        Pin::of(id).keep(&state, store.location())?;
        prepared.append_to(&mut *store, &signed, Hash::ZERO, Position::START)?;
        let setup =
            Setup { store: url, devices: Vec::new(), connected: Vec::new(), state, prompter, clock, reader };
        let mut vault = Self::assemble(setup, store, Pin::of(id))?;
        vault.devices.adopt(uri, report.device, device);
        vault.follow(&mut |_, _| {})?;
        Ok((vault, report))
    }
}

/// The device to begin with, which may be connected already.
fn only_one(
    named: Vec<(DeviceUri, Option<DeviceId>)>,
    connected: Vec<(DeviceUri, Box<dyn Device>)>,
) -> Result<(DeviceUri, Option<Box<dyn Device>>)> {
    let named = named.into_iter().map(|(uri, _)| (uri, None));
    let mut all = named.chain(connected.into_iter().map(|(uri, device)| (uri, Some(device))));
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(Error::new(Kind::Usage, TRIED, "it begins with exactly one device")
            .advice("name it with --device")),
    }
}

/// Nobody is asked for a PIN when there is a store already.
fn expect_none(url: &str) -> Result<()> {
    let Ok(mut store) = crate::store::open(url) else { return Ok(()) };
    match store.tail()?.n {
        0 => Ok(()),
        _ => Err(Error::new(Kind::Conflict, TRIED, "there is a store already")
            .on(store.location().to_owned())
            .advice("choose another place with --store, or use the store that is there")),
    }
}

/// An empty store. One without genesis is one whose creation was cut off: it is gone on with.
fn open_or_create(url: &str) -> Result<Box<dyn Store>> {
    expect_none(url)?;
    crate::store::open(url).or_else(|_| crate::store::create(url))
}

/// The two keys, the opening one first, and which of them were made now.
fn find_or_create(
    device: &mut dyn Device,
    found: &[KeyInfo],
    options: &InitOptions,
    prompter: &mut dyn Prompter,
) -> Result<([KeyInfo; 2], [bool; 2])> {
    let mut key = |purpose: Purpose| match found.iter().find(|key| key.purpose == purpose) {
        Some(key) => Ok((key.clone(), false)),
        None => create(device, purpose, options, prompter).map(|key| (key, true)),
    };
    let ((opening, opening_new), (signing, signing_new)) = (key(Purpose::Open)?, key(Purpose::Sign)?);
    if let Some(wanted) = options.algorithm.filter(|wanted| *wanted != opening.public.algorithm()) {
        let answer =
            format!("it has an opening key already, of another algorithm ({})", opening.public.algorithm());
        return Err(Error::new(Kind::Conflict, format!("make a {wanted} opening key"), answer)
            .on(device.name())
            .advice(
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
    options: &InitOptions,
    prompter: &mut dyn Prompter,
) -> Result<KeyInfo> {
    let name = device.name().to_owned();
    let none =
        |what: &str| Error::new(Kind::Unsupported, format!("make the {purpose} key"), what).on(name.clone());
    let provision = device.provisioning().ok_or_else(|| none("the device's driver makes no keys"))?;
    let algorithm = match (purpose, options.algorithm) {
        (Purpose::Sign, _) => Algorithm::P256,
        (Purpose::Open, Some(wanted)) => wanted,
        (Purpose::Open, None) => *provision
            .algorithms()?
            .first()
            .ok_or_else(|| none("it can do none of P-256 ECDH, RSA-OAEP and AES-256-GCM"))?,
    };
    provision.create(purpose, algorithm, &options.create, prompter)
}

/// Seals and opens, signs and verifies: a key that does not work is not enrolled.
fn prove(device: &mut dyn Device, keys: &[KeyInfo; 2], prompter: &mut dyn Prompter) -> Result<()> {
    let [opening, signing] = keys;
    let name = device.name().to_owned();
    let failed = |what: &str| Error::new(Kind::Device, "prove the keys", what).on(name.clone());
    let mut plain = vec![0; 32];
    random(&mut plain)?;
    let (plain, key) = (Secret::new(plain), KeyRef::from(opening));
    let context = Context { store: [0; 32], token: [0; 16], version: 1 };
    let recipient = Recipient { public: &opening.public, name: &name };
    let sealed = seal::seal(&plain, &context, &[recipient], &mut |request| match device.wrapping() {
        Some(wrap) => wrap.wrap(&key, request.iv, request.aad, request.file_key, prompter),
        None => seal::without_device(request),
    })?;
    let mut ask = |challenge: Challenge<'_>| device.open_key(&key, challenge, prompter);
    if seal::open(&sealed, &context, &opening.public, &mut ask)? != plain {
        return Err(failed("what was sealed to the opening key did not come back from it"));
    }
    let batch = Batch::over(StoreId::UNBORN, DeviceId([0; 16]), &[Hash::ZERO], Position::START, Hash::ZERO);
    let signature = device.sign(&KeyRef::from(signing), &batch.digest(), prompter)?;
    match (&signing.public, batch.sign_with(signature)) {
        (PublicKey::P256(point), Ok(signed)) if signed.is_signed_by(point) => Ok(()),
        _ => Err(failed("what the signing key signed does not verify with its public key")),
    }
}

fn device_name(device: &dyn Device, options: &InitOptions) -> Result<String> {
    let name = options.device_name.clone().unwrap_or_else(|| speakable(&device.identity().label));
    crate::ledger::name::check_short(&name).map_err(|e| {
        Error::new(Kind::Usage, "name the device", e).on(device.name()).advice("choose a name with --name")
    })?;
    Ok(name)
}

fn report(
    device: &dyn Device,
    device_name: String,
    keys: [KeyInfo; 2],
    created: [bool; 2],
) -> Result<InitReport> {
    let identity = device.identity();
    let evidence = keys[0].evidence.level.min(keys[1].evidence.level);
    let model = format!("{} {}", identity.maker, identity.model);
    let (store, device) = (StoreId::UNBORN, DeviceId(random_id()?));
    Ok(InitReport { store, device, device_name, model, keys, created, evidence })
}

/// A label as a device name: what is not allowed in one becomes `-`.
fn speakable(label: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._+:".contains(c) { c } else { '-' };
    let name: String = label.chars().map(safe).take(crate::ledger::name::MAX_SEGMENT_BYTES).collect();
    match name.trim_matches('-') {
        "" | "." | ".." => "device".into(),
        name => name.into(),
    }
}

fn genesis(report: &InitReport, device: &dyn Device, time: u64) -> Result<(StoreId, Prepared)> {
    let PublicKey::P256(signing) = report.keys[1].public else {
        return Err(Error::new(Kind::Unsupported, TRIED, "the signing key is not P-256").on(device.name()));
    };
    let (author, nonce) = (report.device, random_id()?);
    let slot = |key: &KeyInfo| Slot {
        key: key.public.clone(),
        uri: key.uri.clone(),
        evidence: key.evidence.clone(),
        material: key.material.clone(),
    };
    let enrol = Enrol {
        device: author,
        name: report.device_name.clone(),
        model: report.model.clone(),
        serial: device.identity().serial.clone(),
        opening: slot(&report.keys[0]),
        signing: slot(&report.keys[1]),
        roles: crate::ledger::sorted_roles(vec![Role::Open, Role::Write(String::new()), Role::Admin]),
    };
    let compose = |store, body, head: Hash| {
        let head = |subject: &crate::ledger::Subject| match subject {
            crate::ledger::Subject::Store => Ok::<_, std::convert::Infallible>(head),
            _ => Ok(Hash::ZERO),
        };
        let Ok(statement) = Statement::compose(store, author, time, body, head);
        statement
    };
    let first =
        compose(StoreId::UNBORN, Body::Genesis(Genesis { nonce, device: author, signing }), Hash::ZERO);
    Ok(Prepared::genesis(first, |store, head| compose(store, Body::Enrol(Box::new(enrol)), head)))
}
