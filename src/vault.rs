//! The use cases: everything that can be done with a store and its devices.
//!
//! [`Vault`] joins a store (untrusted), its replica (verified) and the devices of this machine. The command line calls
//! it, and so does a program that embeds Strongroom.
//!
//! Every use case first verifies what is new in the store, so a vault that stays open opens nothing that was revoked in
//! the meantime. What [`Vault::replica`] answers is as of the last use case or [`Vault::refresh`].
//!
//! ```no_run
//! use strongroom::ledger::Name;
//! use strongroom::vault::{PutOptions, Setup, Vault};
//! use strongroom::Secret;
//!
//! # fn main() -> strongroom::Result<()> {
//! let mut vault = Vault::open(Setup::of_this_machine()?)?;
//! let name = Name::parse("prod/db").map_err(|e| strongroom::Error::new(strongroom::Kind::Usage, "parse", e))?;
//! vault.put(&name, &Secret::new(b"s3cret".to_vec()), &PutOptions::default())?;
//! let token = vault.get(&name, None)?;
//! assert_eq!(token.expose(), b"s3cret");
//! # Ok(())
//! # }
//! ```

mod devices;
mod grants;
mod init;
mod ledger;
mod setup;
mod token_backend;
mod tokens;

pub use devices::add::{EnrolOptions, EnrolReport};
pub use devices::connections::recognize;
pub use devices::quorum::VoteReport;
pub use devices::reseal::{ResealProgress, ResealReport, Unresealed};
pub use devices::retire::{RetireOptions, RetireReport};
pub use grants::grant::{GrantOn, GrantOptions, Revoked, check_alias};
pub use grants::grantee::{Grantee, OPS, Op};
pub use init::{InitOptions, InitReport};
pub use ledger::access_log::Accessor;
pub use ledger::audit::{Holder, Reached};
pub use ledger::backup::{BackupCheck, CheckedCopy, check_backup, line_file};
pub use ledger::log::{LogEntry, LogOrder};
pub use ledger::restore::{Known, RestoreOptions, RestoreReport, restore};
pub use ledger::verify::{Problem, VerifyReport};
pub use ledger::views::{AccessView, EntryView};
pub use ledger::witnesses::{Standing, Witness, WitnessView, Witnessed};
pub use setup::{Setup, system_clock};
pub use token_backend::TokenBackend;
pub use tokens::age_file::AGE_FILE;
pub use tokens::candidate::RotationState;
pub use tokens::import::{ImportItem, Imported};
pub use tokens::lookup::{SealedToken, TokenRef};
pub use tokens::open_outcome::{
    Denial, OPENED, OUTCOMES, OpenOutcome, OpenedToken, is_failure, is_success, outcome_word,
};
pub use tokens::policy::{PolicyView, RotationNeed, RotationView};
pub use tokens::put::{PutOptions, PutReport};
pub(crate) use tokens::unchanged;
pub use tokens::views::{EffectiveState, GrantView, TokenView, VersionView, recipients_in_words};
pub use tokens::watch::{Watched, WatchedToken, filter, watched};

use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::ledger::checkpoint::MAX_AHEAD;
use crate::ledger::verify::Chain;
use crate::ledger::{DeviceId, LogPosition, Name, StoreId, TokenId};
use crate::replica::{Partial, Replica, StorePin, TokenRow, TrustAnchor};
use crate::store::Store;
use devices::connections::Devices;
use ledger::witnesses::Judged;
use rustix::fs::{FlockOperation, flock};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A store, what has been verified of it, and the devices of this machine.
pub struct Vault {
    store: Box<dyn Store>,
    replica: Replica,
    pin: StorePin,
    devices: Devices,
    state: PathBuf,
    clock: fn() -> u64,
    reader: Accessor,
    notices: Vec<String>,
    /// The end of the store when it was last compared with the rollback counters.
    anchored: Option<LogPosition>,
    /// Set while an admin restarts the rollback counters: they are not compared.
    skip_counter_check: bool,
    /// Checkpoints that were judged before, by their devices.
    judged: HashMap<DeviceId, Judged>,
    /// Devices of this machine that another part of the program uses.
    own_witnesses: Vec<DeviceId>,
    /// Those of which the other part does not know which ones they are.
    unidentified: Vec<String>,
    /// The token that a name has to stand for while a change is made, where somebody was allowed it for that one.
    expected: Option<(Name, Option<TokenId>)>,
}

