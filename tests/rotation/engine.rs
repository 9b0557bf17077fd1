//! A store, an issuer and machines that die at any point, by chance: the invariants hold after every single write.

use proptest::prelude::*;
use std::collections::BTreeSet;
use strongroom::rotation::engine::{Accepted, MAX_CANDIDATES, Situation, Step, next};

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Staged,
    Active,
    Revoked,
    /// Revoked, and never in use.
    Dropped,
}

/// What outlives every machine: the ledger's versions (from 1), and what the issuer accepts.
#[derive(Clone, Debug)]
struct World {
    versions: Vec<State>,
    accepts: BTreeSet<u64>,
    /// Whether the issuer accepts an old version beside the one that was set.
    overlaps: bool,
    /// Versions that the issuer never takes.
    bad: BTreeSet<u64>,
}

/// What one run of one machine knows.
#[derive(Clone, Debug, Default)]
struct Machine {
    accepted: Option<(Option<u64>, Accepted)>,
    tested: Option<u64>,
    unsure: bool,
    refusals: u32,
    candidates: u32,
    started_with: u64,
}

/// How a hook's step ends: as it should, without having done anything, or done and not told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Well,
    DiesBefore,
    DiesAfter,
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Well), 1 => Just(Fate::DiesBefore), 1 => Just(Fate::DiesAfter)]
}

impl World {
    fn current(&self) -> u64 {
        let used = self.versions.iter().rposition(|state| !matches!(state, State::Staged | State::Dropped));
        used.map_or(0, |at| at as u64 + 1)
    }

    fn state(&self, version: u64) -> State {
        self.versions[version as usize - 1]
    }

    fn having(&self, state: State) -> impl Iterator<Item = u64> {
        (1..=self.versions.len() as u64).filter(move |version| self.state(*version) == state)
    }

    fn check(&self) {
        assert_eq!(self.state(self.current()), State::Active, "no version opens: {self:?}");
        let stored = |version: &u64| !matches!(self.state(*version), State::Revoked | State::Dropped);
        assert!(self.accepts.iter().any(stored), "the issuer accepts nothing that is stored: {self:?}");
    }

    fn situation(&self, machine: &Machine, forced: bool, aborting: bool) -> Situation {
        let current = self.current();
        let candidate = self.having(State::Staged).last().filter(|newest| *newest > current);
        let staged = self.having(State::Staged).filter(|version| Some(*version) != candidate).collect();
        Situation {
            current,
            candidate,
            abandoned: staged,
            outdated: self.having(State::Active).filter(|version| *version < current).collect(),
            wanted: forced && current == machine.started_with,
            overlap_is_over: true,
            aborting,
            accepted: machine.accepted.filter(|(of, _)| *of == candidate).map(|(_, accepted)| accepted),
            tested: machine.tested.is_some() && machine.tested == candidate,
            unsure: machine.unsure,
            refusals: machine.refusals,
            candidates: machine.candidates,
        }
    }

