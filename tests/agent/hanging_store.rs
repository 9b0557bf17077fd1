//! A store that does not answer.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use test_support::home::Home;

/// Another process holds the locks of SQLite's readers on the wal-index (walformat.html, "Locking"), until this is dropped.
pub struct HangingStore(Child);

const LOCKS: &str = "
import fcntl,sys
f = open(sys.argv[1],'r+b')
fcntl.lockf(f,fcntl.LOCK_EX,5,123)
print('locked',flush=True)
sys.stdin.readline()
";

impl HangingStore {
    /// Of this user.
    pub fn of(home: &Home) -> Self {
        let index = home.dir.join("data/strongroom/store.sqlite-shm");
        let mut python = Command::new("python3");
        python.args(["-c", LOCKS]).arg(index).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "locked\n");
        Self(child)
    }
}

impl Drop for HangingStore {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.0.stdin.take() {
            let _ = stdin.write_all(b"\n");
        }
        let _ = self.0.wait();
    }
}
