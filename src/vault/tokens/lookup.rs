//! Looking tokens up: whether the ledger allows a version to be opened, and its sealed bytes.

use crate::device::{Device, KeyRef, PrivateOperation};
use crate::error::{Error, Kind, Result};
use crate::ledger::body::{Seal, State};
use crate::ledger::verify::Chain;
use crate::ledger::{DeviceId, Name, sha256};
use crate::prompt::{Prompter, PurposePrompter};
use crate::replica::{SealedRow, TokenRow, VersionRow};
use crate::seal::{self, Context, FileKey, Opened, Sealed, Share, Stanzas, Unsealed};
use crate::secret::Secret;
use crate::timestamp;
use crate::vault::ledger::submit::RequiredRole;
use crate::vault::ledger::witnesses::CLOCK_HINT;
use crate::vault::tokens::cache_label;
use crate::vault::{Vault, Witnessed};
use age_core::secrecy::ExposeSecret;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A token to open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenRef {
    /// Its name.
    pub name: Name,
    /// The version; the newest that came into use if `None`.
    pub version: Option<u64>,
}

impl FromStr for TokenRef {
    type Err = String;

    /// `NAME` or `NAME@VERSION`.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, version)) = text.split_once('@') else {
            return Ok(Self { name: Name::parse(text)?, version: None });
        };
        let number = version.parse().ok().filter(|n| *n > 0 && version.bytes().all(|b| b.is_ascii_digit()));
        let version = number.ok_or("a version follows the @: a number from 1")?;
        Ok(Self { name: Name::parse(name)?, version: Some(version) })
    }
}

impl fmt::Display for TokenRef {
    /// As [`TokenRef::from_str`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

impl TokenRef {
    /// The operation for errors.
    pub fn operation(&self) -> String {
        format!("open {self}")
    }
}

/// Most sealed tokens are smaller; each recipient adds 100 to 200 bytes.
const SMALL: usize = 16 << 10;

/// A token that may be opened, with everything that is needed to open it.
pub struct SealedToken {
    /// Its name.
    pub name: String,
    /// Which version.
    pub version: u64,
    /// What its bytes are bound to.
    pub context: Context,
    /// Its age files, each with the devices that it is sealed to. Those of no device here are left out.
    pub seals: Vec<(Vec<DeviceId>, Vec<u8>)>,
    /// How many of its devices open it together.
    pub threshold: u64,
    /// Where that is more than one: all of them, with their names.
    pub names: Vec<(DeviceId, String)>,
    /// How long an agent may cache it, if its label allows that.
    pub keep: Option<Duration>,
    /// Whether it neither expires nor has a start time.
    pub timeless: bool,
    /// The witnesses let it be opened.
    pub witnessed: Witnessed,
    /// Where another age program has the file: its stanzas. What opens is then the file key.
    pub only_stanzas: Option<Stanzas>,
}

impl SealedToken {
    /// The operation for errors: `open NAME@VERSION`.
    pub fn operation(&self) -> String {
        self.part_operation_of(&self.name)
    }

    fn part_operation_of(&self, part: &str) -> String {
        match self.version {
            0 => format!("open {part}"),
            version => format!("open {part}@{version}"),
        }
    }

    /// As [`SealedToken::operation`], for what a device is asked for after others opened this many shares.
    pub fn part_operation(&self, shares: usize) -> String {
        self.part_operation_of(&self.part(shares))
    }

    /// What a device is asked for, after others opened this many shares: `prod/db`, or `share 2 of 3 of prod/db`.
    pub fn part(&self, shares: usize) -> String {
        match self.threshold {
            1 => self.name.clone(),
            threshold => format!("share {} of {threshold} of {}", shares + 1, self.name),
        }
    }

    /// Whether it is worth remembering: small, and without a time limit.
    pub fn is_worth_remembering(&self) -> bool {
        self.timeless && self.seals.iter().map(|(_, sealed)| sealed.len()).sum::<usize>() <= SMALL
    }

    /// The token's id and the version.
    pub fn identity(&self) -> ([u8; 16], u64) {
        (self.context.token, self.version)
    }

    /// The devices it is sealed to.
    pub fn recipients(&self) -> impl Iterator<Item = &DeviceId> {
        self.seals.iter().flat_map(|(recipients, _)| recipients)
    }

    /// Whether it is sealed to this device.
    pub fn is_for(&self, device: &DeviceId) -> bool {
        self.recipients().any(|recipient| recipient == device)
    }

