//! Operations on tokens, by a vault on this machine's devices or by an agent that owns them.

use crate::vault::{
    AccessView, EntryView, GrantOn, GrantOptions, GrantView, Grantee, ImportItem, Imported, LogOrder, OPENED,
    OpenOutcome, OpenedToken, PutOptions, PutReport, Revoked, SealedToken, TokenRef, TokenView, Vault,
    VersionView,
};

use crate::error::{Error, Kind, Result};
use crate::ledger::Name;
use crate::ledger::body::State;
use crate::replica::ListFilter;
use crate::seal::Stanza;
use crate::secret::Secret;
use crate::vault::tokens::open::unanswered;
use std::sync::Arc;

/// Opens, lists and changes tokens.
pub trait TokenBackend {
    /// Opens several tokens, in the given order.
    fn open_all(&mut self, wanted: &[TokenRef]) -> Vec<Result<OpenedToken>>;

    /// Lists tokens by name; `each` returns whether to go on.
    ///
    /// # Errors
    /// Those of `each`, the replica's or the agent's.
    fn list(&mut self, filter: &ListFilter, each: &mut dyn FnMut(VersionView) -> Result<bool>) -> Result<()>;

    /// A token with all of its versions, or with one.
    ///
    /// # Errors
    /// `NotFound`.
    fn show(&mut self, name: &Name, version: Option<u64>, operation: &str) -> Result<TokenView>;

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

    /// The sealed bytes of a version; the newest by default.
    ///
    /// # Errors
    /// `NotFound`; `Refused` when they were destroyed; `Tampered`.
    fn sealed(&mut self, wanted: &TokenRef, operation: &str) -> Result<Vec<u8>>;

    /// As [`Vault::log`], from the end on.
    ///
    /// # Errors
    /// As [`Vault::log`], and those of `each`.
    fn log(&mut self, order: LogOrder, each: &mut dyn FnMut(EntryView) -> Result<bool>) -> Result<()>;

    /// As [`Vault::history`].
    ///
    /// # Errors
    /// As [`Vault::history`].
    fn history(&mut self, name: &Name) -> Result<Vec<EntryView>>;

    /// Lines of the access log, newest first: at most `limit` before line `before`, or from the newest if that is 0.
    ///
    /// # Errors
    /// `Store`.
    fn accesses(&mut self, before: u64, limit: u32) -> Result<Vec<AccessView>>;

    /// As [`Vault::grant`].
    ///
    /// # Errors
    /// As [`Vault::grant`].
    fn grant(&mut self, on: &GrantOn, to: &Grantee, options: &GrantOptions) -> Result<GrantView>;

    /// As [`Vault::ungrant`].
    ///
    /// # Errors
    /// As [`Vault::ungrant`].
    fn ungrant(&mut self, which: &Revoked) -> Result<Vec<GrantView>>;

    /// As [`Vault::grants`].
    ///
    /// # Errors
    /// As [`Vault::grants`].
    fn grants(&mut self, on: Option<&GrantOn>) -> Result<Vec<GrantView>>;

    /// As [`Vault::import`]; an agent signs each item by itself. With `skip_unchanged`, opens the tokens that exist, and
    /// leaves those alone that are the same already.
    ///
    /// # Errors
    /// As [`Vault::import`].
    fn import(
        &mut self,
        items: &mut dyn Iterator<Item = Result<ImportItem>>,
        skip_unchanged: bool,
        progress: &mut dyn FnMut(Imported),
    ) -> Result<Imported>;

    /// As [`Vault::open_age_file`].
    ///
    /// # Errors
    /// As [`Vault::open_age_file`].
    fn open_age_file(&mut self, stanzas: &[Stanza]) -> Result<Option<Secret>>;

    /// A person wants to enter PINs again after one was refused.
    fn forget_pins(&mut self) {}