    /// One step of one machine, as the runner takes it. False when the machine died or has nothing more to do.
    fn advance(&mut self, machine: &mut Machine, now: &Situation, fate: Fate) -> bool {
        if fate == Fate::DiesBefore {
            return false;
        }
        match next(now) {
            Step::Create => {
                self.versions.push(State::Staged);
                machine.candidates += 1;
                (machine.refusals, machine.accepted) = (0, None);
            }
            Step::Probe => {
                let accepts = |version| self.accepts.contains(&version);
                let other = self.having(State::Staged).find(|version| accepts(*version));
                let accepted = Accepted {
                    current: accepts(now.current),
                    candidate: now.candidate.is_some_and(accepts),
                    other: other.filter(|other| Some(*other) != now.candidate),
                };
                machine.accepted = Some((now.candidate, accepted));
            }
            Step::Set(version) => {
                machine.unsure = true;
                machine.accepted = None;
                if self.bad.contains(&version) || version == now.current {
                    machine.refusals += 1;
                }
                if !self.bad.contains(&version) {
                    let before = self.current();
                    self.accepts.retain(|other| self.overlaps && *other == before);
                    self.accepts.insert(version);
                }
            }
            Step::Test(version) => match self.accepts.contains(&version) {
                true => machine.tested = Some(version),
                false => (machine.refusals, machine.accepted) = (machine.refusals + 1, None),
            },
            Step::Finish(version) => {
                // The ledger refuses what was revoked.
                if self.state(version) == State::Staged {
                    self.versions[version as usize - 1] = State::Active;
                }
                (machine.accepted, machine.tested) = (None, None);
            }
            Step::Retire(version) => {
                if self.accepts.len() > 1 {
                    self.accepts.remove(&version);
                }
                if fate == Fate::DiesAfter {
                    return false;
                }
                self.versions[version as usize - 1] = match self.state(version) {
                    State::Staged | State::Dropped => State::Dropped,
                    State::Active | State::Revoked => State::Revoked,
                };
            }
            Step::GiveUp | Step::Done => return false,
        }
        self.check();
        fate == Fate::Well
    }

    fn run(&mut self, fates: &[Fate], forced: bool, aborting: bool) {
        let mut machine = Machine { started_with: self.current(), ..Machine::default() };
        for fate in fates.iter().copied().chain(std::iter::repeat(Fate::Well)).take(40) {
            let now = self.situation(&machine, forced, aborting);
            if !self.advance(&mut machine, &now, fate) {
                return;
            }
        }
        panic!("it does not end: {self:?} {machine:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Machines that follow each other, each of which may die at any step, and one at last that does not.
    #[test]
    fn some_stored_version_is_accepted_whatever_dies(
        runs in prop::collection::vec((prop::collection::vec(fates(), 0..12), any::<bool>(), any::<bool>()), 0..6),
        overlaps in any::<bool>(),
        bad in prop::collection::btree_set(2u64..8, 0..3),
    ) {
        let mut world = World { versions: vec![State::Active], accepts: [1].into(), overlaps, bad };
        for (fates, forced, aborting) in runs {
            world.run(&fates, forced, aborting);
        }
        let before = world.current();
        world.bad.clear();
        world.run(&[], true, false);
        // It ends with one version in use, which the issuer accepts, and with nothing left over.
        prop_assert!(world.current() > before);
        prop_assert_eq!(world.having(State::Staged).count(), 0);
        prop_assert_eq!(world.having(State::Active).collect::<Vec<_>>(), vec![world.current()]);
        prop_assert!(world.accepts.contains(&world.current()));
    }

    /// Whatever had been reached, the version in use is accepted again.
    #[test]
    fn an_undone_rotation_leaves_the_version_in_use(fates in prop::collection::vec(fates(), 0..8), overlaps in any::<bool>()) {
        let mut world = World { versions: vec![State::Active], accepts: [1].into(), overlaps, bad: BTreeSet::new() };
        world.run(&fates, true, false);
        let current = world.current();
        world.run(&[], false, true);
        prop_assert_eq!(world.current(), current);
        prop_assert_eq!(world.having(State::Staged).count(), 0);
        prop_assert!(world.accepts.contains(&current));
    }
}

/// The same bad value is not offered for ever.
#[test]
fn after_refusals_another_value_is_made() {
    let mut world =
        World { versions: vec![State::Active], accepts: [1].into(), overlaps: false, bad: [2, 3].into() };
    world.run(&[], true, false);
    assert_eq!(world.versions, [State::Revoked, State::Dropped, State::Dropped, State::Active]);
    let mut stubborn =
        World { versions: vec![State::Active], accepts: [1].into(), overlaps: false, bad: (2..99).collect() };
    stubborn.run(&[], true, false);
    assert_eq!(stubborn.versions.len() as u32, 1 + MAX_CANDIDATES);
    assert_eq!((stubborn.current(), stubborn.accepts.contains(&1)), (1, true));
}
