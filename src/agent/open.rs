//! Opening a token for somebody: granted, looked up, opened by a device, still granted, written down, handed out.

use super::Agent;
use super::may::denied;
use super::reader::{Caller, Granted, tried};
use crate::error::{Error, Kind, Result};
use crate::ledger::DeviceId;
use crate::secret::Secret;
use crate::store::Access;
use crate::vault::{Op, TokenRef, outcome};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What came of it, for the access log.
pub struct Opening {
    /// The version it came to; 0 for none.
    pub version: u64,
    /// The device that opened it, or was to.
    pub device: Option<DeviceId>,
    /// The caller was not granted it.
    pub denied: bool,
    /// The token.
    pub token: Result<Secret>,
}

impl Agent {
    /// Opens a token for a caller, and writes down what came of it before it is handed out.
    ///
    /// # Errors
    /// `Refused` without a grant; else as [`crate::Vault::get`].
    pub async fn open(&self, caller: &Caller, wanted: &TokenRef) -> Result<Secret> {
        let deadline = Instant::now() + self.deadline;
        let opening = self.try_open(caller, wanted, deadline).await;
        self.count(&opening);
        let access = self.access(caller, wanted.name.as_str(), &opening);
        log::info!(
            "outcome=\"{}\" token={}@{} uid={} pid={} program=\"{}\"",
            access.outcome,
            access.name,
            access.version,
            access.uid,
            access.pid,
            access.exe
        );
        match opening.token.is_ok() && opening.device.is_none() {
            true => self.recorder.record_soon(access).await,
            false => self.recorder.record(access, opening.denied).await,
        }
        opening.token
    }

    /// Counts what came of an opening.
    pub fn count(&self, opening: &Opening) {
        match (&opening.token, opening.denied) {
            // A kept token was counted where it was found.
            (Ok(_), _) if opening.device.is_none() => {}
            (Ok(_), _) => self.metrics.opened.add(),
            (Err(_), true) => self.metrics.denied.add(),
            (Err(_), false) => self.metrics.failed.add(),
        }
    }

    /// A line of the access log.
    pub fn access(&self, caller: &Caller, name: &str, opening: &Opening) -> Access {
        let outcome = match &opening.token {
            Ok(_) => "opened",
            Err(_) if opening.denied => "denied",
            Err(error) => outcome(error.kind()),
        };
        Access {
            time: (self.clock)(),
            device: opening.device.map(|id| id.to_string()).unwrap_or_default(),
            uid: caller.peer.uid,
            pid: caller.peer.pid,
            exe: caller.peer.program(),
            name: name.into(),
            version: opening.version,
            outcome: outcome.into(),
        }
    }

    /// Writes down that something other than an opening was denied.
    pub fn note_denial(&self, caller: &Caller, name: &str, tried: &str) -> Error {
        self.metrics.denied.add();
        let error = denied(tried);
        let opening = Opening { version: 0, device: None, denied: true, token: Err(denied(tried)) };
        self.recorder.note_denial(self.access(caller, name, &opening));
        error
    }

    async fn try_open(&self, caller: &Caller, wanted: &TokenRef, deadline: Instant) -> Opening {
        let epoch = self.seen.epoch.load(Ordering::Acquire);
        if let Some((token, version)) = self.cache.find_granted(epoch, caller.peer.serial, wanted) {
            self.metrics.cached.add();
            return Opening { version, device: None, denied: false, token: Ok(token) };
        }
        let failed = |error| Opening { version: 0, device: None, denied: false, token: Err(error) };
        let granted = match self.look_up(caller, wanted, deadline).await {
            Ok(Some(granted)) => granted,
            Ok(None) => return Opening { denied: true, ..failed(denied(tried(wanted))) },
            Err(error) => return failed(error),
        };
        if let Some(token) = self.cache.find(granted.epoch, wanted) {
            self.metrics.cached.add();
            let version = granted.ready.version();
            self.cache.grant(granted.epoch, caller.peer.serial, wanted, version);
            return Opening { version, device: None, denied: false, token: Ok(token) };
        }
        let mut opening = self.open_granted(&granted, &caller.peer.introduction(), wanted, deadline).await;
        if opening.token.is_ok() && self.seen.epoch.load(Ordering::Acquire) != granted.epoch {
            // The ledger changed while the device was busy: what was granted and open may not be any more.
            match self.look_up(caller, wanted, deadline).await {
                Ok(Some(now)) if now.ready.identity() == granted.ready.identity() => {}
                Ok(Some(_)) => {
                    opening.token = Err(Error::new(Kind::Conflict, tried(wanted), "a new version was put"))
                }
                Ok(None) => (opening.denied, opening.token) = (true, Err(denied(tried(wanted)))),
                Err(error) => opening.token = Err(error),
            }
        }
        if let Ok(token) = &opening.token {
            self.cache.keep(granted.epoch, wanted, granted.ready.keep(), token);
        }
        opening
    }

