//! Opening tokens: the ledger's word first, then the device's.

use crate::device::{Device, KeyRef};
use crate::error::{Error, Kind, Result};
use crate::ledger::{DeviceId, Name};
use crate::prompt::{PinRequest, Prompter, PurposePrompter};
use crate::replica::{DeviceRow, SealedRow};
use crate::seal;
use crate::secret::Secret;
use crate::vault::Vault;
use crate::vault::devices::connections::opening_key;
use crate::vault::ledger::access_log::outcome;
use crate::vault::tokens::lookup::{SealedToken, TokenRef};
use std::sync::Mutex;

type Opened = (Option<DeviceId>, Result<Secret>);

impl Vault {
    /// Opens one token.
    ///
    /// # Errors
    /// `NotFound`; `Refused` when it is suspended, revoked, destroyed, expired or not yet valid; `Tampered` when the sealed
    /// bytes are not those that were put; the device's.
    pub fn get(&mut self, name: &Name, version: Option<u64>) -> Result<Secret> {
        let wanted = TokenRef { name: name.clone(), version };
        let mut opened = self.get_all(&[wanted]);
        opened.pop().unwrap_or_else(|| {
            Err(Error::new(Kind::NotFound, format!("open {name}"), "nothing was asked for"))
        })
    }

    /// Opens several tokens, in the order asked for, with one login and, where the device gains by it, on several sessions.
    pub fn get_all(&mut self, wanted: &[TokenRef]) -> Vec<Result<Secret>> {
        let prepared: Vec<Result<SealedToken>> = match self.check_anchors("open tokens") {
            Ok(()) => wanted.iter().map(|wanted| self.prepare(wanted)).collect(),
            Err(error) => {
                wanted.iter().map(|wanted| Err(instead(&error, format!("open {}", wanted.name)))).collect()
            }
        };
        let ready: Vec<&SealedToken> = prepared.iter().flatten().collect();
        let mut opened = self.open_ready(&ready).into_iter();
        let (mut results, mut accesses) = (Vec::new(), Vec::new());
        for (wanted, prepared) in wanted.iter().zip(prepared) {
            let name = &wanted.name;
            let (version, (device, result)) = match prepared {
                Ok(token) => (token.version, opened.next().unwrap_or_else(|| (None, Err(unanswered(name))))),
                Err(error) => (wanted.version.unwrap_or(0), (None, Err(error))),
            };
            let outcome = result.as_ref().map_or_else(|e| outcome(e.kind()), |_| "opened");
            accesses.push(self.access(name.as_str(), version, device, outcome));
            results.push(result);
        }
        self.record(&accesses);
        results
    }

    /// Whether a version opens here, whatever its state.
    pub(crate) fn try_opening(&mut self, row: &SealedRow) -> Result<()> {
        let ready = SealedToken {
            name: row.name.clone(),
            version: row.version.version,
            context: self.context(row.token, row.version.version),
            recipients: row.version.recipients.clone(),
            sealed: self.checked_bytes(&row.name, &row.version)?,
            keep: None,
            timeless: false,
        };
        let opened = self.open_ready(&[&ready]).pop();
        opened.map_or_else(|| Err(unanswered(&row.name)), |(_, result)| result.map(drop))
    }

    pub(crate) fn open_ready(&mut self, ready: &[&SealedToken]) -> Vec<Opened> {
        if ready.is_empty() {
            return Vec::new();
        }
        match self.devices.enrolled(&self.replica) {
            Ok((here, failures)) => self.open_with(ready, &here, failures),
            Err(error) => ready.iter().map(|token| (None, Err(restate(&error, token)))).collect(),
        }
    }

    fn open_with(&mut self, ready: &[&SealedToken], here: &[DeviceRow], failures: Vec<Error>) -> Vec<Opened> {
        let mut results: Vec<Option<Opened>> = ready.iter().map(|_| None).collect();
        for row in here {
            self.open_the_rest(ready, row, &mut results);
        }
        // Only where no other device opens it is a person asked to plug one in.
        for row in here {
            let Some(first) = unopened(ready, row, &results).first().map(|i| ready[*i]) else { continue };
            match self.devices.wait_for(&row.id, &format!("open {}", first.name)) {
                Ok(false) => {}
                Ok(true) | Err(_) => self.open_the_rest(ready, row, &mut results),
            }
        }
        let nobody = |token: &SealedToken| match failures.first() {
            Some(failure) => restate(failure, token),
            None => self.no_device_for(token),
        };
        results
            .into_iter()
            .zip(ready)
            .map(|(r, token)| r.unwrap_or_else(|| (None, Err(nobody(token)))))
            .collect()
    }

    /// Has a device open what no device before it opened: a failing one must not keep the next from being tried.
    fn open_the_rest(&mut self, ready: &[&SealedToken], row: &DeviceRow, results: &mut [Option<Opened>]) {
        let todo = unopened(ready, row, results);
        let tokens: Vec<&SealedToken> = todo.iter().map(|i| ready[*i]).collect();
        let opened = match self.devices.get(&row.id) {
            Ok((device, prompter)) => open_on(device, prompter, row, &tokens),
            Err(error) => tokens.iter().map(|token| Err(restate(&error, token))).collect(),
        };
        for (i, result) in todo.into_iter().zip(opened) {
            // The first device's failure is the one to tell, unless another opens.
            if result.is_ok() || results[i].is_none() {
                results[i] = Some((Some(row.id), result));
            }
        }
    }

