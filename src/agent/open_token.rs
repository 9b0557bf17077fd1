//! Opens a token for a client: authorize, look up, open on a device, check the grant again, record, hand out.

use super::Agent;
use crate::agent::access_log;
use crate::agent::authz::denied;
use crate::agent::confirmation::Question;
use crate::agent::credentials::CredentialRequest;
use crate::agent::devices::DeviceHandle;
use crate::agent::identity::ClientIdentity;
use crate::agent::ledger_queries::{AuthorizedToken, LedgerQueries, Permit};
use crate::agent::worker::Worker;
use crate::device::KeyRef;
use crate::error::{Error, Kind, Result};
use crate::ledger::{DeviceId, TokenId};
use crate::seal::Opened;
use crate::store::Access;
use crate::vault::{Accessor, Denial, OPENED, Op, OpenOutcome, OpenedToken, TokenRef};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Who asks for a token.
pub enum Requester<'a> {
    /// A program.
    Client(&'a ClientIdentity),
    /// systemd, for a unit that it starts.
    Unit(&'a CredentialRequest),
}

impl Requester<'_> {
    /// Who it is, for people.
    pub(super) fn program(&self) -> String {
        match self {
            Self::Client(caller) => caller.peer.introduction(),
            Self::Unit(asked) => format!("{} as {}", asked.unit, asked.id),
        }
    }

    /// Whose questions to people are counted together.
    pub(super) fn client(&self) -> String {
        match self {
            Self::Client(caller) => format!("uid {}", caller.peer.uid),
            Self::Unit(asked) => asked.unit.clone(),
        }
    }
}

impl Agent {
    /// Opens a token for a caller, and writes down what came of it before it is handed out.
    ///
    /// # Errors
    /// `Refused` without a grant; else as [`crate::Vault::get`].
    pub async fn open(&self, caller: &ClientIdentity, wanted: &TokenRef) -> Result<OpenedToken> {
        let (deadline, locks) = (Instant::now() + self.deadline, self.cache.locks());
        let opening = self.try_open(caller, wanted, deadline, locks).await;
        self.write_down(caller, wanted.name.as_str(), &opening).await;
        self.check_unlocked(locks, &wanted.operation())?;
        opening.into_token()
    }

    /// Counts what came of an opening, and has it in the access log.
    pub(super) async fn write_down(&self, caller: &ClientIdentity, name: &str, opening: &OpenOutcome) {
        self.count(opening);
        let access = self.access(caller, name, opening);
        access_log::announce(&access, caller.peer.unit.as_ref().map(ToString::to_string).as_deref());
        match opening.token.is_ok() && opening.device.is_none() {
            true => self.access_log.record_soon(access).await,
            false => self.access_log.record(access, opening.denial.is_some()).await,
        }
    }

    /// An error when the agent was locked since. The last look before a token is handed out.
    ///
    /// # Errors
    /// `PinUnavailable`.
    pub fn check_unlocked(&self, locks: u64, operation: &str) -> Result<()> {
        match self.cache.locks() == locks {
            true => Ok(()),
            false => Err(Error::new(Kind::PinUnavailable, operation, "the agent was locked meanwhile")
                .with_hint("run `strongroom unlock`")),
        }
    }

    /// Counts what came of an opening.
    pub fn count(&self, opening: &OpenOutcome) {
        match (&opening.token, opening.denial) {
            // A kept token was counted where it was found.
            (Ok(_), _) if opening.device.is_none() => {}
            (Ok(_), _) => self.metrics.opened.add(),
            (Err(_), Some(_)) => self.metrics.denied.add(),
            (Err(_), None) => self.metrics.failed.add(),
        }
    }

    /// A line of the access log.
    pub fn access(&self, caller: &ClientIdentity, name: &str, opening: &OpenOutcome) -> Access {
        let peer = &caller.peer;
        let accessor = Accessor { uid: peer.uid, pid: peer.pid, exe: peer.program() };
        opening.access((self.clock)(), &accessor, name, OPENED)
    }

    /// Writes down that something other than an opening was denied.
    pub fn note_denial(&self, caller: &ClientIdentity, name: &str, operation: &str) -> Error {
        self.metrics.denied.add();
        let error = denied(operation);
        let opening = OpenOutcome::denied(Denial::NoGrant, denied(operation));
        self.access_log.note_denial(self.access(caller, name, &opening));
        error
    }

