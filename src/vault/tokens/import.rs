//! Importing many tokens: sealed on all cores, one signature per batch.

use crate::device::PublicKey;
use crate::error::Result;
use crate::ledger::body::{Body, Put};
use crate::ledger::{MAX_BATCH, MAX_BATCH_BYTES, Name};
use crate::replica::DeviceRow;
use crate::seal;
use crate::secret::Secret;
use crate::vault::Vault;
use crate::vault::ledger::submit::{Draft, RequiredRole};
use crate::vault::tokens::put::{PutOptions, SealedPut};
use crate::vault::tokens::seals::{as_recipients, in_portions, on_all_cores};
use crate::vault::tokens::unchanged;
use std::collections::HashSet;

/// How many bytes of tokens are held in memory at once.
const MAX_BYTES: usize = 16 << 20;

/// An upper bound for a put's bytes besides its name, texts and recipients.
const STATEMENT_BYTES: usize = 384;

/// A token to import.
#[derive(Clone, Debug)]
pub struct ImportItem {
    /// Its name. A name in use gets a new version.
    pub name: Name,
    /// Its bytes.
    pub token: Secret,
    /// Its options.
    pub options: PutOptions,
}

/// What was imported so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Versions put.
    pub tokens: u64,
    /// Signatures made.
    pub batches: u64,
    /// Tokens that were the same already, and were left alone.
    pub unchanged: u64,
}

impl Vault {
    /// Puts every item, in batches of up to 10,000 with one signature each. A batch is stored whole or not at all.
    ///
    /// # Errors
    /// The first failing item's error, the role's, the device's or the store's. Everything that `progress` has reported
    /// is stored.
    pub fn import(
        &mut self,
        items: impl Iterator<Item = Result<ImportItem>>,
        progress: &mut dyn FnMut(Imported),
    ) -> Result<Imported> {
        self.import_in_batches(items, false, progress)
    }

    pub(crate) fn import_in_batches(
        &mut self,
        items: impl Iterator<Item = Result<ImportItem>>,
        skip_unchanged: bool,
        progress: &mut dyn FnMut(Imported),
    ) -> Result<Imported> {
        let mut imported = Imported::default();
        let (mut batch, mut names, mut bytes) = (Vec::new(), HashSet::new(), 0);
        for item in items {
            let item = item?;
            // If a name occurs twice, its second version builds on the first.
            let full = batch.len() == MAX_BATCH
                || bytes + item.token.len() > MAX_BYTES
                || names.contains(&item.name);
            if full && !batch.is_empty() {
                self.import_some(std::mem::take(&mut batch), skip_unchanged, &mut imported)?;
                progress(imported);
                names.clear();
                bytes = 0;
            }
            bytes += item.token.len();
            names.insert(item.name.clone());
            batch.push(item);
        }
        if !batch.is_empty() {
            self.import_some(batch, skip_unchanged, &mut imported)?;
            progress(imported);
        }
        Ok(imported)
    }

    fn import_some(&mut self, items: Vec<ImportItem>, skip: bool, imported: &mut Imported) -> Result<()> {
        let count = items.len();
        let items = if skip { unchanged::changed(self, items)? } else { items };
        imported.unchanged += (count - items.len()) as u64;
        if items.is_empty() { Ok(()) } else { self.import_batch(&items, imported) }
    }

    fn import_batch(&mut self, items: &[ImportItem], imported: &mut Imported) -> Result<()> {
        if items.len() > 1 && !self.fit_into_a_batch(items)? {
            let (some, others) = items.split_at(items.len() / 2);
            self.import_batch(some, imported)?;
            return self.import_batch(others, imported);
        }
        let operation = format!("import {} tokens", items.len());
        let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        self.submit(&operation, RequiredRole::Write(&names), |vault| {
            let mut draft = Draft::default();
            for (body, sealed) in vault.compose_puts(&operation, items)? {
                draft.sealed.extend(sealed);
                draft.bodies.push(Body::Put(Box::new(body)));
            }
            Ok((draft, ()))
        })?;
        imported.tokens += items.len() as u64;
        imported.batches += 1;
        Ok(())
    }

    /// Whether the statements fit into one batch. Labels and descriptions may come from the previous version.
    fn fit_into_a_batch(&self, items: &[ImportItem]) -> Result<bool> {
        let mut bytes = 0;
        for item in items {
            let put = self.next_version(&item.name, &item.options)?;
            let devices = self.recipients("import", put.name.as_str(), &item.options.only)?.len();
            let texts = put.labels.iter().map(|(key, value)| key.len() + value.len() + 8).sum::<usize>();
            bytes += STATEMENT_BYTES + 2 * put.name.len() + texts + put.description.len() + 18 * devices;
        }
        Ok(bytes <= MAX_BATCH_BYTES)
    }

    fn compose_puts(&mut self, operation: &str, items: &[ImportItem]) -> Result<Vec<SealedPut>> {
        let mut jobs = Vec::new();
        for item in items {
            let devices = self.recipients(operation, item.name.as_str(), &item.options.only)?;
            jobs.push((item, devices));
        }
        let symmetric = |device: &DeviceRow| matches!(device.enrolment.opening.key, PublicKey::Aes256 { .. });
        if jobs.iter().flat_map(|(_, devices)| devices).any(symmetric) {
            let put = |(item, devices): (&ImportItem, Vec<DeviceRow>)| {
                self.compose_put(&item.name, &item.token, &item.options, &devices)
            };
            return jobs.into_iter().map(put).collect();
        }
        let jobs: Vec<_> = jobs
            .into_iter()
            .map(|(item, devices)| Ok((self.next_version(&item.name, &item.options)?, item, devices)))
            .collect::<Result<_>>()?;
        self.seal_on_all_cores(&jobs)
    }

    fn seal_on_all_cores(&self, jobs: &[(Put, &ImportItem, Vec<DeviceRow>)]) -> Result<Vec<SealedPut>> {
        let store = self.pin.store.0;
        on_all_cores(jobs, |(body, item, devices)| {
            let context = seal::Context { store, token: body.token.0, version: body.version };
            let made = in_portions(devices, body.threshold, |portion| {
                let recipients = as_recipients(portion);
                seal::seal(&item.token, &context, &recipients, body.threshold, &mut seal::without_device)
                    .map_err(|e| e.with_operation(format!("import {}", item.name)))
            })?;
            Ok((Put { seals: made.seals, ..body.clone() }, made.bytes))
        })
    }
}
