//! A batch as it is signed and stored: composed on the verified heads, encoded, checked as its readers will.

use crate::error::{Error, Kind, Result};
use crate::ledger::body::Body;
use crate::ledger::judge::LedgerView;
use crate::ledger::verify::{Chain, Fault, StoredBatch, check_batch};
use crate::ledger::{
    DeviceId, Hash, LogPosition, MAX_BATCH, MAX_BATCH_BYTES, SignedBatch, Statement, StoreId, Subject,
};
use crate::store::{Append, Store};
use crate::vault::Vault;
use crate::vault::ledger::submit::Draft;
use std::collections::{HashMap, HashSet};

/// Encoded statements, with what the store needs beside them.
pub(crate) struct EncodedBatch {
    pub(super) statements: Vec<Statement>,
    encoded: Vec<Vec<u8>>,
    sealed: Vec<(Hash, Vec<u8>)>,
    destroyed: Vec<Hash>,
}

impl EncodedBatch {
    /// Links each body to the heads it advances, including those that earlier bodies of the draft advanced.
    pub(super) fn compose(vault: &Vault, author: DeviceId, draft: Draft) -> Result<Self> {
        let (time, mut heads) = ((vault.clock)(), HashMap::<Subject, Hash>::new());
        let mut prepared = Self {
            statements: Vec::new(),
            encoded: Vec::new(),
            sealed: draft.sealed,
            destroyed: draft.destroyed,
        };
        for body in draft.bodies {
            let statement = Statement::compose(vault.pin.store, author, time, body, |subject| {
                heads.get(subject).map_or_else(|| vault.replica.head(subject), |head| Ok(*head))
            })?;
            prepared.push(statement, &mut heads);
        }
        Ok(prepared)
    }

    /// The two statements of a store's first batch.
    pub(crate) fn genesis(
        genesis: Statement,
        enrol: impl FnOnce(StoreId, Hash) -> Statement,
    ) -> (StoreId, Self) {
        let mut prepared =
            Self { statements: Vec::new(), encoded: Vec::new(), sealed: Vec::new(), destroyed: Vec::new() };
        let hash = genesis.hash();
        prepared.push(genesis, &mut HashMap::new());
        prepared.push(enrol(StoreId(hash.0), hash), &mut HashMap::new());
        (StoreId(hash.0), prepared)
    }

    fn push(&mut self, statement: Statement, heads: &mut HashMap<Subject, Hash>) {
        let encoded = statement.encode();
        let hash = crate::ledger::leaf(&encoded);
        heads.extend(statement.advances.iter().map(|(subject, _)| (subject.clone(), hash)));
        self.encoded.push(encoded);
        self.statements.push(statement);
    }

    /// The hashes of its proposals.
    pub(super) fn proposals(&self) -> Vec<Hash> {
        let proposes = |statement: &&Statement| matches!(statement.body, Body::Propose(_));
        self.statements.iter().filter(proposes).map(Statement::hash).collect()
    }

    pub(crate) fn leaves(&self) -> Vec<Hash> {
        self.encoded.iter().map(|bytes| crate::ledger::leaf(bytes)).collect()
    }

    /// The position after the batch, if it follows `seen` directly.
    pub(crate) fn end_after(&self, seen: LogPosition) -> LogPosition {
        self.leaves().into_iter().fold(seen, LogPosition::after)
    }

    /// Whether a statement builds on another of the same batch.
    pub(super) fn builds_on_itself(&self) -> bool {
        let leaves: HashSet<Hash> = self.leaves().into_iter().collect();
        self.statements
            .iter()
            .flat_map(|statement| &statement.advances)
            .any(|(_, prev)| leaves.contains(prev))
    }

    /// The encoded subject and `prev` of every advance.
    pub(super) fn advances(&self) -> Vec<(Vec<u8>, Hash)> {
        let advances = self.statements.iter().flat_map(|statement| &statement.advances);
        advances.map(|(subject, prev)| (subject.encode(), *prev)).collect()
    }

    /// Refuses a batch that could not be read back: too large, or of another shape than the format allows.
    pub(crate) fn expect_well_formed(&self, operation: &str) -> Result<()> {
        let refused = |why: &str| Err(Error::new(Kind::Usage, operation, why));
        let bytes: usize = self.encoded.iter().map(Vec::len).sum();
        if self.encoded.len() > MAX_BATCH || bytes > MAX_BATCH_BYTES {
            return refused("it is too large for one signature: make it in parts");
        }
        for (statement, bytes) in self.statements.iter().zip(&self.encoded) {
            match Statement::decode(bytes) {
                Ok(read) if read == *statement => {}
                Ok(_) => return refused("it does not read back as it was written"),
                Err(malformed) => return refused(&format!("it would not be well formed: {}", malformed.0)),
            }
        }
        Ok(())
    }

    /// Refuses a signed batch that a reader at `chain`'s position would take for tampering.
    pub(crate) fn expect_acceptable(
        &self,
        operation: &str,
        signed: &SignedBatch,
        chain: &impl Chain,
    ) -> Result<()> {
        let (first, sign1) = (signed.batch.seen.n + 1, signed.encode());
        match check_batch(&StoredBatch { first, sign1, statements: self.encoded.clone() }, chain) {
            Ok(_) => Ok(()),
            Err(Fault::View(error)) => Err(error),
            Err(Fault::Tampering(why)) => {
                Err(Error::new(Kind::Usage, operation, format!("nobody would accept it: {why}")))
            }
        }
    }

    /// Gives `store` the batch.
    pub(crate) fn append_to(&self, store: &mut dyn Store, signed: &SignedBatch) -> Result<LogPosition> {
        self.with_append(signed, |append| store.append(append))
    }

    /// Calls `work` with the batch as a store takes it.
    pub(crate) fn with_append<T>(&self, signed: &SignedBatch, work: impl FnOnce(&Append<'_>) -> T) -> T {
        work(&Append {
            sign1: &signed.encode(),
            statements: &self.encoded,
            advances: &self.advances(),
            admin: (Subject::Store.encode(), signed.batch.admin_head),
            seen: signed.batch.seen,
            directly: self.statements.iter().any(|statement| statement.body.follows_directly()),
            sealed: &self.sealed,
            destroyed: &self.destroyed,
        })
    }
}
