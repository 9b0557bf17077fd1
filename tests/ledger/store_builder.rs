//! A store as it comes to be: devices draft, batches land, a replica follows and says what came of each statement.

use crate::fields::{show_roles, show_subject};
use crate::soft_devices::SoftDevice;
use serde_json::{Value, json};
use std::collections::HashMap;
use strongroom::Result;
use strongroom::ledger::body::{Body, Put, Role, Seal, State};
use strongroom::ledger::judge::LedgerView;
use strongroom::ledger::verify::{Chain, StoredBatch};
use strongroom::ledger::{
    DeviceId, GrantId, Hash, LogPosition, Statement, StoreId, Subject, TokenId, sha256,
};
use strongroom::replica::{Followed, ListFilter, Replica, StorePin, TokenRow};
use test_support::memory_store::MemoryStore;

/// What every replica of these tests takes for the present.
pub const NOW: u64 = 1_900_000_000_000;

/// Statements on top of a picture, not signed yet.
#[derive(Clone)]
pub struct Draft {
    pub statements: Vec<Statement>,
    pub seen: LogPosition,
    pub admin_head: Hash,
}

/// A store, and a replica that follows it.
pub struct Chronicle {
    pub id: StoreId,
    pub store: MemoryStore,
    pub replica: Replica,
    /// What the vector says of every batch.
    pub entries: Vec<Value>,
    time: u64,
    _directory: tempfile::TempDir,
}

/// An empty replica in a directory of its own.
pub fn empty_replica(store: StoreId) -> (Replica, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (Replica::open(&directory.path().join("replica.sqlite"), store).unwrap(), directory)
}

/// Follows, knowing nothing but the store's id.
pub fn follow(replica: &mut Replica, store: &mut MemoryStore) -> Result<Followed> {
    let pin = StorePin::from_store(replica.store());
    replica.sync(store, &pin, NOW, &mut |_, _| {})
}

impl Chronicle {
    /// The first batch: genesis and the enrolment of `first`.
    pub fn begin(first: &SoftDevice, roles: &[Role]) -> Self {
        let (time, none) = (1_700_000_000_000, |_: &Subject| Ok::<_, std::convert::Infallible>(Hash::ZERO));
        let Ok(genesis) = Statement::compose(StoreId::ZERO, first.id, time, first.genesis(), none);
        let (id, head) = (StoreId(genesis.hash().0), genesis.hash());
        let heads = |subject: &Subject| -> std::result::Result<_, std::convert::Infallible> {
            Ok(if *subject == Subject::Store { head } else { Hash::ZERO })
        };
        let Ok(enrol) = Statement::compose(id, first.id, time + 1, first.enrol(roles), heads);
        let (replica, directory) = empty_replica(id);
        let store = MemoryStore::default();
        let mut chronicle =
            Self { id, store, replica, entries: Vec::new(), time: time + 1, _directory: directory };
        let draft =
            Draft { statements: vec![genesis, enrol], seen: LogPosition::START, admin_head: Hash::ZERO };
        chronicle.land("the store begins", first, &draft);
        chronicle
    }

    /// A store that was written before.
    pub fn resume(id: StoreId, batches: &[StoredBatch]) -> Self {
        let ((mut replica, directory), mut store) = (empty_replica(id), MemoryStore::of(batches));
        follow(&mut replica, &mut store).unwrap();
        let time = replica.newest_time();
        Self { id, store, replica, entries: Vec::new(), time, _directory: directory }
    }

    /// Statements of these bodies on what is verified now, each on top of the one before.
    pub fn draft(&mut self, author: &SoftDevice, bodies: impl IntoIterator<Item = Body>) -> Draft {
        let mut heads: HashMap<Subject, Hash> = HashMap::new();
        let mut statements = Vec::new();
        for body in bodies {
            self.time += 1;
            let head = |subject: &Subject| match heads.get(subject) {
                Some(head) => Ok(*head),
                None => self.replica.head(subject),
            };
            let statement = Statement::compose(self.id, author.id, self.time, body, head).unwrap();
            heads.extend(statement.advances.iter().map(|(subject, _)| (subject.clone(), statement.hash())));
            statements.push(statement);
        }
        Draft { statements, seen: self.replica.position(), admin_head: self.replica.admin_head() }
    }

    /// The time of the last statement that was composed here.
    pub fn now(&self) -> u64 {
        self.time
    }

    /// The hash of the last statement.
    pub fn last(&self) -> Hash {
        let batch = self.store.batches.last().unwrap();
        strongroom::ledger::leaf(batch.statements.last().unwrap())
    }

    /// Signs a draft as it would come next.
    pub fn signed(&self, author: &SoftDevice, draft: &Draft) -> StoredBatch {
        let first = self.replica.position().n + 1;
        author.stored(self.id, first, &draft.statements, draft.seen, draft.admin_head)
    }

