//! Programs that a test writes and runs.

use std::path::Path;
use std::process::Command;

/// Makes an executable file. A child writes it: a file that was open for writing here could not be run (ETXTBSY) as long as a
/// child that another test starts at that moment holds it open too.
pub fn write_executable(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    let status = Command::new("install").args(["-m", "700"]).args([&draft, path]).status().unwrap();
    assert!(status.success(), "install {}", path.display());
}
