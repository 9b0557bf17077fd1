//! Making seals: to which devices a version is sealed, and sealing to any number of them.

use crate::device::PublicKey;
use crate::error::{Error, Kind, Result};
use crate::ledger::body::Seal;
use crate::ledger::judge::LedgerView;
use crate::ledger::{Hash, MAX_RECIPIENTS, sha256};
use crate::replica::DeviceRow;
use crate::seal::{self, Context, Recipient};
use crate::secret::Secret;
use crate::vault::Vault;
use crate::vault::devices::connections::opening_key;
use zeroize::Zeroizing;

/// Seals that were made: what their statement says of them, sorted, and their bytes by digest.
#[derive(Default)]
pub(crate) struct NewSeals {
    pub(crate) seals: Vec<Seal>,
    pub(crate) bytes: Vec<(Hash, Vec<u8>)>,
}

impl Vault {
    /// The devices that open this name, or those of them that are named and the store's recovery devices; sorted by id.
    pub(crate) fn recipients(&self, operation: &str, name: &str, only: &[String]) -> Result<Vec<DeviceRow>> {
        let mut openers = self.replica.openers()?;
        openers.retain(|device| device.opens(name));
        if let Some(stranger) = only.iter().find(|name| !openers.iter().any(|device| is_called(device, name)))
        {
            let message = format!("no active device called `{stranger}` has the role `open` for it");
            return Err(Error::new(Kind::NotFound, operation, message)
                .with_hint("`strongroom device list` shows them"));
        }
        if !only.is_empty() {
            let recovery = self.replica.settings()?.recovery;
            openers.retain(|device| {
                only.iter().any(|name| is_called(device, name)) || recovery.contains(&device.id)
            });
        }
        Ok(openers)
    }

    pub(crate) fn seal_to(
        &mut self,
        plaintext: &Secret,
        context: &Context,
        devices: &[DeviceRow],
        threshold: u64,
    ) -> Result<Vec<u8>> {
        let recipients = as_recipients(devices);
        let here = &mut self.devices;
        // Only a symmetric key needs its device for sealing.
        if devices.iter().any(|device| matches!(device.enrolment.opening.key, PublicKey::Aes256 { .. })) {
            here.enrolled(&self.replica)?;
        }
        seal::seal(plaintext, context, &recipients, threshold, &mut |request| {
            let row = devices.iter().find(|row| &row.enrolment.opening.key == request.recipient.public);
            let Some(row) = row else { return seal::without_device(request) };
            let Ok((worker, prompter)) = here.get(&row.id) else { return seal::without_device(request) };
            let (key, iv, aad) = (opening_key(row), *request.iv, request.aad.to_vec());
            let secret = Zeroizing::new(request.secret.to_vec());
            let wrapped = worker.call("seal with the key", prompter, move |device, prompter| {
                device.wrapping().map(|wrap| wrap.wrap(&key, &iv, &aad, &secret, prompter)).transpose()
            })?;
            wrapped.map_or_else(|| seal::without_device(request), Ok)
        })
    }
}

/// Seals to any number of devices: in portions that fit into one header each, or in one where several open it together.
pub(crate) fn in_portions(
    devices: &[DeviceRow],
    threshold: u64,
    mut seal: impl FnMut(&[DeviceRow]) -> Result<Vec<u8>>,
) -> Result<NewSeals> {
    let mut made = Vec::new();
    let mut rest = devices;
    while !rest.is_empty() || made.is_empty() {
        let (portion, others) = rest.split_at(if threshold > 1 { rest.len() } else { portion_of(rest) });
        let sealed = seal(portion)?;
        let recipients = portion.iter().map(|device| device.id).collect();
        made.push((Seal { digest: sha256(&sealed), length: sealed.len() as u64, recipients }, sealed));
        rest = others;
    }
    made.sort_by_key(|(seal, _)| seal.digest.0);
    let (seals, bytes) = made.into_iter().map(|(seal, sealed)| (seal.clone(), (seal.digest, sealed))).unzip();
    Ok(NewSeals { seals, bytes })
}

/// How many of these devices fit into one header.
fn portion_of(devices: &[DeviceRow]) -> usize {
    let mut room = seal::MAX_HEADER_BYTES - ROOM_BESIDES;
    let fits = |device: &&DeviceRow| {
        let left = room.checked_sub(seal::stanza_bytes(&device.enrolment.opening.key));
        room = left.unwrap_or_default();
        left.is_some()
    };
    devices.iter().take(MAX_RECIPIENTS).take_while(fits).count()
}

/// The context, age's random stanza and the MAC take less of a header.
const ROOM_BESIDES: usize = 4096;

/// Does the same work on each job, on all cores.
pub(crate) fn on_all_cores<J: Sync, T: Send>(
    jobs: &[J],
    work: impl Fn(&J) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let portion = jobs.len().div_ceil(cores).max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = jobs
            .chunks(portion)
            .map(|portion| scope.spawn(move || portion.iter().map(work).collect::<Result<Vec<_>>>()))
            .collect();
        let mut done = Vec::with_capacity(jobs.len());
        for worker in workers {
            let portion = worker.join();
            done.extend(
                portion.unwrap_or_else(|_| Err(Error::new(Kind::Io, "seal the tokens", "a thread died")))?,
            );
        }
        Ok(done)
    })
}

/// Devices as the recipients of a sealed token.
pub(crate) fn as_recipients(devices: &[DeviceRow]) -> Vec<Recipient<'_>> {
    let enrolments = devices.iter().map(|device| &device.enrolment);
    enrolments.map(|enrolled| Recipient { public: &enrolled.opening.key, name: &enrolled.name }).collect()
}

fn is_called(device: &DeviceRow, name: &str) -> bool {
    device.enrolment.name == name || device.id.to_string() == name
}
