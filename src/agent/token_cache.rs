//! Opened tokens that are kept for a while: those that the owner named, and those whose own label says so, which is signed. Off
//! for every other.
//!
//! What is kept rests on one state of the ledger: any change of it drops everything, and so do `lock` and the end of the
//! time. The memory is locked by the process that runs the agent.

use crate::ledger::{Name, Prefix};
use crate::secret::Secret;
use crate::vault::TokenRef;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most tokens that are kept at once.
const MOST: usize = 4096;

/// The most bytes that are kept at once: of locked memory.
const MOST_BYTES: usize = 64 << 20;

/// A connection that was found to be granted a kept token gets it again without another question for so long: as long as it
/// takes at most until a change by another process is noticed.
const STANDS: Duration = Duration::from_millis(500);

/// Which tokens are kept, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// The token of this name, and those below it.
    pub on: Prefix,
    /// How long after it was opened.
    pub time: Duration,
}

/// Kept tokens.
pub struct Cache {
    policies: Vec<CachePolicy>,
    /// Whether the tokens' own labels count.
    labels: bool,
    /// How often the devices were locked.
    locks: Arc<AtomicU64>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    epoch: u64,
    tokens: HashMap<TokenRef, (Instant, Secret)>,
    /// By connection: what it was granted a moment ago.
    granted: HashMap<(u64, TokenRef), (Instant, u64)>,
}

