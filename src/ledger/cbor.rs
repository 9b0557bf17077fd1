//! Deterministic CBOR (RFC 8949 §4.2.1), arrays only.
//!
//! The writer writes only canonical bytes. The reader is lenient: its caller encodes again and compares.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

/// The element that is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// A value or kind from a later version of the format.
pub(super) const NEWER: Malformed = Malformed("a value of a newer format");

pub(super) type Decoded<T> = Result<T, Malformed>;

pub(super) struct Writer(Encoder<Vec<u8>>);

// Writing to a vector cannot fail, so the results below are ignored.
impl Writer {
    pub(super) fn new() -> Self {
        Self(Encoder::new(Vec::with_capacity(512)))
    }

    pub(super) fn array(&mut self, len: usize) -> &mut Self {
        self.0.array(len as u64).ok();
        self
    }

    pub(super) fn uint(&mut self, value: u64) -> &mut Self {
        self.0.u64(value).ok();
        self
    }

    pub(super) fn maybe_uint(&mut self, value: Option<u64>) -> &mut Self {
        match value {
            Some(value) => self.uint(value),
            None => self.null(),
        }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.bytes(bytes).ok();
        self
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.0.str(text).ok();
        self
    }

    pub(super) fn bool(&mut self, value: bool) -> &mut Self {
        self.0.bool(value).ok();
        self
    }

    pub(super) fn null(&mut self) -> &mut Self {
        self.0.null().ok();
        self
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0.into_writer()
    }
}

pub(super) struct Reader<'a>(Decoder<'a>);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(Decoder::new(bytes))
    }

    /// The length of a definite array, limited by the remaining bytes (each element takes at least one).
    pub(super) fn array(&mut self, what: &'static str) -> Decoded<usize> {
        let len = self.0.array().ok().flatten().ok_or(Malformed(what))?;
        let left = self.0.input().len() - self.0.position();
        usize::try_from(len).ok().filter(|len| *len <= left).ok_or(Malformed(what))
    }

    pub(super) fn array_of(&mut self, len: usize, what: &'static str) -> Decoded<()> {
        if self.array(what)? == len { Ok(()) } else { Err(Malformed(what)) }
    }

    /// An array, element by element.
    pub(super) fn list<T>(
        &mut self,
        what: &'static str,
        mut element: impl FnMut(&mut Self) -> Decoded<T>,
    ) -> Decoded<Vec<T>> {
        let len = self.array(what)?;
        (0..len).map(|_| element(self)).collect()
    }

    pub(super) fn uint(&mut self, what: &'static str) -> Decoded<u64> {
        self.0.u64().map_err(|_| Malformed(what))
    }

    pub(super) fn bytes(&mut self, what: &'static str) -> Decoded<&'a [u8]> {
        self.0.bytes().map_err(|_| Malformed(what))
    }

    pub(super) fn fixed<const N: usize>(&mut self, what: &'static str) -> Decoded<[u8; N]> {
        self.bytes(what)?.try_into().map_err(|_| Malformed(what))
    }

    pub(super) fn text(&mut self, what: &'static str) -> Decoded<String> {
        self.0.str().map(Into::into).map_err(|_| Malformed(what))
    }

    pub(super) fn bool(&mut self, what: &'static str) -> Decoded<bool> {
        self.0.bool().map_err(|_| Malformed(what))
    }

    /// `null`, or what `element` reads.
    pub(super) fn maybe<T>(&mut self, element: impl FnOnce(&mut Self) -> Decoded<T>) -> Decoded<Option<T>> {
        match self.0.datatype() {
            Ok(Type::Null) => self.0.null().map(|()| None).map_err(|_| Malformed("null")),
            Ok(Type::Undefined | Type::Simple | Type::Unknown(_)) | Err(_) => Err(Malformed("null")),
            Ok(_) => element(self).map(Some),
        }
    }

    pub(super) fn end(&self) -> Decoded<()> {
        if self.0.position() == self.0.input().len() { Ok(()) } else { Err(Malformed("trailing bytes")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_the_fewest_bytes() {
        for (value, expected) in [
            (0, "00"),
            (23, "17"),
            (24, "1818"),
            (255, "18ff"),
            (256, "190100"),
            (65_535, "19ffff"),
            (65_536, "1a00010000"),
            (u64::from(u32::MAX), "1affffffff"),
            (1 << 32, "1b0000000100000000"),
            (u64::MAX, "1bffffffffffffffff"),
        ] {
            let mut w = Writer::new();
            w.uint(value);
            let bytes = w.finish();
            assert_eq!(hex::encode(&bytes), expected);
            assert_eq!(Reader::new(&bytes).uint("a number"), Ok(value));
        }
    }

    /// Each element takes at least a byte, so an array cannot be longer than the remaining input.
    #[test]
    fn a_length_beyond_the_end_is_not_believed() {
        for bytes in ["81", "8200", "9b7fffffffffffffff00", "9bffffffffffffffff", "9f00ff", "a0", ""] {
            let bytes = hex::decode(bytes).unwrap();
            assert!(Reader::new(&bytes).array("a list").is_err(), "{bytes:02x?}");
        }
        for bytes in ["5818", "5bffffffffffffffff", "5f4100ff", "60"] {
            let bytes = hex::decode(bytes).unwrap();
            assert!(Reader::new(&bytes).bytes("bytes").is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn an_optional_value_is_null_or_there() {
        let read = |bytes: &[u8]| Reader::new(bytes).maybe(|r| r.uint("a number"));
        assert_eq!(read(&[0xf6]), Ok(None));
        assert_eq!(read(&[7]), Ok(Some(7)));
        for bytes in [&[][..], &[0xf7], &[0xf8, 22], &[0xf8], &[0xff], &[0xf4]] {
            assert!(read(bytes).is_err(), "{bytes:02x?}");
        }
    }
}
