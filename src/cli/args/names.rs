//! Names as they are typed: `prod/db`, `prod/db@3`, `VAR=prod/db@3`.

use super::unusable_value;
use strongroom::error::printable;
use strongroom::ledger::name::{MAX_LABEL_BYTES, MAX_TEXT_BYTES, check_short, check_text};
use strongroom::ledger::{Name, Prefix};
use strongroom::vault::{GrantOn, TokenRef};
use strongroom::{Error, Kind, Result};

/// How much of something unusable is repeated.
const SHOWN: usize = 64;

/// A name, and no version.
///
/// # Errors
/// `Usage`, saying which rule was broken.
pub fn name(text: &str) -> Result<Name> {
    if let Some((before, version)) = text.split_once('@')
        && Name::parse(before).is_ok()
    {
        let message =
            format!("it names a version (@{}), but the command takes a whole token", shown(version));
        return Err(unusable(text, "a name", message));
    }
    parse(text)
}

/// A name with or without a version.
///
/// # Errors
/// `Usage`, saying which rule was broken.
pub fn versioned(text: &str) -> Result<TokenRef> {
    text.parse().map_err(|why| unusable(text, "a name", why))
}

/// A prefix of names.
///
/// # Errors
/// `Usage`, saying which rule was broken.
pub fn prefix(text: &str) -> Result<Prefix> {
    Prefix::parse(text).map_err(|why| unusable(text, "a prefix", why))
}

/// A token's name, or with a trailing `/` a prefix.
///
/// # Errors
/// `Usage`, saying which rule was broken.
pub fn token_or_prefix(text: &str) -> Result<GrantOn> {
    match text.ends_with('/') {
        true => Ok(GrantOn::Prefix(prefix(text)?)),
        false => Ok(GrantOn::Token(name(text)?)),
    }
}

/// `KEY=VALUE`, as labels are typed.
///
/// # Errors
/// `Usage`.
pub fn label(text: &str) -> Result<(String, String)> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| unusable(text, "a label", "a label is KEY=VALUE".into()))?;
    check_short(key).map_err(|why| unusable(text, "a label", why))?;
    check_text(value, MAX_LABEL_BYTES).map_err(|why| unusable(text, "a label", why))?;
    Ok((key.into(), value.into()))
}

/// The labels of one token: each key once.
///
/// # Errors
/// `Usage`.
pub fn labels(texts: &[String]) -> Result<Vec<(String, String)>> {
    let mut labels = texts.iter().map(|text| label(text)).collect::<Result<Vec<_>>>()?;
    labels.sort();
    match labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(unusable(&pair[0].0, "a label", "it is given twice".into())),
        None => Ok(labels),
    }
}

/// A description or a reason: what a person may read without being misled.
///
/// # Errors
/// `Usage`.
pub fn text(option: &str, text: &str) -> Result<String> {
    let checked = check_text(text, MAX_TEXT_BYTES).map(|()| text.to_owned());
    checked.map_err(|why| unusable_value(option, why))
}

fn parse(text: &str) -> Result<Name> {
    Name::parse(text).map_err(|why| unusable(text, "a name", why))
}

fn unusable(text: &str, as_what: &str, why: String) -> Error {
    Error::new(Kind::Usage, format!("use `{}` as {as_what}", shown(text)), why)
}

/// So much of a text as is needed to know it again.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN).collect();
    let more = if cut.len() < text.len() { "..." } else { "" };
    printable(&cut) + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_follow_an_at_sign() {
        let wanted = versioned("prod/db@12").unwrap();
        assert_eq!((wanted.name.as_str(), wanted.version), ("prod/db", Some(12)));
        assert_eq!(versioned("prod/db").unwrap().version, None);
        for bad in ["", "@1", "a@", "a@0", "a@+1", "a@-1", "a@1@2", "a@x", "a@99999999999999999999"] {
            assert_eq!(versioned(bad).unwrap_err().kind(), Kind::Usage, "{bad}");
        }
    }

    #[test]
    fn a_name_alone_has_no_version() {
        assert!(name("a@1").unwrap_err().message().contains("version"));
        assert!(name("a/b").is_ok());
    }

    #[test]
    fn errors_repeat_little_and_steer_nothing() {
        let error = name(&"\u{1b}[31m".repeat(100)).unwrap_err().to_string();
        assert!(!error.contains('\u{1b}') && error.len() < 1000, "{error}");
    }

    #[test]
    fn labels_have_distinct_keys() {
        let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            labels(&texts(&["b=2", "a=1=1"])).unwrap(),
            [("a".into(), "1=1".into()), ("b".into(), "2".into())]
        );
        for bad in [&["a"][..], &["=1"], &["a=1", "a=2"], &["a=\u{7}"]] {
            assert_eq!(labels(&texts(bad)).unwrap_err().kind(), Kind::Usage, "{bad:?}");
        }
    }
}