impl Vault {
    /// Opens a store that this machine knows, and verifies what is new in it. Contacts no device.
    ///
    /// # Errors
    /// `Untrusted` for a store that this machine has never verified; `RolledBack`, `Tampered`, `Store`, `Io`.
    pub fn open(setup: Setup) -> Result<Self> {
        Self::open_with_progress(setup, &mut |_, _| {})
    }

    /// As [`Vault::open`], calling `progress` with (verified, total) statements.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open_with_progress(setup: Setup, progress: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        let store = crate::store::open(&setup.store)?;
        let Some(pin) = StorePin::load(&setup.state, store.location())? else {
            return Err(first_contact(store));
        };
        let mut vault = Self::assemble(setup, store, pin)?;
        vault.sync(progress)?;
        Ok(vault)
    }

    /// As [`Vault::open_with_progress`], but rebuilds the replica from the store first.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open_rebuilt(setup: Setup, progress: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        let store = crate::store::open(&setup.store)?;
        let Some(pin) = StorePin::load(&setup.state, store.location())? else {
            return Err(first_contact(store));
        };
        let mut vault = Self::assemble(setup, store, pin)?;
        let now = (vault.clock)();
        vault.replica.rebuild(&mut *vault.store, &[&vault.pin], Partial::Keep, now, progress)?;
        vault.keep_pin()?;
        Ok(vault)
    }

    /// First contact: trusts `anchor`, verifies the whole store against it, and remembers it.
    ///
    /// If the store is known already, both what was verified here and `anchor` must lie on its chain. With `replace`,
    /// only `anchor` counts, and what was known is forgotten once the store has been verified.
    ///
    /// # Errors
    /// `RolledBack` if the store ends before `anchor`; `Tampered` if it does not lead through it, or not through what
    /// was verified here; `Untrusted` if another store is known at this location and `replace` is false.
    pub fn trust(
        setup: Setup,
        anchor: &TrustAnchor,
        replace: bool,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self> {
        let store = crate::store::open(&setup.store)?;
        let (location, state) = (store.location().to_owned(), setup.state.clone());
        let known = match StorePin::load(&state, &location) {
            Err(_) if replace => None,
            known => known?.filter(|_| !replace),
        };
        if let Some(known) = known.as_ref().filter(|known| known.store != anchor.store) {
            return Err(crate::replica::other_store(&location, known.store));
        }
        crate::paths::make_private(&state)?;
        let pin = known.unwrap_or_else(|| StorePin::from_store(anchor.store));
        let mut vault = Self::assemble(setup, store, pin)?;
        vault.expect_to_reach(anchor)?;
        if replace || vault.replica.position().n == 0 {
            if !replace {
                vault.replica.check_claims(&mut *vault.store, &vault.pin)?;
            }
            let (now, pins) = ((vault.clock)(), [anchor, &vault.pin]);
            if replace {
                // A damaged replica is not read either.
                vault.replica.forget_witnesses().ok();
            }
            vault.replica.rebuild(&mut *vault.store, &pins, Partial::Discard, now, progress)?;
        } else {
            vault.follow(progress)?;
            vault.expect_on_chain(anchor)?;
        }
        failpoint::reach("trust.verified");
        vault.pin.position = vault.replica.position();
        match replace {
            true => vault.pin.replace(&state, &location)?,
            false => vault.pin.keep(&state, &location)?,
        }
        Ok(vault)
    }

    /// Refuses a store that ends before the statement that `anchor` names.
    fn expect_to_reach(&mut self, anchor: &TrustAnchor) -> Result<()> {
        let (ends, n) = (self.store.tail()?.n, anchor.position.n);
        if ends >= n {
            return Ok(());
        }
        let message = format!(
            "it ends at statement {ends}, and the line names statement {n}: it is an older copy, or its end was cut off"
        );
        Err(Error::new(Kind::RolledBack, "trust the store", message)
            .with_target(self.location().to_owned())
            .with_hint("restore the newest copy of the store, or make sure that the line is this store's"))
    }

    /// Refuses a line that does not lie on the chain that was verified here.
    fn expect_on_chain(&self, anchor: &TrustAnchor) -> Result<()> {
        let n = anchor.position.n;
        if self.replica.chain_at(n)? == Some(anchor.position.chain) {
            return Ok(());
        }
        let message = format!("the line's statement {n} does not lie on the chain that was verified here");
        Err(Error::new(Kind::Tampered, "trust the store", message)
            .with_target(self.location().to_owned())
            .with_hint(
                "one of the two comes from a forged history: ask the store's owner for the line again. \
                 `strongroom trust LINE --replace` forgets what was verified here",
            ))
    }

    fn assemble(setup: Setup, store: Box<dyn Store>, pin: StorePin) -> Result<Self> {
        let path = replica_path(&setup.state, pin.store);
        path.parent().map_or(Ok(()), crate::paths::make_private)?;
        let mut replica = Replica::open(&path, pin.store)?;
        let notices = replica.take_notice().into_iter().collect();
        let devices = Devices::new(setup.devices, setup.connected, setup.prompter);
        let (state, clock, reader) = (setup.state, setup.clock, setup.reader);
        let (anchored, skip_counter_check) = (None, false);
        let expected = None;
        Ok(Self {
            store,
            replica,
            pin,
            devices,
            state,
            clock,
            reader,
            notices,
            anchored,
            skip_counter_check,
            judged: HashMap::new(),
            own_witnesses: Vec::new(),
            unidentified: Vec::new(),
            expected,
        })
    }

    /// Verifies what is new in the store, and moves the pin forward.
    fn sync(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        self.follow(progress)?;
        if self.replica.position().n > self.pin.position.n {
            self.keep_pin()?;
        }
        Ok(())
    }

    fn follow(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let now = (self.clock)();
        let followed = self.replica.sync(&mut *self.store, &self.pin, now, progress);
        // The replica is only a copy: if it is damaged, rebuild it and go on.
        if followed.is_err() && self.replica.recover()? {
            self.notices.extend(self.replica.take_notice());
            self.replica.sync(&mut *self.store, &self.pin, now, progress)?;
        } else {
            followed?;
        }
        Ok(())
    }

    /// Verifies what is new in the store. Returns the verified position.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn refresh(&mut self) -> Result<LogPosition> {
        self.sync(&mut |_, _| {})?;
        Ok(self.replica.position())
    }

    /// Runs `work` on one snapshot of the replica, however many processes share it.
    fn with_snapshot<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.replica.begin_read()?;
        let done = work(self);
        self.replica.end_read();
        done
    }

    /// Waits for a lock beside the replica. While it is held, no other process of this machine has it for this store.
    fn lock_on_this_machine(&self, name: &str, operation: &str) -> Result<File> {
        let path = self.replica.path().with_extension(name);
        let lock = File::create(&path).and_then(|lock| {
            flock(&lock, FlockOperation::LockExclusive)?;
            Ok(lock)
        });
        lock.map_err(|e| Error::io(operation, &path, e))
    }

    fn keep_pin(&mut self) -> Result<()> {
        self.pin.position = self.replica.position();
        self.pin.keep(&self.state, self.store.location())
    }

    /// Warnings for the user: a rebuilt replica, an access that could not be logged.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// The verified state: names, metadata, devices. It is as of the last use case or [`Vault::refresh`].
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The store's id and the verified position: a trust anchor for another machine.
    pub fn head(&self) -> TrustAnchor {
        StorePin { store: self.pin.store, position: self.replica.position() }
    }

    /// The store's location.
    pub fn location(&self) -> &str {
        self.store.location()
    }

    /// The time that expiry is judged by: the local clock, or the newest time in the ledger if that is later.
    /// Milliseconds since 1970.
    pub fn latest_time(&self) -> u64 {
        (self.clock)().max(self.replica.newest_time())
    }

    /// What is wrong with this machine's clock, in words, where the newest time in the ledger is well after it: it was ahead
    /// when that was verified, or is behind now.
    pub(crate) fn clock_behind_ledger(&self) -> Option<String> {
        let (clock, newest) = ((self.clock)(), self.replica.newest_time());
        (newest > clock.saturating_add(MAX_AHEAD)).then(|| {
            format!(
                "this machine's clock says {}, and was at {} or later when it verified a change of that time",
                crate::timestamp::rfc3339_secs(clock),
                crate::timestamp::rfc3339_secs(newest)
            )
        })
    }

    /// The token that has this name now.
    ///
    /// # Errors
    /// `NotFound`, with the most similar name as the hint.
    pub fn token(&self, name: &Name, operation: &str) -> Result<TokenRow> {
        match self.replica.find(name.as_str())? {
            Some(token) => Ok(token),
            None => Err(self.not_found(name, operation)),
        }
    }

    fn not_found(&self, name: &Name, operation: &str) -> Error {
        let error = Error::new(Kind::NotFound, operation, format!("there is no token `{name}`"));
        match self.nearest(name) {
            Ok(Some(near)) => error.with_hint(format!("did you mean `{near}`?")),
            _ => error.with_hint("`strongroom list` shows the names"),
        }
    }

    /// The most similar name in use, if any is similar. Looks at a bounded number of names.
    fn nearest(&self, name: &Name) -> Result<Option<String>> {
        const LOOKED_AT: u32 = 100_000;
        let far = name.as_str().len().div_ceil(3).max(1);
        let names = self.replica.names_from("", LOOKED_AT)?;
        let near = names
            .into_iter()
            .filter(|other| other.len().abs_diff(name.as_str().len()) <= far)
            .map(|other| (strsim::damerau_levenshtein(&other, name.as_str()), other))
            .filter(|(distance, _)| *distance <= far)
            .min();
        Ok(near.map(|(_, other)| other))
    }
}

