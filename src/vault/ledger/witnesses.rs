//! Witnesses: whether their checkpoints agree with what was verified here, and are fresh (docs/reference/format.md,
//! section 10).
//!
//! Asked before tokens are opened, never before a change is signed: admins must be able to retire a witness that lies.

use crate::error::{Error, Kind, Result};
use crate::ledger::body::Witnesses;
use crate::ledger::checkpoint::{Freshness, Verdict};
use crate::ledger::judge::LedgerView;
use crate::ledger::verify::Chain;
use crate::ledger::{AccessHead, DeviceId, Hash, LogPosition, SignedCheckpoint};
use crate::timestamp;
use crate::vault::Vault;
use serde::{Deserialize, Serialize};

/// How a witness's checkpoint stands for this reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Fresh,
    /// It agrees with what was verified, and is older than the settings ask for.
    Old,
    /// It agrees, and its time is ahead of this machine's clock.
    Ahead,
    /// It is of a device that this machine uses itself, and does not count.
    Own,
    /// The witness has verified another history.
    Forked,
    /// The witness has verified more than the store shows.
    Withheld,
    /// There is none that could be believed, for this reason.
    Missing(&'static str),
}

impl Standing {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Old => "old",
            Self::Ahead => "ahead",
            Self::Own => "own",
            Self::Forked => "forked",
            Self::Withheld => "withheld",
            Self::Missing(_) => "missing",
        }
    }
}

/// The witnesses were asked, and let tokens be opened. Nothing becomes a [`SealedToken`](crate::vault::SealedToken) without
/// it, so that no way to open one can forget to ask.
#[derive(Clone, Copy, Debug)]
pub struct Witnessed(());

impl Witnessed {
    /// For proving that a version opens: what is opened goes nowhere.
    pub(crate) fn not_needed() -> Self {
        Self(())
    }
}

/// A witness, and its checkpoint as far as it can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The device.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// How its checkpoint stands.
    pub standing: Standing,
    /// The checkpoint's position; `None` if it is missing.
    pub n: Option<u64>,
    /// The checkpoint's time: the witness's clock, in milliseconds since 1970.
    pub time: Option<u64>,
    /// How old it is by this machine's clock, in milliseconds; 0 if its time is ahead.
    pub age: Option<u64>,
    /// The witness's own lines of the access log.
    pub(crate) accesses: AccessHead,
}

/// The same for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct WitnessView {
    /// The device's name.
    pub device: String,
    /// Its id.
    pub device_id: String,
    /// `fresh`, `old`, `ahead`, `own`, `forked`, `withheld` or `missing`.
    pub status: String,
    /// Why it is missing; else null.
    pub why: Option<String>,
    /// The checkpoint's position.
    pub n: Option<u64>,
    /// The witness's clock when it signed.
    #[serde(with = "crate::timestamp")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<String>, format = DateTime))]
    pub time: Option<u64>,
    /// How old the checkpoint is by this machine's clock.
    pub age_seconds: Option<u64>,
}

impl From<&Witness> for WitnessView {
    fn from(witness: &Witness) -> Self {
        let why = match witness.standing {
            Standing::Missing(why) => Some(why.to_owned()),
            _ => None,
        };
        Self {
            device: witness.name.clone(),
            device_id: witness.device.to_string(),
            status: witness.standing.word().into(),
            why,
            n: witness.n,
            time: witness.time,
            age_seconds: witness.age.map(|age| age / 1000),
        }
    }
}

/// A checkpoint that was judged before. The verdict holds as long as the ledger stays as it is.
pub(crate) struct Judged {
    sign1: Vec<u8>,
    at: (LogPosition, Hash),
    signed: Option<SignedCheckpoint>,
    verdict: Verdict,
}

/// What to do where the newest time in the ledger is ahead of the clock.
pub(crate) const CLOCK_HINT: &str = "set the clock right. If it is right now and was ahead before, `strongroom verify \
     --rebuild` judges the times anew; if it is behind, everything is as it should be once it is set";

const NONE_STORED: &str = "it has signed none";
const UNREADABLE: &str = "it cannot be read";

