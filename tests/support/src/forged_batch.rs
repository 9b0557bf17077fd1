//! What an attacker writes: batches of which any part may be wrong, signed with real keys.

use crate::test_store::{Actor, NOW};
use minicbor::Encoder;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use strongroom::ledger::SignatureAlgorithm;
use strongroom::ledger::body::{Put, Seal, State};
use strongroom::ledger::judge::LedgerView;
use strongroom::ledger::verify::Chain;
use strongroom::ledger::{
    Batch, Body, DeviceId, Hash, LogPosition, Statement, StoreId, Subject, TokenId, leaf, sha256,
};
use strongroom::seal::{self, Context, Recipient};
use strongroom::vault::Vault;
use strongroom::{Secret, device::PublicKey};

/// A batch before it is signed.
#[derive(Clone)]
pub struct Draft {
    /// Whose key signs.
    pub signer: Actor,
    /// The device that the header names.
    pub kid: DeviceId,
    /// The store that the batch belongs to.
    pub store: StoreId,
    /// What the batch covers.
    pub statements: Vec<Statement>,
    /// Up to where the author has verified the store.
    pub seen: LogPosition,
    /// The admin head that the author has seen.
    pub admin_head: Hash,
}

/// A batch as bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Signed {
    /// The COSE_Sign1.
    pub sign1: Vec<u8>,
    /// Each as encoded.
    pub statements: Vec<Vec<u8>>,
    /// Sealed bytes to be stored with it, by digest.
    pub sealed: Vec<(Hash, Vec<u8>)>,
}

impl Draft {
    /// What an honest author would sign on top of what `vault` verified.
    pub fn on(vault: &Vault, author: &Actor, bodies: impl IntoIterator<Item = Body>) -> Self {
        let replica = vault.replica();
        let mut heads = HashMap::<Subject, Hash>::new();
        let mut statements = Vec::new();
        for body in bodies {
            let head = |subject: &Subject| match heads.get(subject) {
                Some(head) => Ok(*head),
                None => replica.head(subject),
            };
            let statement = Statement::compose(replica.store(), author.id, NOW, body, head).unwrap();
            heads.extend(statement.advances.iter().map(|(subject, _)| (subject.clone(), statement.hash())));
            statements.push(statement);
        }
        Self {
            signer: author.clone(),
            kid: author.id,
            store: replica.store(),
            statements,
            seen: replica.position(),
            admin_head: replica.admin_head(),
        }
    }

    /// Seen as `position`.
    pub fn seeing(self, position: LogPosition) -> Self {
        Self { seen: position, ..self }
    }

    /// The statements' bytes.
    pub fn encoded(&self) -> Vec<Vec<u8>> {
        self.statements.iter().map(Statement::encode).collect()
    }

    fn batch_over(&self, statements: &[Vec<u8>]) -> Batch {
        let leaves: Vec<Hash> = statements.iter().map(|bytes| leaf(bytes)).collect();
        Batch::over(self.store, self.kid, &leaves, self.seen, self.admin_head)
    }

    /// Signs it as it is.
    pub fn sign(&self) -> Signed {
        self.sign_over(self.encoded())
    }

    /// Signs other bytes than its statements have.
    pub fn sign_over(&self, statements: Vec<Vec<u8>>) -> Signed {
        let batch = self.batch_over(&statements);
        let signature = self.signer.device.sign_digest(&batch.digest(SignatureAlgorithm::Es256));
        let sign1 = batch.sign_with(SignatureAlgorithm::Es256, &signature).unwrap().encode();
        Signed { sign1, statements, sealed: Vec::new() }
    }
}

impl Signed {
    /// With sealed bytes beside it.
    pub fn with(mut self, sealed: &[u8]) -> Self {
        self.sealed.push((sha256(sealed), sealed.to_vec()));
        self
    }
}

/// The parts of a COSE_Sign1, each as it stands in the file.
#[derive(Clone)]
pub struct Cose {
    /// The map's bytes.
    pub protected: Vec<u8>,
    /// The map's bytes.
    pub unprotected: Vec<u8>,
    /// The byte string's contents.
    pub payload: Vec<u8>,
    /// r ‖ s.
    pub signature: Vec<u8>,
}

impl Cose {
    /// Takes a canonical one apart.
    pub fn of(sign1: &[u8]) -> Self {
        let mut decoder = minicbor::Decoder::new(sign1);
        assert_eq!(decoder.array().unwrap(), Some(4));
        let protected = decoder.bytes().unwrap().to_vec();
        assert_eq!(decoder.map().unwrap(), Some(0));
        let payload = decoder.bytes().unwrap().to_vec();
        let signature = decoder.bytes().unwrap().to_vec();
        Self { protected, unprotected: vec![0xa0], payload, signature }
    }

    /// Signs what it says now.
    pub fn signed_by(self, actor: &Actor, context: &str, aad: &[u8]) -> Self {
        let mut w = Encoder::new(Vec::new());
        w.array(4).unwrap().str(context).unwrap().bytes(&self.protected).unwrap();
        w.bytes(aad).unwrap().bytes(&self.payload).unwrap();
        let signature = actor.device.sign_digest(&Sha256::digest(w.into_writer()));
        Self { signature: low_s(&signature), ..self }
    }

    /// An untagged array of the four.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Encoder::new(Vec::new());
        w.array(4).unwrap().bytes(&self.protected).unwrap();
        w.writer_mut().extend(&self.unprotected);
        w.bytes(&self.payload).unwrap().bytes(&self.signature).unwrap();
        w.into_writer()
    }
}

/// The external_aad of a batch.
pub const AAD: &[u8] = b"strongroom/batch/1";

/// The signature with its s in the lower half, which is the only one that is accepted.
pub fn low_s(signature: &[u8]) -> Vec<u8> {
    let signature = p256::ecdsa::Signature::from_slice(signature).unwrap();
    signature.normalize_s().unwrap_or(signature).to_bytes().to_vec()
}

/// The other signature that every verifier of plain ECDSA takes: n − s.
pub fn twin(signature: &[u8]) -> Vec<u8> {
    let signature = p256::ecdsa::Signature::from_slice(signature).unwrap();
    let (r, s) = (signature.r(), -*signature.s());
    p256::ecdsa::Signature::from_scalars(r.to_bytes(), s.to_bytes()).unwrap().to_bytes().to_vec()
}

/// A token id of one repeated byte.
pub fn token(number: u8) -> TokenId {
    TokenId([number; 16])
}

/// A put of sealed bytes.
pub fn put(token: TokenId, name: &str, version: u64, sealed: &[u8], recipients: &[&Actor]) -> Put {
    let mut recipients: Vec<_> = recipients.iter().map(|actor| actor.id).collect();
    recipients.sort();
    Put {
        token,
        name: name.into(),
        version,
        seals: vec![Seal { digest: sha256(sealed), length: sealed.len() as u64, recipients }],
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

/// Seals to the devices' public keys, which takes no device at all.
pub fn sealed(store: StoreId, token: TokenId, version: u64, plaintext: &str, to: &[&Actor]) -> Vec<u8> {
    let keys: Vec<_> = to.iter().map(|actor| PublicKey::P256(actor.device.opening_point())).collect();
    let recipients: Vec<_> = keys.iter().map(|public| Recipient { public, name: "somebody" }).collect();
    let context = Context { store: store.0, token: token.0, version };
    let plaintext = Secret::new(plaintext.as_bytes().to_vec());
    seal::seal(&plaintext, &context, &recipients, 1, &mut seal::without_device).unwrap()
}
