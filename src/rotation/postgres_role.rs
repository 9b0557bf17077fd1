//! The hook `postgres-role`: passwords of a PostgreSQL server's roles.
//!
//! The server is given a SCRAM-SHA-256 verifier (RFC 5803) that is computed here, so that neither its log nor anybody between
//! sees a password. Without a user in `url`, a role changes its own password, with the one before. With one, that user
//! changes the password of `role`, or of two `roles` in turn, of which one always works.

mod connect;

use super::hook::{Answer, Hook, Request, Value};
use crate::config::HookSettings;
use crate::error::{Error, Kind, Result, printable};
use crate::secret::{DEFAULT_TEXT_LENGTH, Secret};
use connect::{Login, Server};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// Roles of one server.
pub(super) struct PostgresRole {
    name: String,
    server: Server,
    /// The roles that policies may name.
    allowed: Vec<String>,
}

/// The roles that a policy names, and what the token holds.
struct Plan {
    /// One, or two that take turns.
    roles: Vec<String>,
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// The password alone.
    Password,
    /// `postgresql://USER:PASSWORD@HOST/DATABASE`.
    Url,
}

impl PostgresRole {
    pub(super) fn new(name: &str, settings: &HookSettings, password: Option<Secret>) -> Result<Self> {
        Ok(Self {
            name: name.into(),
            server: Server::new(name, settings, password)?,
            allowed: settings.roles.clone(),
        })
    }

    fn unusable(&self, message: impl Into<String>) -> Error {
        Error::new(Kind::Usage, format!("use the hook {}", self.name), message)
    }

    /// What the policy asks for, if this machine allows it.
    fn plan(&self, params: &[(String, String)]) -> Result<Plan> {
        let (mut roles, mut format) = (Vec::new(), None);
        for (key, value) in params {
            match (key.as_str(), value.as_str()) {
                ("role", role) => roles.push(role.to_owned()),
                ("roles", both) => roles.extend(both.split(',').map(str::to_owned)),
                ("format", "password") => format = Some(Format::Password),
                ("format", "url") => format = Some(Format::Url),
                _ => {
                    return Err(
                        self.unusable(format!("the policy's parameter {key}={value} means nothing to it"))
                    );
                }
            }
        }
        if let Some(role) = roles.iter().find(|role| !self.allowed.contains(role)) {
            let error = self.unusable(format!("the policy names the role `{role}`, which it may not change"));
            return Err(error.with_hint(format!(
                "add it to `roles` of [hooks.{}] in config.toml, if it should be",
                self.name
            )));
        }
        let default = if roles.len() == 2 { Format::Url } else { Format::Password };
        let plan = Plan { format: format.unwrap_or(default), roles };
        match plan.roles.as_slice() {
            [_] => Ok(plan),
            [one, other] if one != other && plan.format == Format::Url && !self.server.is_self_service() => {
                Ok(plan)
            }
            [_, _] => {
                Err(self.unusable("two roles need `format=url`, two names, and a user in the hook's `url`"))
            }
            _ => {
                Err(self
                    .unusable("the policy names no role: `--param role=NAME`, or `--param roles=ONE,OTHER`"))
            }
        }
    }

    /// The role and the password that a value stands for.
    fn login(&self, plan: &Plan, value: Value<'_>) -> Result<Login> {
        let wrong = |message: &str| {
            let error = self.unusable(format!("version {} of the token {message}", value.version));
            error.with_hint("put a value of the form that the policy's `format` says")
        };
        let text = std::str::from_utf8(value.value.expose()).map_err(|_| wrong("is not text"))?;
        let (role, password) = match plan.format {
            Format::Password => (plan.roles[0].clone(), Zeroizing::new(text.to_owned())),
            Format::Url => {
                let (user, password, _) =
                    parts(text).ok_or_else(|| wrong("is no postgresql:// URL with a password"))?;
                (user, password)
            }
        };
        match plan.roles.contains(&role) {
            true => Ok(Login { role, password }),
            false => Err(wrong("is for a role that the policy does not name")),
        }
    }

