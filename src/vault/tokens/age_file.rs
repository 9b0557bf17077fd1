//! Opening other age files, and sealed tokens by way of other age programs: from the stanzas to the file key.
//!
//! The other program checks the header's MAC and decrypts the payload. A sealed token of this store opens by the same rules
//! as by its name. Whoever takes its context stanza away has another age file to open: only who may use the devices can do
//! that, and the witnesses and rollback counters are asked all the same.

use crate::error::{Error, Kind, Result};
use crate::ledger::TokenId;
use crate::replica::DeviceRow;
use crate::seal::{Stanza, Stanzas};
use crate::secret::Secret;
use crate::vault::Vault;
use crate::vault::tokens::lookup::SealedToken;
use crate::vault::tokens::open_outcome::{OPENED, OpenOutcome};

/// What an age file that is no sealed token is called, in errors and in the access log.
pub const AGE_FILE: &str = "an age file";

impl Vault {
    /// Opens the file key of an age file with the devices of this machine. `None` if it is sealed to no device of this store.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn open_age_file(&mut self, stanzas: &[Stanza]) -> Result<Option<Secret>> {
        self.refresh()?;
        let (name, outcome) = match self.age_file(stanzas) {
            Ok(None) => return Ok(None),
            Err(error) => (AGE_FILE.to_owned(), OpenOutcome::unopened(0, Err(error))),
            Ok(Some(file)) => match self.check_counters(&file.operation()) {
                Err(error) => (file.name, OpenOutcome::unopened(file.version, Err(error))),
                Ok(()) => return self.open_one(&file.name.clone(), Ok(file)).token.map(Some),
            },
        };
        self.record([(name.as_str(), &outcome)].into_iter(), OPENED);
        outcome.token.map(Some)
    }

    /// The file as something to open, by what was verified at the last [`Vault::refresh`]. Asks no device.
    ///
    /// # Errors
    /// As [`Vault::open_age_file`], but for the device's.
    pub fn age_file(&mut self, stanzas: &[Stanza]) -> Result<Option<SealedToken>> {
        let operation = format!("open {AGE_FILE}");
        let stanzas = Stanzas::read(stanzas).map_err(|error| error.with_operation(&operation))?;
        let devices = self.replica.devices()?.into_iter();
        let is_for = |row: &DeviceRow| stanzas.locks(&row.enrolment.opening.key).next().is_some();
        let recipients: Vec<_> = devices.filter(is_for).map(|row| row.id).collect();
        if recipients.is_empty() {
            return Ok(None);
        }
        let witnessed = self.check_witnesses(&operation)?;
        let own = stanzas.context().copied().filter(|context| context.store == self.pin.store.0);
        let (name, version) = match own {
            None => (AGE_FILE.to_owned(), 0),
            Some(context) => (self.open_token(TokenId(context.token), context.version)?, context.version),
        };
        Ok(Some(SealedToken {
            name,
            version,
            context: own.unwrap_or_else(|| self.context(TokenId([0; 16]), 0)),
            threshold: stanzas.threshold(),
            names: recipients.iter().map(|id| (*id, self.device_name(id))).collect(),
            keep: None,
            timeless: false,
            seals: vec![(recipients, Vec::new())],
            witnessed,
            only_stanzas: Some(stanzas),
        }))
    }

    /// The name of a token whose version the ledger lets be opened.
    fn open_token(&mut self, id: TokenId, version: u64) -> Result<String> {
        let operation = format!("open {AGE_FILE}");
        let missing = || Error::new(Kind::Refused, operation.clone(), "its token is not there any more");
        let token = self.replica.token_row(&id)?.ok_or_else(missing)?;
        let row = self.replica.version_row(&token, version)?.ok_or_else(missing)?;
        match self.closed_because(&token, &row) {
            None => Ok(token.name),
            Some((why, what_now)) => {
                let operation = format!("open {}@{version}", token.name);
                Err(Error::new(Kind::Refused, operation, why).with_hint(what_now))
            }
        }
    }
}
