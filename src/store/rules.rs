//! What every kind of store does alike: which batch it takes, and what its rows mean.

use super::Append;
use crate::error::{Error, Kind, Result, printable};
use crate::ledger::{Hash, LogPosition, MAX_BATCH_BYTES};
use minicbor::Decoder;

/// What to do about rows that Strongroom did not write.
pub(super) const ALTERED: &str =
    "run `strongroom verify`; then restore a backup, or have an admin run `strongroom repair`";

/// Longer than any encoded subject: the longest holds a name of 255 bytes.
pub(super) const MAX_SUBJECT_BYTES: usize = 512;

/// More than any COSE_Sign1 of a batch has: which ones are too long is the ledger's to say.
pub(super) const MAX_BATCH_SIGN1_BYTES: usize = 1 << 16;

/// What a value takes in memory besides its bytes.
pub(super) const ROW_BYTES: usize = 64;

/// A holder's name is no longer than this.
pub(super) const MAX_HOLDER_BYTES: usize = 128;

/// One row, of which each field's type and length is checked as it is read. Its first column names it in errors.
pub(super) trait Columns {
    /// A number that is not negative.
    fn uint(&self, column: usize) -> Result<u64>;

    /// A text of at most `max` bytes.
    fn text(&self, column: usize, max: usize) -> Result<String>;

    /// 32 bytes.
    fn hash(&self, column: usize) -> Result<Hash>;

    /// The error for a row that Strongroom did not write.
    fn wrong(&self, column: usize, what: &str) -> Error;

    /// A number of at most 32 bits.
    fn small(&self, column: usize) -> Result<u32> {
        u32::try_from(self.uint(column)?).map_err(|_| self.wrong(column, "is too large"))
    }

    fn too_long(&self, column: usize, max: usize) -> Error {
        self.wrong(column, &format!("is longer than {max} bytes"))
    }
}

/// The error for a row that Strongroom did not write.
pub(super) fn tampered(to: &str, location: &str, table: &str, row: &str, what: &str) -> Error {
    Error::new(Kind::Tampered, to, format!("table `{table}`, row {row}: {what}"))
        .with_target(location)
        .with_hint(ALTERED)
}

/// A number in the range of the database.
pub(super) fn integer(to: &str, location: &str, n: u64) -> Result<i64> {
    i64::try_from(n).map_err(|_| {
        Error::new(Kind::Usage, to, format!("{n} is more than a store can hold")).with_target(location)
    })
}

/// Refuses a batch without statements, or with too many of them.
pub(super) fn expect_batch_size(append: &Append<'_>, to: &str, location: &str) -> Result<()> {
    let bytes: usize = append.statements.iter().map(Vec::len).sum();
    if append.statements.is_empty() || bytes > MAX_BATCH_BYTES {
        let message = "a batch has at least one statement, and at most 16 MiB of them";
        return Err(Error::new(Kind::Usage, to, message).with_target(location));
    }
    Ok(())
}

/// Why a batch does not follow the state that its author had seen. `admin` is the position at which the head of the admin
/// subject was advanced, `chain` the store's value at the position that its author had seen.
pub(super) fn out_of_order(
    append: &Append<'_>,
    admin: Option<u64>,
    chain: Option<Hash>,
    tail: LogPosition,
) -> Option<String> {
    let seen = append.seen;
    if let Some(batch) = admin {
        return Some(format!("devices or roles were changed first, at position {batch}"));
    }
    if chain != Some(seen.chain) {
        return Some(format!("the ledger has changed at position {}, which its author had verified", seen.n));
    }
    (append.directly && seen.n != tail.n)
        .then(|| format!("it follows position {}, and the ledger has reached {}", seen.n, tail.n))
}

/// That another change of an encoded subject came first.
pub(super) fn came_first(subject: &[u8], first: u64) -> String {
    format!("another change of {} came first, at position {first}", subject_in_words(subject))
}

pub(super) fn conflict(to: &str, location: &str, message: String) -> Error {
    Error::new(Kind::Conflict, to, message)
        .with_target(location)
        .with_hint("look at what changed and try again")
}

/// That the store was changed while a repair was prepared.
pub(super) fn came_in_between(to: &str, location: &str) -> Error {
    Error::new(Kind::Conflict, to, "something came after it in the meantime")
        .with_target(location)
        .with_hint("try again")
}

/// A head as the table `heads` has it: 32 zero bytes are stored as none.
pub(super) fn stored(prev: &Hash) -> &[u8] {
    if *prev == Hash::ZERO { &[] } else { &prev.0 }
}

/// The head that was stored so.
pub(super) fn unstored(prev: &[u8]) -> Option<Hash> {
    if prev.is_empty() { Some(Hash::ZERO) } else { Hash::from_slice(prev) }
}

/// An encoded subject in words.
pub(super) fn subject_in_words(subject: &[u8]) -> String {
    let mut reader = Decoder::new(subject);
    let kind = reader.array().and_then(|_| reader.u8());
    let text = || reader.clone().str().map(printable).unwrap_or_default();
    let id = || reader.clone().bytes().map(hex::encode).unwrap_or_default();
    match kind {
        Ok(0) => "devices and roles".into(),
        Ok(1) => format!("the token {}", id()),
        Ok(2) => format!("the name `{}`", text()),
        Ok(3) => format!("what is under `{}`", text()),
        _ => "the same subject".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_named_as_people_know_them() {
        use crate::ledger::{Subject, TokenId};
        for (subject, words) in [
            (Subject::Store, "devices and roles"),
            (Subject::Token(TokenId([1; 16])), "the token 01010101010101010101010101010101"),
            (Subject::Name("prod/db".into()), "the name `prod/db`"),
            (Subject::Prefix("prod".into()), "what is under `prod`"),
        ] {
            assert_eq!(subject_in_words(&subject.encode()), words);
        }
        assert_eq!(subject_in_words(b"\xff\x00"), "the same subject");
    }
}