impl Vault {
    /// Refuses to open anything where a witness's checkpoint shows that the store is forked or news are withheld, or
    /// where fewer of them are fresh than the settings ask for.
    ///
    /// # Errors
    /// `Tampered` for a fork, `RolledBack` for withheld news, `Stale` for too few that are fresh; the store's.
    pub fn check_witnesses(&mut self, operation: &str) -> Result<Witnessed> {
        // The usual case costs nothing.
        if self.replica.active_witnesses()?.is_empty() {
            return Ok(Witnessed(()));
        }
        let witnesses = self.witnesses()?;
        if let Some(lying) = witnesses.iter().find(|witness| witness.standing == Standing::Forked) {
            return Err(forked(operation, lying).with_target(self.location().to_owned()));
        }
        if let Some(ahead) = witnesses.iter().find(|witness| witness.standing == Standing::Withheld) {
            let here = self.replica.position().n;
            return Err(withheld(operation, ahead, here).with_target(self.location().to_owned()));
        }
        let Some(asked) = self.replica.settings()?.witnesses else { return Ok(Witnessed(())) };
        let fresh = witnesses.iter().filter(|witness| witness.standing == Standing::Fresh).count() as u64;
        let unidentified: Vec<String> =
            self.unidentified.iter().cloned().chain(self.devices.unidentified()).collect();
        // Each of them may be one of the witnesses, which would say nothing that is not known here.
        if fresh.saturating_sub(unidentified.len() as u64) >= asked.count {
            return Ok(Witnessed(()));
        }
        let error = match self.clock_behind_ledger().filter(|_| is_any_old(&witnesses)) {
            Some(clock) => {
                Error::new(Kind::Stale, operation, format!("checkpoints are too old by the ledger: {clock}"))
                    .with_hint(CLOCK_HINT)
            }
            None => stale(operation, &witnesses, &unidentified, asked),
        };
        Err(error.with_target(self.location().to_owned()))
    }

    /// All witnesses, in the order of their enrolment. Follows the store once more where news seem to be withheld.
    ///
    /// # Errors
    /// The store's; those of [`Vault::refresh`].
    pub fn witnesses(&mut self) -> Result<Vec<Witness>> {
        let witnesses = self.judge_witnesses()?;
        if witnesses.iter().all(|witness| witness.standing != Standing::Withheld) {
            return Ok(witnesses);
        }
        // The witness may have been quicker.
        self.sync(&mut |_, _| {})?;
        self.judge_witnesses()
    }

    /// Counts a device as this machine's own, though this vault does not use it.
    pub fn disregard_witness(&mut self, device: DeviceId) {
        if !self.own_witnesses.contains(&device) {
            self.own_witnesses.push(device);
        }
    }

    /// Notes the devices of this machine that another part of the program uses and cannot tell apart: their URIs, and why.
    pub fn note_unidentified(&mut self, devices: Vec<String>) {
        self.unidentified = devices;
    }

    fn judge_witnesses(&mut self) -> Result<Vec<Witness>> {
        let (witnesses, asked) = (self.replica.active_witnesses()?, self.replica.settings()?.witnesses);
        // Only where checkpoints are counted does it matter which devices are here: learning it may take a device.
        let own = if asked.is_some() { self.own_devices()? } else { Vec::new() };
        let judged = witnesses.iter().map(|(device, name)| {
            self.judge_stored(device)?;
            Ok(self.witness(device, name, asked, own.contains(device)))
        });
        judged.collect()
    }

    fn own_devices(&mut self) -> Result<Vec<DeviceId>> {
        let (here, _) = self.devices.enrolled(&self.replica)?;
        let mut own: Vec<DeviceId> = here.into_iter().map(|row| row.id).collect();
        for id in &self.own_witnesses {
            own.push(*id);
            // It may have been renewed since.
            let row =
                self.replica.device_row(id)?.map(|row| self.replica.latest_successor(row)).transpose()?;
            own.extend(row.map(|row| row.id));
        }
        Ok(own)
    }

    /// Judges what the store holds of a device, unless that was done before.
    fn judge_stored(&mut self, device: &DeviceId) -> Result<()> {
        let sign1 = match self.store.checkpoint(device) {
            // A row that can be no checkpoint is none, or one row would stop every reader.
            Err(error) if error.kind() == Kind::Tampered => Some(Vec::new()),
            stored => stored?,
        };
        let Some(sign1) = sign1 else {
            self.judged.remove(device);
            return Ok(());
        };
        let at = (self.replica.position(), self.replica.admin_head());
        if self.judged.get(device).is_some_and(|judged| judged.sign1 == sign1 && judged.at == at) {
            return Ok(());
        }
        let signed = SignedCheckpoint::decode(&sign1).ok();
        let signed = signed.filter(|signed| signed.checkpoint.witness == *device);
        let taken = self.replica.taken_from(device)?;
        let verdict = match &signed {
            Some(signed) => signed.judge(taken, &self.replica)?,
            None => Verdict::Ignored(UNREADABLE),
        };
        if let Some(signed) = &signed
            && !matches!(verdict, Verdict::Ignored(_))
            && signed.checkpoint.position.n > taken
        {
            self.replica.take_from(device, signed.checkpoint.position.n)?;
        }
        self.judged.insert(*device, Judged { sign1, at, signed, verdict });
        Ok(())
    }

