//! Opening tokens: look up, open on devices, record.
//!
//! First the ledger says whether a token may be opened (`lookup`). Then the devices are tried in the configured order.
//! Then the outcome goes into the access log, before the token is handed out. The agent takes the same steps with its
//! own devices, and shares [`SealedToken`] and [`OpenOutcome`].

use crate::device::{Device, KeyRef};
use crate::error::{Error, Kind, Result};
use crate::ledger::Name;
use crate::prompt::{PinRequest, Prompter};
use crate::replica::DeviceRow;
use crate::seal::Opened;
use crate::secret::Secret;
use crate::vault::devices::connections::opening_key;
use crate::vault::tokens::lookup::{SealedToken, TokenRef};
use crate::vault::tokens::open_outcome::{OPENED, OpenOutcome, OpenedToken};
use crate::vault::{TokenBackend, Vault};
use std::sync::{Arc, Mutex};

impl Vault {
    /// Opens one token.
    ///
    /// # Errors
    /// `NotFound`; `Refused` if it is suspended, revoked, destroyed, expired or not yet valid; `Tampered` if the sealed
    /// bytes were altered; the device's.
    pub fn get(&mut self, name: &Name, version: Option<u64>) -> Result<OpenedToken> {
        TokenBackend::open(self, &TokenRef { name: name.clone(), version })
    }

    /// Opens the newest staged version of a token, so that it can be set at its issuer before it is made active.
    ///
    /// # Errors
    /// As [`Vault::get`]; `NotFound` if no version is staged; `Refused` if no device here may write the token.
    pub fn get_staged(&mut self, name: &Name) -> Result<OpenedToken> {
        let tried = format!("open the staged version of {name}");
        self.check_counters(&tried)?;
        let sealed = self.look_up_staged(name, &tried);
        self.open_one(name.as_str(), sealed).into_token()
    }

    /// Opens what was looked up, and writes down what came of it.
    pub(crate) fn open_one(&mut self, name: &str, sealed: Result<SealedToken>) -> OpenOutcome {
        let opened = sealed.map(|token| self.open_on_devices(&[Arc::new(token)]).pop());
        let outcome = match opened {
            Ok(outcome) => outcome.unwrap_or_else(|| OpenOutcome::unopened(0, Err(unanswered(name)))),
            Err(error) => OpenOutcome::unopened(0, Err(error)),
        };
        self.record([(name, &outcome)].into_iter(), OPENED);
        outcome
    }

    /// Looks tokens up, in the given order.
    pub(crate) fn look_up_all(&mut self, wanted: &[TokenRef]) -> Vec<Result<Arc<SealedToken>>> {
        match self.check_counters("open tokens") {
            Ok(()) => wanted.iter().map(|wanted| self.look_up(wanted).map(Arc::new)).collect(),
            Err(error) => {
                wanted.iter().map(|wanted| Err(error.with_context(format!("open {}", wanted.name)))).collect()
            }
        }
    }

    /// Opens each token on the first device that can, or on as many as must open it together. A device that fails does not keep
    /// the next from being tried. A person is asked to plug a device in only if no other device opens the token.
    pub(crate) fn open_on_devices(&mut self, tokens: &[Arc<SealedToken>]) -> Vec<OpenOutcome> {
        if tokens.is_empty() {
            return Vec::new();
        }
        let enrolled = self.devices.enrolled(&self.replica);
        let (here, failures) = enrolled.unwrap_or_else(|error| (Vec::new(), vec![error]));
        let untried =
            |token: &Arc<SealedToken>| OpenOutcome::unopened(token.version, Err(unanswered(&token.name)));
        let mut outcomes: Vec<OpenOutcome> = tokens.iter().map(untried).collect();
        let mut refusal = failures.iter().find_map(wrong_pin);
        let plugged_in = here.iter().map(|row| (row, true));
        for (row, is_plugged_in) in plugged_in.chain(here.iter().map(|row| (row, false))) {
            let parts = unopened(tokens, row, &here, &outcomes);
            let Some(first) = parts.first().cloned() else { continue };
            if !is_plugged_in {
                let waited = self.devices.wait_for(&row.id, &format!("open {}", first.token.name));
                if matches!(waited, Ok(false)) {
                    continue;
                }
            } else if let Some(refused) = refusal.take()
                && !self.goes_on_after(&refused, &row.enrolment.name)
            {
                break;
            }
            let (key, rest) = (opening_key(row), parts[1..].to_vec());
            let answers = self.devices.get(&row.id).and_then(|(worker, prompter)| {
                worker.call("open with the key", prompter, move |device, prompter| {
                    let opened = first.token.open_on(device, prompter, &key, first.shares);
                    Ok(open_the_rest(device, prompter, &key, opened, &rest))
                })
            });
            let answers = answers.unwrap_or_else(|error| all_failed(&parts, &error));
            for (part, answer) in parts.iter().zip(answers) {
                outcomes[part.index].take_answer(&part.token, row.id, answer);
            }
            refusal = refused_pin(&outcomes, row);
        }
        for (outcome, token) in outcomes.iter_mut().zip(tokens) {
            if outcome.device.is_none() {
                outcome.token = Err(self.not_asked(token, &here, failures.first()));
            }
        }
        outcomes
    }

    /// Whether to go on with the next device after one has refused a PIN. A person may be about to give the same wrong PIN to the
    /// next one. Where nobody can be asked, the next device has a PIN of its own, and the refusal is told.
    fn goes_on_after(&mut self, refused: &str, next: &str) -> bool {
        let prompter = &mut self.devices.prompter;
        if prompter.is_attended() {
            return prompter.confirm(&format!("{refused}. Go on with {next}?")).unwrap_or(false);
        }
        self.notices.push(refused.to_owned());
        true
    }

