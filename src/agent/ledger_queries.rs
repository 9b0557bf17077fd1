//! The thread that reads: it follows the store, checks grants, and looks tokens up. It has no device, so no device stops it.

use crate::agent::authz::{AccountIds, AgentOwner, Subject, is_granted};
use crate::agent::identity::ClientIdentity;
use crate::agent::store_file::StoreFile;
use crate::agent::token_cache::Cache;
use crate::device::KeyRef;
use crate::error::{Error, Kind, Result};
use crate::ledger::{DeviceId, LogPosition, Name, Prefix};
use crate::replica::{GrantRow, ListFilter};
use crate::seal::Stanza;
use crate::vault::{Op, SealedToken, TokenRef, Vault, VersionView, Witnessed};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::watch;

/// The reader's state, for other threads.
#[derive(Default)]
pub struct LedgerEpoch {
    /// Goes up with every change of the ledger: what was concluded before it is worth nothing any more.
    pub epoch: AtomicU64,
    /// Some grant names the digest of a program.
    pub digests: AtomicBool,
    /// Sent the epoch whenever it goes up.
    pub changed: watch::Sender<u64>,
}

/// How many tokens' sealed bytes are remembered.
const REMEMBERED: usize = 256;

/// What the thread owns.
pub struct LedgerQueries {
    /// Without devices.
    pub vault: Vault,
    /// Where the store lies.
    pub store_file: StoreFile,
    /// Whose agent it is.
    pub owner: AgentOwner,
    /// Numbers of users and groups.
    pub accounts: AccountIds,
    /// Tokens that nobody gets without confirmation.
    pub confirm: Vec<Prefix>,
    /// For everybody.
    pub epoch: Arc<LedgerEpoch>,
    /// What a change has to drop.
    pub cache: Arc<Cache>,
    /// What was told last; `None` at the start.
    pub at: Option<LogPosition>,
    /// Whether the witnesses let tokens be opened when they were looked at last.
    pub witnessed: bool,
    /// The sealed tokens that were looked up and checked since the last change, for any client that is granted them.
    pub found: FoundTokens,
}

/// Sealed tokens that were looked up. None is had without asking the witnesses anew.
#[derive(Default)]
pub struct FoundTokens(HashMap<TokenRef, Arc<AuthorizedToken>>);

impl FoundTokens {
    fn get(&self, wanted: &TokenRef, _: Witnessed) -> Option<Arc<AuthorizedToken>> {
        self.0.get(wanted).map(Arc::clone)
    }
}

/// What a client may have now.
pub struct Permit {
    /// The token.
    pub token: Arc<AuthorizedToken>,
    /// Whether a person has to agree first.
    pub confirm: bool,
}

/// A token that the caller may have, and the devices that open it.
pub struct AuthorizedToken {
    /// The token.
    pub ready: SealedToken,
    /// The epoch in which that was so.
    pub epoch: u64,
    /// The opening keys of the devices it is sealed to.
    pub keys: Vec<(DeviceId, KeyRef)>,
    /// Whether the store is anchored to any device.
    pub anchored: bool,
}

impl LedgerQueries {
    /// Follows the store, and tells everybody when it changed.
    ///
    /// # Errors
    /// The store's; `RolledBack`, `Tampered`.
    pub fn follow(&mut self) -> Result<()> {
        self.store_file.check()?;
        let followed = self.vault.refresh();
        for notice in self.vault.take_notices() {
            log::warn!("{notice}");
        }
        followed?;
        self.notice()
    }

    /// Tells everybody when the ledger is another one than it was, however that came to be known.
    ///
    /// # Errors
    /// The replica's.
    pub fn notice(&mut self) -> Result<()> {
        let now = self.vault.head().position;
        if self.at == Some(now) {
            return Ok(());
        }
        self.at = Some(now);
        let digests = self.vault.replica().any_granted_by_digest();
        self.epoch.digests.store(*digests.as_ref().unwrap_or(&true), Ordering::Release);
        let epoch = self.epoch.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        self.cache.enter(epoch);
        self.epoch.changed.send_replace(epoch);
        self.found.0.clear();
        digests.map(drop)
    }