    async fn look_up(
        &self,
        caller: &Caller,
        wanted: &TokenRef,
        deadline: Instant,
    ) -> Result<Option<Arc<Granted>>> {
        let mut caller = caller.clone();
        loop {
            let (who, asked) = (caller.clone(), wanted.clone());
            let looked = self.reader.ask(deadline, move |reader| reader.look_up(&who, &asked)).await;
            let looked = looked.map_err(|trouble| trouble.told(&tried(wanted), "the store"))??;
            if looked.is_some() {
                return Ok(looked);
            }
            let Some(better) = self.better_known(&caller, deadline).await else { return Ok(None) };
            caller = better;
        }
    }

    /// The caller with the digest of its program, where that was just found to matter.
    async fn better_known(&self, caller: &Caller, deadline: Instant) -> Option<Caller> {
        let unknown = caller.digest.is_none() && self.seen.digests.load(Ordering::Acquire);
        let better = if unknown { Some(self.with_digest(caller, deadline).await) } else { None };
        better.filter(|better| better.digest.is_some())
    }

    /// Opens a token on the first device that can.
    pub async fn open_granted(
        &self,
        granted: &Arc<Granted>,
        program: &str,
        wanted: &TokenRef,
        deadline: Instant,
    ) -> Opening {
        let mut opening = Opening {
            version: granted.ready.version(),
            device: None,
            denied: false,
            token: Err(self.nobody_opens(&tried(wanted))),
        };
        if let Err(error) = self.check_counters(granted, wanted, deadline).await {
            opening.token = Err(error);
            return opening;
        }
        let what = format!("{program} asks for {}", wanted.name);
        let mut first = true;
        let here = self.stations.iter().filter_map(|station| {
            let id = station.id()?;
            granted.keys.iter().find(|(own, _)| *own == id).map(|(id, key)| (station, id, key))
        });
        let here: Vec<_> = here.collect();
        for (i, (station, id, key)) in here.iter().enumerate() {
            // One that hangs leaves time for the next.
            let left = u32::try_from(here.len() - i).unwrap_or(u32::MAX);
            let deadline = Instant::now() + deadline.saturating_duration_since(Instant::now()) / left;
            let asked = match station.check(&tried(wanted)) {
                Ok(()) => station.open(granted, key, &what, deadline).await,
                Err(error) => Err(error),
            };
            // The first device's failure is the one to tell, unless another opens.
            if asked.is_ok() || first {
                (opening.device, opening.token, first) = (Some(**id), asked, false);
            }
            if opening.token.is_ok() {
                break;
            }
        }
        opening
    }

    /// An error for a store that was set back, where a device here has a counter that tells. Asked when the store changed.
    async fn check_counters(&self, granted: &Granted, wanted: &TokenRef, deadline: Instant) -> Result<()> {
        if !granted.anchored || self.counted.load(Ordering::Acquire) == granted.epoch {
            return Ok(());
        }
        let what = tried(wanted);
        let checked = self.writer.ask(deadline, move |vault| vault.check_counters(&what)).await;
        checked.map_err(|trouble| trouble.told(&tried(wanted), "the store"))??;
        self.counted.store(granted.epoch, Ordering::Release);
        Ok(())
    }

    fn nobody_opens(&self, tried: &str) -> Error {
        let unknown = self.stations.iter().find(|station| station.id().is_none());
        match unknown.map(|station| (&station.name, station.condition())) {
            Some((name, (condition, why))) => {
                Error::new(Kind::DeviceGone, tried, format!("{}: {why}", condition.word())).with_target(name)
            }
            None => Error::new(
                Kind::NotFound,
                tried,
                "none of the devices that it is sealed to is configured here",
            ),
        }
    }

    /// An error unless the caller may do this with the token of this name. What is denied is written down.
    ///
    /// # Errors
    /// `Refused`, the same for tokens that are there and that are not.
    pub async fn check(
        &self,
        caller: &Caller,
        name: &crate::ledger::Name,
        op: Op,
        tried: &str,
    ) -> Result<()> {
        let (mut caller, deadline) = (caller.clone(), Instant::now() + self.deadline);
        loop {
            let (who, asked) = (caller.clone(), name.clone());
            let may = self.reader.ask(deadline, move |reader| {
                reader.follow()?;
                reader.may(&who, &asked, op)
            });
            if may.await.map_err(|trouble| trouble.told(tried, "the store"))?? {
                return Ok(());
            }
            match self.better_known(&caller, deadline).await {
                Some(better) => caller = better,
                None => return Err(self.note_denial(&caller, name.as_str(), tried)),
            }
        }
    }
}