/// Fills a buffer with random bytes from the operating system.
fn random(buffer: &mut [u8]) -> Result<()> {
    use rand_core::{OsRng, RngCore};
    OsRng.try_fill_bytes(buffer).map_err(|e| Error::new(Kind::Io, "get random bytes", e.to_string()))
}

/// A count with its noun: `1 change`, `2 changes`.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn random_id() -> Result<[u8; 16]> {
    let mut id = [0; 16];
    random(&mut id).map(|()| id)
}

fn replica_path(state: &Path, store: StoreId) -> PathBuf {
    state.join(store.to_string()).join("replica.sqlite")
}

fn first_contact(mut store: Box<dyn Store>) -> Error {
    let location = store.location().to_owned();
    let batches = store.batches_after(0, 1);
    if batches.as_ref().is_ok_and(Vec::is_empty) {
        return Error::new(Kind::Store, "open the store", "it is empty: an `init` was interrupted")
            .with_target(location)
            .with_hint("run `strongroom init` again");
    }
    let genesis = batches.ok().and_then(|batches| batches.first()?.statements.first().cloned());
    let message = match genesis.map(|genesis| crate::ledger::leaf(&genesis)) {
        Some(id) => format!("this machine has never verified this store, which claims the id {id}"),
        None => "this machine has never verified this store, which has no first statement".to_owned(),
    };
    Error::new(Kind::Untrusted, "trust the store", message).with_target(location).with_hint(
        "get the line that `strongroom head` prints on a machine that knows the store, by a way you trust, \
         and run `strongroom trust LINE`; the id above is only the store's own word",
    )
}
