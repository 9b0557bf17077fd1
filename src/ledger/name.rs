//! The rules for names, prefixes and texts (docs/reference/format.md, section 2).

use std::fmt;
use std::str::FromStr;

/// The most bytes of a name or prefix.
pub const MAX_NAME_BYTES: usize = 255;
/// The most bytes of a device name or a label's key.
pub const MAX_SEGMENT_BYTES: usize = 64;
/// The most bytes of a label's value.
pub const MAX_LABEL_BYTES: usize = 256;
/// The most labels of a token.
pub const MAX_LABELS: usize = 32;
/// The most bytes of a description or a reason.
pub const MAX_TEXT_BYTES: usize = 1024;

/// A token's name: `prod/db/password`. ASCII, so that no two names look alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// A name prefix: whole segments, or empty for everything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Prefix(String);

impl Name {
    /// As typed by the user.
    ///
    /// # Errors
    /// A message that names the broken rule and the character.
    pub fn parse(s: &str) -> Result<Self, String> {
        if s.is_empty() {
            return Err("a name is empty".into());
        }
        check_path(s).map(|()| Self(s.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Prefix {
    /// Parses user input; a trailing `/` is accepted.
    ///
    /// # Errors
    /// As [`Name::parse`].
    pub fn parse(s: &str) -> Result<Self, String> {
        let s = s.strip_suffix('/').unwrap_or(s);
        if s.is_empty() {
            return Ok(Self::default());
        }
        check_path(s).map(|()| Self(s.into()))
    }

    /// The text; empty covers everything.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is the prefix itself or lies below it.
    pub fn covers(&self, name: &str) -> bool {
        covers(&self.0, name)
    }
}

/// Whether a name is this prefix itself or lies below it.
pub fn covers(prefix: &str, name: &str) -> bool {
    match name.strip_prefix(prefix) {
        Some(rest) => prefix.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// A prefix as statements hold it: without a trailing `/`.
///
/// # Errors
/// As [`Name::parse`].
pub fn check_prefix(s: &str) -> Result<(), String> {
    match Prefix::parse(s)?.as_str() == s {
        true => Ok(()),
        false => Err("a prefix with a trailing /".into()),
    }
}

fn check_path(s: &str) -> Result<(), String> {
    if s.len() > MAX_NAME_BYTES {
        return Err(format!("a name has at most {MAX_NAME_BYTES} bytes, this one has {}", s.len()));
    }
    s.split('/').try_for_each(check_segment)
}

/// One segment of a name.
///
/// # Errors
/// A message that names the broken rule and the character.
pub fn check_segment(s: &str) -> Result<(), String> {
    if let Some(c) = s.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-+:".contains(*c))) {
        let shown = if c.is_control() || is_invisible(c) { String::new() } else { format!(" '{c}'") };
        return Err(format!(
            "a name holds A–Z a–z 0–9 . _ - + : and / between segments, not U+{:04X}{shown}",
            u32::from(c)
        ));
    }
    match s {
        "" => Err("a name has no empty segment: no leading, trailing or double /".into()),
        "." | ".." => Err(format!("a name has no segment `{s}`")),
        s if s.starts_with('-') => Err("no segment of a name starts with -".into()),
        _ => Ok(()),
    }
}

/// A device's name or a label's key: one segment, at most 64 bytes.
///
/// # Errors
/// A message that names the broken rule and the character.
pub fn check_short(s: &str) -> Result<(), String> {
    if s.len() > MAX_SEGMENT_BYTES {
        return Err(format!("at most {MAX_SEGMENT_BYTES} bytes, this has {}", s.len()));
    }
    check_segment(s)
}

/// A description, reason or label value: no character that could mislead a terminal or its reader.
///
/// # Errors
/// A message that names the broken rule and the character.
pub fn check_text(s: &str, max_bytes: usize) -> Result<(), String> {
    if s.len() > max_bytes {
        return Err(format!("at most {max_bytes} bytes, this has {}", s.len()));
    }
    match s.chars().find(|c| c.is_control() || is_invisible(*c)) {
        Some(c) => Err(format!("no control characters, this has U+{:04X}", u32::from(c))),
        None => Ok(()),
    }
}

/// Line and paragraph separators, and bidirectional controls, which reorder text on the screen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(s: &str) -> Result<Self, String> {
                Self::parse(s)
            }
        }
    };
}
text!(Name);
text!(Prefix);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_allowed() {
        for name in ["a", "prod/db", "A.b_c-d+e:9/x", "a.../..b", &"x".repeat(255)] {
            assert_eq!(Name::parse(name).map(|n| n.to_string()), Ok(name.to_string()));
        }
    }

    #[test]
    fn names_that_are_refused_say_why() {
        let long = "x".repeat(256);
        for (name, word) in [
            ("", "empty"),
            (&*long, "at most 255"),
            ("/a", "empty segment"),
            ("a//b", "empty segment"),
            ("a/", "empty segment"),
            ("a/../b", "`..`"),
            (".", "`.`"),
            ("a/-b", "starts with -"),
            ("a b", "U+0020"),
            ("a@2", "U+0040"),
            ("a\u{7}", "U+0007"),
            ("p\u{430}ypal", "U+0430"),
            ("a\u{202e}b", "U+202E"),
        ] {
            let error = Name::parse(name).unwrap_err();
            assert!(error.contains(word), "{name:?}: {error}");
            assert!(!error.chars().any(|c| c.is_control() || is_invisible(c)));
        }
    }

    #[test]
    fn a_prefix_covers_whole_segments() {
        let prod = Prefix::parse("prod/").unwrap();
        assert!(prod.covers("prod") && prod.covers("prod/db"));
        assert!(!prod.covers("production/db") && !prod.covers("pro"));
        assert!(Prefix::default().covers("anything"));
    }

    #[test]
    fn limits_count_bytes() {
        assert!(check_short(&"x".repeat(64)).is_ok() && check_short(&"x".repeat(65)).is_err());
        assert!(check_text(&"x".repeat(1024), 1024).is_ok() && check_text(&"x".repeat(1025), 1024).is_err());
        assert!(check_text(&"é".repeat(512), 1024).is_ok() && check_text(&"é".repeat(513), 1024).is_err());
        assert!(Prefix::parse(&"x/".repeat(128)).is_ok() && Prefix::parse(&"x/".repeat(129)).is_err());
        assert!(check_short("a/b").is_err() && check_short("").is_err());
    }

    #[test]
    fn texts_are_of_any_script_but_do_not_steer() {
        for text in ["", "Zoë, 東京", "e\u{301} \u{200d}🔑", "a\u{a0}b", "\u{10ffff}"] {
            assert_eq!(check_text(text, 1024), Ok(()));
        }
        for c in "\0\t\n\u{1b}\u{7f}\u{85}\u{9f}\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}".chars() {
            let error = check_text(&format!("a{c}b"), 1024).unwrap_err();
            assert!(error.contains(&format!("U+{:04X}", u32::from(c))) && !error.contains(c), "{error}");
        }
    }

    #[test]
    fn a_prefix_forgives_one_slash_and_no_more() {
        assert_eq!(Prefix::parse("a/"), Prefix::parse("a"));
        assert_eq!(Prefix::parse("/"), Ok(Prefix::default()));
        for prefix in ["a//", "//", "/a", "a b", ".."] {
            assert!(Prefix::parse(prefix).is_err(), "{prefix}");
        }
    }
}
