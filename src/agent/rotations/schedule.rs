//! When which token is tried: after some jitter, one at a time for each hook, and after a failure later and later.

use crate::config::RotationSettings;
use crate::ledger::sha256;
use crate::vault::{RotationNeed, RotationView};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What is known of tokens that are due. Kept in memory only: whoever starts anew tries at once.
pub struct Schedule {
    settings: RotationSettings,
    /// Differs from machine to machine.
    seed: String,
    waiting: BTreeMap<String, Waiting>,
    counts: DueCounts,
}

/// A token that is not tried for a while.
struct Waiting {
    until: Instant,
    failures: u32,
    why: Option<String>,
}

/// How many tokens this agent has to rotate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DueCounts {
    /// Due now.
    pub due: usize,
    /// Due for so long that they should be done.
    pub overdue: usize,
    /// Whose last attempt failed.
    pub failing: usize,
}

impl Schedule {
    pub fn new(settings: RotationSettings, seed: String) -> Self {
        Self { settings, seed, waiting: BTreeMap::new(), counts: DueCounts::default() }
    }

    /// The token to try now for each hook that is not busy, of those that are due at `now` (ms since 1970).
    pub fn next(
        &mut self,
        due: &[RotationView],
        busy: &BTreeSet<String>,
        now: u64,
        at: Instant,
    ) -> Vec<RotationView> {
        self.waiting.retain(|name, _| due.iter().any(|view| view.name == *name));
        let slack = self.settings.jitter() + 2 * self.settings.every();
        let late = |view: &&RotationView| view.due.is_some_and(|due| due.saturating_add(millis(slack)) < now);
        self.counts = DueCounts {
            due: due.len(),
            overdue: due.iter().filter(late).count(),
            failing: self.waiting.values().filter(|waiting| waiting.failures > 0).count(),
        };
        let mut taken = busy.clone();
        let ready = |view: &&RotationView| {
            let waits = self.waiting.get(&view.name).is_some_and(|waiting| waiting.until > at);
            !waits && self.begins(view) <= now && taken.insert(view.hook.clone())
        };
        due.iter().filter(ready).cloned().collect()
    }

    /// When it is tried first (ms since 1970). What was begun is finished at once.
    fn begins(&self, view: &RotationView) -> u64 {
        let due = view.due.unwrap_or(0);
        match view.need {
            RotationNeed::Finish => due,
            RotationNeed::Rotate | RotationNeed::Retire => due
                .saturating_add(self.share(millis(self.settings.jitter()), &format!("{} {due}", view.name))),
        }
    }

    /// A part of a time, by chance, and the same whenever this machine asks again.
    fn share(&self, of: u64, what: &str) -> u64 {
        let hash = sha256(format!("{} {what}", self.seed).as_bytes());
        let chance = hash.0.iter().take(8).fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        chance.checked_rem(of).unwrap_or(0)
    }

    /// It is done, or was.
    pub fn succeeded(&mut self, name: &str) {
        self.waiting.remove(name);
    }

    /// Another machine is at it.
    pub fn leave(&mut self, name: &str, at: Instant) {
        let failures = self.waiting.get(name).map_or(0, |waiting| waiting.failures);
        let until = at + self.settings.every();
        self.waiting.insert(name.into(), Waiting { until, failures, why: None });
    }

    /// It failed. How often by now, and how long it is left alone.
    pub fn failed(&mut self, name: &str, why: &str, at: Instant) -> (u32, Duration) {
        let failures = self.waiting.get(name).map_or(0, |waiting| waiting.failures).saturating_add(1);
        let (least, most) = (self.settings.every(), self.settings.retry_max());
        let wait = least.saturating_mul(1 << (failures - 1).min(20)).min(most);
        // So that what failed together is not tried together.
        let wait = wait + Duration::from_millis(self.share(millis(wait) / 8, &format!("{name} {failures}")));
        let why = Some(why.to_owned());
        self.waiting.insert(name.into(), Waiting { until: at + wait, failures, why });
        (failures, wait)
    }

    /// How many tokens are due, as of the last look.
    pub fn counts(&self) -> DueCounts {
        self.counts
    }

