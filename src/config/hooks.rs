//! `[hooks.NAME]`: what sets new values at their issuers. A policy in the ledger names a hook and no more: whoever may write
//! policies must not choose programs or servers.

use super::Period;
use crate::error::{Error, Kind, Result};
use crate::ledger::Name;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// How long a hook's step may take by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Less than a lease lasts.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// A hook of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HookSettings {
    /// What does it.
    pub kind: HookKind,
    /// The names and prefixes that it may be used for.
    pub tokens: Vec<String>,
    /// How long each step may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// Of `exec`, and of `file` after writing: the program and its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Of `exec`: the user that the program runs as. Of `file`: its owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Of `exec`: whether the program makes the values.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub creates: bool,
    /// Of `exec`: whether the issuer accepts only one value at a time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaces: bool,
    /// Of `file`: the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Of `postgres-role`: the server, as `postgresql://HOST/DATABASE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of `postgres-role`: a file of certificates to verify the server with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Of `postgres-role`: the roles that may be changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Of `postgres-role`: the token with the password of the user in `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_token: Option<String>,
}

/// The kinds of hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookKind {
    /// A program.
    Exec,
    /// A file, which a service reads.
    File,
    /// Roles of a PostgreSQL server.
    PostgresRole,
}

impl HookKind {
    fn word(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::File => "file",
            Self::PostgresRole => "postgres-role",
        }
    }
}

impl HookSettings {
    /// How long each step may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(DEFAULT_TIMEOUT, |period| period.0)
    }

    /// Whether it may be used for a token.
    pub fn is_for(&self, name: &Name) -> bool {
        self.tokens.iter().any(|on| {
            let prefix = on.strip_suffix('/');
            prefix.map_or(on == name.as_str(), |prefix| crate::ledger::name::covers(prefix, name.as_str()))
        })
    }

    /// Refuses keys that its kind does not have, and the lack of those that it needs.
    ///
    /// # Errors
    /// `Usage`.
    pub fn check(&self, hook: &str) -> Result<()> {
        let given = [
            ("command", !self.command.is_empty()),
            ("user", self.user.is_some()),
            ("creates", self.creates),
            ("replaces", self.replaces),
            ("path", self.path.is_some()),
            ("url", self.url.is_some()),
            ("ca", self.ca.is_some()),
            ("roles", !self.roles.is_empty()),
            ("password-token", self.password_token.is_some()),
        ];
        let (needed, possible): (&[&str], &[&str]) = match self.kind {
            HookKind::Exec => (&["command"], &["user", "creates", "replaces"]),
            HookKind::File => (&["path"], &["command", "user"]),
            HookKind::PostgresRole => (&["url", "roles"], &["ca", "password-token"]),
        };
        let wrong = |message: String| {
            Err(Error::new(Kind::Usage, format!("use the hook {hook}"), message)
                .with_hint(format!("correct [hooks.{hook}] in config.toml")))
        };
        for (key, there) in given {
            if there && !needed.contains(&key) && !possible.contains(&key) {
                return wrong(format!("`{key}` means nothing for the kind {}", self.kind.word()));
            }
            if !there && needed.contains(&key) {
                return wrong(format!("the kind {} needs `{key}`", self.kind.word()));
            }
        }
        if self.timeout() > MAX_TIMEOUT {
            return wrong("`timeout` is at most 10m".into());
        }
        match self.tokens.is_empty() {
            true => wrong("`tokens` names nothing that it may be used for".into()),
            false => Ok(()),
        }
    }
}
