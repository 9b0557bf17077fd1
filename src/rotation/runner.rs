//! Takes the steps that the engine names, on a vault and a hook.

use super::engine::{Accepted, Situation, Step, next};
use super::hook::{Answer, Hook, Request, Value};
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::ledger::body::State;
use crate::ledger::{Name, TokenId};
use crate::replica::VersionRow;
use crate::secret::{DEFAULT_TEXT_LENGTH, Secret};
use crate::vault::{RotationState, Vault};
use std::collections::HashMap;
use std::time::Duration;

/// More steps than any rotation takes.
const MAX_STEPS: u32 = 60;

/// How long a lease lasts; it is renewed before each step, and no step takes as long.
const LEASE: Duration = Duration::from_secs(15 * 60);

/// What is wanted of a rotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Make a new version also if none is due.
    pub now: bool,
    /// Finish what was begun, see to it that the issuer accepts the version in use, and make nothing new.
    pub resume: bool,
    /// Undo what was begun.
    pub abort: bool,
    /// Do not respect another machine's lease.
    pub take_over: bool,
}

/// What became of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This version is in use now.
    Rotated(u64),
    /// A rotation was undone; this version is in use as before.
    Undone(u64),
    /// Versions that had outlived the overlap were revoked.
    Retired,
    /// There was nothing to do; a new version is due then (ms since 1970).
    NotDue(u64),
}

/// Rotates a token, or goes on where a rotation was interrupted, here or elsewhere. `tell` is told what is done.
///
/// # Errors
/// The vault's and the hook's. Whatever failed, the token opens, and its issuer accepts a version that is stored.
pub fn rotate(
    vault: &mut Vault,
    hook: &dyn Hook,
    name: &Name,
    options: Options,
    tell: &mut dyn FnMut(&str),
) -> Result<Outcome> {
    let operation = format!("rotate {name}");
    let state = vault.rotation_state(name, &operation)?;
    let policy = &state.policy.policy;
    if policy.overlap > 0 && !hook.overlaps(&policy.params) {
        let message = "the issuer accepts one value at a time: the version before stops working at once";
        return Err(Error::new(Kind::Usage, operation, message)
            .with_hint("set the policy with `--overlap 0` to agree to that, or use two identities in turn"));
    }
    let started_with = current_of(&state, &operation)?;
    let id = state.token.id;
    // Who resumes does not know what became of the last run: the issuer is asked also where nothing is staged.
    let found = Found { unsure: options.resume, ..Found::default() };
    vault.take_lease(name, id, LEASE, options.take_over)?;
    let mut run =
        Run { vault, hook, name, id, operation, options, started_with, tell, found, values: HashMap::new() };
    let done = run.finish_all();
    // After a failure, too: whoever goes on asks the issuer first.
    run.vault.end_lease(id);
    done
}

/// Revokes a version, or the token with all its versions, at the issuer and then here. It opens no more from the beginning;
/// where the issuer does not confirm, this can be done again. The versions that were revoked.
///
/// # Errors
/// The vault's and the hook's; `Refused` if the issuer says no, or if there is nothing that could be opened for it.
pub fn revoke_at_issuer(
    vault: &mut Vault,
    hook: &dyn Hook,
    name: &Name,
    version: Option<u64>,
    reason: &str,
) -> Result<Vec<u64>> {
    let operation = format!("revoke {name} at its issuer");
    let state = vault.policy_state(name, &operation)?;
    let not_revoked = |row: &&VersionRow| row.state.is_some_and(|state| state != State::Revoked);
    let rows: Vec<_> = state.versions.iter().filter(not_revoked).collect();
    let chosen = rows.iter().filter(|row| version.is_none_or(|version| version == row.version));
    let versions: Vec<u64> = chosen.clone().map(|row| row.version).collect();
    if versions.is_empty() {
        return Err(Error::new(Kind::Refused, operation, "it is revoked here already, and opens for nobody")
            .with_hint("have the issuer refuse the value, if it did not yet"));
    }
    if !state.token.suspended && chosen.clone().any(|row| row.state == Some(State::Active)) {
        vault.set_state(name, version, State::Suspended, reason)?;
    }
    failpoint::reach("revoke.suspended");
    // What stays in use is the new value, if any does.
    let in_use = rows.iter().rev().find(|row| row.since.is_some()).map(|row| row.version);
    let stays = in_use.filter(|in_use| !versions.contains(in_use));
    let again = "it opens no more here: run it again when the issuer can be asked";
    retire_all(vault, hook, &state, &versions, stays).map_err(|error| error.with_hint(again))?;
    failpoint::reach("revoke.retired");
    vault.set_state(name, version, State::Revoked, reason)?;
    Ok(versions)
}