    fn no_device_for(&self, token: &SealedToken) -> Error {
        let names = token.recipients.iter().filter_map(|id| self.replica.device_row(id).ok().flatten());
        let mut names: Vec<String> = names.map(|device| device.enrolment.name).collect();
        names.sort();
        let answer = match self.devices.is_empty() {
            true => "no device is configured here".to_owned(),
            false => format!("it is sealed to {}, and none of these is configured here", names.join(", ")),
        };
        Error::new(Kind::NotFound, format!("open {}@{}", token.name, token.version), answer)
            .with_hint("name a device with --device, or in the configuration")
    }
}

/// Which tokens a device may open, and none has yet.
fn unopened(ready: &[&SealedToken], row: &DeviceRow, results: &[Option<Opened>]) -> Vec<usize> {
    let open = |i: &usize| matches!(results[*i], Some((_, Ok(_))));
    (0..ready.len()).filter(|i| ready[*i].recipients.contains(&row.id) && !open(i)).collect()
}

fn unanswered(name: impl std::fmt::Display) -> Error {
    Error::new(Kind::Device, format!("open {name}"), "no device answered")
}

/// The same failure, told for one token.
fn restate(error: &Error, token: &SealedToken) -> Error {
    instead(error, format!("open {}@{}", token.name, token.version))
}

fn instead(error: &Error, tried: String) -> Error {
    let mut told = Error::new(error.kind(), tried, error.message());
    if let Some(on) = error.target() {
        told = told.with_target(on);
    }
    if let Some(advice) = error.hint() {
        told = told.with_hint(advice);
    }
    told
}

pub(crate) fn open_one(
    device: &mut dyn Device,
    prompter: &mut dyn Prompter,
    key: &KeyRef,
    token: &SealedToken,
) -> Result<Secret> {
    let purpose = format!("open {}", token.name);
    let mut prompter = PurposePrompter { inner: prompter, purpose: &purpose };
    let mut ask = |challenge: crate::device::Challenge<'_>| device.open_key(key, challenge, &mut prompter);
    seal::open(&token.sealed, &token.context, &key.public, &mut ask).map_err(|error| restate(&error, token))
}

/// The first on the session there is, which logs in; the rest on as many as the device gains by.
fn open_on(
    device: &mut dyn Device,
    prompter: &mut dyn Prompter,
    row: &DeviceRow,
    tokens: &[&SealedToken],
) -> Vec<Result<Secret>> {
    let key = opening_key(row);
    let Some((first, rest)) = tokens.split_first() else { return Vec::new() };
    let first = open_one(device, prompter, &key, first);
    // After a wrong PIN or a lost device nothing else is tried on it.
    if let Err(error) = &first
        && !matches!(error.kind(), Kind::Tampered | Kind::NotFound)
    {
        let others = rest.iter().map(|token| Err(restate(error, token))).collect::<Vec<_>>();
        return std::iter::once(first).chain(others).collect();
    }
    if rest.is_empty() {
        return vec![first];
    }
    let lanes =
        device.parallel().map_or(1, |parallel| parallel.lanes(&key)).min(rest.len().div_ceil(2)).max(1);
    let rest = match siblings(device, lanes - 1) {
        others if others.is_empty() => {
            rest.iter().map(|token| open_one(device, prompter, &key, token)).collect()
        }
        others => open_in_parallel(device, prompter, others, &key, rest),
    };
    std::iter::once(first).chain(rest).collect()
}

/// Further sessions; fewer than asked for where the device has no more.
fn siblings(device: &mut dyn Device, count: usize) -> Vec<Box<dyn Device>> {
    match device.parallel() {
        Some(parallel) => (0..count).map_while(|_| parallel.another().ok()).collect(),
        None => Vec::new(),
    }
}

fn open_in_parallel(
    device: &mut dyn Device,
    prompter: &mut dyn Prompter,
    others: Vec<Box<dyn Device>>,
    key: &KeyRef,
    tokens: &[&SealedToken],
) -> Vec<Result<Secret>> {
    let results: Vec<Mutex<Option<Result<Secret>>>> = tokens.iter().map(|_| Mutex::new(None)).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = |device: &mut dyn Device, prompter: &mut dyn Prompter| {
        while let Some(i) =
            Some(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)).filter(|i| *i < tokens.len())
        {
            let opened = open_one(device, prompter, key, tokens[i]);
            if let Ok(mut result) = results[i].lock() {
                *result = Some(opened);
            }
        }
    };
    std::thread::scope(|scope| {
        for mut other in others {
            let work = &work;
            scope.spawn(move || work(&mut *other, &mut LoggedIn));
        }
        work(device, prompter);
    });
    let take = |(result, token): (Mutex<Option<Result<Secret>>>, &&SealedToken)| {
        let opened = result.into_inner().ok().flatten();
        opened.unwrap_or_else(|| {
            Err(Error::new(Kind::Device, format!("open {}", token.name), "its session ended"))
        })
    };
    results.into_iter().zip(tokens).map(take).collect()
}

/// Sessions beside the first share its login; they have nobody to ask.
struct LoggedIn;

impl Prompter for LoggedIn {
    fn pin(&mut self, request: &PinRequest<'_>) -> Result<Secret> {
        Err(Error::new(Kind::PinUnavailable, "log in", "the login was lost while several tokens were opened")
            .with_target(request.device))
    }

    fn touch(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    fn confirm(&mut self, _: &str) -> Result<bool> {
        Ok(false)
    }
}
