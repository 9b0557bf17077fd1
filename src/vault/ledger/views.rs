//! Statements and access log lines, in words for people and as fields for programs.

use crate::ledger::body::{Body, Put, Role, RotationPolicy, Seal, Settings, State, Target};
use crate::ledger::judge::LedgerView;
use crate::ledger::{DeviceId, Hash, TokenId};
use crate::store::RecordedAccess;
use crate::timestamp;
use crate::vault::Vault;
use crate::vault::ledger::log::LogEntry;
use crate::vault::tokens::open_outcome::WITH;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a statement says, in words.
pub(crate) fn words(vault: &Vault, body: &Body) -> String {
    let device = |id: &DeviceId| vault.device_name(id);
    match body {
        Body::Genesis(genesis) => {
            format!("create the store; its first device is {}", device(&genesis.device))
        }
        Body::Enrol(enrol) => {
            let (level, roles) =
                (enrol.opening.evidence.level.min(enrol.signing.evidence.level), roles(&enrol.roles));
            let in_place = match &enrol.replaces {
                Some(replaced) => format!(", in place of {}", device(replaced)),
                None => String::new(),
            };
            format!(
                "enrol the device {} ({}; evidence: {level}) as {roles}{in_place}",
                enrol.name, enrol.model
            )
        }
        Body::Retire(retire) => {
            let how = if retire.compromised { " as compromised" } else { "" };
            because(format!("retire the device {}{how}", device(&retire.device)), &retire.reason)
        }
        Body::Roles(change) => {
            format!("give the device {} the roles {}", device(&change.device), roles(&change.roles))
        }
        Body::Put(put) => put_words(vault, put),
        Body::State(change) => {
            let verb = match change.state {
                State::Active => "resume",
                State::Suspended => "suspend",
                State::Revoked => "revoke",
                State::Staged => "stage",
            };
            because(format!("{verb} {}", at(&token(vault, &change.token), change.version)), &change.reason)
        }
        Body::Destroy(destroy) => {
            because(format!("destroy {}", at(&destroy.name, destroy.version)), &destroy.reason)
        }
        Body::Rename(rename) => format!("rename {} to {}", rename.from, rename.to),
        Body::Grant(grant) => {
            format!("grant {} on {} to {}", grant.ops.join(","), target(vault, &grant.target), grant.to)
        }
        Body::Ungrant(ungrant) => {
            format!("take back the grant {} on {}", ungrant.grant, target(vault, &ungrant.target))
        }
        Body::Reseal(reseal) => {
            let at = at(&token(vault, &reseal.token), reseal.version);
            match reseal.add.is_empty() {
                true => format!(
                    "drop {} of {at}",
                    crate::vault::counted(reseal.drop.len() as u64, "seal", "seals")
                ),
                false => format!("reseal {at} to {}", sealed_to(vault, &reseal.add, reseal.threshold)),
            }
        }
        Body::Anchor(anchor) => match anchor.counter {
            Some(counter) => {
                format!(
                    "anchor the store to the counter 0x{:08x} of {}",
                    counter.index,
                    device(&anchor.device)
                )
            }
            None => format!("no longer anchor the store to {}", device(&anchor.device)),
        },
        Body::Policy(change) => match &change.policy {
            Some(policy) => format!(
                "rotate {} every {} with the hook {}",
                target(vault, &change.target),
                span(policy.period),
                policy.hook
            ),
            None => format!("no longer rotate {}", target(vault, &change.target)),
        },
        Body::Settings(settings) => settings_words(vault, settings),
        Body::Propose(propose) => format!(
            "propose (until {}): {}",
            timestamp::rfc3339_secs(propose.until),
            words(vault, &propose.change)
        ),
        Body::Approve(approve) => format!("approve {}", proposed(vault, &approve.proposal)),
        Body::Reject(reject) => {
            because(format!("reject {}", proposed(vault, &reject.proposal)), &reject.reason)
        }
        Body::Repair(repair) => {
            because(format!("repair: set aside what followed statement {}", repair.kept), &repair.reason)
        }
    }
}

/// A proposed change, in words; its hash if it is not known.
fn proposed(vault: &Vault, proposal: &Hash) -> String {
    match vault.replica().proposed_change(proposal) {
        Ok(Some(change)) => format!("the proposal to {}", words(vault, &change)),
        _ => format!("the proposal {proposal}"),
    }
}

fn put_words(vault: &Vault, put: &Put) -> String {
    let staged = if put.state == State::Staged { ", staged" } else { "" };
    let expiry =
        put.expiry.map(|at| format!(", expires {}", timestamp::rfc3339_secs(at))).unwrap_or_default();
    let recipients = sealed_to(vault, &put.seals, put.threshold);
    format!("put {}, sealed to {recipients}{staged}{expiry}", at(&put.name, put.version))
}