/// Has the issuer refuse these versions.
fn retire_all(
    vault: &mut Vault,
    hook: &dyn Hook,
    state: &RotationState,
    versions: &[u64],
    stays: Option<u64>,
) -> Result<()> {
    let name = Name::parse(&state.token.name).map_err(|why| Error::new(Kind::Usage, "revoke", why))?;
    let new = stays.map(|version| Ok((version, vault.open_to_revoke(&name, version)?.value))).transpose()?;
    for version in versions {
        let opened = vault.open_to_revoke(&name, *version)?.value;
        // The issuer must not be told to refuse what stays in use.
        if let Some((stays, _)) = new.as_ref().filter(|(_, stays)| *stays == opened) {
            let message = format!(
                "version {version} is the value of version {stays}, which stays in use; rotate the token first"
            );
            return Err(Error::new(Kind::Refused, format!("revoke {name} at its issuer"), message));
        }
        let old = Some(Value { version: *version, value: &opened });
        let new = new.as_ref().map(|(version, value)| Value { version: *version, value });
        let params = &state.policy.policy.params;
        let asked = hook.retire(&Request { token: &name, id: state.token.id, params, old, new })?;
        if let Answer::Refused(why) = asked {
            let message = format!("the issuer did not revoke version {version}: {why}");
            return Err(Error::new(Kind::Refused, format!("revoke {name} at its issuer"), message));
        }
    }
    Ok(())
}

/// The version in use.
fn current_of(state: &RotationState, operation: &str) -> Result<u64> {
    let current = state.versions.iter().rev().find(|row| row.since.is_some());
    match current {
        Some(row) if row.state == Some(State::Active) => Ok(row.version),
        Some(row) => {
            let message = format!("its current version, {}, was closed", row.version);
            Err(Error::new(Kind::Refused, operation, message)
                .with_hint(format!("put a version that works: `strongroom put {}`", state.token.name)))
        }
        None => {
            let (name, latest) = (&state.token.name, state.token.latest);
            Err(Error::new(Kind::Refused, operation, "no version of it was ever in use")
                .with_hint(format!("put one into use first: `strongroom resume {name}@{latest}`")))
        }
    }
}

/// What this run has found out and done.
#[derive(Default)]
struct Found {
    /// The version in use and the candidate that `accepted`, `tested` and `refusals` are about.
    about: (u64, Option<u64>),
    accepted: Option<Accepted>,
    tested: bool,
    refusals: u32,
    candidates: u32,
    unsure: bool,
    last_refusal: String,
    finished: bool,
    undone: bool,
    retired: bool,
}

struct Run<'a> {
    vault: &'a mut Vault,
    hook: &'a dyn Hook,
    name: &'a Name,
    id: TokenId,
    operation: String,
    options: Options,
    started_with: u64,
    tell: &'a mut dyn FnMut(&str),
    found: Found,
    /// Opened values, by version.
    values: HashMap<u64, Secret>,
}

