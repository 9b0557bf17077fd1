//! The store's settings, and changes that several admins must agree to (docs/reference/format.md, section 3).

use crate::error::{Error, Kind, Result, printable};
use crate::ledger::Hash;
use crate::ledger::body::{Approve, Body, Enrol, Propose, Reject, Settings};
use crate::ledger::judge::{self, LedgerView, Proposal};
use crate::replica::ProposalRow;
use crate::vault::Vault;
use crate::vault::ledger::submit::{Draft, RequiredRole};

/// How long a proposal stays open: 14 days (ms).
const OPEN_MS: u64 = 14 * 24 * 3_600_000;

/// The fewest digits by which a proposal is named.
const MIN_DIGITS: usize = 4;

/// What an approval or a rejection came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteReport {
    /// The proposal's hash.
    pub proposal: Hash,
    /// What it proposes, in words.
    pub words: String,
    /// The name of the device that voted.
    pub by: String,
    /// What sort of change it is: `enrol`.
    pub change: &'static str,
    /// Whether the proposal was carried out or closed by it.
    pub decided: bool,
    /// How many more admins must agree; 0 once decided.
    pub missing: u64,
}

impl Vault {
    /// The store's settings.
    ///
    /// # Errors
    /// The replica's.
    pub fn settings(&self) -> Result<Settings> {
        self.replica.settings()
    }

    /// Replaces the store's settings.
    ///
    /// # Errors
    /// `Refused` without the role `admin`, and for settings that cannot be met; `Proposed` where other admins must
    /// agree.
    pub fn set_settings(&mut self, settings: &Settings) -> Result<()> {
        self.submit("change the settings", RequiredRole::Admin, |vault| {
            let before = vault.settings()?;
            if before == *settings {
                return Ok((Draft::default(), ()));
            }
            vault.expect_enough_openers(&before, settings)?;
            let body = Body::Settings(Box::new(settings.clone()));
            Ok((Draft { bodies: vec![body], ..Draft::default() }, ()))
        })
    }

    /// Refuses a new threshold that no token could be put with.
    fn expect_enough_openers(&self, before: &Settings, settings: &Settings) -> Result<()> {
        let mut short = self.thresholds_out_of_reach(settings)?.into_iter();
        let new =
            short.find(|(prefix, threshold, _)| !before.thresholds.contains(&(prefix.clone(), *threshold)));
        let Some((prefix, threshold, count)) = new else { return Ok(()) };
        let below = if prefix.is_empty() { "every token".to_owned() } else { format!("all of {prefix}") };
        let open = match count {
            0 => "none opens".to_owned(),
            1 => "1 opens".to_owned(),
            _ => format!("{count} open"),
        };
        let message = format!("{threshold} devices should open each token together, and {open} {below}");
        Err(Error::new(Kind::Refused, "change the settings", message)
            .with_hint("enrol the others first: `strongroom device add URI --role open`. Or ask for fewer"))
    }

    /// The prefixes for which the settings have more devices open a token together than there are, with both numbers.
    pub(crate) fn thresholds_out_of_reach(&self, settings: &Settings) -> Result<Vec<(String, u64, u64)>> {
        let openers = self.replica.openers()?;
        let counted = settings.thresholds.iter().map(|(prefix, threshold)| {
            (prefix.clone(), *threshold, openers.iter().filter(|device| device.opens(prefix)).count() as u64)
        });
        Ok(counted.filter(|(_, threshold, count)| count < threshold).collect())
    }

    /// The proposals that are open, oldest first, also those that have expired.
    ///
    /// # Errors
    /// The replica's.
    pub fn proposals(&self) -> Result<Vec<ProposalRow>> {
        self.replica.open_proposals()
    }

    /// Agrees to a proposal, which carries it out once enough admins agree. `proposal` is its hash, or enough of its
    /// first digits. `accept_loss` allows to retire a device that alone opens some tokens.
    ///
    /// # Errors
    /// `NotFound`; `Refused` without an admin device here that has not voted, and if the change may not be made.
    pub fn approve(&mut self, proposal: &str, accept_loss: bool) -> Result<VoteReport> {
        self.vote("approve the change", proposal, accept_loss, |row| {
            Body::Approve(Approve { proposal: row.hash })
        })
    }

    /// Rejects a proposal. Its proposer's rejection closes it.
    ///
    /// # Errors
    /// As [`Vault::approve`].
    pub fn reject(&mut self, proposal: &str, reason: &str) -> Result<VoteReport> {
        let reason = reason.to_owned();
        self.vote("reject the change", proposal, false, move |row| {
            Body::Reject(Reject { proposal: row.hash, reason: reason.clone() })
        })
    }