    /// Whether the caller may do this with the token of this name, whether or not there is one.
    ///
    /// # Errors
    /// The replica's.
    pub fn may(&mut self, caller: &ClientIdentity, name: &Name, op: Op) -> Result<bool> {
        if self.owner.is_owner(&caller.peer) {
            return Ok(true);
        }
        // The same questions are put for a token that is not there: neither answer nor effort tells.
        let grants = match self.vault.replica().find(name.as_str())? {
            Some(token) => self.vault.replica().grants_reaching(&token)?,
            None => self.vault.replica().grants_covering(name.as_str())?,
        };
        Ok(self.any(caller, op, &grants))
    }

    /// Tokens that the caller may see, in the order of their names, and whether there may be more.
    ///
    /// # Errors
    /// The replica's.
    pub fn page(
        &mut self,
        caller: &ClientIdentity,
        filter: &ListFilter,
        limit: usize,
    ) -> Result<(Vec<VersionView>, bool)> {
        let mut page = Page { views: Vec::new(), limit, end: None };
        if self.owner.is_owner(&caller.peer) {
            page.add(&self.vault, filter, None)?;
            return Ok((page.views, page.end.is_some()));
        }
        // A stranger's question costs what was granted to it, not what the store holds.
        for grant in self.vault.replica().all_grants()? {
            if !self.any(caller, Op::List, std::slice::from_ref(&grant)) {
                continue;
            }
            let on = Prefix::parse(grant.path()).unwrap_or_default();
            let both = match () {
                () if filter.prefix.covers(on.as_str()) => on,
                () if grant.name.is_none() && on.covers(filter.prefix.as_str()) => filter.prefix.clone(),
                () => continue,
            };
            // A grant on one token says nothing about tokens below its name.
            page.add(&self.vault, &ListFilter { prefix: both, ..filter.clone() }, grant.name.as_deref())?;
        }
        Ok((page.views, page.end.is_some()))
    }

    fn any(&mut self, caller: &ClientIdentity, op: Op, grants: &[GrantRow]) -> bool {
        let asker = Subject { peer: &caller.peer, digest: caller.digest };
        is_granted(self.owner, &asker, op, self.vault.latest_time(), grants, &mut self.accounts)
    }

    /// A token for its opening, if the ledger lets it open; `None` when the caller may not have it.
    ///
    /// # Errors
    /// `Refused`, `NotFound`; the store's.
    pub fn authorize(&mut self, caller: &ClientIdentity, wanted: &TokenRef) -> Result<Option<Permit>> {
        self.follow()?;
        let freely = self.may(caller, &wanted.name, Op::Get)?;
        if !freely && !self.may(caller, &wanted.name, Op::GetConfirmed)? {
            return Ok(None);
        }
        self.permit(wanted, freely).map(Some)
    }

    fn permit(&mut self, wanted: &TokenRef, freely: bool) -> Result<Permit> {
        let confirm = !freely || self.confirm.iter().any(|on| on.covers(wanted.name.as_str()));
        Ok(Permit { token: self.granted(wanted)?, confirm })
    }

    fn granted(&mut self, wanted: &TokenRef) -> Result<Arc<AuthorizedToken>> {
        let witnessed = self.check_witnesses(&wanted.operation())?;
        if let Some(found) = self.found.get(wanted, witnessed) {
            return Ok(found);
        }
        // Where a change just destroyed it, this hears of the change.
        let ready = self.vault.look_up_witnessed(wanted, witnessed);
        self.notice()?;
        let granted = Arc::new(self.with_keys(ready?)?);
        if granted.ready.is_worth_remembering() && self.found.0.len() < REMEMBERED {
            self.found.0.insert(wanted.clone(), Arc::clone(&granted));
        }
        Ok(granted)
    }

    /// An age file's stanzas as something to open, and whether a person has to agree first.
    ///
    /// # Errors
    /// As [`Vault::age_file`].
    pub fn age_file(&mut self, stanzas: &[Stanza]) -> Result<Option<(AuthorizedToken, bool)>> {
        self.follow()?;
        let Some(ready) = self.vault.age_file(stanzas)? else { return Ok(None) };
        Ok(Some((self.with_keys(ready)?, !self.confirm.is_empty())))
    }

    fn with_keys(&self, ready: SealedToken) -> Result<AuthorizedToken> {
        let mut keys = Vec::new();
        for id in ready.recipients() {
            keys.extend(self.vault.opener(id)?.map(|key| (*id, key)));
        }
        let anchored = self.vault.replica().is_anchored()?;
        let epoch = self.epoch.epoch.load(Ordering::Acquire);
        Ok(AuthorizedToken { ready, epoch, keys, anchored })
    }