impl Cache {
    /// Keeps what these say, and with `labels` what tokens say of themselves.
    pub fn new(policies: Vec<CachePolicy>, labels: bool, locks: Arc<AtomicU64>) -> Self {
        Self { policies, labels, locks, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner's word comes first.
    fn time(&self, name: &Name, own: Option<Duration>) -> Option<Duration> {
        let covering = self.policies.iter().filter(|policy| policy.on.covers(name.as_str()));
        covering.map(|policy| policy.time).min().or(own.filter(|_| self.labels))
    }

    /// The token, if it was opened in this epoch and not too long ago.
    pub fn find(&self, epoch: u64, wanted: &TokenRef) -> Option<Secret> {
        let kept = self.kept();
        let (until, token) = kept.tokens.get(wanted).filter(|_| kept.epoch == epoch)?;
        (Instant::now() < *until).then(|| token.clone())
    }

    /// The token and its version, if this connection was granted it in this epoch, a moment ago.
    pub fn find_granted(&self, epoch: u64, serial: u64, wanted: &TokenRef) -> Option<(Secret, u64)> {
        let kept = self.kept();
        if kept.tokens.is_empty() {
            return None;
        }
        let (until, token) = kept.tokens.get(wanted).filter(|_| kept.epoch == epoch)?;
        let (stands, version) = kept.granted.get(&(serial, wanted.clone()))?;
        let now = Instant::now();
        (now < *until && now < *stands).then(|| (token.clone(), *version))
    }

    /// Remembers for a moment that this connection was granted this version.
    pub fn grant(&self, epoch: u64, serial: u64, wanted: &TokenRef, version: u64) {
        let mut kept = self.kept();
        kept.enter(epoch);
        if kept.epoch == epoch && kept.granted.len() < MOST && kept.tokens.contains_key(wanted) {
            kept.granted.insert((serial, wanted.clone()), (Instant::now() + STANDS, version));
        }
    }

    /// Keeps a token that was opened in this epoch, after so many locks, if it may be kept; `own` is what it says of itself.
    pub fn keep(&self, (epoch, locks): (u64, u64), wanted: &TokenRef, own: Option<Duration>, token: &Secret) {
        let Some(time) = self.time(&wanted.name, own) else { return };
        let mut kept = self.kept();
        kept.enter(epoch);
        if (kept.epoch, self.locks()) == (epoch, locks)
            && kept.tokens.len() < MOST
            && kept.bytes() + token.len() <= MOST_BYTES
        {
            kept.tokens.insert(wanted.clone(), (Instant::now() + time, token.clone()));
        }
    }

    /// The ledger changed: drops everything, at once.
    pub fn enter(&self, epoch: u64) {
        self.kept().enter(epoch);
    }

    /// Drops what is over.
    pub fn sweep(&self) {
        let mut kept = self.kept();
        let now = Instant::now();
        kept.tokens.retain(|_, (until, _)| now < *until);
        kept.granted.retain(|_, (until, _)| now < *until);
    }

    /// Drops everything, and does not keep what was opened before.
    pub fn lock(&self) {
        // Before what is kept is dropped: what comes later is not kept.
        self.locks.fetch_add(1, Ordering::SeqCst);
        let mut kept = self.kept();
        kept.tokens.clear();
        kept.granted.clear();
    }

    /// How often the devices were locked: what was begun before a lock is not handed out after it.
    pub fn locks(&self) -> u64 {
        self.locks.load(Ordering::SeqCst)
    }

    /// How many tokens are kept.
    pub fn len(&self) -> usize {
        self.kept().tokens.len()
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        self.tokens.values().map(|(_, token)| token.len()).sum()
    }

    fn enter(&mut self, epoch: u64) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.tokens.clear();
            self.granted.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str) -> TokenRef {
        TokenRef { name: Name::parse(name).unwrap(), version: None }
    }

    fn cache(time: Duration) -> Cache {
        Cache::new(vec![CachePolicy { on: Prefix::parse("hot").unwrap(), time }], true, Arc::default())
    }

    #[test]
    fn only_what_was_named_is_kept_and_only_while_nothing_changed() {
        let cache = cache(Duration::from_secs(100));
        let token = Secret::new(b"x".to_vec());
        cache.keep((1, 0), &wanted("hot/a"), None, &token);
        cache.keep((1, 0), &wanted("cold"), None, &token);
        assert!(cache.find(1, &wanted("hot/a")).is_some() && cache.find(1, &wanted("cold")).is_none());
        assert!(cache.find(1, &TokenRef { version: Some(1), ..wanted("hot/a") }).is_none());
        assert!(cache.find(2, &wanted("hot/a")).is_none());
        cache.enter(2);
        assert_eq!(cache.len(), 0);
        // What was opened before the change is not kept after it.
        cache.keep((1, 0), &wanted("hot/a"), None, &token);
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn what_was_opened_before_a_lock_is_not_kept_after_it() {
        let cache = cache(Duration::from_secs(100));
        cache.lock();
        cache.keep((1, 0), &wanted("hot"), None, &Secret::new(b"x".to_vec()));
        assert_eq!(cache.len(), 0);
        cache.keep((1, cache.locks()), &wanted("hot"), None, &Secret::new(b"x".to_vec()));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn so_many_bytes_are_kept_and_no_more() {
        let cache = cache(Duration::from_secs(100));
        let token = Secret::new(vec![0; 1 << 20]);
        (0..100).for_each(|n| cache.keep((1, 0), &wanted(&format!("hot/{n}")), None, &token));
        assert_eq!(cache.len(), MOST_BYTES >> 20);
    }

    #[test]
    fn a_grant_is_remembered_for_its_connection_and_its_epoch() {
        let cache = cache(Duration::from_secs(100));
        cache.keep((1, 0), &wanted("hot"), None, &Secret::new(b"x".to_vec()));
        cache.grant(1, 7, &wanted("hot"), 3);
        assert_eq!(cache.find_granted(1, 7, &wanted("hot")).map(|(_, version)| version), Some(3));
        assert!(cache.find_granted(1, 8, &wanted("hot")).is_none());
        assert!(cache.find_granted(2, 7, &wanted("hot")).is_none());
        cache.enter(2);
        assert!(cache.find_granted(1, 7, &wanted("hot")).is_none());
    }

    #[test]
    fn a_token_may_say_so_itself_unless_the_owner_says_otherwise() {
        let (token, hour) = (Secret::new(b"x".to_vec()), Some(Duration::from_secs(3600)));
        let cache = cache(Duration::ZERO);
        cache.keep((1, 0), &wanted("cold"), hour, &token);
        cache.keep((1, 0), &wanted("hot"), hour, &token);
        assert!(cache.find(1, &wanted("cold")).is_some() && cache.find(1, &wanted("hot")).is_none());
        let deaf = Cache::new(Vec::new(), false, Arc::default());
        deaf.keep((1, 0), &wanted("cold"), hour, &token);
        assert!(deaf.find(1, &wanted("cold")).is_none());
    }

    #[test]
    fn it_is_kept_for_its_time() {
        let cache = cache(Duration::ZERO);
        cache.keep((1, 0), &wanted("hot"), None, &Secret::new(b"x".to_vec()));
        assert!(cache.find(1, &wanted("hot")).is_none());
        cache.sweep();
        assert_eq!(cache.len(), 0);
    }
}