    /// What failed, and why.
    pub fn failures(&self) -> Vec<String> {
        self.waiting.values().filter_map(|waiting| waiting.why.clone()).collect()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Period;

    const SECOND: Duration = Duration::from_secs(1);

    fn schedule(jitter: u64) -> Schedule {
        let settings = RotationSettings {
            every: Some(Period(SECOND)),
            jitter: Some(Period(Duration::from_secs(jitter))),
            retry_max: Some(Period(10 * SECOND)),
            notify: Vec::new(),
        };
        Schedule::new(settings, "machine".into())
    }

    fn view(name: &str, hook: &str, need: RotationNeed) -> RotationView {
        let (hook, policy) = (hook.into(), name.into());
        RotationView { name: name.into(), version: 1, need, due: Some(1_000_000), hook, policy }
    }

    fn names(views: &[RotationView]) -> Vec<&str> {
        views.iter().map(|view| view.name.as_str()).collect()
    }

    #[test]
    fn each_hook_does_one_thing_at_a_time() {
        let mut schedule = schedule(0);
        let due =
            ["a", "b", "c"].map(|name| view(name, if name == "c" { "y" } else { "x" }, RotationNeed::Rotate));
        let at = Instant::now();
        assert_eq!(names(&schedule.next(&due, &BTreeSet::new(), 1_000_000, at)), ["a", "c"]);
        let busy = BTreeSet::from(["x".to_owned()]);
        assert_eq!(names(&schedule.next(&due, &busy, 1_000_000, at)), ["c"]);
        assert_eq!(schedule.counts(), DueCounts { due: 3, overdue: 0, failing: 0 });
        schedule.next(&due, &busy, 1_003_000, at);
        assert_eq!(schedule.counts().overdue, 3);
    }

    #[test]
    fn a_failure_is_left_alone_for_longer_and_longer_and_keeps_no_other_from_its_turn() {
        let mut schedule = schedule(0);
        let due = ["a", "b"].map(|name| view(name, "x", RotationNeed::Rotate));
        let (none, mut at) = (BTreeSet::new(), Instant::now());
        let mut waits = Vec::new();
        for failures in 1..8 {
            assert_eq!(names(&schedule.next(&due, &none, 1_000_000, at)), ["a"]);
            let (count, wait) = schedule.failed("a", "no", at);
            assert_eq!(count, failures);
            waits.push(wait.as_secs());
            assert_eq!(names(&schedule.next(&due, &none, 1_000_000, at + wait / 2)), ["b"]);
            at += wait;
        }
        assert!(waits.is_sorted() && waits[0] == 1 && (10..=11).contains(&waits[6]), "{waits:?}");
        assert_eq!((schedule.counts().failing, schedule.failures()), (1, vec!["no".to_owned()]));
        schedule.leave("a", at);
        assert_eq!(names(&schedule.next(&due, &none, 1_000_000, at)), ["b"]);
        schedule.succeeded("a");
        schedule.next(&due, &none, 1_000_000, at);
        assert_eq!((schedule.counts().failing, schedule.failures().len()), (0, 0));
        // What is not due any more is forgotten.
        schedule.failed("b", "no", at);
        schedule.next(&due[..1], &none, 1_000_000, at);
        assert_eq!(schedule.failures().len(), 0);
    }

    #[test]
    fn jitter_spreads_tokens_and_keeps_nothing_from_being_finished() {
        let mut schedule = schedule(1000);
        let due: Vec<_> =
            (0..100).map(|n| view(&format!("{n}"), &format!("{n}"), RotationNeed::Rotate)).collect();
        let mut count = |now| schedule.next(&due, &BTreeSet::new(), now, Instant::now()).len();
        let counts = [1_000_000, 1_250_000, 1_500_000, 2_000_000].map(&mut count);
        assert!(
            counts[0] < 5 && (10..40).contains(&counts[1]) && (30..70).contains(&counts[2]),
            "{counts:?}"
        );
        assert_eq!(counts[3], 100);
        let begun = [view("a", "x", RotationNeed::Finish)];
        assert_eq!(schedule.next(&begun, &BTreeSet::new(), 1_000_000, Instant::now()).len(), 1);
    }
}
