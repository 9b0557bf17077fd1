//! A test in a process of its own, or in namespaces of its own: the test binary starts itself again.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// This test binary again, for one test, named by its path or its closure's type name: `crate::module::test::{{closure}}`.
pub fn rerun(closure: &str) -> Command {
    let test = closure.trim_end_matches("::{{closure}}").split_once("::").unwrap().1;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"]);
    command
}

/// Runs it; fails with what it said.
pub fn assert_passes(command: &mut Command) {
    let output = command.output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{failed}");
}

/// The places between the writes of a change, in their order: of its batch, its replica, its pin.
pub const FAILPOINTS: [&str; 13] = [
    "submit.signed",
    "append.begun",
    "append.batch",
    "append.heads",
    "append.sealed",
    "append.written",
    "append.committed",
    "replica.written",
    "replica.committed",
    "pin.written",
    "pin.renamed",
    "submit.followed",
    "submit.counted",
];

/// Runs it to its death at a failpoint (`NAME`, or `NAME:3` for the third time), which it must reach. What it wrote to
/// standard output before.
pub fn killed_at(command: &mut Command, failpoint: &str) -> String {
    let output = command.env("STRONGROOM_FAILPOINT", failpoint).output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.signal(), Some(9), "{failpoint} was not reached:\n{said}\n{failed}");
    said.into_owned()
}

/// Set in a process of [`in_namespaces`].
const INSIDE: &str = "STRONGROOM_TEST_NAMESPACE";

/// Runs a test in these namespaces (options of `unshare`), prepared by a line of shell. Skips, visibly, where they are forbidden;
/// where `CI` is set that is a failure.
pub fn in_namespaces<F: FnOnce()>(namespaces: &[&str], prepare: &str, test: F) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let mut possible = Command::new("unshare");
    possible.args(namespaces).arg("true").stderr(Stdio::null());
    if !possible.status().is_ok_and(|status| status.success()) {
        crate::skip::skip("namespaces are forbidden here");
        return;
    }
    let rerun = rerun(std::any::type_name::<F>());
    let line = format!("{prepare} && exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["sh", "-c", &line]).arg(rerun.get_program()).args(rerun.get_args());
    assert_passes(command.env(INSIDE, "1"));
}