    /// Opens it with a key of one of its devices, or a share of it where several open it together. Other devices opened so many
    /// `shares` before.
    ///
    /// # Errors
    /// The device's; `Tampered`.
    pub fn open_on(
        &self,
        device: &mut dyn Device,
        prompter: &mut dyn Prompter,
        key: &KeyRef,
        shares: usize,
    ) -> Result<Opened> {
        let (part, several) = (self.part(shares), self.threshold > 1);
        let purpose = format!("open {part}");
        let mut prompter =
            PurposePrompter { inner: prompter, purpose: &purpose, pin_for: several.then_some(&*part) };
        let mut answer = |challenge: PrivateOperation<'_>| device.open_key(key, challenge, &mut prompter);
        if let Some(stanzas) = &self.only_stanzas {
            let opened = stanzas.unseal(&key.public, &mut answer).map(|unsealed| match unsealed {
                Unsealed::FileKey(key) => Opened::Token(exposed(&key)),
                Unsealed::Share(share) => Opened::Share(share),
            });
            return opened.map_err(|error| error.with_context(self.part_operation(shares)));
        }
        let mut opened =
            Err(Error::new(Kind::SealedElsewhere, self.operation(), "it is sealed to no device"));
        for (_, sealed) in &self.seals {
            // As `Sealed::open`.
            opened = Sealed::parse(sealed).and_then(|parsed| {
                parsed.is_what_was_stated(&self.context, self.threshold)?;
                let unsealed = parsed.stanzas().unseal(&key.public, &mut answer)?;
                parsed.opened(unsealed, &self.context)
            });
            // One that is not for this key: the device was not asked.
            if !opened.as_ref().is_err_and(|error| error.kind() == Kind::SealedElsewhere) {
                break;
            }
        }
        opened.map_err(|error| error.with_context(self.part_operation(shares)))
    }

    /// Opens it with the shares of several devices; `None` while there are too few.
    pub fn combine(&self, shares: &[Share]) -> Option<Result<Secret>> {
        let sealed = self.seals.first().map(|(_, sealed)| sealed)?;
        let combine = || {
            let token = match self.only_stanzas {
                Some(_) => Stanzas::combine(shares).map(|key| exposed(&key)),
                None => seal::combine(sealed, &self.context, shares),
            };
            token.map_err(|error| error.with_context(self.operation()))
        };
        (shares.len() as u64 >= self.threshold).then(combine)
    }

    /// The error where fewer of its devices are here than must open it together.
    pub fn too_few_devices(&self, is_here: impl Fn(&DeviceId) -> bool) -> Error {
        let (here, elsewhere): (Vec<_>, Vec<_>) = self.names.iter().partition(|(id, _)| is_here(id));
        let listed = |devices: Vec<&(DeviceId, String)>| {
            let mut names: Vec<&str> = devices.iter().map(|(_, name)| name.as_str()).collect();
            names.sort_unstable();
            names.join(", ")
        };
        let (threshold, count) = (self.threshold, here.len());
        let message = match count {
            0 => format!("{threshold} devices must open it together, and none of them is configured here"),
            _ => format!(
                "{threshold} devices must open it together, and only {} is configured here",
                listed(here)
            ),
        };
        let missing = threshold - count as u64;
        Error::new(Kind::SealedElsewhere, self.operation(), message).with_hint(format!(
            "bring {missing} more of {} here, and name each with --device, or in the configuration",
            listed(elsewhere)
        ))
    }
}

fn exposed(key: &FileKey) -> Secret {
    Secret::new(key.expose_secret().to_vec())
}

impl Vault {
    /// Looks a token up, if the ledger allows it to be opened by what was verified at the last [`Vault::refresh`]. Asks
    /// no device.
    ///
    /// # Errors
    /// As [`Vault::get`], but for the device's.
    pub fn look_up(&mut self, wanted: &TokenRef) -> Result<SealedToken> {
        let witnessed = self.check_witnesses(&wanted.operation())?;
        self.look_up_witnessed(wanted, witnessed)
    }

    /// As [`Vault::look_up`], by who has just asked the witnesses.
    ///
    /// # Errors
    /// As [`Vault::look_up`].
    pub fn look_up_witnessed(&mut self, wanted: &TokenRef, witnessed: Witnessed) -> Result<SealedToken> {
        let at = self.replica.position();
        match self.with_snapshot(|vault| vault.look_up_now(wanted, witnessed)) {
            // The bytes may have been destroyed since the last sync; then the ledger says so now.
            Err(error) if error.kind() == Kind::Tampered => {
                self.sync(&mut |_, _| {})?;
                if self.replica.position() == at {
                    return Err(error);
                }
                self.with_snapshot(|vault| vault.look_up_now(wanted, witnessed))
            }
            done => done,
        }
    }

