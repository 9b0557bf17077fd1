//! What goes over the agent's socket as JSON: one definition for the agent, its client and the OpenAPI document.
//!
//! Requests refuse fields that they do not know. Times are RFC 3339 texts. What a text may hold is in `texts`.

#[cfg(feature = "agent")]
pub mod texts;

use crate::ledger::body::State;
use crate::ledger::name::{MAX_TEXT_BYTES, check_text};
use crate::seal::Stanza;
use crate::secret::Secret;
use crate::timestamp;
use crate::vault::{AccessView, EntryView, GrantView, Op, VersionView, WitnessView};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
#[cfg(feature = "agent")]
use texts::{Grantable, GranteeText, NameText, ShortName, Time, Words};

/// The largest whole number that every reader of JSON holds exactly.
const MAX_NUMBER: f64 = 9_007_199_254_740_991.0;

/// Suspends, resumes or revokes a token.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StateChange {
    /// The new state.
    pub state: WantedState,
    /// One version; the whole token without it.
    #[serde(default, deserialize_with = "exact")]
    #[cfg_attr(feature = "agent", schema(minimum = 0, maximum = 9007199254740991_i64))]
    pub version: Option<u64>,
    /// Why. It stands in the ledger.
    #[serde(default, deserialize_with = "words")]
    #[cfg_attr(feature = "agent", schema(value_type = Words))]
    pub reason: String,
}

/// A state that a token can be set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum WantedState {
    /// Opens.
    Active,
    /// Closed for now.
    Suspended,
    /// Closed for ever.
    Revoked,
}

impl From<WantedState> for State {
    fn from(state: WantedState) -> Self {
        match state {
            WantedState::Active => Self::Active,
            WantedState::Suspended => Self::Suspended,
            WantedState::Revoked => Self::Revoked,
        }
    }
}

/// The state that a token was set to.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct StateChanged {
    /// The token's name.
    pub name: String,
    /// The version, where one was named.
    pub version: Option<u64>,
    /// Its new state.
    pub state: WantedState,
}

/// Gives a token another name.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The name it has.
    #[cfg_attr(feature = "agent", schema(value_type = NameText))]
    pub from: String,
    /// The name it gets.
    #[cfg_attr(feature = "agent", schema(value_type = NameText))]
    pub to: String,
}

/// Grants a token, or all under a prefix, to a client.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// A token's name, or a prefix with `/` at its end.
    #[cfg_attr(feature = "agent", schema(value_type = Grantable))]
    pub on: String,
    /// `unit:NAME`, `unit:USER/NAME`, `user:NAME`, `group:NAME`, `exe:PATH` or `exe:sha256:DIGEST`.
    #[cfg_attr(feature = "agent", schema(value_type = GranteeText))]
    pub to: String,
    /// What they may do; `get` when it is empty.
    #[serde(default)]
    pub ops: Vec<GrantedOp>,
    /// Until when.
    #[serde(default, deserialize_with = "time", serialize_with = "timestamp::serialize")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<Time>))]
    pub until: Option<u64>,
    /// The id under which a systemd unit asks for it.
    #[serde(rename = "as")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<ShortName>))]
    pub alias: Option<String>,
}

/// What a grant can allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum GrantedOp {
    /// See that it is there.
    List,
    /// Open it.
    Get,
    /// Open it after a person has agreed, each time.
    GetConfirmed,
    /// Store a new version.
    Put,
    /// Suspend, resume, revoke.
    State,
}

impl From<GrantedOp> for Op {
    fn from(op: GrantedOp) -> Self {
        match op {
            GrantedOp::List => Self::List,
            GrantedOp::Get => Self::Get,
            GrantedOp::GetConfirmed => Self::GetConfirmed,
            GrantedOp::Put => Self::Put,
            GrantedOp::State => Self::State,
        }
    }
}

impl From<Op> for GrantedOp {
    fn from(op: Op) -> Self {
        match op {
            Op::List => Self::List,
            Op::Get => Self::Get,
            Op::GetConfirmed => Self::GetConfirmed,
            Op::Put => Self::Put,
            Op::State => Self::State,
        }
    }
}

/// Unlocks a device.
#[derive(Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Unlock {
    /// The device, by name; the only one without it.
    pub device: Option<String>,
    /// Its PIN; its pin-source without it.
    #[serde(default, deserialize_with = "pin")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<String>, format = Password))]
    pub pin: Option<Secret>,
}

/// The stanzas of an age file's header.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AgeFile {
    /// In the file's order.
    pub stanzas: Vec<AgeStanza>,
}

/// A stanza of an age file (<https://age-encryption.org/v1>).
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AgeStanza {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its body in base64 without padding. A stanza with another body is of no known type.
    pub body: String,
}

impl From<&Stanza> for AgeStanza {
    fn from(stanza: &Stanza) -> Self {
        Self { kind: stanza.tag.clone(), args: stanza.args.clone(), body: BASE64.encode(&stanza.body) }
    }
}

