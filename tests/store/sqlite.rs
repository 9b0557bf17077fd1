//! What can go wrong with a store's file.

mod crash;
mod damage;
mod files;
mod full;
mod permissions;
mod planted;
mod traces;

use std::path::Path;
use std::process::Command;

/// Set for the copy of this program that runs one test's inner half: where its store lies.
const INNER: &str = "STRONGROOM_TEST_INNER";

/// The inner half of a test, run in a process of its own.
///
/// `prelude` is a shell script that prepares the place `$1`; it runs in new user and mount namespaces, so it may mount.
/// Where those are not allowed the test is skipped, visibly; where `CI` is set that is a failure.
fn run_isolated(unshare: &str, prelude: &str, test: &str, place: &Path) {
    let allowed = Command::new("unshare").args([unshare, "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        return test_support::skip::skip("user namespaces are not allowed here");
    }
    let script = format!("set -e; {prelude}; exec \"$2\" --exact \"$3\" --include-ignored --nocapture");
    let output = Command::new("unshare")
        .args([unshare, "sh", "-c", &script, "sh"])
        .arg(place)
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(INNER, place)
        .output()
        .unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && said.contains("1 passed"), "{test}:\n{said}");
}

/// The place of an inner half. Those are ignored unless asked for, and then this is set.
fn inner() -> std::path::PathBuf {
    std::env::var_os(INNER).expect("the inner half of another test").into()
}
