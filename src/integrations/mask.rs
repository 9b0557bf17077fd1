//! Hides tokens in what a program writes.

use crate::secret::Secret;
use zeroize::Zeroizing;

/// What stands in a token's place.
const MASK: &[u8] = b"***";

/// Shorter texts stand in too much of what is no secret.
pub const SHORTEST: usize = 4;

/// Hides texts in a stream of bytes, also where they come in pieces. A text in another encoding is another text.
pub struct Masker {
    patterns: Vec<Secret>,
    /// What may be the beginning of one of them.
    held: Zeroizing<Vec<u8>>,
    /// How many bytes of `held` belong to a text whose mask was written.
    covered: usize,
}

impl Masker {
    /// Hides these values and each of their lines, without the white space around them.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut patterns: Vec<Secret> = Vec::new();
        for value in values {
            let lines = value.split(|byte| *byte == b'\n');
            for text in std::iter::once(value).chain(lines).map(<[u8]>::trim_ascii) {
                if text.len() >= SHORTEST && !patterns.iter().any(|known| known.expose() == text) {
                    patterns.push(Secret::new(text.to_vec()));
                }
            }
        }
        Self { patterns, held: Zeroizing::default(), covered: 0 }
    }

    /// Takes the next bytes, and returns what can be shown so far.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut grown = Zeroizing::new(Vec::with_capacity(self.held.len() + bytes.len()));
        grown.extend_from_slice(&self.held);
        grown.extend_from_slice(bytes);
        self.held = grown;
        let begins = |at: &usize| {
            let rest = &self.held[*at..];
            self.patterns
                .iter()
                .any(|pattern| pattern.len() > rest.len() && pattern.expose().starts_with(rest))
        };
        // No longer than the longest text: only there can one have begun.
        let longest = self.patterns.iter().map(Secret::len).max().unwrap_or(0);
        let first = self.held.len().saturating_sub(longest);
        let end = (first..self.held.len()).find(begins).unwrap_or(self.held.len());
        self.show(end)
    }

    /// What was held back, at the end.
    pub fn finish(&mut self) -> Vec<u8> {
        self.show(self.held.len())
    }

    /// Shows what is held up to `end`, with masks in place of texts that begin before it.
    fn show(&mut self, end: usize) -> Vec<u8> {
        let (mut out, mut covered) = (Vec::with_capacity(end), self.covered);
        for at in 0..end {
            let rest = &self.held[at..];
            let found = self.patterns.iter().filter(|pattern| rest.starts_with(pattern.expose()));
            let reach = found.map(|pattern| at + pattern.len()).max().unwrap_or(0);
            // Texts that overlap have one mask.
            if reach > 0 && at >= covered {
                out.extend_from_slice(MASK);
            }
            covered = covered.max(reach);
            if at >= covered {
                out.push(self.held[at]);
            }
        }
        self.covered = covered.saturating_sub(end);
        self.held = Zeroizing::new(self.held[end..].to_vec());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masked(values: &[&str], pieces: &[&str]) -> String {
        let mut masker = Masker::new(values.iter().map(|value| value.as_bytes()));
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| masker.push(piece.as_bytes())).collect();
        out.extend(masker.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_hidden_also_in_pieces() {
        assert_eq!(masked(&["s3cret"], &["a s3cret b"]), "a *** b");
        assert_eq!(masked(&["s3cret"], &["a s3", "cr", "et b"]), "a *** b");
        assert_eq!(masked(&["s3cret"], &["s3cre", "s3cret", "s3c"]), "s3cre***s3c");
        assert_eq!(masked(&["abcd", "abcdef"], &["abcd", "ef abcd"]), "*** ***");
        assert_eq!(masked(&["abcd", "cdef"], &["xabcdefx"]), "x***x");
        assert_eq!(masked(&["abcd", "cdef"], &["xabcd", "efx"]), "x***x");
        assert_eq!(masked(&["first\nsecond\n"], &["second, first\nsecond"]), "***, ***");
        assert_eq!(masked(&["abc"], &["abc"]), "abc", "too short");
    }

    #[test]
    fn what_is_no_beginning_is_shown_at_once() {
        let mut masker = Masker::new([&b"s3cret"[..]]);
        assert_eq!(masker.push(b"Name: "), b"Name: ");
        assert_eq!(masker.push(b"ls s"), b"ls ");
    }

    proptest! {
        /// The pieces make no difference, and no value gets through.
        #[test]
        fn pieces_make_no_difference(values in prop::collection::vec("[ab]{4,6}", 1..3), text in "[abc]{0,60}", cuts in prop::collection::vec(0..60usize, 0..6)) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let whole = masked(&values, &[&text]);
            prop_assert_eq!(masked(&values, &pieces), whole.clone());
            prop_assert!(values.iter().all(|value| !whole.contains(value)), "{}", whole);
        }
    }
}
