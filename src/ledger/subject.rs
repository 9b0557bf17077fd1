//! What statements are about (docs/reference/format.md, section 3).

use super::cbor::{Decoded, NEWER, Reader, Writer};
use super::id::TokenId;

/// What a statement is about. The statements of each subject form a chain, linked by `prev`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The store itself: devices, roles, recovery.
    Store,
    /// A token.
    Token(TokenId),
    /// A name, whichever token it belongs to.
    Name(String),
    /// A name prefix, for grants and policies.
    Prefix(String),
}

impl Subject {
    /// Its CBOR encoding. Subjects are sorted and indexed by it.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.write(&mut w);
        w.finish()
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.array(2);
        match self {
            Self::Store => w.uint(0).bytes(&[]),
            Self::Token(id) => w.uint(1).bytes(&id.0),
            Self::Name(name) => w.uint(2).text(name),
            Self::Prefix(prefix) => w.uint(3).text(prefix),
        };
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        r.array_of(2, "a subject")?;
        match r.uint("a subject's kind")? {
            0 => r.fixed::<0>("the store subject").map(|_| Self::Store),
            1 => r.fixed("a token id").map(|id| Self::Token(TokenId(id))),
            2 => r.text("a name").map(Self::Name),
            3 => r.text("a prefix").map(Self::Prefix),
            _ => Err(NEWER),
        }
    }
}
