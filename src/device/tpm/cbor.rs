//! Reading and writing the elements of a key's blob.

use minicbor::Decoder;
use minicbor::data::Type;

/// What reading an element gives, or what is wrong with it.
pub type Read<T> = Result<T, String>;

/// Any library's error as text.
pub fn wrong(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// An array's length, definite and as it should be.
pub fn expect(length: Option<u64>, wanted: u64) -> Read<()> {
    if length == Some(wanted) { Ok(()) } else { Err("an array has another length".into()) }
}

/// `null`, or what `element` reads.
pub fn maybe<'b, T>(
    d: &mut Decoder<'b>,
    element: impl FnOnce(&mut Decoder<'b>) -> Read<T>,
) -> Read<Option<T>> {
    match d.datatype().map_err(wrong)? {
        Type::Null => d.null().map(|()| None).map_err(wrong),
        _ => element(d).map(Some),
    }
}