    /// Puts a signed draft into the store. Answers why each statement has no effect, where it has none.
    pub fn land(&mut self, comment: &str, author: &SoftDevice, draft: &Draft) -> Vec<Option<String>> {
        let stored = self.signed(author, draft);
        self.store.batches.push(stored.clone());
        follow(&mut self.replica, &mut self.store).unwrap();
        let verdicts = verdicts(&self.replica, &stored);
        let entry = entry(&self.replica, &stored, &verdicts);
        self.entries.push(json!({ "comment": comment, "batch": show_batch(&stored), "expect": entry }));
        verdicts
    }

    /// Drafts and lands at once.
    pub fn state(
        &mut self,
        comment: &str,
        author: &SoftDevice,
        bodies: impl IntoIterator<Item = Body>,
    ) -> Vec<Option<String>> {
        let draft = self.draft(author, bodies);
        self.land(comment, author, &draft)
    }
}

/// Why each statement of a batch has no effect.
pub fn verdicts(replica: &Replica, stored: &StoredBatch) -> Vec<Option<String>> {
    let positions = stored.first..stored.first + stored.statements.len() as u64;
    positions.map(|n| replica.ineffective(n).unwrap()).collect()
}

/// Where a replica stands after a batch.
pub fn entry(replica: &Replica, stored: &StoredBatch, verdicts: &[Option<String>]) -> Value {
    let (end, hashes) =
        (replica.position(), stored.statements.iter().map(|b| strongroom::ledger::leaf(b).to_string()));
    json!({
        "hashes": hashes.collect::<Vec<_>>(),
        "ineffective": verdicts,
        "n": end.n,
        "chain": end.chain.to_string(),
        "admin_head": replica.admin_head().to_string(),
        "newest": replica.newest_time(),
    })
}

/// A stored batch as vectors show it.
pub fn show_batch(stored: &StoredBatch) -> Value {
    let statements = stored.statements.iter().map(hex::encode).collect::<Vec<_>>();
    json!({ "first": stored.first, "sign1": hex::encode(&stored.sign1), "statements": statements })
}

/// The stored batch that a vector shows.
pub fn read_batch(v: &Value) -> StoredBatch {
    StoredBatch {
        first: v["first"].as_u64().unwrap(),
        sign1: crate::fields::bytes(&v["sign1"]),
        statements: crate::fields::list(&v["statements"], crate::fields::bytes),
    }
}

/// Everything a replica believes: heads of all these subjects, devices, tokens, grants.
pub fn picture(replica: &Replica, subjects: &[Subject], grants: &[GrantId]) -> Value {
    let heads = subjects.iter().map(|s| json!([show_subject(s), replica.head(s).unwrap().to_string()]));
    let devices = replica.devices().unwrap().into_iter().map(|device| {
        json!({
            "id": device.id.to_string(), "name": device.enrolment.name, "roles": show_roles(&device.roles),
            "retired": device.retired.is_some(),
        })
    });
    let grants = grants.iter().map(|id| {
        json!([id.to_string(), replica.grant(id).unwrap().map(|target| show_subject(&target.subject()))])
    });
    let mut tokens = Vec::new();
    for destroyed in [false, true] {
        let filter = ListFilter { destroyed, ..ListFilter::default() };
        replica
            .list(&filter, |token, _| {
                tokens.push(show_token(replica, &token));
                Ok(true)
            })
            .unwrap();
    }
    json!({
        "heads": heads.collect::<Vec<_>>(), "devices": devices.collect::<Vec<_>>(), "tokens": tokens,
        "grants": grants.collect::<Vec<_>>(),
    })
}

fn show_token(replica: &Replica, token: &TokenRow) -> Value {
    let versions = replica.versions(token).unwrap().into_iter().map(|row| {
        json!({
            "version": row.version, "reason": row.reason, "threshold": row.threshold,
            "seals": row.seals.iter().map(|seal| seal.digest.to_string()).collect::<Vec<_>>(),
            "state": row.state.map_or("destroyed".into(), |state| state.to_string()),
        })
    });
    json!({
        "id": token.id.to_string(), "name": token.name, "suspended": token.suspended, "destroyed": token.destroyed,
        "versions": versions.collect::<Vec<_>>(),
    })
}

/// A put with sealed bytes of its own.
pub fn put(token: u8, name: &str, version: u64, recipients: &[&SoftDevice]) -> Put {
    let mut recipients: Vec<DeviceId> = recipients.iter().map(|device| device.id).collect();
    recipients.sort();
    Put {
        token: TokenId([token; 16]),
        name: name.into(),
        version,
        seals: vec![Seal {
            digest: sha256(format!("the sealed bytes of {token}@{version}").as_bytes()),
            length: 300,
            recipients,
        }],
        threshold: 1,
        only: false,
        state: State::Active,
        not_before: None,
        expiry: None,
        labels: Vec::new(),
        description: String::new(),
        keep: None,
    }
}
