//! What clients share: connections, and turns at having a request in hand. The owner has a reserve of the one and needs
//! none of the other.
//!
//! A turn lasts from the request to the last byte of its answer, so that nobody fills the queues that all share, nor the
//! memory with answers that are not read.

use crate::agent::AgentOwner;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Of four connections, all users who are not the owner may have three together, and each of them two.
const OTHERS: (usize, usize) = (3, 4);
const EACH: (usize, usize) = (1, 2);

/// Requests of all users who are not the owner, and of each of them, that are in hand at once.
const TURNS: usize = 96;
const TURNS_OF_EACH: usize = 32;

/// Users who are not the owner begin so many connections at once. All tasks take turns on one thread: a crowd that begins
/// at the same moment would keep the owner waiting until the last of it has begun.
const BEGINNING: usize = 4;

/// The clients of one agent.
pub struct Clients {
    beginning: Semaphore,
    most: usize,
    turns: Arc<Semaphore>,
    /// Notified when a connection is wanted and none is left. Then the one that has been idle longest is closed.
    wanted: Arc<Notify>,
    users: Mutex<Users>,
}

#[derive(Default)]
struct Users {
    all: usize,
    /// Of all who are not the owner.
    others: usize,
    each: HashMap<u32, User>,
}

struct User {
    connections: usize,
    turns: Arc<Semaphore>,
}

/// One connection's place among those of its user.
pub struct ConnectionSlot {
    clients: Arc<Clients>,
    uid: u32,
    owner: bool,
    turns: Arc<Semaphore>,
    turn: Mutex<Option<Turn>>,
    /// A request is in hand: how long that takes is its own affair.
    handling: AtomicBool,
}

/// Given back when it is dropped.
type Turn = (OwnedSemaphorePermit, OwnedSemaphorePermit);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clients {
    /// For so many connections.
    pub fn new(most: usize) -> Self {
        let turns = Arc::new(Semaphore::new(TURNS));
        let beginning = Semaphore::new(BEGINNING);
        Self { beginning, most, turns, wanted: Arc::default(), users: Mutex::default() }
    }

    /// A connection for this user; `None` when there is none left.
    pub fn take(self: &Arc<Self>, uid: u32, owner: AgentOwner) -> Option<ConnectionSlot> {
        let owner = owner.is_user(uid);
        let mut users = lock(&self.users);
        let own = users.each.get(&uid).map_or(0, |user| user.connections);
        let share = |(part, of): (usize, usize)| self.most * part / of;
        let room = users.all < self.most && (owner || (users.others < share(OTHERS) && own < share(EACH)));
        if !room {
            self.wanted.notify_one();
            return None;
        }
        users.all += 1;
        users.others += usize::from(!owner);
        let new = || User { connections: 0, turns: Arc::new(Semaphore::new(TURNS_OF_EACH)) };
        let user = users.each.entry(uid).or_insert_with(new);
        user.connections += 1;
        let (clients, turns) = (Arc::clone(self), Arc::clone(&user.turns));
        Some(ConnectionSlot { clients, uid, owner, turns, turn: Mutex::default(), handling: false.into() })
    }
}

impl ConnectionSlot {
    /// Whether it is the owner's.
    pub fn is_owner(&self) -> bool {
        self.owner
    }

    /// Does what is to be done at the beginning of a connection, or of its use. Others than the owner let everybody else
    /// go on before the next of them begins.
    pub async fn paced<T>(&self, begin: impl FnOnce() -> T) -> T {
        if self.owner {
            return begin();
        }
        // It is never closed.
        let _turn = self.clients.beginning.acquire().await;
        let begun = begin();
        tokio::task::yield_now().await;
        begun
    }

    /// Waits for a turn, for those who need one and have none; false when none comes in time.
    pub async fn begin(&self, patience: Duration) -> bool {
        self.handling.store(true, Ordering::Relaxed);
        if self.owner || lock(&self.turn).is_some() {
            return true;
        }
        let turn = async {
            let own = Arc::clone(&self.turns).acquire_owned().await.ok()?;
            Some((own, Arc::clone(&self.clients.turns).acquire_owned().await.ok()?))
        };
        let turn = tokio::time::timeout(patience, turn).await.ok().flatten();
        let begun = turn.is_some();
        *lock(&self.turn) = turn;
        begun
    }

    /// There is an answer. The turn goes on until it is sent.
    pub fn answered(&self) {
        self.handling.store(false, Ordering::Relaxed);
    }

    /// Whether a request is in hand.
    pub fn is_handling(&self) -> bool {
        self.handling.load(Ordering::Relaxed)
    }

    /// Everything there was to send has been sent.
    pub fn sent(&self) {
        if !self.is_handling() {
            *lock(&self.turn) = None;
        }
    }

    /// Comes back when somebody else wants the connection, and this one asks for nothing.
    pub async fn reaped(&self) {
        loop {
            match self.owner {
                true => std::future::pending().await,
                false => self.clients.wanted.notified().await,
            }
            if !self.is_handling() && lock(&self.turn).is_none() {
                return;
            }
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut users = lock(&self.clients.users);
        users.all -= 1;
        users.others -= usize::from(!self.owner);
        if let Some(user) = users.each.get_mut(&self.uid) {
            user.connections -= 1;
            if user.connections == 0 {
                users.each.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_leave_a_reserve_to_the_owner_and_a_user_to_other_users() {
        let clients = Arc::new(Clients::new(8));
        let take = |uid| clients.take(uid, AgentOwner::User(1));
        let one: Vec<_> = std::iter::from_fn(|| take(2)).collect();
        let two: Vec<_> = std::iter::from_fn(|| take(3)).collect();
        let own: Vec<_> = std::iter::from_fn(|| take(1)).collect();
        assert_eq!((one.len(), two.len(), own.len()), (4, 2, 2));
        drop((one, own));
        assert!(take(2).is_some() && take(1).is_some());
    }

    #[test]
    fn a_turn_lasts_until_the_answer_is_sent() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let clients = Arc::new(Clients::new(1000));
        let slot = || clients.take(2, AgentOwner::User(1)).unwrap();
        let begins = |slot: &ConnectionSlot| runtime.block_on(slot.begin(Duration::from_millis(20)));
        let held: Vec<_> = (0..TURNS_OF_EACH).map(|_| slot()).collect();
        assert!(held.iter().all(begins));
        let next = slot();
        assert!(!begins(&next));
        held[0].answered();
        assert!(!begins(&next), "its answer is not sent yet");
        held[0].sent();
        assert!(begins(&next));
        held[1].sent();
        assert!(!begins(&slot()), "there is no answer yet");
    }
}