    async fn try_open(
        &self,
        caller: &ClientIdentity,
        wanted: &TokenRef,
        deadline: Instant,
        locks: u64,
    ) -> OpenOutcome {
        let epoch = self.epoch.epoch.load(Ordering::Acquire);
        if let Some((token, version)) = self.cache.find_granted(epoch, caller.peer.serial, wanted) {
            self.metrics.cached.add();
            return OpenOutcome::unopened(version, Ok(token));
        }
        let requester = Requester::Client(caller);
        let permit = match self.authorize(caller, wanted, deadline).await {
            Ok(Some(permit)) => permit,
            Ok(None) => return OpenOutcome::denied(Denial::NoGrant, denied(wanted.operation())),
            Err(error) => return OpenOutcome::unopened(0, Err(error)),
        };
        let deadline = match self.confirm(&requester, &permit, wanted, deadline).await {
            Ok(deadline) => deadline,
            Err(refused) => return refused,
        };
        let granted = permit.token;
        if let Some(token) = self.cache.find(granted.epoch, wanted) {
            self.metrics.cached.add();
            let version = granted.ready.version;
            if !permit.confirm {
                self.cache.grant(granted.epoch, caller.peer.serial, wanted, version);
            }
            return OpenOutcome::unopened(version, Ok(token));
        }
        let opening = self.open_granted(&requester, &granted, wanted, deadline).await;
        if let Ok(token) = &opening.token {
            self.cache.keep((granted.epoch, locks), wanted, granted.ready.keep, token);
        }
        opening
    }

    /// The thread that reads. The owner does not wait for others there.
    pub(super) fn reader_for(&self, caller: &ClientIdentity) -> Worker<LedgerQueries> {
        self.reader.ranked(self.owner.is_owner(&caller.peer))
    }

    async fn authorize(
        &self,
        caller: &ClientIdentity,
        wanted: &TokenRef,
        deadline: Instant,
    ) -> Result<Option<Permit>> {
        let mut caller = caller.clone();
        loop {
            let (who, asked) = (caller.clone(), wanted.clone());
            let reader = self.reader_for(&caller);
            let looked = reader.call(deadline, move |reader| reader.authorize(&who, &asked)).await;
            let looked = looked.map_err(|trouble| trouble.into_error(&wanted.operation(), "the store"))??;
            if looked.is_some() {
                return Ok(looked);
            }
            let Some(better) = self.with_exe_digest(&caller, deadline).await else { return Ok(None) };
            caller = better;
        }
    }

    /// The caller with the digest of its program, where that was just found to matter.
    async fn with_exe_digest(&self, caller: &ClientIdentity, deadline: Instant) -> Option<ClientIdentity> {
        let unknown = caller.digest.is_none() && self.epoch.digests.load(Ordering::Acquire);
        let better = if unknown { Some(self.with_digest(caller, deadline).await) } else { None };
        better.filter(|better| better.digest.is_some())
    }

    /// Has a person agree, if that is asked for. Returns the deadline for what follows: the time that a person takes does
    /// not count.
    ///
    /// # Errors
    /// What becomes of it instead.
    pub async fn confirm(
        &self,
        requester: &Requester<'_>,
        permit: &Permit,
        wanted: &TokenRef,
        deadline: Instant,
    ) -> Result<Instant, OpenOutcome> {
        if !permit.confirm {
            return Ok(deadline);
        }
        let (client, program, operation) = (requester.client(), requester.program(), wanted.operation());
        let token = operation.trim_start_matches("open ");
        let question = Question { client: &client, program: &program, token };
        let version = permit.token.ready.version;
        if let Err(error) = self.confirmations.ask(&operation, &question, deadline).await {
            return Err(OpenOutcome { version, ..OpenOutcome::denied(Denial::NotConfirmed, error) });
        }
        // Much may have changed while the person thought about it.
        let deadline = Instant::now() + self.deadline;
        let mut opening = OpenOutcome::unopened(version, Err(denied(&operation)));
        match self.recheck(requester, &permit.token, wanted, deadline, &mut opening).await {
            true => Ok(deadline),
            false => Err(opening),
        }
    }

    /// Opens a token on the first device that can.
    pub async fn open_granted(
        &self,
        requester: &Requester<'_>,
        granted: &Arc<AuthorizedToken>,
        wanted: &TokenRef,
        deadline: Instant,
    ) -> OpenOutcome {
        let mut opening = self.open_on_devices(requester, granted, &wanted.operation(), deadline).await;
        if opening.is_open() && self.epoch.epoch.load(Ordering::Acquire) != granted.epoch {
            // The ledger changed while the device was busy.
            self.recheck(requester, granted, wanted, deadline, &mut opening).await;
        }
        opening
    }

    /// Whether what was granted still is; if not, the outcome says what came between.
    async fn recheck(
        &self,
        requester: &Requester<'_>,
        granted: &AuthorizedToken,
        wanted: &TokenRef,
        deadline: Instant,
        opening: &mut OpenOutcome,
    ) -> bool {
        let now = match requester {
            Requester::Client(caller) => self.authorize(caller, wanted, deadline).await,
            Requester::Unit(asked) => self.credential_permit(asked, deadline).await,
        };
        match now {
            Ok(Some(now)) if now.token.ready.identity() == granted.ready.identity() => return true,
            Ok(Some(_)) => {
                let taken = "another token or version took its place";
                opening.token = Err(Error::new(Kind::Conflict, wanted.operation(), taken));
            }
            Ok(None) => {
                (opening.denial, opening.token) = (Some(Denial::NoGrant), Err(denied(wanted.operation())));
            }
            Err(error) => opening.token = Err(error),
        }
        false
    }

