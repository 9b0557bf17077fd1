//! A simulated TPM of a test's own: its own state, ports and process, gone when the test is.

use crate::eventually::eventually;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// swtpm, running.
pub struct Swtpm {
    /// Where its state lies; room for a test's other files too.
    pub dir: PathBuf,
    /// Commands go to this port; the next one is its control port.
    pub port: u16,
    child: Child,
}

impl Swtpm {
    /// A new one, or `None` where swtpm is not installed. Where `CI` is set that is a failure.
    pub fn new() -> Option<Self> {
        if !installed("swtpm") {
            crate::skip::skip("swtpm is missing: apt-get install swtpm");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("swtpm-").tempdir().unwrap().keep();
        std::fs::create_dir(dir.join("state")).unwrap();
        let (port, child) = (0..100).find_map(|_| launch(&dir, pair_of_ports())).expect("swtpm starts");
        Some(Self { dir, port, child })
    }

    /// Its transport, as tpm2-tss names it.
    pub fn tcti(&self) -> String {
        tcti(self.port)
    }

    /// The device's URI.
    pub fn uri(&self) -> String {
        uri(self.port)
    }

    /// Its process dies, without a word to the TPM.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again at the same ports, with the same state: a machine that was switched off.
    pub fn start(&mut self) {
        let began = Instant::now();
        // The ports may be kept from a new server for a moment.
        self.child = loop {
            match launch(&self.dir, self.port) {
                Some((_, child)) => break child,
                None => assert!(began.elapsed() < Duration::from_secs(20), "swtpm does not start again"),
            }
        };
    }

    /// Stops answering, or goes on.
    pub fn hang(&self, hang: bool) {
        let signal = if hang { "-STOP" } else { "-CONT" };
        run(Command::new("kill").args([signal, &self.child.id().to_string()]));
    }

    /// Resets the TPM while its process and connections stay: what a reboot does.
    pub fn reset(&self) {
        run(Command::new("swtpm_ioctl").args(["--tcp", &format!("127.0.0.1:{}", self.port + 1), "-i"]));
    }

    /// Runs one of tpm2-tools on it; its standard output.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> String {
        run(Command::new(program).args(arguments).current_dir(&self.dir).env("TPM2TOOLS_TCTI", self.tcti()))
    }

    /// How many objects and sessions are loaded now. Nobody else may be connected.
    pub fn loaded(&self) -> (usize, usize) {
        let count = |what: &str| self.tool("tpm2_getcap", &[what]).matches("0x").count();
        (count("handles-transient"), count("handles-loaded-session"))
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// tpm2-tss's name for swtpm at a port.
pub fn tcti(port: u16) -> String {
    format!("swtpm:host=127.0.0.1,port={port}")
}

/// The device's URI for swtpm at a port.
pub fn uri(port: u16) -> String {
    format!("tpm:?tcti={}", tcti(port))
}

/// Whether a program is on the path.
pub fn installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
}

/// Runs a program; its standard output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Two neighbouring ports that nobody listens on, below the ephemeral range.
pub fn pair_of_ports() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut random = [0; 2];
    loop {
        rand_core::RngCore::fill_bytes(&mut rand_core::OsRng, &mut random);
        let port = 10_000 + u16::from_ne_bytes(random) % 22_000;
        if free(port) && free(port + 1) {
            return port;
        }
    }
}

/// Starts a program without the files that this process has open. The TSS opens its sockets without `O_CLOEXEC`: a swtpm that
/// inherits another test's connection keeps it open, and the other swtpm serves nobody else.
const WITHOUT_FILES: &str = r#"
for fd in /proc/$$/fd/*; do
    fd=${fd##*/}
    [ "$fd" -le 2 ] || eval "exec $fd>&-"
done
exec "$0" "$@""#;

/// `None` when somebody else was quicker to take the ports.
fn launch(dir: &Path, port: u16) -> Option<(u16, Child)> {
    let address = |port: u16| format!("type=tcp,port={port},bindaddr=127.0.0.1");
    let mut child = Command::new("bash")
        .args(["-c", WITHOUT_FILES, "swtpm", "socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .args(["--tpmstate", &format!("dir={}", dir.join("state").display())])
        .args(["--server", &address(port), "--ctrl", &address(port + 1)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut listens = false;
    let settled = eventually(Duration::from_secs(20), || {
        let ended = child.try_wait().unwrap().is_some();
        // The control port: the other one serves one connection at a time.
        listens = !ended && TcpStream::connect(("127.0.0.1", port + 1)).is_ok();
        ended || listens
    });
    if settled && listens {
        return Some((port, child));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}
