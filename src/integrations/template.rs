//! Templates: texts with `{{ strongroom://NAME }}` where a token belongs. Nothing in them is executed.

use super::project::SCHEME;
use crate::error::{Error, Kind, Result};
use crate::vault::TokenRef;
use zeroize::Zeroizing;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text as it stands.
    Text(&'a str),
    /// A token.
    Token(TokenRef),
}

/// A template's pieces. Other things between `{{` and `}}` are text: many formats have them.
///
/// # Errors
/// `Usage`, with the line, for a reference that is not whole or stands outside braces.
pub fn parse(text: &str) -> Result<Vec<Part<'_>>> {
    let (mut parts, mut at) = (Vec::new(), 0);
    while let Some(found) = text[at..].find(SCHEME).map(|offset| at + offset) {
        let wrong = |why: String| {
            let line = text[..found].matches('\n').count() + 1;
            Error::new(Kind::Usage, "read the template", format!("line {line}: {why}"))
                .with_hint("write {{ strongroom://NAME }} or {{ strongroom://NAME@VERSION }}")
        };
        let before = text[at..found].trim_end_matches([' ', '\t']);
        let outside = || wrong("strongroom:// stands outside {{ }}".into());
        let before = before.strip_suffix("{{").ok_or_else(outside)?;
        let rest = &text[found + SCHEME.len()..];
        let line = rest.lines().next().unwrap_or_default();
        let end = line.find("}}").ok_or_else(|| wrong("{{ is not closed".into()))?;
        let token = rest[..end].trim_end_matches([' ', '\t']).parse().map_err(wrong)?;
        parts.extend([Part::Text(before), Part::Token(token)]);
        at = found + SCHEME.len() + end + 2;
    }
    parts.push(Part::Text(&text[at..]));
    Ok(parts)
}

/// The text with tokens in their places. `token` finds one of those that [`parse`] named.
pub fn render<'a>(parts: &'a [Part<'a>], token: impl Fn(&TokenRef) -> &'a [u8]) -> Zeroizing<Vec<u8>> {
    let pieces: Vec<&[u8]> = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.as_bytes(),
            Part::Token(of) => token(of),
        })
        .collect();
    Zeroizing::new(pieces.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_other_braces_stay() {
        let text = "a: {{ strongroom://prod/db }}\nb: {{strongroom://x@2}}{{ .Values.c }} }}\n";
        let parts = parse(text).unwrap();
        let rendered = render(&parts, |token| if token.version.is_some() { b"two" } else { b"one" });
        assert_eq!(*rendered, b"a: one\nb: two{{ .Values.c }} }}\n");
        assert_eq!(parse("plain").unwrap(), [Part::Text("plain")]);
    }

    /// What a token holds is not looked at again.
    #[test]
    fn a_token_is_no_template() {
        let parts = parse("{{ strongroom://a }}").unwrap();
        assert_eq!(*render(&parts, |_| b"{{ strongroom://b }}"), b"{{ strongroom://b }}");
    }

    #[test]
    fn what_is_wrong_is_placed() {
        for (text, what) in [
            ("\nx strongroom://a", "line 2: strongroom:// stands outside"),
            ("{{ x strongroom://a }}", "line 1: strongroom:// stands outside"),
            ("{{ strongroom://a", "line 1: {{ is not closed"),
            ("{{ strongroom://a\n}}", "line 1: {{ is not closed"),
            ("{{ strongroom://a//b }}", "line 1: a name has no empty segment"),
            ("{{ strongroom://a | upper }}", "line 1: a name holds"),
            ("{{ strongroom:// }}", "line 1: a name is empty"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message().starts_with(what), "{text}: {error}");
        }
    }
}
