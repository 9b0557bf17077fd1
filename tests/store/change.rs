//! Batches to append: real statements under a signature that a store does not look at.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use strongroom::error::{Error, Result};
use strongroom::ledger::body::{Repair, Retire, State, StateChange};
use strongroom::ledger::verify::StoredBatch;
use strongroom::ledger::{Body, DeviceId, Hash, LogPosition, Statement, StoreId, Subject, TokenId, sha256};
use strongroom::store::{Access, Append, Store};

/// The head of the admin subject that nobody advanced.
pub const QUIET: Hash = Hash([0xad; 32]);

pub struct Change {
    pub statements: Vec<Vec<u8>>,
    pub advances: Vec<(Vec<u8>, Hash)>,
    pub admin: Hash,
    pub directly_after: Option<u64>,
    pub sealed: Vec<(Hash, Vec<u8>)>,
    pub destroyed: Vec<Hash>,
    pub sign1: Vec<u8>,
}

/// A statement that advances `token` from `prev`.
pub fn statement(token: u64, prev: Hash) -> Statement {
    let state =
        StateChange { token: TokenId(id(token)), version: 0, state: State::Active, reason: "a test".into() };
    compose(Body::State(state), |_| prev)
}

fn id(n: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    id
}

fn compose(body: Body, head: impl Fn(&Subject) -> Hash) -> Statement {
    let head = |subject: &Subject| Ok::<_, Infallible>(head(subject));
    let Ok(statement) = Statement::compose(StoreId([7; 32]), DeviceId([1; 16]), 0, body, head);
    statement
}

/// An admin batch that retires a device on top of this head of the admin subject.
pub fn retiring(device: u64, admin: Hash, directly_after: u64) -> Change {
    let retire = Retire { device: DeviceId(id(device)), compromised: false, reason: String::new() };
    let head = |subject: &Subject| if *subject == Subject::Store { admin } else { Hash::ZERO };
    let mut change = of(&[compose(Body::Retire(retire), head)]);
    (change.admin, change.directly_after) = (admin, Some(directly_after));
    change
}

/// One batch that advances each of these tokens for the first time.
pub fn first_of(tokens: impl IntoIterator<Item = u64>) -> Change {
    advancing(tokens.into_iter().map(|token| (token, Hash::ZERO)))
}

/// One batch that advances each of these tokens from these heads.
pub fn advancing(tokens: impl IntoIterator<Item = (u64, Hash)>) -> Change {
    of(&tokens.into_iter().map(|(token, prev)| statement(token, prev)).collect::<Vec<_>>())
}

fn of(statements: &[Statement]) -> Change {
    let advances = statements.iter().flat_map(|statement| &statement.advances);
    Change {
        advances: advances.map(|(subject, prev)| (subject.encode(), *prev)).collect(),
        sign1: format!("signature over {}", statements.len()).into_bytes(),
        statements: statements.iter().map(Statement::encode).collect(),
        admin: QUIET,
        directly_after: None,
        sealed: Vec::new(),
        destroyed: Vec::new(),
    }
}

impl Change {
    pub fn append(&self, store: &mut dyn Store) -> Result<LogPosition> {
        // Without a wish of its own, a change has seen nothing, which lies on every chain.
        let n = self.directly_after.unwrap_or(0);
        let seen = LogPosition { n, chain: store.chain_at(n)?.unwrap_or(Hash([9; 32])) };
        self.append_on(store, seen)
    }

    /// As an author who had verified the store up to `seen`.
    pub fn append_on(&self, store: &mut dyn Store, seen: LogPosition) -> Result<LogPosition> {
        store.append(&self.to_append(seen))
    }

    pub fn to_append(&self, seen: LogPosition) -> Append<'_> {
        Append {
            sign1: &self.sign1,
            statements: &self.statements,
            advances: &self.advances,
            admin: (Subject::Store.encode(), self.admin),
            seen,
            directly: self.directly_after.is_some(),
            sealed: &self.sealed,
            destroyed: &self.destroyed,
        }
    }

    /// The batch as it should come back.
    pub fn stored(&self, first: u64) -> StoredBatch {
        StoredBatch { first, sign1: self.sign1.clone(), statements: self.statements.clone() }
    }

    pub fn sealing(mut self, bytes: &[u8]) -> Self {
        self.sealed.push((sha256(bytes), bytes.to_vec()));
        self
    }

    pub fn destroying(mut self, bytes: &[u8]) -> Self {
        self.destroyed.push(sha256(bytes));
        self
    }
}

/// The batch that says what was set aside after `kept`. Each advances a subject of its own.
pub fn repairing(kept: u64) -> Change {
    static REPAIRS: AtomicU64 = AtomicU64::new(1 << 40);
    let repair = Repair { kept, chain: Hash([3; 32]), reason: "a test".into() };
    let other = Hash(sha256(&REPAIRS.fetch_add(1, Ordering::Relaxed).to_be_bytes()).0);
    of(&[compose(Body::Repair(repair), |_| other)])
}

/// Sets aside what lies after `n`, by one who sees what is there now, and says so if it was a statement.
pub fn set_aside(store: &mut dyn Store, n: u64) -> Result<u64> {
    let (end, repair) = (store.tail().ok(), repairing(n));
    let kept = LogPosition { n, chain: store.chain_at(n)?.unwrap_or(Hash([9; 32])) };
    let append = (store.count_after(n)? > 0).then(|| repair.to_append(kept));
    store.quarantine_after(kept, end, append.as_ref())
}

/// A line for the access log.
pub fn access() -> Access {
    Access {
        time: 1,
        device: "ab".into(),
        uid: 0,
        pid: 1,
        exe: String::new(),
        name: "n".into(),
        version: 1,
        outcome: "opened".into(),
    }
}

/// Everything a client asks of a store.
pub fn use_it(store: &mut dyn Store) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut note = |answer: Result<(), Error>| errors.extend(answer.err());
    note(store.tail().map(drop));
    for n in [0, 1, 2, 3, u64::MAX] {
        note(store.chain_at(n).map(drop));
        note(store.batches_after(n, usize::MAX).map(drop));
        note(store.batch_of(n).map(drop));
    }
    note(store.sealed(&sha256(&[2; 300])).map(drop));
    note(store.accesses(0, 100).map(drop));
    note(store.check_accesses().map(drop));
    note(store.drop_accesses(2, &access()).map(drop));
    note(store.check_heads());
    note(store.record(&[access()]));
    note(first_of([2]).append(store).map(drop));
    note(first_of([3]).append(store).map(drop));
    errors
}
