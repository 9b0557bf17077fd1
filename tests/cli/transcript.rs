//! Transcripts: what is typed and what comes back, word for word, in `transcripts/*.md`.
//!
//! A transcript is a page of prose with blocks of commands, each after a `$` and run by `sh` in a home of the page's own;
//! below it stands what comes back, stderr and stdout as they come, and `? N` for an exit code other than 0. There is no terminal.
//! `SNAPSHOTS=overwrite` writes down what comes back now.

use crate::redact::redact;
use snapbox::{Assert, Data};
use std::path::{Path, PathBuf};
use test_support::home::Home;
use test_support::swtpm::Swtpm;

macro_rules! transcripts {
    ($($name:ident)*) => {
        $(#[test] fn $name() { play(stringify!($name)); })*
        const ALL: &[&str] = &[$(stringify!($name)),*];
    };
}

transcripts! {
    adopt audit backup checkpoint credential device device_add doctor edit get grants import init inject list log lost
    names pins policy project put quorum rename report reseal retire rotate run settings shell show states
    stores threshold threshold_tpm tpm trust verify
}

#[test]
fn every_transcript_is_played() {
    let files = std::fs::read_dir(directory()).unwrap();
    let mut there: Vec<_> =
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    there.sort();
    assert_eq!(there, ALL);
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/transcripts")
}

fn play(name: &str) {
    let Some(mut home) = Home::new() else { return };
    if name == "lost" || name.ends_with("tpm") {
        let Some(tpm) = Swtpm::new() else { return };
        home.tpm = Some(tpm);
    }
    let path = directory().join(format!("{name}.md"));
    let written = std::fs::read_to_string(&path).unwrap();
    let played = replay(&written, &home);
    // Backslashes are what escaped control characters begin with, not Windows paths.
    let assert = Assert::new().normalize_paths(false).action_env("SNAPSHOTS");
    assert.eq(Data::text(played), Data::read_from(&path, None));
}

/// The page with what comes back now in place of what came back then.
fn replay(page: &str, home: &Home) -> String {
    let mut out = String::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        out += line;
        out += "\n";
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let mut command = command.to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with("> ")) {
            out += &format!("{more}\n");
            command += &format!("\n{}", &more[2..]);
        }
        while lines.next_if(|line| !line.starts_with("$ ") && *line != "```").is_some() {}
        out += &answer(&command, home);
    }
    out
}

fn answer(command: &str, home: &Home) -> String {
    let script = format!("exec 2>&1\n{command}");
    let output = home.command("setsid").args(["--wait", "sh", "-c", &script]).output().unwrap();
    let mut text = redact(&String::from_utf8_lossy(&output.stdout), home);
    if !text.is_empty() && !text.ends_with('\n') {
        text += "\n";
    }
    match output.status.code() {
        Some(0) => text,
        Some(code) => format!("{text}? {code}\n"),
        None => format!("{text}? {}\n", output.status),
    }
}