impl AgeFile {
    /// The stanzas that may be of a known type.
    pub fn into_stanzas(self) -> Vec<Stanza> {
        let stanza = |stanza: AgeStanza| {
            let body = BASE64.decode(&stanza.body).ok()?;
            Some(Stanza { tag: stanza.kind, args: stanza.args, body })
        };
        self.stanzas.into_iter().filter_map(stanza).collect()
    }
}

/// A whole number, which JSON may also write as 1.0.
fn exact<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    let whole = (0.0..=MAX_NUMBER).contains(&number) && number.fract() == 0.0;
    // Exact: every whole number up to there is one of f64's.
    let digits = whole.then(|| format!("{number:.0}").parse().ok()).flatten();
    digits
        .map(Some)
        .ok_or_else(|| D::Error::custom("no whole number that every reader of JSON holds exactly"))
}

/// What may stand in the ledger as somebody's own words.
pub(crate) fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    check_text(&text, MAX_TEXT_BYTES).map_err(D::Error::custom).map(|()| text)
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let ms = text
        .map(|text| timestamp::parse_rfc3339(&text).ok_or_else(|| D::Error::custom("no time in RFC 3339")));
    ms.transpose()
}

fn pin<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(|pin| Secret::new(pin.into_bytes())))
}

/// Tokens, in the order of their names.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct TokenPage {
    /// The newest version of each.
    pub tokens: Vec<VersionView>,
    /// Pass it as `after` for the next page; absent on the last.
    pub next: Option<String>,
}

/// A version that was stored.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct StoredVersion {
    /// The token's id.
    pub token_id: String,
    /// Its number.
    pub version: u64,
    /// When it expires.
    #[serde(with = "timestamp")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<String>, format = DateTime))]
    pub expires: Option<u64>,
    /// The devices that open it, by name.
    pub recipients: Vec<String>,
    /// How many of them open it together.
    pub threshold: u64,
}

/// A token that has another name now.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Renamed {
    /// The name it had.
    pub from: String,
    /// The name it has.
    pub to: String,
}

/// Versions whose sealed bytes were deleted.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Destroyed {
    /// The token's name.
    pub name: String,
    /// The version, where one was named.
    pub version: Option<u64>,
    /// How many.
    pub destroyed: u64,
}

/// Statements.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct LogPage {
    /// In the order that was asked for.
    pub entries: Vec<EntryView>,
}

/// Lines of the access log.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct AccessPage {
    /// Newest first.
    pub accesses: Vec<AccessView>,
}

/// Grants.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct GrantList {
    /// Those that stand, or those that were taken back.
    pub grants: Vec<GrantView>,
}

/// Whom the agent takes the client for.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct WhoAmI {
    /// Whether it is the agent's owner.
    pub owner: bool,
    /// Effective user.
    pub uid: u32,
    /// Effective and supplementary groups.
    pub groups: Vec<u32>,
    /// Process id.
    pub pid: u32,
    /// The systemd unit it runs in.
    pub unit: Option<String>,
    /// The path of its program.
    pub exe: Option<String>,
    /// The digest of its program, when some grant names one.
    pub exe_sha256: Option<String>,
}

/// A device after it was unlocked.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Unlocked {
    /// By name.
    pub device: String,
    /// `ready`, or what is wrong.
    pub status: String,
}

/// What became of each device.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Locked {
    /// In the order of the configuration.
    pub devices: Vec<LockedDevice>,
}

/// A device after it was locked.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct LockedDevice {
    /// By name.
    pub device: String,
    /// False when it is still busy. Nothing that it opens is handed out; it is logged out when it has finished.
    pub locked: bool,
}

/// Whether all is well; the rest is for the owner.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Health {
    /// `ok` or `degraded`.
    pub status: String,
    /// More, for the owner.
    #[serde(flatten)]
    pub details: Option<HealthDetails>,
}

/// How the agent is.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct HealthDetails {
    /// What is wrong, in words.
    pub problems: Vec<String>,
    /// Seconds since it was started, or read its configuration again.
    pub uptime_seconds: u64,
    /// Its devices.
    pub devices: Vec<DeviceHealth>,
    /// The store's witnesses, and their checkpoints.
    pub witnesses: Vec<WitnessView>,
    /// Tokens in locked memory.
    pub cached_tokens: usize,
    /// Requests that wait.
    pub queues: Queues,
    /// What was done.
    pub counts: Counts,
}

/// How a device is.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct DeviceHealth {
    /// By name.
    pub device: String,
    /// Its id in the ledger, once it is known.
    pub id: Option<String>,
    /// `ready`, or what is wrong.
    pub status: String,
    /// Why.
    pub why: String,
    /// Requests that wait for it.
    pub waiting: usize,
}

/// Requests that wait for a thread.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Queues {
    /// For the one that reads the ledger.
    pub reader: usize,
    /// For the one that writes.
    pub writer: usize,
}

/// Counters since the start.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Counts {
    /// Tokens opened by a device.
    pub opened: u64,
    /// Tokens answered from locked memory.
    pub cached: u64,
    /// Tokens that were granted and did not open.
    pub failed: u64,
    /// Requests refused for want of a grant.
    pub denied: u64,
    /// Changes signed for clients.
    pub changed: u64,
    /// Requests of any kind.
    pub requests: u64,
}
