//! Values taken out of what a hook writes, before anybody sees it.

use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

/// What stands in a value's place.
const MASK: &str = "***";

/// Shorter lines of a longer value are not looked for by themselves.
const SHORTEST_LINE: usize = 8;

/// The forms in which the values could appear.
pub(super) struct Mask {
    /// The longest first.
    forms: Vec<Zeroizing<Vec<u8>>>,
}

impl Mask {
    pub(super) fn over<'a>(values: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut forms = Vec::new();
        for value in values {
            let bytes = value.expose();
            let lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r'));
            let lines = lines.filter(|line| line.len() >= SHORTEST_LINE && line.len() < bytes.len());
            for part in [bytes, bytes.trim_ascii()].into_iter().chain(lines) {
                forms.push(Zeroizing::new(part.to_vec()));
                forms.push(Zeroizing::new(STANDARD_NO_PAD.encode(part).into_bytes()));
                forms.push(Zeroizing::new(URL_SAFE_NO_PAD.encode(part).into_bytes()));
                forms.push(Zeroizing::new(percent_encode(part, NON_ALPHANUMERIC).to_string().into_bytes()));
                let quoted = std::str::from_utf8(part).ok().and_then(|text| serde_json::to_string(text).ok());
                forms.extend(quoted.map(|text| Zeroizing::new(text.trim_matches('"').as_bytes().to_vec())));
            }
        }
        forms.retain(|form| !form.is_empty());
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Self { forms }
    }

    /// Whether a value is in it.
    pub(super) fn finds(&self, text: &[u8]) -> bool {
        (0..text.len()).any(|at| self.form_at(&text[at..]).is_some())
    }

    /// The text without the values.
    pub(super) fn apply(&self, text: &[u8]) -> String {
        let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
        while at < text.len() {
            match self.form_at(&text[at..]) {
                Some(length) => {
                    out.extend_from_slice(MASK.as_bytes());
                    at += length;
                }
                None => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    fn form_at(&self, text: &[u8]) -> Option<usize> {
        self.forms.iter().find(|form| text.starts_with(form)).map(|form| form.len())
    }
}