impl Run<'_> {
    fn finish_all(&mut self) -> Result<Outcome> {
        for _ in 0..MAX_STEPS {
            self.vault.take_lease(self.name, self.id, LEASE, false)?;
            let state = self.vault.rotation_state(self.name, &self.operation)?;
            if state.token.id != self.id {
                let message = "the name stands for another token by now";
                return Err(Error::new(Kind::Conflict, &self.operation, message));
            }
            let now = self.situation(&state)?;
            match next(&now) {
                Step::Create => self.create(&now, &state)?,
                Step::Probe => self.probe(&now, &state)?,
                Step::Set(version) => self.set(version, &now, &state)?,
                Step::Test(version) => self.test(version, &now, &state)?,
                Step::Finish(version) => self.finish(version)?,
                Step::Retire(version) => self.retire(version, &now, &state)?,
                Step::GiveUp => return Err(self.given_up()),
                Step::Done => return Ok(self.outcome(&now, &state)),
            }
        }
        let message = "it does not come to an end: versions change all the while";
        Err(Error::new(Kind::Conflict, &self.operation, message)
            .with_hint("find out who else writes this token"))
    }

    fn situation(&mut self, state: &RotationState) -> Result<Situation> {
        let current = current_of(state, &self.operation)?;
        let staged = state.versions.iter().rev().find(|row| row.state == Some(State::Staged));
        let candidate = staged.map(|row| row.version).filter(|version| *version > current);
        if self.found.about != (current, candidate) {
            self.found.about = (current, candidate);
            (self.found.accepted, self.found.tested, self.found.refusals) = (None, false, 0);
        }
        let having = |wanted: &[State]| {
            let rows =
                state.versions.iter().filter(|row| row.state.is_some_and(|state| wanted.contains(&state)));
            rows.map(|row| row.version).collect::<Vec<_>>()
        };
        let since =
            state.versions.iter().find(|row| row.version == current).and_then(|row| row.since).unwrap_or(0);
        let policy = &state.policy.policy;
        let is_due = state.now >= since.saturating_add(policy.period);
        let mut abandoned = having(&[State::Staged]);
        abandoned.retain(|version| Some(*version) != candidate);
        let mut outdated = having(&[State::Active, State::Suspended]);
        outdated.retain(|version| *version < current);
        Ok(Situation {
            current,
            candidate,
            abandoned,
            outdated,
            wanted: !self.options.resume && (is_due || self.options.now && current == self.started_with),
            overlap_is_over: state.now >= since.saturating_add(policy.overlap),
            aborting: self.options.abort,
            accepted: self.found.accepted,
            tested: self.found.tested,
            unsure: self.found.unsure,
            refusals: self.found.refusals,
            candidates: self.found.candidates,
        })
    }

    fn outcome(&self, now: &Situation, state: &RotationState) -> Outcome {
        let since = state.versions.iter().find(|row| row.version == now.current).and_then(|row| row.since);
        match &self.found {
            Found { finished: true, .. } => Outcome::Rotated(now.current),
            Found { undone: true, .. } => Outcome::Undone(now.current),
            Found { retired: true, .. } => Outcome::Retired,
            _ => Outcome::NotDue(since.unwrap_or(0).saturating_add(state.policy.policy.period)),
        }
    }

    fn given_up(&self) -> Error {
        let message = format!("the issuer refuses every value: {}", self.found.last_refusal);
        Error::new(Kind::Refused, &self.operation, message).with_hint(format!(
            "correct the hook or the policy and rotate again, or go back: `strongroom rotate {} --abort`",
            self.name
        ))
    }

    /// A version's value, opened once. What goes to the issuer is what the store gives back.
    fn open(&mut self, version: u64) -> Result<()> {
        if !self.values.contains_key(&version) {
            let opened = self.vault.open_to_rotate(self.name, version)?;
            self.values.insert(version, opened.value);
        }
        Ok(())
    }

    /// Calls the hook with these versions opened.
    fn ask<T>(
        &mut self,
        state: &RotationState,
        old: Option<u64>,
        new: Option<u64>,
        step: impl FnOnce(&dyn Hook, &Request<'_>) -> Result<T>,
    ) -> Result<T> {
        for version in old.into_iter().chain(new) {
            self.open(version)?;
        }
        let value = |version: Option<u64>| {
            version.and_then(|version| Some(Value { version, value: self.values.get(&version)? }))
        };
        let (old, new, params) = (value(old), value(new), &state.policy.policy.params);
        step(self.hook, &Request { token: self.name, id: self.id, params, old, new })
    }

    fn create(&mut self, now: &Situation, state: &RotationState) -> Result<()> {
        let made = self.ask(state, Some(now.current), None, |hook, request| hook.create(request))?;
        if made.is_some() && made.as_ref() == self.values.get(&now.current) {
            let message = "the hook made the value that is in use";
            return Err(Error::new(Kind::Refused, &self.operation, message)
                .with_hint("the issuer gave out what it had given out before: see to that there"));
        }
        let value = made.map_or_else(|| Secret::random_text(DEFAULT_TEXT_LENGTH), Ok)?;
        failpoint::reach("rotate.made");
        let version = self.vault.stage(self.name, self.id, state.token.latest, &value)?;
        failpoint::reach("rotate.staged");
        self.found.candidates += 1;
        (self.tell)(&format!("{}: version {version} is staged", self.name));
        Ok(())
    }

    fn probe(&mut self, now: &Situation, state: &RotationState) -> Result<()> {
        let (current, candidate) = match now.candidate {
            Some(candidate) => {
                self.ask(state, Some(now.current), Some(candidate), |hook, request| hook.probe(request))?
            }
            None => {
                let (_, current) =
                    self.ask(state, None, Some(now.current), |hook, request| hook.probe(request))?;
                (current, false)
            }
        };
        self.expect_another(now)?;
        let mut accepted = Accepted { current, candidate, other: None };
        for version in now.abandoned.iter().rev().filter(|_| !current && !candidate) {
            let (other, _) = self.ask(state, Some(*version), None, |hook, request| hook.probe(request))?;
            if other {
                accepted.other = Some(*version);
                break;
            }
        }
        self.found.accepted = Some(accepted);
        failpoint::reach("rotate.probed");
        Ok(())
    }

    /// An error for a candidate that was staged by hand and is nothing new.
    fn expect_another(&self, now: &Situation) -> Result<()> {
        let Some(candidate) = now.candidate.filter(|_| !now.aborting) else { return Ok(()) };
        match self.values.get(&candidate) == self.values.get(&now.current) {
            true => {
                let message = format!("the staged version {candidate} holds the value that is in use");
                Err(Error::new(Kind::Refused, &self.operation, message)
                    .with_hint(format!("`strongroom rotate {} --abort` takes it back", self.name)))
            }
            false => Ok(()),
        }
    }

    fn set(&mut self, version: u64, now: &Situation, state: &RotationState) -> Result<()> {
        let accepted = now.accepted.unwrap_or_default();
        let old = match version == now.current {
            true => now.candidate.filter(|_| accepted.candidate).or(accepted.other),
            false if accepted.current => Some(now.current),
            false => Some(accepted.other.unwrap_or(now.current)),
        };
        // From here on the issuer may accept it, whatever is heard of that.
        self.found.unsure = true;
        self.found.accepted = None;
        let answer = self.ask(state, old, Some(version), |hook, request| hook.set(request))?;
        failpoint::reach("rotate.set");
        match answer {
            Answer::Done if Some(version) == now.candidate => {
                (self.tell)(&format!("{}: the issuer has version {version}", self.name));
                self.found.accepted = Some(Accepted { candidate: true, ..accepted });
            }
            Answer::Done => self.found.refusals += 1,
            Answer::Refused(why) => self.refused(version, why),
        }
        Ok(())
    }

    fn refused(&mut self, version: u64, why: String) {
        (self.tell)(&format!("{}: the issuer refused version {version}: {why}", self.name));
        self.found.refusals += 1;
        self.found.last_refusal = why;
    }

    fn test(&mut self, version: u64, now: &Situation, state: &RotationState) -> Result<()> {
        match self.ask(state, Some(now.current), Some(version), |hook, request| hook.test(request))? {
            Answer::Done => self.found.tested = true,
            Answer::Refused(why) => {
                self.found.accepted = None;
                self.refused(version, why);
            }
        }
        failpoint::reach("rotate.tested");
        Ok(())
    }

    fn finish(&mut self, version: u64) -> Result<()> {
        let (name, id) = (self.name, self.id);
        self.vault.with_token(name, Some(id), |vault| {
            vault.set_state(name, Some(version), State::Active, "rotated")
        })?;
        failpoint::reach("rotate.finished");
        self.found.finished = true;
        (self.tell)(&format!("{name}: version {version} is in use"));
        Ok(())
    }

    fn retire(&mut self, version: u64, now: &Situation, state: &RotationState) -> Result<()> {
        let row = state.versions.iter().find(|row| row.version == version);
        // A suspended version is not opened, not even for a hook.
        let open = row.is_some_and(|row| row.state != Some(State::Suspended));
        self.open(now.current)?;
        if open {
            self.open(version)?;
        }
        // The issuer must not be told to refuse what is in use.
        if self.values.get(&version) != self.values.get(&now.current) {
            let old = Some(version).filter(|_| open);
            let answer = self.ask(state, old, Some(now.current), |hook, request| hook.retire(request))?;
            if let Answer::Refused(why) = answer {
                let message = format!("the issuer did not revoke version {version}: {why}");
                return Err(Error::new(Kind::Refused, &self.operation, message)
                    .with_hint("it still works there, and opens here: revoke it at the issuer, then here"));
            }
        }
        failpoint::reach("rotate.retired");
        let (name, id) = (self.name, self.id);
        let reason = match row.and_then(|row| row.state) {
            Some(State::Staged) => "never in use",
            _ => "rotated",
        };
        self.vault.with_token(name, Some(id), |vault| {
            vault.set_state(name, Some(version), State::Revoked, reason)
        })?;
        failpoint::reach("rotate.revoked");
        self.found.undone |= self.options.abort;
        self.found.retired = true;
        (self.tell)(&format!("{name}: version {version} is revoked"));
        Ok(())
    }
}