    /// Whether it shows only what this client was granted.
    ///
    /// # Errors
    /// The agent's.
    fn is_restricted(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Opens one token.
    ///
    /// # Errors
    /// As [`Vault::get`].
    fn open(&mut self, wanted: &TokenRef) -> Result<OpenedToken> {
        let nothing = || Error::new(Kind::NotFound, format!("open {}", wanted.name), "nothing was asked for");
        self.open_all(std::slice::from_ref(wanted)).pop().unwrap_or_else(|| Err(nothing()))
    }

    /// Opens a token; `None` if none has this name.
    ///
    /// # Errors
    /// As [`Vault::get`].
    fn open_if_there(&mut self, wanted: &TokenRef) -> Result<Option<OpenedToken>> {
        match self.open(wanted) {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Fails unless a token has this name.
    ///
    /// # Errors
    /// `NotFound`.
    fn expect(&mut self, name: &Name, operation: &str) -> Result<()> {
        match self.show(name, None, operation)?.destroyed {
            false => Ok(()),
            true => Err(Error::new(Kind::NotFound, operation, format!("there is no token `{name}`"))
                .with_hint("`strongroom list` shows the names")),
        }
    }
}

impl TokenBackend for Vault {
    /// With one login on each device, and on several sessions if that is faster.
    fn open_all(&mut self, wanted: &[TokenRef]) -> Vec<Result<OpenedToken>> {
        let found = self.look_up_all(wanted);
        let sealed: Vec<_> = found.iter().flatten().cloned().collect();
        let mut opened = self.open_on_devices(&sealed).into_iter();
        let outcome =
            |(wanted, found): (&TokenRef, Result<Arc<SealedToken>>)| match found.map(|_| opened.next()) {
                Ok(Some(outcome)) => outcome,
                Ok(None) => OpenOutcome::unopened(0, Err(unanswered(&wanted.name))),
                Err(error) => OpenOutcome::unopened(wanted.version.unwrap_or(0), Err(error)),
            };
        let outcomes: Vec<OpenOutcome> = wanted.iter().zip(found).map(outcome).collect();
        let names = wanted.iter().map(|wanted| wanted.name.as_str());
        self.record(names.zip(&outcomes), OPENED);
        outcomes.into_iter().map(OpenOutcome::into_token).collect()
    }

    fn list(&mut self, filter: &ListFilter, each: &mut dyn FnMut(VersionView) -> Result<bool>) -> Result<()> {
        self.refresh()?;
        self.replica().list(filter, |token, row| each(VersionView::from_current(self, &token, row)))
    }

    fn show(&mut self, name: &Name, version: Option<u64>, operation: &str) -> Result<TokenView> {
        self.shown(name, version, operation)
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

    fn sealed(&mut self, wanted: &TokenRef, operation: &str) -> Result<Vec<u8>> {
        self.sealed_version(wanted, operation)
    }

    fn log(&mut self, order: LogOrder, each: &mut dyn FnMut(EntryView) -> Result<bool>) -> Result<()> {
        Vault::log(self, order, None, |vault, entry| each(EntryView::from_entry(vault, &entry)))
    }

    fn history(&mut self, name: &Name) -> Result<Vec<EntryView>> {
        let entries = Vault::history(self, name)?;
        Ok(entries.iter().map(|entry| EntryView::from_entry(self, entry)).collect())
    }

    fn accesses(&mut self, before: u64, limit: u32) -> Result<Vec<AccessView>> {
        let lines = Vault::accesses(self, before, limit)?;
        Ok(lines.into_iter().map(|line| AccessView::from_record(self, line)).collect())
    }

    fn grant(&mut self, on: &GrantOn, to: &Grantee, options: &GrantOptions) -> Result<GrantView> {
        Vault::grant(self, on, to, options).map(|grant| GrantView::from(&grant))
    }

    fn ungrant(&mut self, which: &Revoked) -> Result<Vec<GrantView>> {
        Ok(Vault::ungrant(self, which)?.iter().map(GrantView::from).collect())
    }

    fn grants(&mut self, on: Option<&GrantOn>) -> Result<Vec<GrantView>> {
        Ok(Vault::grants(self, on)?.iter().map(GrantView::from).collect())
    }

    fn expect(&mut self, name: &Name, operation: &str) -> Result<()> {
        self.refresh()?;
        self.token(name, operation).map(drop)
    }

    fn import(
        &mut self,
        items: &mut dyn Iterator<Item = Result<ImportItem>>,
        skip_unchanged: bool,
        progress: &mut dyn FnMut(Imported),
    ) -> Result<Imported> {
        self.import_in_batches(items, skip_unchanged, progress)
    }

    fn open_age_file(&mut self, stanzas: &[Stanza]) -> Result<Option<Secret>> {
        Vault::open_age_file(self, stanzas)
    }

    fn forget_pins(&mut self) {
        self.devices.lock();
    }
}