    fn look_up_now(&mut self, wanted: &TokenRef, witnessed: Witnessed) -> Result<SealedToken> {
        let operation = wanted.operation();
        let token = self.token(&wanted.name, &operation)?;
        let version = self.openable(&token, wanted.version, &operation)?;
        self.with_sealed_bytes(&token, version, witnessed)
    }

    /// The newest staged version, for a device here that may write the token.
    pub(crate) fn look_up_staged(&mut self, name: &Name, operation: &str) -> Result<SealedToken> {
        self.author(operation, RequiredRole::Write(&[name.as_str()]))?;
        let witnessed = self.check_witnesses(operation)?;
        let token = self.token(name, operation)?;
        let mut versions = self.replica.versions(&token)?;
        versions.retain(|row| row.state == Some(State::Staged));
        let row = versions.pop().ok_or_else(|| {
            Error::new(Kind::NotFound, operation, "no version is staged")
                .with_hint(format!("`strongroom put {name} --staged` stages one"))
        })?;
        // Before its time it is brought to its issuer; everything else that closes an active version closes it.
        let active = VersionRow { state: Some(State::Active), not_before: None, ..row.clone() };
        match self.closed_because(&token, &active) {
            None => self.with_sealed_bytes(&token, row, witnessed),
            Some((why, what_now)) => Err(Error::new(Kind::Refused, operation, why).with_hint(what_now)),
        }
    }

    pub(crate) fn with_sealed_bytes(
        &mut self,
        token: &TokenRow,
        version: VersionRow,
        witnessed: Witnessed,
    ) -> Result<SealedToken> {
        let seals = self.seals_for_here(&token.name, &version)?;
        Ok(SealedToken {
            name: token.name.clone(),
            version: version.version,
            context: self.context(token.id, version.version),
            threshold: version.threshold,
            names: self.names_of_several(&version),
            keep: cache_label::time(&version.labels),
            timeless: version.expiry.is_none() && version.not_before.is_none(),
            seals,
            witnessed,
            only_stanzas: None,
        })
    }

    /// A version to open whatever its state: to reseal it, or to prove that it opens.
    pub(crate) fn sealed_token(&mut self, row: &SealedRow, witnessed: Witnessed) -> Result<SealedToken> {
        Ok(SealedToken {
            name: row.name.clone(),
            version: row.version.version,
            context: self.context(row.token, row.version.version),
            seals: self.seals_for_here(&row.name, &row.version)?,
            threshold: row.version.threshold,
            names: self.names_of_several(&row.version),
            keep: None,
            timeless: false,
            witnessed,
            only_stanzas: None,
        })
    }

    /// The recipients by name, where several open a version together.
    fn names_of_several(&self, row: &VersionRow) -> Vec<(DeviceId, String)> {
        let recipients = if row.threshold > 1 { row.recipients() } else { Vec::new() };
        recipients.into_iter().map(|id| (id, self.device_name(&id))).collect()
    }

    /// The requested version, or the newest that came into use, if the ledger allows it to be opened.
    fn openable(&self, token: &TokenRow, version: Option<u64>, operation: &str) -> Result<VersionRow> {
        let row = match version {
            Some(version) => self.replica.version_row(token, version)?,
            None => self.current_version(token)?,
        };
        let row = row.ok_or_else(|| {
            let message = format!("it has no such version; the newest is {}", token.latest);
            Error::new(Kind::NotFound, operation, message)
                .with_hint(format!("`strongroom show {}` lists them", token.name))
        })?;
        match self.closed_because(token, &row) {
            None => Ok(row),
            Some((why, what_now)) => Err(Error::new(Kind::Refused, operation, why).with_hint(what_now)),
        }
    }

    /// The version that opens if none is named: the newest that came into use, or the newest if none did.
    ///
    /// # Errors
    /// The replica's.
    pub fn current_version(&self, token: &TokenRow) -> Result<Option<VersionRow>> {
        let newest = self.replica.version_row(token, token.latest)?;
        match newest {
            Some(row) if row.since.is_none() => {
                let mut versions = self.replica.versions(token)?;
                versions.retain(|row| row.since.is_some());
                Ok(versions.pop().or(Some(row)))
            }
            newest => Ok(newest),
        }
    }

