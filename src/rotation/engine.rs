//! The order of a rotation's steps, as a pure function of what is known: of the ledger's versions, and of what the issuer
//! was found to accept.
//!
//! A new value is stored as a staged version (*create*) before the issuer hears of it (*set*); it comes into use (*finish*)
//! only after it was used there (*test*); the version before is revoked at the issuer and then here (*retire*) when the
//! overlap is over. So whatever dies where, some version that is stored and not revoked is accepted by the issuer, and the
//! token opens. Nothing is remembered between runs but the ledger: another machine goes on by probing the issuer.

/// How often one value is offered to an issuer that refuses it, in one run.
pub const MAX_REFUSALS: u32 = 2;
/// How many values one run makes.
pub const MAX_CANDIDATES: u32 = 3;

/// What the issuer accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The version in use.
    pub current: bool,
    /// The candidate.
    pub candidate: bool,
    /// Another staged version, if neither of the two.
    pub other: Option<u64>,
}

/// What is known of a token's rotation. Versions are numbers in the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// The version in use: active, and the newest that came into use.
    pub current: u64,
    /// The newest staged version, if it is newer than that.
    pub candidate: Option<u64>,
    /// Staged versions besides the candidate.
    pub abandoned: Vec<u64>,
    /// Versions before the current one that are not revoked.
    pub outdated: Vec<u64>,
    /// Whether a new version is wanted.
    pub wanted: bool,
    /// Whether outdated versions have outlived the overlap.
    pub overlap_is_over: bool,
    /// Whether the rotation is to be undone.
    pub aborting: bool,
    /// What the issuer accepts; `None` if that is not known.
    pub accepted: Option<Accepted>,
    /// Whether the candidate was used at the issuer.
    pub tested: bool,
    /// Whether the issuer may have been given a version that is not in use.
    pub unsure: bool,
    /// How often the candidate was refused in this run, and the version in use was set again.
    pub refusals: u32,
    /// How many candidates this run has made.
    pub candidates: u32,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a new value and stage it.
    Create,
    /// Ask the issuer which versions it accepts.
    Probe,
    /// Give the issuer this version, which is stored.
    Set(u64),
    /// Use the candidate at the issuer.
    Test(u64),
    /// Make the candidate active.
    Finish(u64),
    /// Have the issuer revoke this version, then revoke it here.
    Retire(u64),
    /// The issuer refuses every value.
    GiveUp,
    /// Nothing is left to do now.
    Done,
}

/// The next step.
pub fn next(now: &Situation) -> Step {
    match now.candidate {
        Some(candidate) if !now.aborting => with_candidate(now, candidate),
        Some(candidate) => undo(now, candidate),
        None => without_candidate(now),
    }
}

fn with_candidate(now: &Situation, candidate: u64) -> Step {
    let Some(accepted) = now.accepted else { return Step::Probe };
    match accepted.candidate {
        true if now.tested => Step::Finish(candidate),
        true if now.refusals < MAX_REFUSALS => Step::Test(candidate),
        false if now.refusals < MAX_REFUSALS => Step::Set(candidate),
        // The refused one stays staged until another is in use: a setting that was slow may still arrive.
        _ if now.candidates < MAX_CANDIDATES => Step::Create,
        _ => restore(now, accepted),
    }
}

/// The version in use is accepted again before the candidate goes.
fn undo(now: &Situation, candidate: u64) -> Step {
    match now.accepted {
        None => Step::Probe,
        Some(accepted) if accepted.current => Step::Retire(candidate),
        Some(accepted) => restore(now, accepted),
    }
}

/// Has the issuer accept the version in use, before all attempts are given up.
fn restore(now: &Situation, accepted: Accepted) -> Step {
    match !accepted.current && now.refusals < 2 * MAX_REFUSALS {
        true => Step::Set(now.current),
        false => Step::GiveUp,
    }
}

fn without_candidate(now: &Situation) -> Step {
    match now.accepted {
        None if now.unsure => return Step::Probe,
        Some(accepted) if now.unsure && !accepted.current => return restore(now, accepted),
        _ => {}
    }
    if let Some(version) = now.abandoned.first() {
        return Step::Retire(*version);
    }
    match now.outdated.first() {
        // Before a new version is made, what it would push out is revoked at the issuer.
        Some(version) if now.overlap_is_over || now.wanted && !now.aborting => match now.accepted {
            None => Step::Probe,
            Some(accepted) if accepted.current => Step::Retire(*version),
            // Somebody put a value that the issuer does not know: an older one may be the only one that it accepts.
            Some(accepted) => restore(now, accepted),
        },
        _ if now.wanted && !now.aborting => Step::Create,
        _ => Step::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 2 was typed wrong: the issuer accepts version 1, which goes for nothing in the world.
    #[test]
    fn an_outdated_version_stays_until_the_issuer_accepts_the_one_in_use() {
        let now = Situation { current: 2, outdated: vec![1], wanted: true, ..Situation::default() };
        assert_eq!(next(&now), Step::Probe);
        let refused = Situation { accepted: Some(Accepted::default()), ..now.clone() };
        assert_eq!(next(&refused), Step::Set(2));
        assert_eq!(next(&Situation { refusals: 2 * MAX_REFUSALS, ..refused }), Step::GiveUp);
        let accepted = Some(Accepted { current: true, ..Accepted::default() });
        assert_eq!(next(&Situation { accepted, ..now.clone() }), Step::Retire(1));
        let over = Situation { wanted: false, overlap_is_over: true, ..now };
        assert_eq!(next(&over), Step::Probe);
    }
}