    /// Why no device was asked for a token.
    fn not_asked(&self, token: &SealedToken, here: &[DeviceRow], failure: Option<&Error>) -> Error {
        if let Some(failure) = failure {
            return failure.with_context(token.operation());
        }
        if token.threshold > 1 {
            return token.too_few_devices(|id| here.iter().any(|row| row.id == *id));
        }
        let names = token.recipients().filter_map(|id| self.replica.device_row(id).ok().flatten());
        let mut names: Vec<String> = names.map(|device| device.enrolment.name).collect();
        names.sort();
        let message = match self.devices.is_empty() {
            true => "no device is configured here".to_owned(),
            false => format!("it is sealed to {}, and none of these is configured here", names.join(", ")),
        };
        Error::new(Kind::SealedElsewhere, token.operation(), message)
            .with_hint("name a device with --device, or in the configuration")
    }
}

/// What one device is asked for: a token, or a share of it after others opened this many.
#[derive(Clone)]
struct Part {
    /// Which of the tokens.
    index: usize,
    token: Arc<SealedToken>,
    shares: usize,
}

/// The tokens that this device may open, or a share of them, and no other has. One that too few devices here could open
/// together is left out: nobody is asked for a PIN in vain.
fn unopened(
    tokens: &[Arc<SealedToken>],
    row: &DeviceRow,
    here: &[DeviceRow],
    outcomes: &[OpenOutcome],
) -> Vec<Part> {
    let enough = |token: &SealedToken| {
        token.threshold == 1
            || here.iter().filter(|row| token.is_for(&row.id)).count() as u64 >= token.threshold
    };
    let waits = |outcome: &OpenOutcome| !outcome.is_open() && !outcome.sharers.contains(&row.id);
    (0..tokens.len())
        .filter(|i| tokens[*i].is_for(&row.id) && waits(&outcomes[*i]) && enough(&tokens[*i]))
        .map(|index| Part { index, token: Arc::clone(&tokens[index]), shares: outcomes[index].shares.len() })
        .collect()
}

/// What is told of a device that has just refused a PIN.
fn refused_pin(outcomes: &[OpenOutcome], row: &DeviceRow) -> Option<String> {
    let of_this = outcomes.iter().filter(|outcome| outcome.device == Some(row.id));
    of_this.filter_map(|outcome| outcome.token.as_ref().err()).find_map(wrong_pin)
}

fn wrong_pin(error: &Error) -> Option<String> {
    let target = error.target().unwrap_or("a device");
    (error.kind() == Kind::PinWrong).then(|| format!("{target}: {}", error.message()))
}

pub(crate) fn unanswered(name: impl std::fmt::Display) -> Error {
    Error::new(Kind::Device, format!("open {name}"), "no device answered")
}

fn all_failed(parts: &[Part], error: &Error) -> Vec<Result<Opened>> {
    parts.iter().map(|part| Err(error.with_context(part.token.part_operation(part.shares)))).collect()
}

/// Opens the rest of the tokens on a device. The first one was opened on the existing session, which logged in; the rest are
/// opened on as many sessions as help.
fn open_the_rest(
    device: &mut dyn Device,
    prompter: &mut dyn Prompter,
    key: &KeyRef,
    first: Result<Opened>,
    rest: &[Part],
) -> Vec<Result<Opened>> {
    // After a wrong PIN or a lost device, try nothing else on it.
    if let Err(error) = &first
        && !matches!(error.kind(), Kind::Tampered | Kind::SealedElsewhere)
    {
        let others = all_failed(rest, error);
        return std::iter::once(first).chain(others).collect();
    }
    if rest.is_empty() {
        return vec![first];
    }
    let sessions =
        device.parallel().map_or(1, |parallel| parallel.max_sessions(key)).min(rest.len().div_ceil(2)).max(1);
    let others = siblings(device, sessions - 1);
    std::iter::once(first).chain(open_in_parallel(device, prompter, others, key, rest)).collect()
}

/// More sessions; fewer than `count` if the device has no more.
fn siblings(device: &mut dyn Device, count: usize) -> Vec<Box<dyn Device>> {
    match device.parallel() {
        Some(parallel) => (0..count).map_while(|_| parallel.clone_session().ok()).collect(),
        None => Vec::new(),
    }
}

fn open_in_parallel(
    device: &mut dyn Device,
    prompter: &mut dyn Prompter,
    others: Vec<Box<dyn Device>>,
    key: &KeyRef,
    tokens: &[Part],
) -> Vec<Result<Opened>> {
    let results: Vec<Mutex<Option<Result<Opened>>>> = tokens.iter().map(|_| Mutex::new(None)).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = |device: &mut dyn Device, prompter: &mut dyn Prompter| {
        while let Some(i) =
            Some(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)).filter(|i| *i < tokens.len())
        {
            let opened = tokens[i].token.open_on(device, prompter, key, tokens[i].shares);
            prompter.still_waiting();
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
    let take = |(result, part): (Mutex<Option<Result<Opened>>>, &Part)| {
        let opened = result.into_inner().ok().flatten();
        opened.unwrap_or_else(|| {
            Err(Error::new(Kind::Device, format!("open {}", part.token.name), "its session ended"))
        })
    };
    results.into_iter().zip(tokens).map(take).collect()
}

/// The prompter of further sessions: they share the first one's login, and ask nobody.
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