    fn logins(&self, request: &Request<'_>) -> Result<(Plan, Option<Login>, Option<Login>)> {
        let plan = self.plan(request.params)?;
        let old = request.old.map(|value| self.login(&plan, value)).transpose()?;
        let new = request.new.map(|value| self.login(&plan, value)).transpose()?;
        Ok((plan, old, new))
    }
}

/// User, password and the rest of a URL, the first two decoded.
fn parts(url: &str) -> Option<(String, Zeroizing<String>, &str)> {
    let rest = url
        .trim_end()
        .strip_prefix("postgresql://")
        .or_else(|| url.trim_end().strip_prefix("postgres://"))?;
    let (login, rest) = rest.split_once('@')?;
    let (user, password) = login.split_once(':')?;
    let user = percent_decode_str(user).decode_utf8().ok()?.into_owned();
    let password = Zeroizing::new(percent_decode_str(password).decode_utf8().ok()?.into_owned());
    Some((user, password, rest)).filter(|(user, password, _)| !user.is_empty() && !password.is_empty())
}

impl Hook for PostgresRole {
    fn overlaps(&self, params: &[(String, String)]) -> bool {
        // A policy that names no roles is refused with better words at the first step.
        self.plan(params).map_or(true, |plan| plan.roles.len() == 2)
    }

    fn create(&self, request: &Request<'_>) -> Result<Option<Secret>> {
        let (plan, old, _) = self.logins(request)?;
        if plan.format == Format::Password {
            return Ok(None);
        }
        let (Some(old), Some(value)) = (old, request.old) else { return Ok(None) };
        let rest = std::str::from_utf8(value.value.expose())
            .ok()
            .and_then(parts)
            .map(|(_, _, rest)| rest.to_owned());
        let role = plan.roles.iter().find(|role| **role != old.role).unwrap_or(&old.role);
        let user = percent_encoding::utf8_percent_encode(role, percent_encoding::NON_ALPHANUMERIC);
        let made = Secret::random_text(DEFAULT_TEXT_LENGTH)?;
        let mut url = Zeroizing::new(format!("postgresql://{user}:").into_bytes());
        let rest = rest.unwrap_or_default();
        url.reserve_exact(made.len() + 1 + rest.len());
        url.extend_from_slice(made.expose());
        url.push(b'@');
        url.extend_from_slice(rest.as_bytes());
        Ok(Some(Secret::from(url)))
    }

    fn probe(&self, request: &Request<'_>) -> Result<(bool, bool)> {
        let (_, old, new) = self.logins(request)?;
        let accepts =
            |login: &Option<Login>| login.as_ref().map_or(Ok(false), |login| self.server.accepts(login));
        Ok((accepts(&old)?, accepts(&new)?))
    }

    fn set(&self, request: &Request<'_>) -> Result<Answer> {
        let (_, old, new) = self.logins(request)?;
        let Some(new) = new else { return Ok(Answer::Done) };
        let verifier = postgres_protocol::password::scram_sha_256(new.password.as_bytes());
        self.server.change(&new.role, Some(&verifier), old.as_ref())
    }

    fn test(&self, request: &Request<'_>) -> Result<Answer> {
        let (_, _, new) = self.logins(request)?;
        match new {
            Some(new) if !self.server.accepts(&new)? => {
                Ok(Answer::Refused(format!("the server does not let `{}` in with it", printable(&new.role))))
            }
            _ => Ok(Answer::Done),
        }
    }

    /// A role whose password was replaced has lost it already.
    fn retire(&self, request: &Request<'_>) -> Result<Answer> {
        let (_, old, new) = self.logins(request)?;
        let Some(old) = old else { return Ok(Answer::Done) };
        if !self.server.accepts(&old)? {
            return Ok(Answer::Done);
        }
        if new.is_some_and(|new| new.role == old.role) {
            let role = printable(&old.role);
            return Ok(Answer::Refused(format!(
                "the server lets `{role}` in with it; rotate the token first"
            )));
        }
        self.server.change(&old.role, None, Some(&old))
    }
}
