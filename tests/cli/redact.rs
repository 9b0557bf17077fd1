//! What differs between two runs, replaced by what it is.

use test_support::home::Home;
use test_support::softhsm;

/// The text with paths, ids, times and sizes by their kind.
pub fn redact(text: &str, home: &Home) -> String {
    let module = softhsm::module().unwrap();
    let canonical = module.canonicalize().unwrap();
    let mut text = text.to_owned();
    for (is, becomes) in [
        (home.dir.to_str().unwrap(), "[HOME]"),
        (home.hsm.dir.to_str().unwrap(), "[HSM]"),
        (canonical.to_str().unwrap(), "[MODULE]"),
        (module.to_str().unwrap(), "[MODULE]"),
        (test_support::home::strongroom(), "[STRONGROOM]"),
        (env!("CARGO_PKG_VERSION"), "[VERSION]"),
    ] {
        text = text.replace(is, becomes);
    }
    let text = words(&text);
    [
        ("slot-id=", "[SLOT]"),
        ("port=", "[PORT]"),
        ("\"pid\":", "[PID]"),
        ("\"uid\":", "[UID]"),
        ("\"length\":", "[LENGTH]"),
        ("\"age_seconds\":", "[AGE]"),
    ]
    .iter()
    .fold(text, |text, (key, becomes)| number_after(&text, key, becomes))
}

/// Hexadecimal ids, times and recipients.
fn words(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-:.".contains(c);
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let end = rest[start..].find(|c| !is_word(c)).map_or(rest.len(), |length| start + length);
        out += &rest[..start];
        out += &word(&rest[start..end]);
        rest = &rest[end..];
    }
    out + rest
}

fn word(word: &str) -> String {
    if let Some((parts, separator)) =
        [":", ".", "-"].iter().find_map(|s| word.contains(s).then_some((word.split(*s), *s)))
        && !is_time(word)
    {
        return parts.map(self::word).collect::<Vec<_>>().join(separator);
    }
    let hex = word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match word.len() {
        64 if hex => "[HASH]".into(),
        32 if hex => "[ID]".into(),
        16 if hex => "[SERIAL]".into(),
        12 if hex => "[CHANGE]".into(),
        _ if is_time(word) => "[TIME]".into(),
        _ if word.starts_with("age1tag1") => "[RECIPIENT]".into(),
        _ => word.into(),
    }
}

/// `2026-11-23T18:50:21Z`, perhaps with milliseconds.
fn is_time(word: &str) -> bool {
    let shape: String = word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    ["0000-00-00T00:00:00Z", "0000-00-00T00:00:00.000Z"].contains(&shape.as_str())
}

fn number_after(text: &str, key: &str, becomes: &str) -> String {
    let mut parts = text.split(key);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| out + key + becomes + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}