    pub(super) async fn open_on_devices(
        &self,
        requester: &Requester<'_>,
        granted: &Arc<AuthorizedToken>,
        operation: &str,
        deadline: Instant,
    ) -> OpenOutcome {
        let nobody = Err(self.nobody_opens(operation));
        let mut opening = OpenOutcome::unopened(granted.ready.version, nobody);
        if let Err(error) = self.check_counters(granted, operation, deadline).await {
            opening.token = Err(error);
            return opening;
        }
        let here = self.devices.iter().filter_map(|device| {
            let id = device.id()?;
            granted.keys.iter().find(|(own, _)| *own == id).map(|(id, key)| (device, id, key))
        });
        let here: Vec<_> = here.collect();
        let token = &granted.ready;
        if token.threshold > 1 && (here.len() as u64) < token.threshold {
            if self.devices.iter().all(|device| device.id().is_some()) {
                let is_here = |id: &DeviceId| here.iter().any(|(_, own, _)| *own == id);
                opening.token = Err(token.too_few_devices(is_here));
            }
            return opening;
        }
        for (i, (device, id, key)) in here.iter().enumerate() {
            // One that hangs leaves time for the next.
            let left = u32::try_from(here.len() - i).unwrap_or(u32::MAX);
            let deadline = Instant::now() + deadline.saturating_duration_since(Instant::now()) / left;
            let asked =
                self.ask_device(device, key, granted, requester, opening.shares.len(), deadline).await;
            opening.take_answer(token, **id, asked);
            if opening.is_open() {
                break;
            }
        }
        opening
    }

    /// Has one device open a token, or a share of it after others opened so many.
    async fn ask_device(
        &self,
        device: &DeviceHandle,
        key: &KeyRef,
        granted: &Arc<AuthorizedToken>,
        requester: &Requester<'_>,
        shares: usize,
        deadline: Instant,
    ) -> Result<Opened> {
        let token = &granted.ready;
        device.check(&token.operation())?;
        let first = match requester {
            Requester::Client(caller) => self.owner.is_owner(&caller.peer),
            // What a unit waits for, the machine's owner does.
            Requester::Unit(_) => true,
        };
        let what = format!("{} asks for {}", requester.program(), token.part(shares));
        let asked = device.open((granted, shares), key, &what, (deadline, first)).await;
        asked.map_err(|error| match token.threshold {
            1 => error,
            _ => error.with_context(token.part_operation(shares)),
        })
    }

    /// An error for a store that was set back, where a device here has a counter that tells. Asked when the store changed.
    async fn check_counters(
        &self,
        granted: &AuthorizedToken,
        operation: &str,
        deadline: Instant,
    ) -> Result<()> {
        if !granted.anchored || self.counters_checked.load(Ordering::Acquire) == granted.epoch {
            return Ok(());
        }
        let what = operation.to_owned();
        let checked = self.writer.call(deadline, move |vault| vault.check_counters(&what)).await;
        checked.map_err(|trouble| trouble.into_error(operation, "the store"))??;
        self.counters_checked.store(granted.epoch, Ordering::Release);
        Ok(())
    }

    fn nobody_opens(&self, operation: &str) -> Error {
        let unknown = self.devices.iter().find(|device| device.id().is_none());
        match unknown.map(|device| (&device.name, device.status())) {
            Some((name, (status, why))) => {
                Error::new(Kind::DeviceGone, operation, format!("{}: {why}", status.word())).with_target(name)
            }
            None => Error::new(
                Kind::SealedElsewhere,
                operation,
                "none of the devices that it is sealed to is configured here",
            ),
        }
    }

    /// The token of this name, if there is one; an error unless the caller may do this with it. What is denied is written
    /// down.
    ///
    /// # Errors
    /// `Refused`, the same for tokens that are there and that are not.
    pub async fn check(
        &self,
        caller: &ClientIdentity,
        name: &crate::ledger::Name,
        op: Op,
        operation: &str,
    ) -> Result<Option<TokenId>> {
        let (mut caller, deadline) = (caller.clone(), Instant::now() + self.deadline);
        loop {
            let (who, asked) = (caller.clone(), name.clone());
            let reader = self.reader_for(&caller);
            let may = reader.call(deadline, move |reader| {
                reader.follow()?;
                let token = reader.vault.replica().find(asked.as_str())?.map(|token| token.id);
                Ok::<_, Error>(reader.may(&who, &asked, op)?.then_some(token))
            });
            if let Some(token) = may.await.map_err(|trouble| trouble.into_error(operation, "the store"))?? {
                return Ok(token);
            }
            match self.with_exe_digest(&caller, deadline).await {
                Some(better) => caller = better,
                None => return Err(self.note_denial(&caller, name.as_str(), operation)),
            }
        }
    }
}