    /// Why a version does not open now, and what to do about it; `None` if it opens.
    pub fn closed_because(&self, token: &TokenRow, row: &VersionRow) -> Option<(String, String)> {
        let name = &token.name;
        let because = if row.reason.is_empty() { String::new() } else { format!(": {}", row.reason) };
        let at = format!("{name}@{}", row.version);
        let put = format!("put a new version: `strongroom put {name}`");
        let state = match row.state {
            None => Some((format!("version {} was destroyed{because}", row.version), put.clone())),
            Some(State::Revoked) => {
                Some((format!("version {} was revoked{because}", row.version), put.clone()))
            }
            Some(State::Suspended) => Some((
                format!("version {} is suspended{because}", row.version),
                format!("`strongroom resume {at}`"),
            )),
            Some(State::Staged) => Some((
                format!("version {} is staged", row.version),
                format!(
                    "`strongroom resume {at}` makes it active; `strongroom get {name} --staged` reads it"
                ),
            )),
            Some(State::Active) if token.suspended => {
                Some(("the token is suspended".into(), format!("`strongroom resume {name}`")))
            }
            Some(State::Active) => None,
        };
        let expired = row.expiry.filter(|expiry| *expiry <= self.latest_time());
        let early = row.not_before.filter(|from| *from > (self.clock)());
        let expiry = expired.map(|at| {
            let why = format!("it expired at {}", timestamp::rfc3339_secs(at));
            match self.clock_behind_ledger().filter(|_| at > (self.clock)()) {
                Some(clock) => (format!("{why}: {clock}"), CLOCK_HINT.to_owned()),
                None => (why, put),
            }
        });
        let early = early.map(|at| {
            (format!("it is not valid before {}", timestamp::rfc3339_secs(at)), "wait until then".to_owned())
        });
        state.or(expiry).or(early)
    }

    /// The sealed bytes of a version for the devices here, or all if these are not known yet.
    fn seals_for_here(&mut self, name: &str, row: &VersionRow) -> Result<Vec<(Vec<DeviceId>, Vec<u8>)>> {
        let here = self.devices.known_ids();
        let is_here = |seal: &&Seal| match &here {
            Some(here) => seal.recipients.iter().any(|id| here.contains(id)),
            None => true,
        };
        let mut wanted: Vec<&Seal> = row.seals.iter().filter(is_here).collect();
        if wanted.is_empty() {
            wanted.extend(row.seals.first());
        }
        let read = |seal: &Seal| Ok((seal.recipients.clone(), self.checked_bytes(name, row.version, seal)?));
        wanted.into_iter().map(read).collect()
    }

    /// The sealed bytes of a version in any state, of its first seal; the newest if none is named.
    ///
    /// # Errors
    /// `NotFound`; `Refused` when they were destroyed; `Tampered`.
    pub fn sealed_version(&mut self, wanted: &TokenRef, operation: &str) -> Result<Vec<u8>> {
        self.refresh()?;
        let token = self.living_or_last(&wanted.name, operation)?;
        let row = self.replica.version_row(&token, wanted.version.unwrap_or(token.latest))?;
        let row = row.ok_or_else(|| {
            let message = format!("it has no such version; the newest is {}", token.latest);
            Error::new(Kind::NotFound, operation, message)
        })?;
        match row.seals.first().filter(|_| row.state.is_some()) {
            None => Err(Error::new(Kind::Refused, operation, "its sealed bytes were destroyed")),
            Some(seal) => self.checked_bytes(&token.name, row.version, seal),
        }
    }

    /// Sealed bytes, checked against the digest in the ledger.
    pub(crate) fn checked_bytes(&mut self, name: &str, version: u64, row: &Seal) -> Result<Vec<u8>> {
        let wrong = |message: &str, location: &str| {
            let at = format!("{name}@{version}");
            Error::new(Kind::Tampered, format!("read the sealed bytes of {at}"), message)
                .with_target(location.to_owned())
                .with_hint(format!(
                    "somebody altered the row `{}` of the table `sealed`: restore the store",
                    row.digest
                ))
        };
        let sealed = self.store.sealed(&row.digest)?;
        let location = self.store.location();
        let sealed = sealed.ok_or_else(|| wrong("they are missing from the store", location))?;
        if sealed.len() as u64 != row.length || sha256(&sealed) != row.digest {
            return Err(wrong("they are not the ones that were put", location));
        }
        Ok(sealed)
    }
}
