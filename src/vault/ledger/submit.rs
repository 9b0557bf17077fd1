//! Submitting a change: compose it, sign it, append it.

use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::ledger::body::{Body, Role};
use crate::ledger::judge::{LedgerView, judge};
use crate::ledger::verify::Chain;
use crate::ledger::{
    Batch, DeviceId, Hash, Ineffective, LogPosition, Name, SignedBatch, Statement, Subject, TokenId,
};
use crate::prompt::PurposePrompter;
use crate::replica::DeviceRow;
use crate::vault::Vault;
use crate::vault::devices::connections::signing_key;
use crate::vault::devices::keys::signature_of;
use crate::vault::ledger::encoded_batch::EncodedBatch;
use std::time::Duration;

/// How often a change is composed again after a conflict.
const TRIES: u32 = 300;

/// A change to sign.
#[derive(Default)]
pub(crate) struct Draft {
    /// The statements' bodies, in order.
    pub(crate) bodies: Vec<Body>,
    /// Sealed bytes to add.
    pub(crate) sealed: Vec<(Hash, Vec<u8>)>,
    /// Sealed bytes to delete.
    pub(crate) destroyed: Vec<Hash>,
}

/// The role a change needs.
#[derive(Clone, Copy)]
pub(crate) enum RequiredRole<'a> {
    /// `write` on all of these names.
    Write(&'a [&'a str]),
    /// `grant` on all of these names.
    Grant(&'a [&'a str]),
    /// Both on all of these names.
    WriteAndGrant(&'a [&'a str]),
    /// `write` and `open` on this name, or `admin`.
    SetPolicy(&'a str),
    Admin,
    /// `witness`.
    Witness,
    /// `admin`, of any device but this one, which the change retires.
    AdminBut(DeviceId),
    /// `admin`, of a device that is none of these, which have voted.
    AdminExcept(&'a [DeviceId]),
}

impl Vault {
    /// Makes a change: composes it on the verified state, signs it and appends it. After a conflict it is composed
    /// again, so `compose` decides each time whether it still makes sense.
    pub(crate) fn submit<T>(
        &mut self,
        operation: &str,
        needs: RequiredRole<'_>,
        mut compose: impl FnMut(&mut Self) -> Result<(Draft, T)>,
    ) -> Result<T> {
        let mut attempt = 0;
        loop {
            self.sync(&mut |_, _| {})?;
            self.check_anchors(operation)?;
            // Compose on one snapshot, which the batch then names as seen.
            let (prepared, value) = self.with_snapshot(|vault| {
                let author = vault.author(operation, needs)?;
                vault.check_expected(operation)?;
                let (draft, value) = compose(vault)?;
                if draft.bodies.is_empty() {
                    return Ok((None, value));
                }
                let draft = vault.as_proposals(operation, draft)?;
                Ok((Some(vault.prepare(operation, author, draft)?), value))
            })?;
            // Another client may have made the change already.
            let Some(prepared) = prepared else { return Ok(value) };
            match self.sign_and_append(operation, &prepared) {
                Ok(()) => {
                    let proposals = prepared.batch.proposals();
                    return if proposals.is_empty() {
                        Ok(value)
                    } else {
                        Err(self.proposed(operation, &proposals))
                    };
                }
                Err(error) if error.kind() == Kind::Conflict && attempt < TRIES => pause(attempt)?,
                Err(error) => return Err(error),
            }
            attempt += 1;
        }
    }

    /// Makes a change only while the name stands for this token, or for none: whoever allowed it looked at that one.
    ///
    /// # Errors
    /// `Conflict` when it stands for another by now; the change's.
    pub fn with_token<T>(
        &mut self,
        name: &Name,
        token: Option<TokenId>,
        change: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.expected = Some((name.clone(), token));
        let changed = change(self);
        self.expected = None;
        changed
    }

    fn check_expected(&self, operation: &str) -> Result<()> {
        let Some((name, expected)) = &self.expected else { return Ok(()) };
        match self.replica.find(name.as_str())?.map(|token| token.id) == *expected {
            true => Ok(()),
            false => Err(Error::new(Kind::Conflict, operation, "the name stands for another token by now")),
        }
    }

    /// Encodes a draft on the verified state, and refuses what readers would not accept or what would have no effect.
    pub(crate) fn prepare(
        &mut self,
        operation: &str,
        author: DeviceRow,
        draft: Draft,
    ) -> Result<PreparedBatch> {
        let batch = EncodedBatch::compose(self, author.id, draft)?;
        batch.expect_well_formed(operation)?;
        self.judge_beforehand(operation, &author, &batch)?;
        Ok(PreparedBatch { author, batch })
    }

    /// The first device here with the required role.
    pub(crate) fn author(&mut self, operation: &str, needs: RequiredRole<'_>) -> Result<DeviceRow> {
        let (here, mut failures) = self.devices.enrolled(&self.replica)?;
        let mut away = Vec::new();
        for row in here {
            let Some(state) = self.replica.device(&row.id)? else { continue };
            let may = match needs {
                RequiredRole::Write(names) => names.iter().all(|name| state.writes(name)),
                RequiredRole::Grant(names) => names.iter().all(|name| state.grants(name)),
                RequiredRole::WriteAndGrant(names) => {
                    names.iter().all(|name| state.writes(name) && state.grants(name))
                }
                RequiredRole::SetPolicy(name) => state.is_admin() || state.writes(name) && state.opens(name),
                RequiredRole::Admin => state.is_admin(),
                RequiredRole::Witness => state.roles.contains(&Role::Witness),
                RequiredRole::AdminBut(id) => state.is_admin() && row.id != id,
                RequiredRole::AdminExcept(voted) => state.is_admin() && !voted.contains(&row.id),
            };
            if may {
                // If it is not plugged in, try the next.
                match self.devices.get(&row.id) {
                    Ok(_) => return Ok(row),
                    Err(error) => failures.push(error),
                }
                away.push(row);
            }
        }
        for row in away {
            if self.devices.wait_for(&row.id, operation)? {
                return Ok(row);
            }
        }
        Err(failures.into_iter().next().unwrap_or_else(|| self.no_author(operation, needs)))
    }

    fn no_author(&self, operation: &str, needs: RequiredRole<'_>) -> Error {
        let role = match needs {
            RequiredRole::Write(names) => format!("`write` on {}", names.join(", ")),
            RequiredRole::Grant(names) => format!("`grant` on {}", names.join(", ")),
            RequiredRole::WriteAndGrant(names) => format!("`write` and `grant` on {}", names.join(", ")),
            RequiredRole::SetPolicy(name) => format!("`admin`, or `write` and `open` on {name}"),
            RequiredRole::Witness => "`witness`".into(),
            RequiredRole::Admin | RequiredRole::AdminBut(_) | RequiredRole::AdminExcept(_) => {
                "`admin`".into()
            }
        };
        let message = match (self.devices.is_empty(), needs) {
            (true, _) => "no device is configured here".to_owned(),
            (_, RequiredRole::AdminBut(_)) => format!("no other device here has the role {role}"),
            (_, RequiredRole::AdminExcept([_, ..])) => {
                format!("no device here has the role {role} and has not voted yet")
            }
            _ => format!("no device here has the role {role}"),
        };
        Error::new(Kind::Refused, operation, message)
            .with_target(self.location().to_owned())
            .with_hint("name a device with --device; `strongroom device list` shows who has which role")
    }

    fn sign_and_append(&mut self, operation: &str, prepared: &PreparedBatch) -> Result<()> {
        let signed = self.sign(operation, prepared)?;
        failpoint::reach("submit.signed");
        let end = match prepared.batch.append_to(&mut *self.store, &signed) {
            Err(error) if error.kind() == Kind::Conflict => {
                self.release_ineffective(&prepared.batch, &signed.batch)?;
                return Err(error);
            }
            other => other?,
        };
        self.follow_own(operation, end, signed.batch.size)
    }

    /// Follows the change that was just stored: `size` statements up to `end`.
    pub(crate) fn follow_own(&mut self, operation: &str, end: LogPosition, size: u64) -> Result<()> {
        self.sync(&mut |_, _| {})?;
        self.verify_appended(operation, end)?;
        for n in (end.n + 1 - size)..=end.n {
            if let Some(why) = self.replica.ineffective(n)? {
                return Err(Error::new(
                    Kind::Refused,
                    operation,
                    format!("it was recorded without effect: {why}"),
                )
                .with_target(self.location().to_owned()));
            }
        }
        failpoint::reach("submit.followed");
        self.raise_anchors();
        failpoint::reach("submit.counted");
        Ok(())
    }

    /// Verifies that the accepted batch is on the chain: planted rows could hide a change from everybody, its author
    /// included.
    fn verify_appended(&self, operation: &str, end: LogPosition) -> Result<()> {
        if self.replica.chain_at(end.n)? == Some(end.chain) {
            return Ok(());
        }
        let message = format!("the store took it as statement {}, and does not show it there", end.n);
        Err(Error::new(Kind::Tampered, operation, message)
            .with_target(self.location().to_owned())
            .with_hint("somebody altered the table `batches`: run `strongroom verify`, and `strongroom repair` as an admin"))
    }

    /// If an append conflicts although nothing new can be verified, a statement without effect holds the head. Release
    /// it, or one enrolled device could block the others for ever.
    fn release_ineffective(&mut self, batch: &EncodedBatch, signed: &Batch) -> Result<()> {
        self.sync(&mut |_, _| {})?;
        if self.replica.position() != signed.seen {
            return Ok(());
        }
        // Altered rows may show the right end and hide the batch that leads to it.
        if self.store.chain_at(signed.seen.n)? != Some(signed.seen.chain) {
            return Err(self.altered(signed.seen.n));
        }
        let mut advances = batch.advances();
        advances.push((Subject::Store.encode(), signed.admin_head));
        self.store.release(&advances, signed.seen)
    }

    /// Refuses to sign what would have no effect.
    fn judge_beforehand(
        &mut self,
        operation: &str,
        author: &DeviceRow,
        prepared: &EncodedBatch,
    ) -> Result<()> {
        let Some(state) = self.replica.device(&author.id)? else { return Ok(()) };
        if prepared.builds_on_itself() {
            let statements: Vec<_> = prepared.statements.iter().cloned().zip(prepared.leaves()).collect();
            return match self.replica.rehearse(&state, &statements)? {
                None => Ok(()),
                Some(why) => Err(self.against_the_rules(operation, &why, prepared.statements.first())),
            };
        }
        let mut before = self.replica.position();
        for (statement, leaf) in prepared.statements.iter().zip(prepared.leaves()) {
            if let Err(why) = judge(statement, &state, before, &self.replica)? {
                return Err(self.against_the_rules(operation, &why, Some(statement)));
            }
            before = before.after(leaf);
        }
        Ok(())
    }

    fn against_the_rules(&self, operation: &str, why: &Ineffective, what: Option<&Statement>) -> Error {
        let refused =
            Error::new(Kind::Refused, operation, why.to_string()).with_target(self.location().to_owned());
        match what.and_then(|statement| self.hint_for(&statement.body)) {
            Some(hint) => refused.with_hint(hint),
            None => refused,
        }
    }

    /// Where to look when a change is against the rules.
    pub(crate) fn hint_for(&self, body: &Body) -> Option<&'static str> {
        let quorum = self.settings().map_or(1, |settings| settings.quorum);
        match body {
            Body::Settings(settings) if settings.quorum > quorum => Some(
                "one admin more than must agree has to be there, so that one can be lost: make another with `strongroom \
                 device add URI --role open --role admin` or `strongroom device roles NAME --role open --role admin`",
            ),
            Body::Settings(_) => {
                Some("`strongroom settings` shows what holds, `strongroom device list` who has which role")
            }
            Body::Retire(_) | Body::Roles(_) if quorum > 1 => Some(
                "make another admin first (`strongroom device roles NAME --role open --role admin`), or have fewer agree \
                 (`strongroom settings --quorum NUMBER`)",
            ),
            Body::Enrol(_) | Body::Retire(_) | Body::Roles(_) => {
                Some("`strongroom device list` shows who has which role")
            }
            Body::Propose(propose) => self.hint_for(&propose.change),
            Body::Approve(_) | Body::Reject(_) => Some(
                "`strongroom device changes` shows what waits; `strongroom device reject-change` closes one",
            ),
            _ => None,
        }
    }

    /// Signs on the author's device, and verifies the batch as its readers will.
    pub(crate) fn sign(&mut self, operation: &str, prepared: &PreparedBatch) -> Result<SignedBatch> {
        let PreparedBatch { author, batch: encoded } = prepared;
        let (seen, admin_head) = (self.replica.position(), self.replica.admin_head());
        let batch = Batch::over(self.pin.store, author.id, &encoded.leaves(), seen, admin_head);
        let key = signing_key(author);
        let (worker, prompter) = self.devices.get(&author.id)?;
        let by = signature_of(&key.public, worker.name())?;
        let (own, digest) = (key.clone(), batch.digest(by));
        let mut prompter = PurposePrompter { inner: prompter, purpose: operation, pin_for: None };
        let signature = worker
            .call("sign", &mut prompter, move |device, prompter| device.sign(&own, &digest, prompter))?;
        let name = worker.name().to_owned();
        let signed = batch.sign_with(by, &signature).ok().filter(|signed| signed.is_signed_by(&key.public));
        let signed = signed.ok_or_else(|| {
            Error::new(Kind::KeyMissing, "sign the change", "the signature is not that of the enrolled key")
                .with_target(name)
                .with_hint("the key in the device was replaced: `strongroom device show` tells which one was enrolled")
        })?;
        encoded.expect_acceptable(operation, &signed, &self.replica)?;
        Ok(signed)
    }
}

/// A batch to sign, and the device that will.
pub(crate) struct PreparedBatch {
    author: DeviceRow,
    pub(crate) batch: EncodedBatch,
}

/// Waits a random time that grows with each attempt, so that contenders do not stay in step.
fn pause(attempt: u32) -> Result<()> {
    let mut random = [0; 1];
    crate::vault::random(&mut random)?;
    std::thread::sleep(Duration::from_micros(u64::from(random[0]) * u64::from(attempt.min(20) + 1) * 4));
    Ok(())
}
