//! Grants: which application may do what with which tokens. They are signed statements; the agent enforces them.

use crate::vault::ledger::submit::{Draft, RequiredRole};
use crate::vault::{Grantee, Op, Vault, random_id};

use crate::error::{Error, Kind, Result};
use crate::ledger::body::{Body, Grant, Target, Ungrant};
use crate::ledger::{GrantId, MAX_BATCH, Name, Prefix};
use crate::replica::GrantRow;

/// What a grant covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantOn {
    /// One token; a rename does not change that.
    Token(Name),
    /// Every token under a prefix, now and later; the empty prefix covers everything.
    Prefix(Prefix),
}

/// Options for a grant.
#[derive(Clone, Debug, Default)]
pub struct GrantOptions {
    /// The allowed operations; `get` if empty.
    pub ops: Vec<Op>,
    /// When it ends. Milliseconds since 1970.
    pub until: Option<u64>,
    /// The credential id that a systemd unit uses for it.
    pub alias: Option<String>,
}

/// Which grants to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The grant with this id.
    Id(GrantId),
    /// All grants on this target for this grantee.
    Of(GrantOn, Grantee),
}

impl std::fmt::Display for GrantOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(name) => write!(f, "{name}"),
            Self::Prefix(prefix) => write!(f, "{prefix}/"),
        }
    }
}

impl std::str::FromStr for GrantOn {
    type Err = String;

    /// A trailing `/` makes it a prefix; `/` alone is everything.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.ends_with('/') {
            true => Prefix::parse(text).map(Self::Prefix),
            false => Name::parse(text).map(Self::Token),
        }
    }
}

impl GrantOn {
    /// Whether it is on this token, or on a prefix of its name.
    pub fn covers(&self, token: &str) -> bool {
        match self {
            Self::Token(name) => name.as_str() == token,
            Self::Prefix(prefix) => prefix.covers(token),
        }
    }

    /// The token's name, or the prefix.
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Token(name) => name.as_str(),
            Self::Prefix(prefix) => prefix.as_str(),
        }
    }
}

/// Checks an alias: only a unit uses one, and it stands for one token.
///
/// # Errors
/// Why the alias is not allowed.
pub fn check_alias(id: &str, on: &GrantOn, to: &Grantee) -> Result<(), String> {
    crate::ledger::name::check_short(id)?;
    match (on, to) {
        (GrantOn::Token(_), Grantee::Unit(_)) => Ok(()),
        _ => Err("an id is for one token and one unit of the system".into()),
    }
}

impl Vault {
    /// Grants an application access to a token, or to all tokens under a prefix.
    ///
    /// # Errors
    /// `NotFound`; `Refused` without the role `write` on it, or when the same grant, or the same id for the same unit,
    /// stands already.
    pub fn grant(&mut self, on: &GrantOn, to: &Grantee, options: &GrantOptions) -> Result<GrantRow> {
        let operation = format!("grant {on} to {to}");
        if let Some(id) = &options.alias {
            check_alias(id, on, to).map_err(|why| Error::new(Kind::Usage, &operation, why))?;
        }
        if [Op::Get, Op::GetConfirmed].iter().all(|op| options.ops.contains(op)) {
            let message = "it allows `get` with and without a person's confirmation";
            return Err(Error::new(Kind::Usage, operation, message).with_hint("leave one of them out"));
        }
        let mut ops: Vec<String> = options.ops.iter().map(ToString::to_string).collect();
        if ops.is_empty() {
            ops.push(Op::Get.to_string());
        }
        ops.sort();
        ops.dedup();
        let id = GrantId(random_id()?);
        self.submit(&operation, RequiredRole::Grant(&[on.path()]), |vault| {
            let target = vault.grant_target(on, &operation)?;
            vault.refuse_doubles(&operation, &target, to, &ops, options)?;
            let (to, ops, until, alias) = (to.to_string(), ops.clone(), options.until, options.alias.clone());
            let body = Body::Grant(Grant { grant: id, target, to, ops, until, alias });
            Ok((Draft { bodies: vec![body], ..Draft::default() }, ()))
        })?;
        let granted = self.replica.grant_row(&id)?;
        granted.ok_or_else(|| Error::new(Kind::Tampered, operation, "it does not stand in the ledger"))
    }

