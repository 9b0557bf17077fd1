//! Every block of shell that a reader of README, getting-started and the how-tos is told to type, run on simulators: each
//! page in a home of its own, its blocks in order, by `bash -euo pipefail`.

use crate::home::Home;
use crate::links::root;
use crate::page::{blocks, script};
use std::path::PathBuf;

/// The pages that tell people what to type.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("docs/getting-started.md")];
    let howtos = std::fs::read_dir(root().join("docs/howto")).unwrap();
    pages.extend(howtos.map(|entry| entry.unwrap().path()));
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
    let mut problems = Vec::new();
    for page in pages() {
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        let blocks = blocks(&std::fs::read_to_string(&page).unwrap());
        for block in &blocks {
            if let Some(reason) = &block.not_run {
                eprintln!("NOT RUN: {name}:{}: {reason}", block.line);
            }
        }
        let not_run = blocks.iter().filter(|block| block.not_run.is_some()).count();
        eprintln!("{name}: {} blocks run, {not_run} not", blocks.len() - not_run);
        let Some(home) = Home::new() else { return };
        problems.extend(failure(&script(&blocks), &home).map(|why| format!("{name}: {why}")));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
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
