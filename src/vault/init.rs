//! Creating a store: keys, evidence, a self-test, genesis.

use crate::vault::devices::add::{EnrolReport, reach};
use crate::vault::devices::keys::{KeySpec, device_name, existing_keys, prepare_keys, signature_of};
use crate::vault::devices::rollback_counter::expect_counters;
use crate::vault::ledger::encoded_batch::EncodedBatch;
use crate::vault::{Setup, Vault, random_id};

use crate::device::{Algorithm, CreateOptions, Device, DeviceWorker, KeyRef};
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::ledger::body::{Body, Genesis, Role};
use crate::ledger::{Batch, DeviceId, Hash, LogPosition, SignedBatch, Statement, StoreId};
use crate::prompt::Prompter;
use crate::replica::{Replica, StorePin};
use crate::store::Store;
use crate::uri::DeviceUri;
use std::mem::take;
use std::path::Path;

const OPERATION: &str = "create the store";

/// Options for a new store.
#[derive(Clone, Debug, Default)]
pub struct InitOptions {
    /// The first device's name; its label by default.
    pub device_name: Option<String>,
    /// The opening key's algorithm; the best the device supports by default.
    pub algorithm: Option<Algorithm>,
    /// Further options for its keys.
    pub create: CreateOptions,
    /// Anchor the store to a counter in the device.
    pub anti_rollback: bool,
}

/// What `init` found and created.
#[derive(Clone, Debug)]
pub struct InitReport {
    /// The new store.
    pub store: StoreId,
    /// The first device, with all roles.
    pub first: EnrolReport,
}

impl Vault {
    /// Whether there is a store at `url` that has a first statement.
    ///
    /// # Errors
    /// The store's.
    pub fn exists(url: &str) -> Result<bool> {
        let Ok(mut store) = crate::store::open(url) else { return Ok(false) };
        Ok(store.tail()?.n > 0)
    }

    /// Creates a store. Its first device is the only one in `setup`, and gets all roles. A failure leaves no store behind.
    ///
    /// # Errors
    /// `Conflict` if a store already exists; `Evidence` for keys that could leave the device; the device's and the
    /// store's.
    pub fn init(mut setup: Setup, options: &InitOptions) -> Result<(Self, InitReport)> {
        let (uri, connected) = only_one(take(&mut setup.devices), take(&mut setup.connected))?;
        expect_none(&setup.store)?;
        let prompter = &mut *setup.prompter;
        let worker = reach(&uri, connected, prompter)?;
        let name = device_name(&worker, options.device_name.as_deref())?;
        if options.anti_rollback {
            expect_counters(&worker)?;
        }
        // Do first what can fail and leaves nothing behind, then create the file, then the keys.
        let found = existing_keys(&worker, &options.create, prompter)?;
        let url = setup.store.clone();
        let _alone = crate::store::reserve(&url)?;
        let store = open_or_create(&url)?;
        failpoint::reach("init.created");
        let wanted = KeySpec { algorithm: options.algorithm, create: options.create.clone() };
        let made = prepare_keys(&worker, found, wanted, prompter).and_then(|keys| {
            let roles = vec![Role::Open(String::new()), Role::Admin];
            let first = EnrolReport::from_device(&worker, name, keys, roles)?;
            let mut vault = Self::make(setup, store, &worker, &first)?;
            vault.devices.attach_device(uri, first.device, worker);
            if options.anti_rollback {
                let anchored = vault.anchor(&first.device_name, false);
                anchored.inspect_err(|_| forget(&vault.state, vault.location()))?;
            }
            Ok((InitReport { store: vault.pin.store, first }, vault))
        });
        let (report, vault) = made.inspect_err(|_| {
            if let Err(error) = crate::store::remove(&url) {
                log::warn!("{error}");
            }
        })?;
        Ok((vault, report))
    }

