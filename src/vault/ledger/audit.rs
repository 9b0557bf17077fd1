//! Who can open what, and what somebody could: answered from the verified replica.

use crate::error::Result;
use crate::ledger::body::Role;
use crate::ledger::{DeviceId, Name, Prefix};
use crate::replica::{DeviceRow, GrantRow, ListFilter, SealedRow, TokenRow};
use crate::vault::{EffectiveState, Vault, recipients_in_words};
use serde::Serialize;

/// Somebody who can do something with a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// A device's name, or a grantee: `user:deploy`.
    pub who: String,
    /// `device` or `grantee`.
    pub kind: &'static str,
    /// What they may do: `open`, or `open-share` where several devices open it together, `write`, `grant`, `admin`; a grantee's operations.
    pub may: Vec<String>,
    /// Why: the roles, or what the grant is on.
    pub through: String,
    /// Until when.
    #[serde(with = "crate::timestamp")]
    pub until: Option<u64>,
}

/// A version that somebody can or could open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// Its token's name now, or its last.
    pub name: String,
    /// From 1.
    pub version: u64,
    /// Its state now.
    pub state: EffectiveState,
    /// `sealed` or `once sealed`, and of how many shares it opens one, where it does; or the grant.
    pub through: String,
}

impl Vault {
    /// The devices and grantees that can do something with a token now. A device opens what is sealed to it, whatever its
    /// roles are by now.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn who_can(&mut self, name: &Name) -> Result<Vec<Holder>> {
        self.refresh()?;
        let token = self.token(name, &format!("tell who can open {name}"))?;
        let version = self.current_version(&token)?;
        let recipients = version.as_ref().map(|version| version.recipients()).unwrap_or_default();
        let threshold = version.map_or(1, |version| version.threshold);
        let sealed = Recipients {
            words: match threshold {
                1 => "sealed".into(),
                _ => format!(
                    "sealed to {}",
                    recipients_in_words(&self.device_names(&recipients), threshold, ",")
                ),
            },
            ids: recipients,
            threshold,
        };
        let devices = self.replica.devices()?;
        let mut holders: Vec<Holder> =
            devices.iter().filter_map(|device| device_holder(device, &token.name, &sealed)).collect();
        let now = self.latest_time();
        let grants = self.replica.grants_reaching(&token)?;
        holders.extend(grants.into_iter().filter(|grant| is_current(grant, now)).map(|grant| Holder {
            through: format!("grant on {}", grant.on()),
            who: grant.to,
            kind: "grantee",
            may: grant.ops,
            until: grant.until,
        }));
        Ok(holders)
    }

    /// The versions that a device can open: what is sealed to it and neither revoked nor destroyed. With `ever`, also
    /// what was revoked, and what is no longer sealed to it: an older copy of the store may still hold that.
    ///
    /// # Errors
    /// The replica's.
    pub fn reached_by(
        &mut self,
        device: &DeviceId,
        ever: bool,
        each: &mut dyn FnMut(Reached) -> Result<()>,
    ) -> Result<()> {
        self.refresh()?;
        self.opened_by(device, |row| {
            let sealed = row.version.is_for(device);
            let share = match row.version.threshold {
                1 => String::new(),
                threshold => format!(", a share of {threshold}"),
            };
            let through = format!("{}{share}", if sealed { "sealed" } else { "once sealed" });
            let reached = self.reached(row, &through)?;
            let closed = matches!(reached.state, EffectiveState::Revoked | EffectiveState::Destroyed);
            if ever || sealed && !closed {
                each(reached)?;
            }
            Ok(true)
        })
    }

    fn reached(&self, row: SealedRow, through: &str) -> Result<Reached> {
        let token =
            self.replica.tokens_ever_named(&row.name)?.into_iter().find(|token| token.id == row.token);
        let state = match &token {
            Some(token) => EffectiveState::from_row(self, token, &row.version),
            None => EffectiveState::Destroyed,
        };
        let (name, version) = (row.name, row.version.version);
        Ok(Reached { name, version, state, through: through.into() })
    }

    /// The tokens that grants give to a grantee. With `ever`, also those of grants that ended.
    ///
    /// # Errors
    /// The replica's.
    pub fn granted_to(
        &mut self,
        grantee: &str,
        ever: bool,
        each: &mut dyn FnMut(Reached) -> Result<()>,
    ) -> Result<()> {
        self.refresh()?;
        let now = self.latest_time();
        for (grant, standing) in self.replica.grants_ever()? {
            let current = standing && is_current(&grant, now);
            if !(ever || current) || !concerns(&grant, grantee) || !opens(&grant) {
                continue;
            }
            let ended = if current { "" } else { ", ended" };
            let through = format!("grant on {} to {}{ended}", grant.on(), grant.to);
            for (token, version) in self.tokens_under(&grant)? {
                let state = EffectiveState::from_row(self, &token, &version);
                each(Reached {
                    name: token.name,
                    version: version.version,
                    state,
                    through: through.clone(),
                })?;
            }
        }
        Ok(())
    }

    /// The tokens that a grant reaches now.
    fn tokens_under(&self, grant: &GrantRow) -> Result<Vec<(TokenRow, crate::replica::VersionRow)>> {
        let prefix = Prefix::parse(grant.path()).unwrap_or_default();
        let mut found = Vec::new();
        for destroyed in [false, true] {
            let filter = ListFilter { prefix: prefix.clone(), destroyed, after: String::new() };
            self.replica.list(&filter, |token, version| {
                let this = grant.target == crate::ledger::body::Target::Token(token.id);
                if grant.name.is_none() && !destroyed || this {
                    found.push((token, version));
                }
                Ok(true)
            })?;
        }
        Ok(found)
    }

    /// The device of this name or id, active or the last that was retired.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn device_ever_named(&self, name: &str) -> Result<Option<DeviceRow>> {
        let mut devices = self.replica.devices()?;
        devices.retain(|row| row.enrolment.name == name || row.id.to_string() == name);
        devices.sort_by_key(|row| (row.retired.is_some(), std::cmp::Reverse(row.n)));
        Ok(devices.into_iter().next())
    }

    /// The current versions that only one device opens, or too few for one of them to be lost; not those that are revoked
    /// or destroyed.
    ///
    /// # Errors
    /// The replica's.
    pub fn count_single_device(&self) -> Result<u64> {
        let mut count = 0;
        self.replica.list(&ListFilter::default(), |token, version| {
            let closed = matches!(
                EffectiveState::from_row(self, &token, &version),
                EffectiveState::Revoked | EffectiveState::Destroyed
            );
            count += u64::from(!closed && version.recipients().len() as u64 <= version.threshold);
            Ok(true)
        })?;
        Ok(count)
    }
}

