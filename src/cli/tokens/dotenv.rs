//! Files of `VAR=value` lines, as `.env` files are written.
//!
//! `#` begins a comment at the start of a line or after a space; `export` before a variable is forgiven. Values stand
//! bare, in 'single quotes' (as they are) or in "double quotes" (with \n, \r, \t, \\, \" and \$); quoted ones may hold
//! line ends. Nothing is expanded. A value may be a secret, so no error repeats one.

use strongroom::integrations::project::{NO_VARIABLE, is_variable};
use zeroize::Zeroizing;

/// One assignment.
pub struct Assignment {
    /// Where it begins, from 1.
    pub line: usize,
    /// The variable.
    pub variable: String,
    /// What it is set to.
    pub value: Zeroizing<String>,
}

/// All assignments, in order.
///
/// # Errors
/// The line's number and what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Assignment>, (usize, &'static str)> {
    let mut assignments = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while !rest.is_empty() {
        let line = text[..text.len() - rest.len()].matches('\n').count() + 1;
        let start = rest.trim_start_matches([' ', '\t']);
        if start.is_empty() || start.starts_with(['#', '\n', '\r']) {
            rest = after_line(start);
            continue;
        }
        let (assignment, after) = assignment(start, line).map_err(|what| (line, what))?;
        assignments.push(assignment);
        rest = after;
    }
    Ok(assignments)
}

fn after_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

fn assignment(text: &str, line: usize) -> Result<(Assignment, &str), &'static str> {
    let first = text.lines().next().unwrap_or_default();
    let equals = first.find('=').ok_or("it is not VARIABLE=VALUE")?;
    let name = first[..equals].trim_end();
    let variable = name.strip_prefix("export ").map_or(name, str::trim_start);
    if !is_variable(variable) {
        return Err(NO_VARIABLE);
    }
    let value = text[equals + 1..].trim_start_matches([' ', '\t']);
    let (value, rest) = match value.chars().next() {
        Some('\'') => single_quoted(&value[1..])?,
        Some('"') => double_quoted(&value[1..])?,
        _ => {
            return Ok((
                Assignment { line, variable: variable.into(), value: bare(value) },
                after_line(value),
            ));
        }
    };
    let trailing = rest.lines().next().unwrap_or_default().trim_start_matches([' ', '\t']);
    if !trailing.trim_end().is_empty() && !trailing.starts_with('#') {
        return Err("something follows the closing quote");
    }
    Ok((Assignment { line, variable: variable.into(), value }, after_line(rest)))
}

fn bare(text: &str) -> Zeroizing<String> {
    let line = text.lines().next().unwrap_or_default();
    let end = [" #", "\t#"].iter().filter_map(|comment| line.find(comment)).min().unwrap_or(line.len());
    let value = if line.starts_with('#') { "" } else { line[..end].trim_end() };
    Zeroizing::new(value.to_owned())
}

fn single_quoted(text: &str) -> Result<(Zeroizing<String>, &str), &'static str> {
    let end = text.find('\'').ok_or("a quote is not closed")?;
    Ok((Zeroizing::new(text[..end].to_owned()), &text[end + 1..]))
}

fn double_quoted(text: &str) -> Result<(Zeroizing<String>, &str), &'static str> {
    // As long as it can get: a string that grows leaves copies behind.
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c @ ('\\' | '"' | '$'))) => value.push(c),
                Some((_, c)) => value.extend(['\\', c]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("a quote is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(usize, String, String)> {
        let assignments = parse(text).unwrap_or_else(|e| panic!("{text:?}: {e:?}"));
        assignments.into_iter().map(|a| (a.line, a.variable, a.value.to_string())).collect()
    }

    fn value(text: &str) -> String {
        parsed(text).remove(0).2
    }

    #[test]
    fn values_are_read_as_written() {
        for (text, expected) in [
            ("A=b", "b"),
            ("A=b c  ", "b c"),
            ("A = b", "b"),
            ("  export A=b", "b"),
            ("A=", ""),
            ("A= # none", ""),
            ("A=b # comment", "b"),
            ("A=b#c", "b#c"),
            ("A='b # c' # d", "b # c"),
            ("A='$x\\n'", "$x\\n"),
            ("A=\"b\\n\\\"\\$\\\\\\q\"", "b\n\"$\\\\q"),
            ("A=b=c==", "b=c=="),
            ("A=b\r\nB=c", "b"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_are_counted_over_comments_and_long_values() {
        let text = "# first\n\nA='1\n2'\n\t# x\nB=3";
        assert_eq!(parsed(text), [(3, "A".into(), "1\n2".into()), (6, "B".into(), "3".into())]);
    }

    #[test]
    fn what_cannot_be_read_is_placed_and_not_repeated() {
        for (text, line) in [
            ("s3cret", 1),
            ("A=1\n2B=s3cret", 2),
            ("A='s3cret", 1),
            ("\nA=\"s3cret", 2),
            ("A='a' s3cret", 1),
            ("=a", 1),
        ] {
            let (at, what) = parse(text).err().unwrap_or_else(|| panic!("{text:?}"));
            assert_eq!(at, line, "{text:?}");
            assert!(!what.contains("s3cret"));
        }
    }
}
