//! What a hook is asked, and which one a policy's name stands for on this machine.

use super::exec::ExecHook;
use super::file::FileHook;
use crate::config::{Config, HookKind, HookSettings};
use crate::error::{Error, Kind, Result};
use crate::ledger::{Name, TokenId};
use crate::secret::Secret;
use crate::vault::Vault;

/// A version's number and its value.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// Its number.
    pub version: u64,
    /// Its bytes.
    pub value: &'a Secret,
}

/// What every step is told.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The token's name.
    pub token: &'a Name,
    /// The token's id, which survives renames.
    pub id: TokenId,
    /// The policy's parameters.
    pub params: &'a [(String, String)],
    /// The value before: in `set`, one that the issuer accepts, if any is known; in `retire`, the one that goes.
    pub old: Option<Value<'a>>,
    /// The value that is to be accepted.
    pub new: Option<Value<'a>>,
}

/// What the issuer said to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done, or was done before.
    Done,
    /// The issuer said no, in these words. Nothing was changed.
    Refused(String),
}

/// Does at an issuer what a rotation needs. Every step may be repeated; an error means that its outcome is not known.
pub trait Hook {
    /// Whether the issuer accepts the value before beside a new one.
    fn overlaps(&self, params: &[(String, String)]) -> bool;

    /// A new value, where the issuer or the hook makes it; `None` if any random text will do.
    ///
    /// # Errors
    /// The hook's.
    fn create(&self, request: &Request<'_>) -> Result<Option<Secret>>;

    /// Whether the issuer accepts the old and the new value.
    ///
    /// # Errors
    /// The hook's, when it cannot tell.
    fn probe(&self, request: &Request<'_>) -> Result<(bool, bool)>;

    /// Has the issuer accept the new value.
    ///
    /// # Errors
    /// The hook's.
    fn set(&self, request: &Request<'_>) -> Result<Answer>;

    /// Uses the new value at the issuer.
    ///
    /// # Errors
    /// The hook's.
    fn test(&self, request: &Request<'_>) -> Result<Answer>;

    /// Has the issuer refuse the old value. Without a new one, the token has no other any more.
    ///
    /// # Errors
    /// The hook's.
    fn retire(&self, request: &Request<'_>) -> Result<Answer>;
}

/// The hook of this name, for this token, as this machine's configuration has it. `token` opens a token that the hook itself
/// needs.
///
/// # Errors
/// `NotFound` if this machine has no such hook; `Refused` if it is not for this token; `Usage` for a bad configuration.
pub fn open_hook(
    config: &Config,
    hook: &str,
    name: &Name,
    token: &mut dyn FnMut(&Name) -> Result<Secret>,
) -> Result<Box<dyn Hook>> {
    let operation = format!("rotate {name}");
    let settings = config.hooks.get(hook).ok_or_else(|| {
        Error::new(Kind::NotFound, &operation, format!("this machine has no hook `{hook}`"))
            .with_hint(format!("define [hooks.{hook}] in config.toml, or rotate on a machine that has it"))
    })?;
    settings.check(hook)?;
    if !settings.is_for(name) {
        let error = Error::new(Kind::Refused, &operation, format!("the hook `{hook}` is not for it"));
        return Err(
            error.with_hint(format!("add it to `tokens` of [hooks.{hook}] in config.toml, if it should be"))
        );
    }
    match settings.kind {
        HookKind::Exec => Ok(Box::new(ExecHook::new(hook, settings))),
        HookKind::File => Ok(Box::new(FileHook::new(hook, settings)?)),
        HookKind::PostgresRole => postgres(hook, settings, token),
    }
}

/// The hook of a token's policy. A token that the hook needs is opened by the vault.
///
/// # Errors
/// `NotFound` without a policy; as [`open_hook`].
pub fn hook_of(vault: &mut Vault, config: &Config, name: &Name) -> Result<Box<dyn Hook>> {
    let policy = vault.policy_state(name, &format!("rotate {name}"))?.policy.policy;
    open_hook(config, &policy.hook, name, &mut |token| Ok(vault.get(token, None)?.value))
}

#[cfg(feature = "postgres")]
fn postgres(
    hook: &str,
    settings: &HookSettings,
    token: &mut dyn FnMut(&Name) -> Result<Secret>,
) -> Result<Box<dyn Hook>> {
    let named = |text: &String| {
        let wrong =
            |why| Error::new(Kind::Usage, format!("use the hook {hook}"), format!("`password-token`: {why}"));
        Name::parse(text).map_err(wrong)
    };
    let password =
        settings.password_token.as_ref().map(named).transpose()?.map(|name| token(&name)).transpose()?;
    Ok(Box::new(super::postgres_role::PostgresRole::new(hook, settings, password)?))
}

#[cfg(not(feature = "postgres"))]
fn postgres(
    hook: &str,
    _: &HookSettings,
    _: &mut dyn FnMut(&Name) -> Result<Secret>,
) -> Result<Box<dyn Hook>> {
    let message = "it was built without the feature `postgres`";
    Err(Error::new(Kind::Unsupported, format!("use the hook {hook}"), message))
}