    fn witness(&self, device: &DeviceId, name: &str, asked: Option<Witnesses>, own: bool) -> Witness {
        let judged = self.judged.get(device);
        let checkpoint = judged.and_then(|judged| judged.signed.as_ref()).map(|signed| &signed.checkpoint);
        let standing = match (judged.map(|judged| judged.verdict), checkpoint) {
            (Some(Verdict::Forked), _) => Standing::Forked,
            (Some(Verdict::Withheld), _) => Standing::Withheld,
            (Some(Verdict::Agrees), _) if own => Standing::Own,
            (Some(Verdict::Agrees), Some(checkpoint)) => {
                let max_age = asked.map_or(u64::MAX, |asked| asked.max_age);
                match checkpoint.freshness((self.clock)(), self.replica.newest_time(), max_age) {
                    Freshness::Fresh => Standing::Fresh,
                    Freshness::Old => Standing::Old,
                    Freshness::Ahead => Standing::Ahead,
                }
            }
            (Some(Verdict::Ignored(why)), _) => Standing::Missing(why),
            (Some(Verdict::Agrees), None) => Standing::Missing(UNREADABLE),
            (None, _) => Standing::Missing(NONE_STORED),
        };
        let believed = checkpoint.filter(|_| !matches!(standing, Standing::Missing(_)));
        let now = (self.clock)();
        Witness {
            device: *device,
            name: name.to_owned(),
            standing,
            n: believed.map(|checkpoint| checkpoint.position.n),
            time: believed.map(|checkpoint| checkpoint.time),
            age: believed.map(|checkpoint| now.saturating_sub(checkpoint.time)),
            accesses: believed.map_or(AccessHead::EMPTY, |checkpoint| checkpoint.accesses),
        }
    }
}

impl Witness {
    /// The witness and its checkpoint, for people: `witness1 verified statement 7 at …`.
    fn words(&self) -> String {
        let (name, at) = (&self.name, self.time.map(timestamp::rfc3339_secs).unwrap_or_default());
        match self.standing {
            Standing::Missing(why) => format!("{name}: {why}"),
            Standing::Own => format!("{name} is this machine's own"),
            Standing::Ahead => format!("the clock of {name} was at {at}, ahead of this machine's"),
            Standing::Fresh => format!("{name}: fresh"),
            Standing::Old => format!("{name}: {} old", timestamp::rounded_duration(self.age.unwrap_or(0))),
            Standing::Forked | Standing::Withheld => {
                format!("{name} verified statement {} at {at}", self.n.unwrap_or(0))
            }
        }
    }
}

fn forked(operation: &str, witness: &Witness) -> Error {
    let message = format!("{}, and this store has another history there: it was forked", witness.words());
    Error::new(Kind::Tampered, operation, message).with_hint(format!(
        "nothing is opened until one history is restored: compare `strongroom head` with the machine of {0}. Where this \
         history is the right one, have that machine trust it (`strongroom trust --replace LINE`) and sign it \
         (`strongroom checkpoint --replace`). If {0} lies, an admin retires it with `strongroom device retire {0}`",
        witness.name
    ))
}

fn withheld(operation: &str, witness: &Witness, here: u64) -> Error {
    let message =
        format!("{}, and this store ends at {here}: newer statements are withheld", witness.words());
    Error::new(Kind::RolledBack, operation, message).with_hint(format!(
        "nothing is opened until they are here: restore the newest copy of the store, and find out who could write to \
         it. If they are lost for good, have the machine of {0} trust this history (`strongroom trust --replace LINE`) and \
         sign it (`strongroom checkpoint --replace`). If {0} lies, an admin retires it with `strongroom device retire {0}`",
        witness.name
    ))
}

fn is_any_old(witnesses: &[Witness]) -> bool {
    witnesses.iter().any(|witness| witness.standing == Standing::Old)
}

fn stale(operation: &str, witnesses: &[Witness], unidentified: &[String], asked: Witnesses) -> Error {
    let fresh = witnesses.iter().filter(|witness| witness.standing == Standing::Fresh).count();
    let others = witnesses.iter().filter(|witness| witness.standing != Standing::Fresh).map(Witness::words);
    let unknown = unidentified.iter().map(|device| format!("{device}, so it may be one of them"));
    let message = format!(
        "it needs {} not older than {}, and has {} ({})",
        crate::vault::counted(asked.count, "checkpoint", "checkpoints"),
        timestamp::rounded_duration(asked.max_age),
        if fresh == 0 { "none".to_owned() } else { fresh.to_string() },
        others.chain(unknown).collect::<Vec<_>>().join("; ")
    );
    let hint = match unidentified.first() {
        Some(_) if fresh as u64 >= asked.count => {
            "a witness of this same machine does not count, and such a device may be one: make it answer \
             (`strongroom device list`), or take it out of the configuration"
        }
        _ => {
            "run `strongroom checkpoint` on a witness's machine, or its agent, and check both clocks. If the witnesses \
             are gone, an admin asks for fewer: `strongroom settings --witnesses NUMBER`, or `--no-witnesses`"
        }
    };
    Error::new(Kind::Stale, operation, message).with_hint(hint)
}
