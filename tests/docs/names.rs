//! Files and tests that pages name, and attacks that the format's page names.

use crate::links::{files, root};

/// Pages that name tests and files.
const PAGES: [&str; 5] = [
    "CONTRIBUTING.md",
    "docs/explanation/architecture.md",
    "docs/explanation/evidence.md",
    "docs/explanation/threat-model.md",
    "docs/reference/format.md",
];

/// What stands between backticks.
fn spans(page: &str) -> impl Iterator<Item = &str> {
    page.split('`').skip(1).step_by(2)
}

fn is_test_name(span: &str) -> bool {
    span.matches('_').count() >= 2 && span.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

#[test]
fn tests_that_pages_name_are_there() {
    let sources: Vec<_> = files(&["rs"]).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let (mut paths, mut names) = (0, 0);
    for page in PAGES {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        for span in spans(&text) {
            // One with a capital letter or a bracket stands for any.
            let is_path = span.starts_with("tests/") || span.starts_with("src/");
            if is_path && !span.contains(|c: char| c.is_ascii_uppercase() || c == '<') {
                paths += 1;
                assert!(root().join(span).exists(), "{page}: {span} is not there");
            } else if is_test_name(span) {
                names += 1;
                let declared = format!("fn {span}(");
                assert!(
                    sources.iter().any(|source| source.contains(&declared)),
                    "{page}: no test is called {span}"
                );
            }
        }
    }
    assert!(paths > 40 && names > 40, "only {paths} paths and {names} tests were found");
}

/// The marks of attacks in the format's prose: lower-case words in brackets that are no link.
fn marks(page: &str) -> Vec<&str> {
    let prose = page.split("```").step_by(2);
    let spans = prose.flat_map(|part| part.split('`').step_by(2));
    let brackets = spans.flat_map(|span| span.split('[').skip(1)).filter_map(|rest| {
        let (mark, after) = rest.split_once(']')?;
        (!after.starts_with('(') && mark.len() > 5).then_some(mark)
    });
    brackets
        .filter(|mark| mark.starts_with(|c: char| c.is_ascii_lowercase()) && !mark.contains(':'))
        .collect()
}

#[test]
fn every_attack_that_the_format_answers_is_told() {
    let read = |page: &str| std::fs::read_to_string(root().join(page)).unwrap();
    let (format, threats) = (read("docs/reference/format.md"), read("docs/explanation/threat-model.md"));
    let threats = threats.replace('\n', " ");
    let format = format.replace('\n', " ");
    let marks = marks(&format);
    assert!(marks.len() > 12, "{marks:?}");
    for mark in marks {
        assert!(
            mark == "brackets" || threats.contains(&format!("**[{mark}]")),
            "[{mark}] is not in the threat model"
        );
    }
}