    /// Signs and appends the first batch.
    fn make(
        mut setup: Setup,
        mut store: Box<dyn Store>,
        worker: &DeviceWorker,
        first: &EnrolReport,
    ) -> Result<Self> {
        let (prepared, signed) = sign_genesis(worker, first, (setup.clock)(), &mut *setup.prompter)?;
        let (id, state, location) = (signed.batch.store, setup.state.clone(), store.location().to_owned());
        // Write the pin first, so that this machine knows the store as soon as it has a genesis.
        crate::paths::make_private(&state)?;
        StorePin::from_store(id).replace(&state, &location)?;
        failpoint::reach("init.pinned");
        let made = prepared.append_to(&mut *store, &signed).and_then(|_| {
            let mut vault = Self::assemble(setup, store, StorePin::from_store(id))?;
            vault.sync(&mut |_, _| {})?;
            Ok(vault)
        });
        made.inspect_err(|_| forget(&state, &location))
    }
}

/// Forgets the pin of a store that came to nothing. One that is left does no harm.
fn forget(state: &Path, location: &str) {
    if let Err(error) = StorePin::forget(state, location) {
        log::warn!("{error}");
    }
}

/// Signs the first batch, and verifies it as its readers will.
fn sign_genesis(
    worker: &DeviceWorker,
    first: &EnrolReport,
    time: u64,
    prompter: &mut dyn Prompter,
) -> Result<(EncodedBatch, SignedBatch)> {
    let (id, prepared) = genesis(first, time)?;
    prepared.expect_well_formed(OPERATION)?;
    let batch = Batch::over(id, first.device, &prepared.leaves(), LogPosition::START, Hash::ZERO);
    let (key, by) = (KeyRef::from(&first.keys[1]), signature_of(&first.keys[1].public, worker.name())?);
    let digest = batch.digest(by);
    let sign =
        move |device: &mut dyn Device, prompter: &mut dyn Prompter| device.sign(&key, &digest, prompter);
    let signature = worker.call("sign", prompter, sign)?;
    let signed = batch
        .sign_with(by, &signature)
        .map_err(|e| Error::new(Kind::Device, OPERATION, e.0).with_target(worker.name()))?;
    prepared.expect_acceptable(OPERATION, &signed, &Replica::in_memory(id)?)?;
    Ok((prepared, signed))
}

/// The first device, which may be connected already.
fn only_one(
    named: Vec<(DeviceUri, Option<DeviceId>)>,
    connected: Vec<(DeviceUri, Box<dyn Device>)>,
) -> Result<(DeviceUri, Option<Box<dyn Device>>)> {
    let named = named.into_iter().map(|(uri, _)| (uri, None));
    let mut all = named.chain(connected.into_iter().map(|(uri, device)| (uri, Some(device))));
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(Error::new(Kind::Usage, OPERATION, "it begins with exactly one device")
            .with_hint("name it with --device")),
    }
}

/// Checked before anybody is asked for a PIN.
fn expect_none(url: &str) -> Result<()> {
    match Vault::exists(url)? {
        false => Ok(()),
        true => Err(Error::new(Kind::Conflict, OPERATION, "a store already exists")
            .with_target(crate::error::printable(url))
            .with_hint("use that store, or name another with --store")),
    }
}

/// An empty store. A store without a genesis is left over from an interrupted `init`: use it.
fn open_or_create(url: &str) -> Result<Box<dyn Store>> {
    expect_none(url)?;
    crate::store::open(url).or_else(|_| crate::store::create(url))
}

fn genesis(first: &EnrolReport, time: u64) -> Result<(StoreId, EncodedBatch)> {
    let signing = first.keys[1].public.clone();
    let (author, nonce, enrol) = (first.device, random_id()?, first.statement());
    let compose = |store, body, head: Hash| {
        let head = |subject: &crate::ledger::Subject| match subject {
            crate::ledger::Subject::Store => Ok::<_, std::convert::Infallible>(head),
            _ => Ok(Hash::ZERO),
        };
        let Ok(statement) = Statement::compose(store, author, time, body, head);
        statement
    };
    let first = compose(StoreId::ZERO, Body::Genesis(Genesis { nonce, device: author, signing }), Hash::ZERO);
    Ok(EncodedBatch::genesis(first, |store, head| compose(store, Body::Enrol(Box::new(enrol)), head)))
}
