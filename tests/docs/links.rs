//! Links in Markdown pages, and pages that other files name.

use std::path::{Path, PathBuf};

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The repository's files with one of these extensions. What is built or hidden is not searched.
pub fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let extension = path.extension().map_or("", |extension| extension.to_str().unwrap());
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                directories.push(path);
            } else if path.is_file() && extensions.contains(&extension) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// A page's text without its code, which holds no links, and its code spans. Blocks are in neither.
pub fn prose_and_code(page: &str) -> (String, Vec<&str>) {
    let (mut prose, mut code) = (String::new(), Vec::new());
    let mut in_block = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            prose.extend(line.split('`').step_by(2));
            prose.push('\n');
            code.extend(line.split('`').skip(1).step_by(2));
        }
    }
    (prose, code)
}

/// The targets of `[text](target)`.
fn targets(page: &str) -> Vec<String> {
    let (prose, _) = prose_and_code(page);
    let ends = prose.split("](").skip(1);
    ends.map(|end| end.split_once(')').expect("a link ends with a bracket").0.to_owned()).collect()
}

/// The anchors of a page's headings, made as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let mut in_block = false;
    let headings = page.lines().filter(|line| {
        in_block ^= line.starts_with("```");
        !in_block && line.starts_with('#')
    });
    let anchor = |heading: &str| -> String {
        let kept = |c: &char| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_';
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        text.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// Why a link does not lead anywhere, if so.
fn broken(page: &Path, target: &str) -> Option<String> {
    if target.starts_with("https://") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
    if !file.exists() {
        return Some("there is no such file".to_owned());
    }
    if anchor.is_empty() {
        return None;
    }
    let there = anchors(&std::fs::read_to_string(file).unwrap());
    (!there.iter().any(|name| name == anchor)).then(|| format!("there is no such heading among {there:?}"))
}

#[test]
fn every_link_leads_somewhere() {
    let mut checked = 0;
    let mut problems = Vec::new();
    for page in files(&["md"]) {
        for target in targets(&std::fs::read_to_string(&page).unwrap()) {
            checked += 1;
            problems.extend(broken(&page, &target).map(|why| format!("{}: {target}: {why}", page.display())));
        }
    }
    assert!(checked > 40, "only {checked} links were found");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn links_that_lead_nowhere_are_found() {
    let page = root().join("README.md");
    assert_eq!(targets("[a](b) `[c](d)`\n```\n[e](f)\n```\n[g](h#i)"), ["b", "h#i"]);
    assert!(broken(&page, "docs/no-such-page.md").is_some());
    assert!(broken(&page, "#no-such-heading").is_some());
    assert!(broken(&page, "LICENSE-MIT").is_none());
}

/// Every `docs/….md` that source, scripts, packaging and pages name.
#[test]
fn every_page_that_is_named_is_there() {
    let mut named = 0;
    for file in files(&["rs", "md", "sql", "service", "socket", "conf", "toml", "sh", ""]) {
        let text = std::fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&text);
        for after in text.split("docs/").skip(1) {
            let end = after
                .find(|c: char| !(c.is_ascii_alphanumeric() || "/-.".contains(c)))
                .unwrap_or(after.len());
            let Some(page) = after[..end].split_inclusive(".md").next().filter(|page| page.ends_with(".md"))
            else {
                continue;
            };
            named += 1;
            assert!(
                page == "no-such-page.md" || root().join("docs").join(page).exists(),
                "{}: docs/{page} is not there",
                file.display()
            );
        }
    }
    assert!(named > 30, "only {named} pages were named");
}
