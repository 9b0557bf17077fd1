//! Machines that rotate one token of one store.

use strongroom::config::Config;
use strongroom::ledger::Prefix;
use strongroom::ledger::body::{RotationPolicy, State};
use strongroom::rotation::{Hook, Options, Outcome, open_hook, rotate};
use strongroom::vault::{PutOptions, Vault};
use strongroom::{Error, Result};
use test_support::test_store::{TestStore, name, secret};

pub const TOKEN: &str = "prod/db";
pub const NOW: Options = Options { now: true, resume: false, abort: false, take_over: false };
pub const RESUME: Options = Options { resume: true, take_over: true, now: false, abort: false };
pub const ABORT: Options = Options { abort: true, take_over: true, now: false, resume: false };

/// A store with the token, and a policy that names the hook `h`.
pub struct Machines {
    pub store: TestStore,
    pub config: Config,
}

pub fn policy(params: &[(&str, &str)]) -> RotationPolicy {
    let mut params: Vec<_> =
        params.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    params.sort();
    RotationPolicy { period: 86_400_000, overlap: 0, hook: "h".into(), params }
}

impl Machines {
    /// With this text after `[hooks.h]` in their configuration.
    pub fn new(hook: &str, value: &str, params: &[(&str, &str)]) -> Self {
        let store = TestStore::bare(7);
        let machines = Self { config: config(&store, hook), store };
        let mut vault = machines.vault("first");
        vault.put(&name(TOKEN), &secret(value), &PutOptions::default()).unwrap();
        vault.set_policy(&TOKEN.parse().unwrap(), Some(&policy(params))).unwrap();
        machines
    }

    /// A machine's vault; each has a state of its own, and the same device.
    pub fn vault(&self, machine: &str) -> Vault {
        self.store.client(machine, &[&self.store.admin]).unwrap()
    }

    pub fn rotate(&self, machine: &str, options: Options) -> Result<Outcome> {
        rotated(&mut self.vault(machine), &self.config, options)
    }

    /// The hook `h`.
    pub fn hook(&self) -> Box<dyn Hook> {
        open_hook(&self.config, "h", &name(TOKEN), &mut |_| unreachable!()).unwrap()
    }

    /// What the token opens to.
    pub fn value(&self) -> String {
        let opened = self.vault("reader").get(&name(TOKEN), None).unwrap();
        String::from_utf8(opened.expose().to_vec()).unwrap()
    }

    /// The values of all versions that are not revoked, with their states, oldest first.
    pub fn stored(&self) -> Vec<(u64, State, String)> {
        let mut vault = self.vault("reader");
        let token = vault.replica().find(TOKEN).unwrap().unwrap();
        let rows = vault.replica().versions(&token).unwrap();
        let stored = rows.into_iter().filter_map(|row| Some((row.version, row.state?)));
        let stored: Vec<_> = stored.filter(|(_, state)| *state != State::Revoked).collect();
        let mut open = |version| vault.open_to_rotate(&name(TOKEN), version).unwrap().value;
        let text = |value: strongroom::Secret| String::from_utf8(value.expose().to_vec()).unwrap();
        stored.into_iter().map(|(version, state)| (version, state, text(open(version)))).collect()
    }

    /// One version is in use, and nothing else is left.
    pub fn is_tidy(&self) {
        let stored = self.stored();
        assert_eq!(stored.len(), 1, "{stored:?}");
        assert_eq!(stored[0].1, State::Active);
        assert_eq!(self.vault("reader").due(&Prefix::default(), 0).unwrap(), []);
    }
}

/// The configuration with this hook.
pub fn config(store: &TestStore, hook: &str) -> Config {
    let path = store.dir.path().join("config.toml");
    std::fs::write(&path, format!("[hooks.h]\ntokens = [\"{TOKEN}\"]\n{hook}")).unwrap();
    Config::load(&path).unwrap()
}

pub fn rotated(vault: &mut Vault, config: &Config, options: Options) -> Result<Outcome> {
    let hook = open_hook(config, "h", &name(TOKEN), &mut |token| Ok(vault.get(token, None)?.value))?;
    rotate(vault, &*hook, &name(TOKEN), options, &mut |_| {})
}

/// What an error says, all of it.
pub fn words(error: &Error) -> String {
    format!("{error} {}", error.hint().unwrap_or_default())
}
