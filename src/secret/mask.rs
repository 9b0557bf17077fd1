//! Hides tokens in what a program writes.

use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

/// What stands in a token's place.
const MASK: &[u8] = b"***";

/// Shorter texts stand in too much of what is no secret.
pub const SHORTEST: usize = 4;

/// What a URL keeps as it is (RFC 3986, section 2.3).
const URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Hides texts in a stream of bytes, also where they come in pieces, as they are and in base64, hexadecimal, percent-encoding
/// and JSON. What is encoded twice, or split, is another text.
pub struct Masker {
    patterns: Vec<Secret>,
    /// The bytes that a pattern begins with.
    beginnings: [bool; 256],
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
            let texts = std::iter::once(value).chain(lines).map(<[u8]>::trim_ascii);
            for text in texts.filter(|text| text.len() >= SHORTEST) {
                patterns.extend(forms(text));
            }
        }
        patterns.sort_by(|a, b| a.expose().cmp(b.expose()));
        patterns.dedup();
        let mut beginnings = [false; 256];
        for first in patterns.iter().filter_map(|pattern| pattern.expose().first()) {
            beginnings[usize::from(*first)] = true;
        }
        Self { patterns, beginnings, held: Zeroizing::default(), covered: 0 }
    }

    /// Whether a value is in it.
    pub fn finds(&self, text: &[u8]) -> bool {
        (0..text.len()).any(|at| self.reach(&text[at..]) > 0)
    }

    /// A whole text without the values.
    pub fn mask(&mut self, text: &[u8]) -> String {
        let mut shown = self.push(text);
        shown.extend(self.finish());
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// How long the longest value is that this begins with.
    fn reach(&self, text: &[u8]) -> usize {
        if !text.first().is_some_and(|first| self.beginnings[usize::from(*first)]) {
            return 0;
        }
        let found = self.patterns.iter().filter(|pattern| text.starts_with(pattern.expose()));
        found.map(Secret::len).max().unwrap_or(0)
    }

    /// Takes the next bytes, and returns what can be shown so far.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut grown = Zeroizing::new(Vec::with_capacity(self.held.len() + bytes.len()));
        grown.extend_from_slice(&self.held);
        grown.extend_from_slice(bytes);
        self.held = grown;
        let begins = |at: &usize| {
            let rest = &self.held[*at..];
            self.beginnings[usize::from(rest[0])]
                && self
                    .patterns
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
            let length = self.reach(rest);
            // Texts that overlap have one mask.
            if length > 0 && at >= covered {
                out.extend_from_slice(MASK);
            }
            covered = covered.max(at + length);
            if at >= covered {
                out.push(self.held[at]);
            }
        }
        self.covered = covered.saturating_sub(end);
        self.held = Zeroizing::new(self.held[end..].to_vec());
        out
    }
}

/// A text in all the forms that are looked for.
fn forms(text: &[u8]) -> Vec<Secret> {
    let mut forms = vec![Secret::new(text.to_vec())];
    for alphabet in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        forms.push(Secret::new(alphabet.encode(text).into_bytes()));
        forms.extend((0..3).map(|before| in_base64(alphabet, text, before)));
    }
    let hex = Zeroizing::new(hex::encode(text));
    forms.push(Secret::new(hex.to_ascii_uppercase().into_bytes()));
    forms.push(Secret::new(hex.as_bytes().to_vec()));
    for set in [NON_ALPHANUMERIC, URL] {
        forms.push(Secret::new(percent_encode(text, set).to_string().into_bytes()));
    }
    let quoted = std::str::from_utf8(text).ok().and_then(|text| serde_json::to_string(text).ok());
    if let Some(quoted) = quoted.map(Zeroizing::new) {
        forms.push(Secret::new(quoted.as_bytes()[1..quoted.len() - 1].to_vec()));
    }
    forms
}

/// What does not depend on its neighbours in base64, with this many bytes before it in its group of three: `user:TOKEN` in
/// an `Authorization` header.
fn in_base64(alphabet: &GeneralPurpose, text: &[u8], before: usize) -> Secret {
    let mut bytes = Zeroizing::new(vec![0; before]);
    bytes.extend_from_slice(text);
    let encoded = Zeroizing::new(alphabet.encode(&*bytes));
    let start = (before * 4).div_ceil(3);
    let end = bytes.len() * 4 / 3;
    Secret::new(encoded.as_bytes()[start..end].to_vec())
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
    fn values_are_hidden_in_other_forms() {
        let value = "p\"ss/wörd~+?>";
        let bytes = value.as_bytes();
        let hex = hex::encode(bytes);
        let forms = [
            hex.to_uppercase(),
            hex,
            STANDARD_NO_PAD.encode(bytes),
            URL_SAFE_NO_PAD.encode(bytes),
            percent_encode(bytes, NON_ALPHANUMERIC).to_string(),
            percent_encode(bytes, URL).to_string(),
            "p\\\"ss/wörd~+?>".into(),
        ];
        for form in &forms {
            assert_eq!(masked(&[value], &[&format!("<{form}>")]), "<***>", "{form}");
        }
        for user in ["a", "ab", "abc", "abcd"] {
            let basic = STANDARD_NO_PAD.encode(format!("{user}:{value}:x"));
            let shown = masked(&[value], &[&basic]);
            assert!(shown.contains("***"), "{shown}");
            // What is left is of its neighbours, and of at most a letter at each end.
            assert!(shown.len() <= basic.len() + 3 - (bytes.len() * 4 / 3 - 3), "{shown} of {basic}");
        }
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
