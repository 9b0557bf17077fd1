//! Reads the elements of a key blob.

use minicbor::Decoder;
use minicbor::data::Type;

/// An element, or what is wrong with it.
pub type Read<T> = Result<T, String>;

/// Any library's error as text.
pub fn wrong(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Checks that an array has a definite length, and this one.
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