    fn vote(
        &mut self,
        operation: &str,
        named: &str,
        accept_loss: bool,
        body: impl Fn(&ProposalRow) -> Body,
    ) -> Result<VoteReport> {
        self.sync(&mut |_, _| {})?;
        let row = self.proposal_named(named, operation)?;
        let rejects = matches!(body(&row), Body::Reject(_));
        if let (false, Body::Retire(retire)) = (rejects, &row.proposal.change)
            && let Some(device) = self.replica.device_row(&retire.device)?
        {
            // More may be sealed to it alone than when the change was proposed.
            self.expect_others_open(&device, accept_loss, "--accept-loss approves it", operation)?;
        }
        // Who has rejected it may do nothing more, who has approved it may still reject it.
        let voted = match rejects {
            true => row.proposal.rejected.clone(),
            false => [row.proposal.approved.as_slice(), &row.proposal.rejected].concat(),
        };
        let by = self.submit(operation, RequiredRole::AdminExcept(&voted), |vault| {
            let author = vault.author(operation, RequiredRole::AdminExcept(&voted))?;
            Ok((Draft { bodies: vec![body(&row)], ..Draft::default() }, author.enrolment.name))
        })?;
        let words = self.change_in_words(&row.proposal.change);
        let open = self.proposals()?.into_iter().find(|open| open.hash == row.hash);
        let missing = open.as_ref().map_or(Ok(0), |open| self.missing_votes(&open.proposal))?;
        let change = row.proposal.change.kind_name();
        Ok(VoteReport { proposal: row.hash, words, change, by, decided: open.is_none(), missing })
    }

    /// How many more admins must agree to a proposal.
    ///
    /// # Errors
    /// The replica's.
    pub fn missing_votes(&self, proposal: &Proposal) -> Result<u64> {
        Ok(self.settings()?.quorum.saturating_sub(proposal.approved.len() as u64))
    }

    /// What a change does, for programs.
    pub fn change_as_json(&self, change: &Body) -> serde_json::Value {
        crate::vault::ledger::views::body_json(self, change)
    }

    /// What a change does, in words.
    pub fn change_in_words(&self, change: &Body) -> String {
        crate::vault::ledger::views::words(self, change)
    }

    fn proposal_named(&self, named: &str, operation: &str) -> Result<ProposalRow> {
        let wrong = |kind, message: &str| {
            Error::new(kind, operation, message)
                .with_target(printable(named))
                .with_hint("`strongroom device changes` shows the changes that wait")
        };
        let named = named.to_ascii_lowercase();
        if named.len() < MIN_DIGITS || !named.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(wrong(
                Kind::Usage,
                "a change is named by its hash, or at least its first four digits",
            ));
        }
        let mut found = self.proposals()?;
        found.retain(|row| row.hash.to_string().starts_with(&named));
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(wrong(Kind::NotFound, "no such change waits")),
            _ => Err(wrong(Kind::Usage, "several changes begin like this: give more digits")),
        }
    }

    /// Where admins need a quorum: the proposals in place of the changes of a draft. What only follows from them is left
    /// out.
    ///
    /// # Errors
    /// `Proposed` for a change that waits already.
    pub(crate) fn as_proposals(&self, operation: &str, draft: Draft) -> Result<Draft> {
        if !draft.bodies.iter().any(Body::needs_quorum) || self.settings()?.quorum < 2 {
            return Ok(draft);
        }
        let now = (self.clock)();
        let mut open = self.proposals()?;
        open.retain(|row| row.proposal.until >= now);
        let mut bodies = Vec::new();
        for change in draft.bodies.into_iter().filter(Body::needs_quorum) {
            if let Some(same) = open.iter().find(|row| is_same(&row.proposal.change, &change)) {
                return Err(Error::new(
                    Kind::Proposed,
                    operation,
                    "the same change waits for other admins already",
                )
                .with_target(self.location().to_owned())
                .with_hint(format!(
                    "another admin: `strongroom device approve-change {}`",
                    same.hash.short()
                )));
            }
            if let Err(why) = judge::change(&change, &self.replica)? {
                return Err(Error::new(Kind::Refused, operation, why.to_string())
                    .with_target(self.location().to_owned())
                    .with_hint(match self.hint_for(&change) {
                        Some(hint) => format!("it was not proposed, as it could not be made now: {hint}"),
                        None => "it was not proposed, as it could not be made now".into(),
                    }));
            }
            let until = (self.clock)().saturating_add(OPEN_MS);
            bodies.push(Body::Propose(Box::new(Propose { until, change })));
        }
        Ok(Draft { bodies, ..Draft::default() })
    }

    /// The outcome of a submission that became proposals.
    pub(crate) fn proposed(&self, operation: &str, proposals: &[Hash]) -> Error {
        let names: Vec<String> = proposals.iter().map(Hash::short).collect();
        let missing = self.settings().map_or(1, |settings| settings.quorum - 1);
        let message = format!(
            "proposed as {}: {} must agree within 14 days",
            names.join(", "),
            crate::vault::counted(missing, "more admin", "more admins")
        );
        let commands: Vec<String> =
            names.iter().map(|name| format!("`strongroom device approve-change {name}`")).collect();
        Error::new(Kind::Proposed, operation, message)
            .with_target(self.location().to_owned())
            .with_hint(format!("with another admin's device: {}", commands.join(", then ")))
    }
}

/// Whether two changes would do the same. Each enrolment has another device id.
fn is_same(one: &Body, other: &Body) -> bool {
    match (one, other) {
        (Body::Enrol(one), Body::Enrol(other)) => {
            Enrol { device: other.device, ..(**one).clone() } == **other
        }
        _ => one == other,
    }
}
