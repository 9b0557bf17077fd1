//! Every block of shell that a reader of README, getting-started and the how-tos is told to type, run on simulators: each
//! page in a home of its own, its blocks in order, by `bash -euo pipefail`.

use crate::home::Home;
use crate::links::root;
use crate::page::{blocks, script};
use std::io::Write;
use std::path::PathBuf;

/// The pages that tell people what to type.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("docs/getting-started.md")];
    let howtos = std::fs::read_dir(root().join("docs/howto")).unwrap();
    pages.extend(howtos.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()));
    pages.sort();
    pages
}

/// What went wrong when the page was run, if something did.
fn failure(script: &str, home: &Home) -> Option<String> {
    let output = home.run(script);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (!output.status.success())
        .then(|| format!("{}\n{}\n{}", output.status, said(&output.stdout), said(&output.stderr)))
}

#[test]
fn what_the_pages_say_works() {
    let (mut run, mut not_run, mut problems) = (0, Vec::new(), Vec::new());
    for page in pages() {
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        let blocks = blocks(&std::fs::read_to_string(&page).unwrap());
        let reasons = blocks.iter().filter_map(|block| Some((block.line, block.not_run.as_ref()?)));
        not_run.extend(reasons.map(|(line, reason)| format!("\n  {name}:{line}: {reason}")));
        run += blocks.iter().filter(|block| block.not_run.is_none()).count();
        let Some(home) = Home::new() else { return };
        problems.extend(failure(&script(&blocks), &home).map(|why| format!("{name}: {why}")));
    }
    // Past the harness, which shows nothing of what a passing test prints.
    let summary =
        format!("NOT RUN: {} of {} blocks of shell{}", not_run.len(), run + not_run.len(), not_run.concat());
    writeln!(std::io::stderr(), "{summary}").unwrap();
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// The reference is looked up in rather than followed, but for this section, whose blocks build on each other.
#[test]
fn signed_policies_are_made_in_the_order_of_the_page() {
    let Some(home) = Home::new() else { return };
    if !test_support::softhsm::installed("tpm2_createpolicy") {
        return test_support::skip::skip("tpm2_createpolicy is missing: apt-get install tpm2-tools");
    }
    let page = std::fs::read_to_string(root().join("docs/reference/tpm.md")).unwrap();
    let section = page.split("\n### Signed policies\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let store = "strongroom init --device piv:serial=12345678\nstrongroom put --quiet a --generate\n";
    let why = failure(&(store.to_owned() + &script(&blocks(section))), &home);
    assert_eq!(why, None, "{}", why.as_deref().unwrap_or_default());
}

#[test]
fn a_block_that_fails_is_noticed() {
    let Some(home) = Home::new() else { return };
    let page =
        "```sh\nstrongroom completions bash >completions\n```\n```sh\nfalse | cat\ntouch reached\n```\n";
    let why = failure(&script(&blocks(page)), &home).unwrap();
    assert!(why.ends_with("the block at line 1:\nthe block at line 4:\n"), "{why}");
    assert!(failure("test -s completions && test ! -e reached", &home).is_none());
    let refused = |command| format!("<!-- exit code: 2 -->\n```sh\n{command}\n```\n");
    assert!(failure(&script(&blocks(&refused("strongroom nonsense"))), &home).is_none());
    assert!(failure(&script(&blocks(&refused("strongroom man >man"))), &home).is_some());
    assert!(failure(&script(&blocks(&refused("strongroom list"))), &home).is_some());
}