fn sealed_to(vault: &Vault, seals: &[Seal], threshold: u64) -> String {
    let devices: Vec<_> = seals.iter().flat_map(|seal| seal.recipients.iter().copied()).collect();
    crate::vault::recipients_in_words(&vault.device_names(&devices), threshold, ", ")
}

fn span(ms: u64) -> String {
    timestamp::format_duration(std::time::Duration::from_millis(ms))
}

fn settings_words(vault: &Vault, settings: &Settings) -> String {
    let mut words = vec![format!("quorum {}", settings.quorum)];
    if let Some(witnesses) = settings.witnesses {
        let age = span(witnesses.max_age);
        words.push(format!(
            "{} of at most {age}",
            crate::vault::counted(witnesses.count, "witness", "witnesses")
        ));
    }
    words.push(format!("evidence {}", settings.evidence));
    if !settings.recovery.is_empty() {
        words.push(format!("recovery {}", vault.device_names(&settings.recovery).join(" and ")));
    }
    words.extend(settings.thresholds.iter().map(|(prefix, threshold)| match prefix.as_str() {
        "" => format!("threshold {threshold} for every token"),
        prefix => format!("threshold {threshold} for {prefix}/"),
    }));
    format!("set {}", words.join(", "))
}

fn because(what: String, reason: &str) -> String {
    if reason.is_empty() { what } else { format!("{what}: {reason}") }
}

/// Version 0 is the whole token.
fn at(name: &str, version: u64) -> String {
    if version == 0 { name.to_owned() } else { format!("{name}@{version}") }
}

fn roles(roles: &[Role]) -> String {
    roles.iter().map(Role::to_string).collect::<Vec<_>>().join(",")
}

/// A token's current name.
fn token(vault: &Vault, id: &TokenId) -> String {
    match LedgerView::token(vault.replica(), id) {
        Ok(Some(token)) => token.name,
        _ => id.to_string(),
    }
}

fn target(vault: &Vault, target: &Target) -> String {
    match target {
        Target::Token(id) => token(vault, id),
        Target::Prefix(prefix) if prefix.is_empty() => "everything".into(),
        Target::Prefix(prefix) => format!("{prefix}/"),
    }
}

/// A statement of the ledger, in words and as fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct EntryView {
    /// Its position.
    pub n: u64,
    /// Its hash.
    pub hash: String,
    /// When, as its author claims.
    #[serde(with = "crate::timestamp")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<String>, format = DateTime))]
    pub time: Option<u64>,
    /// Its author, by name.
    pub by: String,
    /// Its author's id.
    pub author: String,
    /// Its kind, as docs/reference/format.md names it.
    pub kind: String,
    /// What it says.
    pub words: String,
    /// The same as fields.
    pub body: Value,
    /// Why it has no effect, if it has none.
    pub ineffective: Option<String>,
}

impl EntryView {
    /// One statement.
    pub fn from_entry(vault: &Vault, entry: &LogEntry) -> Self {
        let statement = &entry.statement;
        Self {
            n: entry.n,
            hash: entry.hash.to_string(),
            time: Some(statement.time),
            by: vault.device_name(&statement.author),
            author: statement.author.to_string(),
            kind: statement.body.kind_name().into(),
            words: words(vault, &statement.body),
            body: body_json(vault, &statement.body),
            ineffective: entry.ineffective.clone(),
        }
    }

    /// One line: what was stated, and whether it has no effect.
    pub fn line(&self) -> String {
        match &self.ineffective {
            Some(why) => format!("{} [without effect: {why}]", self.words),
            None => self.words.clone(),
        }
    }
}

/// A line of the access log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct AccessView {
    /// Its number.
    pub n: u64,
    /// When.
    #[serde(with = "crate::timestamp")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<String>, format = DateTime))]
    pub time: Option<u64>,
    /// The requested name.
    pub name: String,
    /// The version that was opened.
    pub version: Option<u64>,
    /// `opened`, or why not.
    pub outcome: String,
    /// Whose process it was.
    pub uid: u32,
    /// Which process.
    pub pid: u32,
    /// Which program.
    pub exe: String,
    /// The device's name; empty if none was reached.
    pub device: String,
}

impl AccessView {
    /// One line.
    pub(crate) fn from_record(vault: &Vault, line: RecordedAccess) -> Self {
        let access = line.access;
        let device = access.device.parse::<DeviceId>().map(|id| vault.device_name(&id));
        Self {
            n: line.n,
            time: Some(access.time),
            name: access.name,
            version: version(access.version),
            outcome: with_names(vault, &access.outcome),
            uid: access.uid,
            pid: access.pid,
            exe: access.exe,
            device: device.unwrap_or(access.device),
        }
    }
}

/// An outcome with the names of the other devices in place of their ids.
fn with_names(vault: &Vault, outcome: &str) -> String {
    let Some((done, others)) = outcome.split_once(WITH) else { return outcome.to_owned() };
    let name = |id: &str| id.parse::<DeviceId>().map_or_else(|_| id.to_owned(), |id| vault.device_name(&id));
    format!("{done}{WITH}{}", others.split(' ').map(name).collect::<Vec<_>>().join(", "))
}

