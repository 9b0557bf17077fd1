//! What other processes may learn of this one: nothing.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::Duration;
use test_support::eventually::eventually;
use test_support::home::strongroom;

/// Anybody but root: the kernel shows to whom a process may be dumped by whom its files in /proc belong to.
const NOBODY: u32 = 65534;

#[test]
fn the_process_cannot_be_dumped() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = directory.path().join("strongroom");
    std::fs::copy(strongroom(), &program).unwrap();
    let mut command = match rustix::process::geteuid().is_root() {
        false => Command::new(&program),
        true => {
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={NOBODY}"), "--clear-groups", "--"]).arg(&program);
            command
        }
    };
    // It reads all of its input before it does anything else.
    command.args(["import", "--format", "env"]).env("HOME", directory.path()).current_dir("/");
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();

    let proc = format!("/proc/{}", child.id());
    let is_hardened = || {
        let limits = std::fs::read_to_string(format!("{proc}/limits")).unwrap();
        let mut core = limits.lines().filter(|line| line.starts_with("Max core file size"));
        std::fs::read(format!("{proc}/comm")).unwrap() == b"strongroom\n"
            && core.all(|line| line.split_whitespace().nth(4) == Some("0"))
            && std::fs::metadata(format!("{proc}/mem")).unwrap().uid() == 0
    };
    assert!(eventually(Duration::from_secs(20), is_hardened), "it can be dumped");
    drop(child.stdin.take());
    child.wait().unwrap();
}
