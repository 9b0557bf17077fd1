//! Tests that this machine cannot run.

use std::fs::OpenOptions;
use std::io::Write;

/// Where `scripts/test` collects what was skipped.
const LIST: &str = "STRONGROOM_TEST_SKIPPED";

/// Reports the running test as skipped, with the reason. Where `CI` is set the test fails instead.
///
/// The harness hides what a passing test prints, so this writes to standard error itself.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    tell(reason);
}

/// As [`skip`], for a program that no script can install, since it is in no Debian: no failure where `CI` is set either.
pub fn skip_not_in_debian(reason: &str) {
    tell(reason);
}

fn tell(reason: &str) {
    let line = format!("SKIPPED {}: {reason}\n", running_test());
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(list) = std::env::var_os(LIST) {
        let mut list = OpenOptions::new().append(true).create(true).open(list).unwrap();
        list.write_all(line.as_bytes()).unwrap();
    }
}

/// The harness names each test's thread after it. With a single test there is no such thread, and the test is an argument.
fn running_test() -> String {
    let thread = std::thread::current();
    let name = thread.name().filter(|name| *name != "main").map(str::to_owned);
    name.or_else(|| std::env::args().nth(1)).unwrap_or_default()
}
