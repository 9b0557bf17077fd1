//! The rules for settings, and for changes that several admins must agree to.

use super::devices::{active, enrolment_in_form, roles_in_form};
use super::{LedgerView, Verdict, change, refuse, rule, text};
use crate::device::PublicKey;
use crate::error::Result;
use crate::ledger::body::{Approve, Body, Propose, Reject, Role, Settings};
use crate::ledger::name::{MAX_TEXT_BYTES, check_prefix, check_text};
use crate::ledger::{DeviceId, MAX_RECIPIENTS, Statement};

/// The longest that a proposal stays open: 90 days (ms).
const MAX_OPEN_MS: u64 = 90 * 24 * 3_600_000;

/// The most proposals of one device that are open at once.
const MAX_PROPOSALS: u64 = 16;

/// The most admins or witnesses that settings ask for.
const MAX_ASKED: u64 = 16;

/// A proposal that is neither carried out nor rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Who proposed it.
    pub proposer: DeviceId,
    /// When it expires (ms).
    pub until: u64,
    /// The change.
    pub change: Body,
    /// Who agreed to it, its proposer first.
    pub approved: Vec<DeviceId>,
    /// Who rejected it.
    pub rejected: Vec<DeviceId>,
}

pub(super) fn settings(b: &Settings, view: &impl LedgerView) -> Verdict {
    check!(in_form(b));
    // Or one device that is lost would end all changes.
    let raised = b.quorum > view.settings()?.quorum;
    if raised && b.quorum >= view.active_with(&Role::Admin)?.len() as u64 {
        return rule("a quorum is smaller than the number of admins");
    }
    let witnesses = view.active_with(&Role::Witness)?.len() as u64;
    if b.witnesses.is_some_and(|asked| asked.count >= witnesses) {
        return rule("fewer witnesses are asked for than devices have the role `witness`");
    }
    for device in &b.recovery {
        match active(device, view)? {
            Some(device) if matches!(device.opening, PublicKey::Aes256 { .. }) => {
                return rule("a recovery device has an opening key with a public half");
            }
            Some(device) if device.opens("") => {}
            _ => return rule("a recovery device has the role `open` on everything"),
        }
    }
    Ok(Ok(()))
}

fn in_form(b: &Settings) -> std::result::Result<(), String> {
    if !(1..=MAX_ASKED).contains(&b.quorum) {
        return Err(format!("a quorum is 1 to {MAX_ASKED}"));
    }
    if let Some(witnesses) = b.witnesses
        && (!(1..=MAX_ASKED).contains(&witnesses.count) || witnesses.max_age < 1000)
    {
        return Err(format!("1 to {MAX_ASKED} witnesses, with checkpoints of at least a second"));
    }
    b.thresholds.iter().try_for_each(|(prefix, threshold)| {
        check_prefix(prefix)?;
        match (2..=MAX_RECIPIENTS as u64).contains(threshold) {
            true => Ok(()),
            false => Err(format!("a threshold is 2 to {MAX_RECIPIENTS}")),
        }
    })
}

pub(super) fn propose(b: &Propose, statement: &Statement, view: &impl LedgerView) -> Verdict {
    if view.settings()?.quorum < 2 {
        return rule("no other admin needs to agree: make the change");
    }
    if b.until < statement.time || b.until > statement.time.saturating_add(MAX_OPEN_MS) {
        return rule("a proposal is open for at most 90 days");
    }
    if view.count_proposals(&statement.author)? >= MAX_PROPOSALS {
        return rule("this device has 16 open proposals, also those that expired");
    }
    // Whether it may be carried out is judged then: another change may have to come first.
    check!(match &b.change {
        Body::Enrol(enrol) => enrolment_in_form(enrol),
        Body::Retire(retire) => check_text(&retire.reason, MAX_TEXT_BYTES),
        Body::Roles(roles) => roles_in_form(&roles.roles),
        Body::Settings(settings) => in_form(settings),
        _ => Ok(()),
    });
    Ok(Ok(()))
}

pub(super) fn approve(b: &Approve, statement: &Statement, view: &impl LedgerView) -> Verdict {
    let Some(proposal) = view.proposal(&b.proposal)? else { return rule("no such proposal is open") };
    if statement.time > proposal.until {
        return rule("the proposal has expired");
    }
    if has_voted(&proposal, &statement.author) {
        return rule("this device agreed or rejected before");
    }
    match change_carried_out(&proposal, &statement.author, view)? {
        Some(body) => change(body, view),
        None => Ok(Ok(())),
    }
}

pub(super) fn reject(b: &Reject, statement: &Statement, view: &impl LedgerView) -> Verdict {
    check!(text(&b.reason));
    match view.proposal(&b.proposal)? {
        None => rule("no such proposal is open"),
        Some(proposal) if proposal.rejected.contains(&statement.author) => {
            rule("this device rejected it before")
        }
        Some(_) => Ok(Ok(())),
    }
}

fn has_voted(proposal: &Proposal, device: &DeviceId) -> bool {
    proposal.approved.contains(device) || proposal.rejected.contains(device)
}

/// The change that an approval by this admin carries out; none while more must agree.
///
/// # Errors
/// The view's.
pub fn change_carried_out<'a>(
    proposal: &'a Proposal,
    approver: &DeviceId,
    view: &impl LedgerView,
) -> Result<Option<&'a Body>> {
    let admins = view.active_with(&Role::Admin)?;
    let agreed =
        admins.iter().filter(|admin| *admin == approver || proposal.approved.contains(admin)).count();
    Ok((agreed as u64 >= view.settings()?.quorum).then_some(&proposal.change))
}

/// Whether a rejection by this admin closes a proposal.
///
/// # Errors
/// The view's.
pub fn is_closed_by(proposal: &Proposal, rejecter: &DeviceId, view: &impl LedgerView) -> Result<bool> {
    if proposal.proposer == *rejecter {
        return Ok(true);
    }
    let mut admins = view.active_with(&Role::Admin)?;
    admins.retain(|admin| admin != rejecter && !proposal.rejected.contains(admin));
    Ok((admins.len() as u64) < view.settings()?.quorum)
}