/// To whom the current version is sealed.
struct Recipients {
    ids: Vec<DeviceId>,
    /// How many of them open it together.
    threshold: u64,
    /// The same for people.
    words: String,
}

fn device_holder(device: &DeviceRow, name: &str, recipients: &Recipients) -> Option<Holder> {
    let sealed = recipients.ids.contains(&device.id);
    let mut may = Vec::new();
    let any = |allows: fn(&Role, &str) -> bool| device.roles.iter().any(|role| allows(role, name));
    for (word, allowed) in [
        (if recipients.threshold > 1 { "open-share" } else { "open" }, sealed),
        ("write", any(Role::writes)),
        ("grant", any(Role::grants)),
        ("admin", device.roles.contains(&Role::Admin)),
    ] {
        may.extend(allowed.then(|| word.to_owned()));
    }
    let mut through: Vec<String> = sealed.then(|| recipients.words.clone()).into_iter().collect();
    match (&device.retired, sealed, device.opens(name)) {
        (Some(_), _, _) => through.push("retired".into()),
        (None, false, true) => through.push("not sealed yet: strongroom reseal".into()),
        _ => {}
    }
    let silent = may.is_empty() && (device.retired.is_some() || !device.opens(name));
    (!silent).then(|| Holder {
        who: device.enrolment.name.clone(),
        kind: "device",
        may,
        through: through.join(", "),
        until: None,
    })
}

fn is_current(grant: &GrantRow, now: u64) -> bool {
    grant.until.is_none_or(|until| now < until)
}

fn opens(grant: &GrantRow) -> bool {
    grant.ops.iter().any(|op| op.starts_with("get"))
}

/// Whether the grantee is this one, or one of several that all have to hold.
fn concerns(grant: &GrantRow, grantee: &str) -> bool {
    grant.to == grantee || grant.to.split('+').any(|part| part == grantee)
}
