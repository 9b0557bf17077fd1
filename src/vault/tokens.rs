//! What one does with tokens, whoever does it: a vault on this machine's devices, or an agent that owns them.

use super::{PutOptions, PutReport, Shown, TokenView, Vault, VersionView, Wanted};
use crate::error::{Error, Kind, Result};
use crate::ledger::Name;
use crate::ledger::body::State;
use crate::replica::ListFilter;
use crate::secret::Secret;

/// Tokens to be had, listed and changed.
pub trait Tokens {
    /// Opens several tokens, in the order asked for.
    fn open_all(&mut self, wanted: &[Wanted]) -> Vec<Result<Secret>>;

    /// Tokens in the order of their names; `each` answers whether to go on.
    ///
    /// # Errors
    /// Those of `each`, the replica's or the agent's.
    fn list(&mut self, filter: &ListFilter, each: &mut dyn FnMut(VersionView) -> Result<bool>) -> Result<()>;

    /// All about a token, with all of its versions or one.
    ///
    /// # Errors
    /// `NotFound`.
    fn show(&mut self, name: &Name, version: Option<u64>, tried: &str) -> Result<TokenView>;

    /// As [`Vault::put`].
    ///
    /// # Errors
    /// As [`Vault::put`].
    fn put(&mut self, name: &Name, token: &Secret, options: &PutOptions) -> Result<PutReport>;

    /// As [`Vault::set_state`].
    ///
    /// # Errors
    /// As [`Vault::set_state`].
    fn set_state(&mut self, name: &Name, version: Option<u64>, state: State, reason: &str) -> Result<()>;

    /// As [`Vault::destroy`].
    ///
    /// # Errors
    /// As [`Vault::destroy`].
    fn destroy(&mut self, name: &Name, version: Option<u64>, reason: &str) -> Result<u64>;

    /// As [`Vault::rename`].
    ///
    /// # Errors
    /// As [`Vault::rename`].
    fn rename(&mut self, from: &Name, to: &Name) -> Result<()>;

    /// Opens one token.
    ///
    /// # Errors
    /// As [`Vault::get`].
    fn open(&mut self, wanted: &Wanted) -> Result<Secret> {
        let nothing = || Error::new(Kind::NotFound, format!("open {}", wanted.name), "nothing was asked for");
        self.open_all(std::slice::from_ref(wanted)).pop().unwrap_or_else(|| Err(nothing()))
    }

    /// The version that opens where none is named.
    ///
    /// # Errors
    /// `NotFound`.
    fn current(&mut self, name: &Name, tried: &str) -> Result<Option<u64>> {
        let versions = self.show(name, None, tried)?.versions;
        let newest = versions.iter().rev().find(|view| view.state != Shown::Staged).or(versions.last());
        Ok(newest.map(|view| view.version))
    }

    /// An error unless there is a living token of this name.
    ///
    /// # Errors
    /// `NotFound`.
    fn expect(&mut self, name: &Name, tried: &str) -> Result<()> {
        match self.show(name, None, tried)?.destroyed {
            false => Ok(()),
            true => Err(Error::new(Kind::NotFound, tried, format!("there is no token `{name}`"))
                .advice("`strongroom list` shows the names")),
        }
    }
}

impl Tokens for Vault {
    fn open_all(&mut self, wanted: &[Wanted]) -> Vec<Result<Secret>> {
        self.get_all(wanted)
    }

    fn list(&mut self, filter: &ListFilter, each: &mut dyn FnMut(VersionView) -> Result<bool>) -> Result<()> {
        self.replica().list(filter, |token, row| each(VersionView::of(self, &token, row)))
    }

    fn show(&mut self, name: &Name, version: Option<u64>, tried: &str) -> Result<TokenView> {
        self.shown(name, version, tried)
    }

    fn put(&mut self, name: &Name, token: &Secret, options: &PutOptions) -> Result<PutReport> {
        Vault::put(self, name, token, options)
    }

    fn set_state(&mut self, name: &Name, version: Option<u64>, state: State, reason: &str) -> Result<()> {
        Vault::set_state(self, name, version, state, reason)
    }

    fn destroy(&mut self, name: &Name, version: Option<u64>, reason: &str) -> Result<u64> {
        Vault::destroy(self, name, version, reason)
    }

    fn rename(&mut self, from: &Name, to: &Name) -> Result<()> {
        Vault::rename(self, from, to)
    }

    fn expect(&mut self, name: &Name, tried: &str) -> Result<()> {
        self.token(name, tried).map(drop)
    }
}