    /// What a unit of the system means by an id, and whether the ledger lets that open; `None` when it means nothing that
    /// was granted to it.
    ///
    /// # Errors
    /// As [`LedgerQueries::authorize`].
    pub fn credential(&mut self, unit: &str, id: &str) -> Result<Option<(TokenRef, Result<Permit>)>> {
        self.follow()?;
        let named = self.credential_name(unit, id)?;
        Ok(named.map(|(wanted, freely)| {
            let permit = self.permit(&wanted, freely);
            (wanted, permit)
        }))
    }

    /// The token that this unit means by this id: the only one that was granted to it under that id, or by that name. And
    /// whether it gets that without confirmation.
    fn credential_name(&mut self, unit: &str, id: &str) -> Result<Option<(TokenRef, bool)>> {
        let operation = format!("hand out the credential {id} to {unit}");
        let now = self.vault.latest_time();
        let mut grants = self.vault.replica().grants_to(&format!("unit:{unit}"))?;
        let allows = |grant: &GrantRow, op: Op| grant.ops.contains(&op.to_string());
        let gets = |grant: &GrantRow| allows(grant, Op::Get) || allows(grant, Op::GetConfirmed);
        grants.retain(|grant| gets(grant) && grant.until.is_none_or(|until| now < until));
        let has_id = |grant: &&GrantRow| grant.alias.as_deref() == Some(id);
        let mut names: Vec<&str> = grants.iter().filter(has_id).filter_map(|g| g.name.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        let name = match names.as_slice() {
            [name] => (*name).to_owned(),
            [] if grants.iter().any(|grant| covers(grant, id)) => id.to_owned(),
            [] => return Ok(None),
            _ => {
                return Err(Error::new(
                    Kind::Refused,
                    operation,
                    "several tokens were granted under that id",
                ));
            }
        };
        let freely = grants.iter().any(|grant| allows(grant, Op::Get) && reaches(grant, &name));
        Ok(Name::parse(&name).ok().map(|name| (TokenRef { name, version: None }, freely)))
    }
}

/// Whether the grant is on this token, or on a prefix of its name.
fn reaches(grant: &GrantRow, token: &str) -> bool {
    match &grant.name {
        Some(name) => name == token,
        None => Prefix::parse(grant.path()).is_ok_and(|prefix| prefix.covers(token)),
    }
}

/// Without an id of its own, a token is asked for by its name.
fn covers(grant: &GrantRow, id: &str) -> bool {
    reaches(grant, id) && (grant.name.is_none() || grant.alias.is_none())
}

/// About how many bytes of JSON a page holds at most.
const PAGE_BYTES: usize = 512 << 10;

/// Tokens, in the order of their names.
struct Page {
    views: Vec<VersionView>,
    limit: usize,
    /// The first name that has no room.
    end: Option<String>,
}

impl Page {
    /// Adds those that the filter lets through, or the only one of these. What has no room is left out at the end.
    fn add(&mut self, vault: &Vault, filter: &ListFilter, only: Option<&str>) -> Result<()> {
        let (mut count, mut bytes) = (0, 0);
        vault.replica().list(filter, |token, row| {
            let view = VersionView::from_current(vault, &token, row);
            if self.end.as_ref().is_some_and(|end| *end <= view.name) {
                return Ok(false);
            }
            if only.is_none_or(|name| name == view.name) {
                (count, bytes) = (count + 1, bytes + size(&view));
                self.views.push(view);
            }
            // One more than there is room for, to know that there is more.
            Ok(count <= self.limit
                && bytes < PAGE_BYTES
                && only.is_none_or(|name| token.name.as_str() < name))
        })?;
        self.views.sort_by(|a, b| a.name.cmp(&b.name));
        self.views.dedup_by(|a, b| a.name == b.name);
        let mut bytes = 0;
        let fits = |view: &&VersionView| {
            bytes += size(view);
            bytes < PAGE_BYTES
        };
        let room = self.views.iter().take_while(fits).count().clamp(1, self.limit);
        if let Some(first) = self.views.get(room) {
            self.end = Some(first.name.clone());
            self.views.truncate(room);
        }
        Ok(())
    }
}

/// About how many bytes of JSON it makes.
fn size(view: &VersionView) -> usize {
    let labels: usize = view.labels.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
    512 + view.name.len() + view.description.len() + view.reason.len() + labels
}
