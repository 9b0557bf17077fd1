//! Putting a token: seal it to the devices that may open it, and sign the statement.

use crate::error::{Error, Kind, Result};
use crate::ledger::body::{Body, Put, State};
use crate::ledger::judge::LedgerView;
use crate::ledger::{Hash, Name, TokenId};
use crate::replica::{DeviceRow, TokenRow, VersionRow};
use crate::seal::Context;
use crate::secret::Secret;
use crate::vault::ledger::submit::{Draft, RequiredRole};
use crate::vault::tokens::cache_label;
use crate::vault::tokens::seals::in_portions;
use crate::vault::{Vault, random_id};

/// Options for a new version. What is left out is taken from the current version, except not-before. A version without
/// an expiry of its own expires as long after its put as the current one did.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// Replaces the labels.
    pub labels: Option<Vec<(String, String)>>,
    /// Replaces the description.
    pub description: Option<String>,
    /// Not valid before. Milliseconds since 1970.
    pub not_before: Option<u64>,
    /// Expires at. Milliseconds since 1970.
    pub expiry: Option<u64>,
    /// Does not expire, whatever the previous version did.
    pub never_expires: bool,
    /// How many versions stay active.
    pub keep: Option<u64>,
    /// Store it as staged: it opens once it is activated.
    pub staged: bool,
    /// Seal to these devices only, by name or id.
    pub only: Vec<String>,
    /// How many devices open it together; by default as many as for the latest version, and as the settings ask for.
    pub threshold: Option<u64>,
}

/// A put, and its sealed bytes by digest.
pub(crate) type SealedPut = (Put, Vec<(Hash, Vec<u8>)>);

/// What `put` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutReport {
    /// The token.
    pub token: TokenId,
    /// Its new version.
    pub version: u64,
    /// When it expires. Milliseconds since 1970.
    pub expires: Option<u64>,
    /// The names of the devices that open it.
    pub recipients: Vec<String>,
    /// How many of them open it together.
    pub threshold: u64,
}

impl Vault {
    /// Seals `plaintext` as the next version of `name`, or as the first of a new token.
    ///
    /// # Errors
    /// `Usage` for a token that is empty or too large, or for a bad option; `Refused` without the role; the device's
    /// and the store's.
    pub fn put(&mut self, name: &Name, plaintext: &Secret, options: &PutOptions) -> Result<PutReport> {
        let operation = format!("put {name}");
        if plaintext.is_empty() {
            return Err(Error::new(Kind::Usage, operation, "the token is empty")
                .with_hint("give it on standard input, with --file, or have one made with --generate"));
        }
        if plaintext.len() > crate::secret::MAX_TOKEN_BYTES {
            return Err(Error::new(Kind::Usage, operation, "a token holds at most 1 MiB"));
        }
        self.submit(&operation, RequiredRole::Write(&[name.as_str()]), |vault| {
            let devices = vault.recipients(&operation, name.as_str(), &options.only)?;
            let (body, sealed) = vault.compose_put(name, plaintext, options, &devices)?;
            let mut recipients: Vec<_> = devices.iter().map(|device| device.enrolment.name.clone()).collect();
            recipients.sort();
            let (token, version) = (body.token, body.version);
            let (expires, threshold) = (body.expiry, body.threshold);
            let report = PutReport { token, version, expires, recipients, threshold };
            Ok((Draft { bodies: vec![Body::Put(Box::new(body))], sealed, ..Draft::default() }, report))
        })
    }

    /// A put based on the verified state, with its sealed bytes.
    pub(crate) fn compose_put(
        &mut self,
        name: &Name,
        plaintext: &Secret,
        options: &PutOptions,
        devices: &[DeviceRow],
    ) -> Result<SealedPut> {
        let body = self.next_version(name, options)?;
        let context = self.context(body.token, body.version);
        let threshold = body.threshold;
        let made = in_portions(devices, threshold, |portion| {
            self.seal_to(plaintext, &context, portion, threshold)
                .map_err(|error| error.with_operation(format!("put {name}")))
        })?;
        Ok((Put { seals: made.seals, ..body }, made.bytes))
    }

    pub(crate) fn context(&self, token: TokenId, version: u64) -> Context {
        Context { store: self.pin.store.0, token: token.0, version }
    }

    /// The next version of a name, without its seals.
    pub(crate) fn next_version(&self, name: &Name, options: &PutOptions) -> Result<Put> {
        cache_label::check(options.labels.as_deref().unwrap_or_default(), &format!("put {name}"))?;
        let token = self.replica.find(name.as_str())?;
        let before = match &token {
            Some(token) => self.current_version(token)?,
            None => None,
        };
        let expiry = match options.never_expires {
            true => None,
            false => options.expiry.or_else(|| same_period(before.as_ref()?, (self.clock)())),
        };
        let (old_labels, old_description, old_keep) =
            before.map(|b| (b.labels, b.description, b.keep)).unwrap_or_default();
        let mut labels = options.labels.clone().unwrap_or(old_labels);
        labels.sort();
        if let Some(pair) = labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let message = format!("the label `{}` is given twice", crate::error::printable(&pair[0].0));
            return Err(Error::new(Kind::Usage, format!("put {name}"), message));
        }
        Ok(Put {
            token: match &token {
                Some(token) => token.id,
                None => TokenId(random_id()?),
            },
            name: name.as_str().into(),
            version: token.as_ref().map_or(1, |token| token.latest + 1),
            seals: Vec::new(),
            threshold: self.threshold_of_next(name, token.as_ref(), options)?,
            only: !options.only.is_empty(),
            state: if options.staged { State::Staged } else { State::Active },
            not_before: options.not_before,
            expiry,
            labels,
            description: options.description.clone().unwrap_or(old_description),
            keep: options.keep.or(old_keep),
        })
    }

    /// How many devices must open the next version of a name together.
    fn threshold_of_next(&self, name: &Name, token: Option<&TokenRow>, options: &PutOptions) -> Result<u64> {
        let asked_for = self.replica.settings()?.threshold_for(name.as_str());
        match options.threshold {
            None => {
                let latest = token.map(|token| self.replica.version_row(token, token.latest)).transpose()?;
                Ok(latest.flatten().map_or(1, |latest| latest.threshold).max(asked_for))
            }
            Some(threshold) if threshold < asked_for => {
                let message = format!("the settings ask for {asked_for} devices that open it together");
                Err(Error::new(Kind::Refused, format!("put {name}"), message)
                    .with_hint("`strongroom settings` shows them"))
            }
            Some(threshold) => Ok(threshold),
        }
    }
}

/// As long after `now` as this version expires after its put.
fn same_period(before: &VersionRow, now: u64) -> Option<u64> {
    let period = before.expiry?.checked_sub(before.time).filter(|period| *period > 0)?;
    now.checked_add(period)
}