    /// Revokes grants. Returns them.
    ///
    /// # Errors
    /// `NotFound` when there is no such grant; `Refused` without the role `write` on what it is on.
    pub fn ungrant(&mut self, which: &Revoked) -> Result<Vec<GrantRow>> {
        let operation = match which {
            Revoked::Id(id) => format!("take back the grant {id}"),
            Revoked::Of(on, to) => format!("take back what {to} was granted on {on}"),
        };
        let none = || {
            Error::new(Kind::NotFound, &operation, "there is no such grant")
                .with_hint("`strongroom grants` lists them with their ids")
        };
        // The target decides which role is needed.
        let found = self.granted(which, &operation)?;
        let path = found.first().map(|grant| grant.path().to_owned()).ok_or_else(none)?;
        let mut revoked = Vec::new();
        loop {
            let some = self.submit(&operation, RequiredRole::Grant(&[&path]), |vault| {
                let mut grants = vault.granted(which, &operation)?;
                grants.truncate(MAX_BATCH);
                let ungrant =
                    |row: &GrantRow| Body::Ungrant(Ungrant { grant: row.id, target: row.target.clone() });
                let bodies = grants.iter().map(ungrant).collect();
                Ok((Draft { bodies, ..Draft::default() }, grants))
            })?;
            if some.is_empty() {
                break;
            }
            revoked.extend(some);
        }
        // Another client may have revoked them all first.
        if revoked.is_empty() { Err(none()) } else { Ok(revoked) }
    }

    /// The active grants: all, those that cover a token, or those on a prefix and below it.
    ///
    /// # Errors
    /// `NotFound` for a token that does not exist.
    pub fn grants(&mut self, on: Option<&GrantOn>) -> Result<Vec<GrantRow>> {
        self.refresh()?;
        match on {
            Some(GrantOn::Token(name)) => {
                let token = self.token(name, &format!("list the grants on {name}"))?;
                self.replica.grants_reaching(&token)
            }
            Some(GrantOn::Prefix(prefix)) => {
                let mut all = self.replica.all_grants()?;
                all.retain(|grant| prefix.covers(grant.path()));
                Ok(all)
            }
            None => self.replica.all_grants(),
        }
    }

    pub(crate) fn grant_target(&self, on: &GrantOn, operation: &str) -> Result<Target> {
        Ok(match on {
            GrantOn::Token(name) => Target::Token(self.token(name, operation)?.id),
            GrantOn::Prefix(prefix) => Target::Prefix(prefix.as_str().into()),
        })
    }

    fn granted(&self, which: &Revoked, operation: &str) -> Result<Vec<GrantRow>> {
        match which {
            Revoked::Id(id) => Ok(self.replica.grant_row(id)?.into_iter().collect()),
            Revoked::Of(on, to) => {
                let (target, to) = (self.grant_target(on, operation)?, to.to_string());
                let mut all = self.replica.all_grants()?;
                all.retain(|grant| grant.target == target && grant.to == to);
                Ok(all)
            }
        }
    }

    /// Refuses a duplicate grant, and an alias that would stand for two tokens.
    fn refuse_doubles(
        &self,
        operation: &str,
        target: &Target,
        to: &Grantee,
        ops: &[String],
        options: &GrantOptions,
    ) -> Result<()> {
        let to = to.to_string();
        for grant in self.replica.all_grants()?.into_iter().filter(|grant| grant.to == to) {
            let refused = |message: String| {
                Error::new(Kind::Refused, operation, message)
                    .with_hint(format!("`strongroom ungrant {}` takes the other one back", grant.id))
            };
            if grant.target == *target
                && grant.ops == ops
                && (grant.until, &grant.alias) == (options.until, &options.alias)
            {
                return Err(refused("the same grant stands already".into()));
            }
            if options.alias.is_some() && grant.alias == options.alias && grant.target != *target {
                return Err(refused(format!("{to} gets {} under that id already", grant.path())));
            }
        }
        Ok(())
    }
}
