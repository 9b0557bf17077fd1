//! A statement: one signed change, and the subjects it advances (docs/reference/format.md, section 3).

use super::body::Body;
use super::cbor::{Malformed, NEWER, Reader, Writer};
use super::id::{DeviceId, Hash, StoreId};
use super::subject::Subject;
use super::{MAX_STATEMENT_BYTES, leaf};

const VERSION: u64 = 1;

/// One change, as its author states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// [`StoreId::ZERO`] in genesis.
    pub store: StoreId,
    /// The device that signs it.
    pub author: DeviceId,
    /// The author's clock in milliseconds: a claim.
    pub time: u64,
    /// The subjects it advances, each with its head before, in canonical order.
    pub advances: Vec<(Subject, Hash)>,
    /// What it says.
    pub body: Body,
}

impl Statement {
    /// Composes a statement on the heads that `head` returns.
    ///
    /// # Errors
    /// Those of `head`.
    pub fn compose<E>(
        store: StoreId,
        author: DeviceId,
        time: u64,
        body: Body,
        mut head: impl FnMut(&Subject) -> Result<Hash, E>,
    ) -> Result<Self, E> {
        let advances = body
            .subjects()
            .into_iter()
            .map(|subject| head(&subject).map(|prev| (subject, prev)))
            .collect::<Result<_, E>>()?;
        Ok(Self { store, author, time, advances, body })
    }

    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(7)
            .uint(VERSION)
            .bytes(&self.store.0)
            .uint(self.body.kind())
            .bytes(&self.author.0)
            .uint(self.time);
        w.array(self.advances.len());
        for (subject, prev) in &self.advances {
            w.array(2);
            subject.write(&mut w);
            w.bytes(&prev.0);
        }
        self.body.write(&mut w);
        w.finish()
    }

    /// Parses canonical bytes; everything else is malformed.
    ///
    /// # Errors
    /// The malformed element.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_STATEMENT_BYTES {
            return Err(Malformed("a statement over 1 MiB"));
        }
        let mut r = Reader::new(bytes);
        let len = r.array("a statement")?;
        // The version decides the array's length, so read it first.
        match r.uint("a statement's version")? {
            VERSION if len == 7 => {}
            VERSION => return Err(Malformed("a statement")),
            _ => return Err(NEWER),
        }
        let store = StoreId(r.fixed("a store id")?);
        let kind = r.uint("a kind")?;
        let author = DeviceId(r.fixed("an author")?);
        let time = r.uint("a time")?;
        let advances = r.list("advances", |r| {
            r.array_of(2, "an advance")?;
            Ok((Subject::read(r)?, Hash(r.fixed("a prev")?)))
        })?;
        let body = Body::read(kind, &mut r)?;
        r.end()?;
        let statement = Self { store, author, time, advances, body };
        if !statement.body.subjects().iter().eq(statement.advances.iter().map(|(subject, _)| subject)) {
            return Err(Malformed("subjects that do not fit the body"));
        }
        if statement.encode() != bytes {
            return Err(Malformed("CBOR that is not deterministic"));
        }
        Ok(statement)
    }

    /// The statement's hash.
    pub fn hash(&self) -> Hash {
        leaf(&self.encode())
    }
}
