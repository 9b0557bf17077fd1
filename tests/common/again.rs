//! A test in a process of its own: the test binary starts itself again.
#![allow(dead_code, clippy::unwrap_used)]

use std::process::Command;

/// This test binary again, for one test, named by its path or its closure's type name: `crate::module::test::{{closure}}`.
pub fn again(closure: &str) -> Command {
    let test = closure.trim_end_matches("::{{closure}}").split_once("::").unwrap().1;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"]);
    command
}

/// Runs it; fails with what it said.
pub fn passes(command: &mut Command) {
    let output = command.output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{failed}");
}
