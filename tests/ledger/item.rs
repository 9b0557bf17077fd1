//! CBOR items as a forger sees them: any canonical bytes taken apart, changed anywhere, and put together in any encoding.
//!
//! Also a second opinion: [`Item::parse`] takes nothing but deterministic arrays (RFC 8949 §4.2.1).

/// One data item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Uint(u64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Item>),
    Bool(bool),
    Null,
    /// Bytes that stand as they are.
    Raw(Vec<u8>),
}

impl Item {
    /// Exactly one deterministic item, or `None`.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let item = take(&mut rest)?;
        rest.is_empty().then_some(item)
    }

    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Uint(value) => head(0, *value),
            Self::Bytes(bytes) => [head(2, bytes.len() as u64), bytes.clone()].concat(),
            Self::Text(text) => [head(3, text.len() as u64), text.as_bytes().to_vec()].concat(),
            Self::Array(items) => {
                let parts = items.iter().flat_map(Self::encode);
                head(4, items.len() as u64).into_iter().chain(parts).collect()
            }
            Self::Bool(value) => vec![if *value { 0xf5 } else { 0xf4 }],
            Self::Null => vec![0xf6],
            Self::Raw(bytes) => bytes.clone(),
        }
    }

    /// The item at a path of indices.
    pub fn at(&mut self, path: &[usize]) -> &mut Self {
        path.iter().fold(self, |item, index| match item {
            Self::Array(items) => &mut items[*index],
            other => panic!("no array at {index}: {other:?}"),
        })
    }

    /// The elements of an array.
    pub fn elements(&mut self) -> &mut Vec<Self> {
        match self {
            Self::Array(items) => items,
            other => panic!("no array: {other:?}"),
        }
    }

    /// This item with the one at `path` replaced by what `change` makes of it.
    pub fn with(&self, path: &[usize], change: impl FnOnce(&Self) -> Self) -> Self {
        let mut changed = self.clone();
        let at = changed.at(path);
        *at = change(at);
        changed
    }
}

/// The shortest head of a major type and an argument.
pub fn head(major: u8, argument: u64) -> Vec<u8> {
    let width = match argument {
        0..=23 => return vec![major << 5 | argument as u8],
        24..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    };
    wide_head(major, argument, width)
}

/// A head whose argument takes this many bytes, needed or not.
pub fn wide_head(major: u8, argument: u64, width: usize) -> Vec<u8> {
    let info = [1, 2, 4, 8].iter().position(|w| *w == width).unwrap() as u8;
    [&[major << 5 | (24 + info)], &argument.to_be_bytes()[8 - width..]].concat()
}

fn take(rest: &mut &[u8]) -> Option<Item> {
    let first = *rest.first()?;
    let simple = match first {
        0xf4 => Some(Item::Bool(false)),
        0xf5 => Some(Item::Bool(true)),
        0xf6 => Some(Item::Null),
        _ => None,
    };
    if let Some(item) = simple {
        *rest = &rest[1..];
        return Some(item);
    }
    let (major, argument) = take_head(rest)?;
    match major {
        0 => Some(Item::Uint(argument)),
        2 => take_bytes(rest, argument).map(Item::Bytes),
        3 => String::from_utf8(take_bytes(rest, argument)?).ok().map(Item::Text),
        4 => (0..argument).map(|_| take(rest)).collect::<Option<_>>().map(Item::Array),
        _ => None,
    }
}

fn take_head(rest: &mut &[u8]) -> Option<(u8, u64)> {
    let first = *rest.first()?;
    let width = match first & 0x1f {
        0..=23 => 0,
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return None,
    };
    let argument = match width {
        0 => u64::from(first & 0x1f),
        width => rest.get(1..=width)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    let shortest = head(first >> 5, argument).len() == width + 1;
    *rest = &rest[width + 1..];
    shortest.then_some((first >> 5, argument))
}

fn take_bytes(rest: &mut &[u8], len: u64) -> Option<Vec<u8>> {
    let (bytes, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = after;
    Some(bytes.to_vec())
}