/// What a statement says, for programs.
pub(crate) fn body_json(vault: &Vault, body: &Body) -> Value {
    let text = |id: &dyn ToString| id.to_string();
    match body {
        Body::Genesis(genesis) => {
            json!({"device": vault.device_name(&genesis.device), "device_id": text(&genesis.device)})
        }
        Body::Enrol(enrol) => json!({
            "device": enrol.name, "device_id": text(&enrol.device), "model": enrol.model, "serial": enrol.serial,
            "roles": enrol.roles.iter().map(Role::to_string).collect::<Vec<_>>(),
        }),
        Body::Retire(retire) => {
            json!({"device": vault.device_name(&retire.device), "device_id": text(&retire.device), "compromised": retire.compromised, "reason": retire.reason})
        }
        Body::Roles(change) => json!({
            "device": vault.device_name(&change.device), "device_id": text(&change.device), "roles": change.roles.iter().map(Role::to_string).collect::<Vec<_>>(),
        }),
        Body::Put(put) => put_json(vault, put),
        Body::State(change) => json!({
            "token_id": text(&change.token), "name": token(vault, &change.token), "version": version(change.version),
            "state": text(&change.state), "reason": change.reason,
        }),
        Body::Destroy(destroy) => json!({
            "token_id": text(&destroy.token), "name": destroy.name, "version": version(destroy.version), "reason": destroy.reason,
        }),
        Body::Rename(rename) => {
            json!({"token_id": text(&rename.token), "from": rename.from, "to": rename.to})
        }
        Body::Grant(grant) => json!({
            "grant": text(&grant.grant), "target": target(vault, &grant.target), "to": grant.to, "ops": grant.ops,
            "until": timestamp::rfc3339_millis_opt(grant.until), "alias": grant.alias,
        }),
        Body::Ungrant(ungrant) => {
            json!({"grant": text(&ungrant.grant), "target": target(vault, &ungrant.target)})
        }
        Body::Reseal(reseal) => json!({
            "token_id": text(&reseal.token), "name": token(vault, &reseal.token), "version": reseal.version,
            "drop": reseal.drop.iter().map(|digest| text(digest)).collect::<Vec<_>>(),
            "add": seals_json(vault, &reseal.add), "threshold": reseal.threshold,
        }),
        Body::Policy(change) => json!({
            "target": target(vault, &change.target), "policy": change.policy.as_ref().map(policy_json),
        }),
        Body::Settings(settings) => settings_json(vault, settings),
        Body::Propose(propose) => json!({
            "until": timestamp::rfc3339_millis(propose.until), "kind": propose.change.kind_name(),
            "change": body_json(vault, &propose.change),
        }),
        Body::Approve(approve) => json!({"proposal": text(&approve.proposal)}),
        Body::Reject(reject) => json!({"proposal": text(&reject.proposal), "reason": reject.reason}),
        Body::Anchor(anchor) => json!({
            "device": vault.device_name(&anchor.device), "device_id": text(&anchor.device), "index": anchor.counter.map(|counter| counter.index),
            "start": anchor.counter.map(|counter| counter.start),
        }),
        Body::Repair(repair) => {
            json!({"kept": repair.kept, "chain": text(&repair.chain), "reason": repair.reason})
        }
    }
}

fn put_json(vault: &Vault, put: &Put) -> Value {
    let labels: Value =
        put.labels.iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect();
    json!({
        "token_id": put.token.to_string(), "name": put.name, "version": put.version, "state": put.state.to_string(),
        "seals": seals_json(vault, &put.seals), "threshold": put.threshold, "only": put.only,
        "not_before": timestamp::rfc3339_millis_opt(put.not_before), "expires": timestamp::rfc3339_millis_opt(put.expiry),
        "labels": labels, "description": put.description, "keep": put.keep,
    })
}

fn seals_json(vault: &Vault, seals: &[Seal]) -> Value {
    let seal = |seal: &Seal| {
        json!({
            "digest": seal.digest.to_string(), "length": seal.length,
            "recipients": vault.device_names(&seal.recipients),
        })
    };
    seals.iter().map(seal).collect()
}

fn policy_json(policy: &RotationPolicy) -> Value {
    let params: std::collections::BTreeMap<_, _> = policy.params.iter().cloned().collect();
    json!({"period_ms": policy.period, "overlap_ms": policy.overlap, "hook": policy.hook, "params": params})
}

fn settings_json(vault: &Vault, settings: &Settings) -> Value {
    json!({
        "quorum": settings.quorum, "witnesses": settings.witnesses.map(|witnesses| witnesses.count),
        "max_age_ms": settings.witnesses.map(|witnesses| witnesses.max_age),
        "evidence": settings.evidence.to_string(), "recovery": vault.device_names(&settings.recovery),
        "thresholds": settings.thresholds.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
    })
}

fn version(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}
