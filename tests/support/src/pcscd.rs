//! A real pcscd with vpcd's readers, in namespaces of its own: no root, and nothing of the machine's own pcscd.

use crate::eventually::eventually;
use crate::yubikey::YubiKey;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use virtual_yubikey::vpcd::{self, Plugged};

/// vpcd listens on this port, which is below the ephemeral ones, and the next.
pub const PORT: u16 = 31_488;
/// A user, and the names it may not share: mounts, network and processes.
const NAMESPACES: [&str; 8] =
    ["--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// In the namespaces: an empty /run for pcscd's socket, and a loopback that acknowledges at once. (vpcd sends each message in two
/// pieces, and waits for the first to be acknowledged before it sends the second.)
const PREPARE: &str = "mount -t tmpfs tmpfs /run && ip link set lo up && \
    { ip route replace local 127.0.0.1 dev lo table local src 127.0.0.1 quickack 1 || :; }";

/// Runs a test in namespaces of its own. Skips, visibly, where there are none, or no pcscd.
pub fn in_namespaces<F: FnOnce()>(test: F) {
    let missing = if !is_installed("pcscd") || driver().is_none() {
        "pcscd or vpcd is missing: apt-get install pcscd vsmartcard-vpcd"
    } else if !is_installed("ip") {
        "ip is missing: apt-get install iproute2"
    } else {
        return crate::subprocess::in_namespaces(&NAMESPACES, PREPARE, test);
    };
    crate::skip::skip(missing);
}

/// Whether a program is on the path, or where Debian has those of administrators.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|dir| dir.join(program).exists())
}

fn driver() -> Option<&'static Path> {
    let candidates =
        ["/usr/lib/pcsc/drivers/serial/libifdvpcd.so", "/usr/local/lib/pcsc/drivers/serial/libifdvpcd.so"];
    candidates.into_iter().map(Path::new).find(|path| path.exists())
}

/// Puts a card into vpcd's reader at this port.
pub fn plug(card: &YubiKey, port: u16) -> Plugged {
    let mut plugged = None;
    wait(|| {
        plugged = vpcd::plug(card.body(), port).ok();
        plugged.is_some()
    });
    plugged.unwrap()
}

/// Waits for pcscd to have noticed something.
pub fn wait(until: impl FnMut() -> bool) {
    assert!(eventually(Duration::from_secs(30), until), "pcscd does not come up");
}

/// A pcscd in the foreground, with two of vpcd's readers.
pub struct Pcscd {
    child: Child,
    directory: PathBuf,
}

impl Pcscd {
    /// Starts it, with its configuration in this directory.
    pub fn start(directory: &Path) -> Self {
        let readers = format!(
            "FRIENDLYNAME \"Yubico YubiKey OTP+FIDO+CCID\"\nDEVICENAME /dev/null:0x{PORT:X}\nLIBPATH {}\nCHANNELID 0x{PORT:X}\n",
            driver().unwrap().display()
        );
        std::fs::write(directory.join("vpcd"), readers).unwrap();
        Self { child: running(directory), directory: directory.into() }
    }

    /// Ends it, and starts another.
    pub fn restart(&mut self) {
        self.end();
        self.child = running(&self.directory);
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // One that is killed leaves its socket.
        let _ = std::fs::remove_dir_all("/run/pcscd");
    }
}

impl Drop for Pcscd {
    fn drop(&mut self) {
        self.end();
    }
}

fn running(directory: &Path) -> Child {
    // Debian has it where not everybody looks for programs.
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("pcscd");
    command.args(["--foreground", "--critical", "-c"]).arg(directory).env("PATH", path);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait(|| Path::new("/run/pcscd/pcscd.comm").exists());
    child
}
