//! What the page shows, gathered from the verified replica and the access log.

use std::collections::BTreeMap;
use strongroom::device::EvidenceLevel;
use strongroom::ledger::body::Role;
use strongroom::replica::{DeviceRow, ListFilter};
use strongroom::vault::{
    AccessView, EffectiveState, GrantView, OPENED, TokenBackend, VersionView, counted, is_failure,
    outcome_word,
};
use strongroom::{Result, Vault};

/// A day in milliseconds.
pub const DAY: u64 = 24 * 3600 * 1000;

/// What expires within this time is told.
const SOON: u64 = 14 * DAY;

/// How many lines of the access log are read at once.
const PAGE: u32 = 500;

/// How many accesses that came to nothing are listed.
const FAILURES: usize = 50;

/// Everything on the page.
pub struct Data {
    /// Where the store is.
    pub location: String,
    /// The trust anchor.
    pub line: String,
    /// When (ms).
    pub now: u64,
    /// What somebody should look at.
    pub findings: Vec<Finding>,
    /// How many statements were verified.
    pub statements: u64,
    /// The current version of each token, by name.
    pub tokens: Vec<VersionView>,
    /// Active devices first.
    pub devices: Vec<DeviceRow>,
    /// Oldest first.
    pub grants: Vec<GrantView>,
    /// Accesses.
    pub accesses: Accesses,
}

/// What somebody should look at.
pub struct Finding {
    /// Whether something is wrong; otherwise it may become so.
    pub grave: bool,
    /// In words.
    pub what: String,
}

/// The access log of some days.
#[derive(Default)]
pub struct Accesses {
    /// For each day, oldest first: its first millisecond, how many tokens were opened, how often none was.
    pub days: Vec<(u64, u64, u64)>,
    /// How often each token was opened.
    pub by_token: BTreeMap<String, u64>,
    /// The newest that came to nothing.
    pub failures: Vec<AccessView>,
}

/// Verifies the store, and gathers what there is.
///
/// # Errors
/// The vault's.
pub fn gather(
    vault: &mut Vault,
    days: u32,
    progress: &mut dyn FnMut(&'static str, u64, u64),
) -> Result<Data> {
    let report = vault.verify(progress)?;
    let now = vault.latest_time();
    let mut tokens = Vec::new();
    TokenBackend::list(vault, &ListFilter::default(), &mut |view| {
        tokens.push(view);
        Ok(true)
    })?;
    let mut devices = vault.replica().devices()?;
    devices.sort_by_key(|device| (device.retired.is_some(), device.n));
    let grants = TokenBackend::grants(vault, None)?;
    let accesses = accesses(vault, now, days)?;
    let mut findings: Vec<Finding> = report
        .problems
        .iter()
        .map(|problem| Finding { grave: true, what: format!("{}: {}", problem.place, problem.what) })
        .collect();
    findings.extend(about_tokens(&tokens, now));
    findings.extend(about_devices(&devices));
    let (location, line) = (vault.location().to_owned(), vault.head().to_string());
    Ok(Data {
        location,
        line,
        now,
        findings,
        statements: report.statements,
        tokens,
        devices,
        grants,
        accesses,
    })
}

/// Whether a token may still open.
pub fn is_live(token: &VersionView) -> bool {
    !matches!(token.state, EffectiveState::Revoked | EffectiveState::Destroyed)
}

fn about_tokens(tokens: &[VersionView], now: u64) -> Vec<Finding> {
    let count = |fits: &dyn Fn(&VersionView) -> bool| {
        tokens.iter().filter(|token| is_live(token) && fits(token)).count() as u64
    };
    let tokens = |n| counted(n, "token", "tokens");
    [
        (true, count(&|token| token.state == EffectiveState::Expired), "expired"),
        (true, count(&|token| token.rotation_due.is_some_and(|due| due <= now)), "due for rotation"),
        (
            false,
            count(&|token| token.expires.is_some_and(|at| at > now && at - now < SOON)),
            "about to expire within 14 days",
        ),
        (
            false,
            count(&|token| token.recipients.len() as u64 <= token.threshold),
            "that would be lost with one device",
        ),
    ]
    .into_iter()
    .filter(|(_, n, _)| *n > 0)
    .map(|(grave, n, what)| Finding { grave, what: format!("{} {what}", tokens(n)) })
    .collect()
}

fn about_devices(devices: &[DeviceRow]) -> Vec<Finding> {
    let active = || devices.iter().filter(|device| device.retired.is_none());
    let mut findings = Vec::new();
    let simulated = active().filter(|device| level(device) == EvidenceLevel::Simulator).count() as u64;
    if simulated > 0 {
        let what =
            format!("{}: their keys are protected by nothing", counted(simulated, "simulator", "simulators"));
        findings.push(Finding { grave: true, what });
    }
    if active().filter(|device| device.roles.contains(&Role::Admin)).count() < 2 {
        let what = "one device alone may change devices: if it is lost, no other can be enrolled".into();
        findings.push(Finding { grave: false, what });
    }
    findings
}

/// The weaker evidence of a device's two keys.
pub fn level(device: &DeviceRow) -> EvidenceLevel {
    device.enrolment.opening.evidence.level.min(device.enrolment.signing.evidence.level)
}

fn accesses(vault: &mut Vault, now: u64, days: u32) -> Result<Accesses> {
    let today = now - now % DAY;
    let first = today.saturating_sub(u64::from(days - 1) * DAY);
    let mut found = Accesses {
        days: (0..u64::from(days)).map(|day| (first + day * DAY, 0, 0)).collect(),
        ..Accesses::default()
    };
    let mut before = 0;
    loop {
        let page = TokenBackend::accesses(vault, before, PAGE)?;
        let Some(last) = page.last() else { return Ok(found) };
        before = last.n;
        let older = page.iter().all(|line| line.time.is_none_or(|time| time < first));
        page.into_iter().for_each(|line| found.count(line, first));
        // Lines come about in the order of their times, which are the readers' word.
        if older || before <= 1 {
            return Ok(found);
        }
    }
}

impl Accesses {
    fn count(&mut self, line: AccessView, first: u64) {
        let Some(since) = line.time.and_then(|time| time.checked_sub(first)) else { return };
        let Some(day) = usize::try_from(since / DAY).ok().and_then(|day| self.days.get_mut(day)) else {
            return;
        };
        if is_failure(&line.outcome) {
            day.2 += 1;
            if self.failures.len() < FAILURES {
                self.failures.push(line);
            }
        } else if outcome_word(&line.outcome) == OPENED {
            day.1 += 1;
            *self.by_token.entry(line.name).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_devices_opened_is_opened_and_resealing_is_neither() {
        let mut accesses = Accesses { days: vec![(0, 0, 0)], ..Accesses::default() };
        let outcomes = [
            "opened",
            "opened with safe",
            "resealed",
            "resealed with safe",
            "dropped 9 lines",
            "denied 2 more times",
        ];
        for outcome in outcomes {
            let line = AccessView {
                n: 1,
                time: Some(1),
                name: "prod/db".into(),
                version: Some(1),
                outcome: outcome.into(),
                uid: 0,
                pid: 1,
                exe: String::new(),
                device: String::new(),
            };
            accesses.count(line, 0);
        }
        assert_eq!(accesses.days, [(0, 2, 1)]);
        assert_eq!(accesses.by_token["prod/db"], 2);
        assert_eq!(accesses.failures.len(), 1);
    }
}
