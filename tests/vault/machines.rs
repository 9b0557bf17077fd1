//! One store, and machines that reach it: each with a state of its own and devices in software.

use std::path::PathBuf;
use strongroom::ledger::{Hash, Name};
use strongroom::prompt::BatchPrompter;
use strongroom::replica::{SealedRow, VersionRow};
use strongroom::vault::{Accessor, EnrolOptions, InitOptions, PutOptions, Setup, Vault};
use strongroom::{Result, Secret};
use tempfile::TempDir;
use test_support::soft_device::SoftDevice;

/// What every clock here shows.
pub const NOW: u64 = 2_000_000_000_000;

/// A directory with a store in it.
pub struct Place {
    pub dir: TempDir,
}

pub fn name(s: &str) -> Name {
    Name::parse(s).unwrap()
}

pub fn secret(s: &str) -> Secret {
    Secret::new(s.as_bytes().to_vec())
}

impl Place {
    /// A store whose first device, with all roles, is this one.
    pub fn of(first: &SoftDevice) -> (Self, Vault) {
        Self::with(first, &InitOptions::default())
    }

    pub fn with(first: &SoftDevice, options: &InitOptions) -> (Self, Vault) {
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let place = Self { dir };
        let (vault, _) = Vault::init(place.setup("first", &[first]), options).unwrap();
        (place, vault)
    }

    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("store.sqlite")
    }

    /// What a machine of this name opens the store with.
    pub fn setup(&self, machine: &str, devices: &[&SoftDevice]) -> Setup {
        let connected =
            devices.iter().map(|device| (device.uri(), Box::new((*device).clone()) as _)).collect();
        Setup {
            connected,
            prompter: Box::new(BatchPrompter),
            clock: || NOW,
            reader: Accessor { uid: 0, pid: 1, exe: "test".into() },
            ..Setup::new(self.url(), Vec::new(), self.dir.path().join(machine))
        }
    }

    /// A vault on a machine that met the store before.
    pub fn at(&self, machine: &str, devices: &[&SoftDevice]) -> Vault {
        self.try_at(machine, devices).unwrap()
    }

    pub fn try_at(&self, machine: &str, devices: &[&SoftDevice]) -> Result<Vault> {
        Vault::open(self.setup(machine, devices))
    }

    /// A vault on a machine that is given the store's id by one that knows it.
    pub fn meet(&self, knows: &Vault, machine: &str, devices: &[&SoftDevice]) -> Vault {
        Vault::trust(self.setup(machine, devices), &knows.head(), false, &mut |_, _| {}).unwrap()
    }

    /// Whether the store has these sealed bytes.
    pub fn has(&self, digest: &Hash) -> bool {
        strongroom::store::open(&self.url()).unwrap().sealed(digest).unwrap().is_some()
    }
}

/// Enrols a device under its own name.
pub fn enrol(vault: &mut Vault, device: &SoftDevice, roles: &[&str]) -> strongroom::ledger::DeviceId {
    let roles = roles.iter().map(|role| role.parse().unwrap()).collect();
    let options = EnrolOptions { roles, ..EnrolOptions::default() };
    vault.enrol(device.uri(), Some(Box::new(device.clone())), &options).unwrap().device
}

pub fn put(vault: &mut Vault, token: &str, plaintext: &str) {
    vault.put(&name(token), &secret(plaintext), &PutOptions::default()).unwrap();
}

pub fn put_only(vault: &mut Vault, token: &str, plaintext: &str, only: &[&str]) {
    let only = only.iter().map(|name| (*name).to_owned()).collect();
    vault.put(&name(token), &secret(plaintext), &PutOptions { only, ..PutOptions::default() }).unwrap();
}

/// What a token opens to, or why it does not.
pub fn opened(vault: &mut Vault, token: &str) -> std::result::Result<String, String> {
    let (token, version) = match token.split_once('@') {
        Some((token, version)) => (token, Some(version.parse().unwrap())),
        None => (token, None),
    };
    let opened = vault.get(&name(token), version);
    opened.map(|secret| String::from_utf8(secret.expose().to_vec()).unwrap()).map_err(|e| e.to_string())
}

/// A version as the replica has it.
pub fn version(vault: &Vault, token: &str, version: u64) -> VersionRow {
    let token = vault.replica().find(token).unwrap().unwrap();
    vault.replica().version_row(&token, version).unwrap().unwrap()
}

/// The devices that a version is sealed to, by name.
pub fn sealed_to(vault: &Vault, token: &str, number: u64) -> Vec<String> {
    let recipients = version(vault, token, number).recipients();
    let named = |id| vault.replica().device_row(id).unwrap().unwrap().enrolment.name;
    let mut names: Vec<_> = recipients.iter().map(named).collect();
    names.sort();
    names
}

/// `name@version` of rows.
pub fn names(rows: &[SealedRow]) -> Vec<String> {
    rows.iter().map(|row| format!("{}@{}", row.name, row.version.version)).collect()
}

/// Asserts that the whole store verifies.
pub fn verifies(vault: &mut Vault) {
    let report = vault.verify(&mut |_, _, _| {}).unwrap();
    assert_eq!((report.problems, report.ineffective), (vec![], 0));
}
