//! A TPM's resource manager in user space: tpm2-abrmd before a swtpm.

use crate::eventually::eventually;
use crate::swtpm::{Swtpm, installed};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// tpm2-abrmd before a swtpm, on a session bus of its own.
pub struct ResourceManager {
    bus: Child,
    manager: Child,
    /// The bus: `DBUS_SESSION_BUS_ADDRESS` of its clients.
    pub address: String,
}

impl ResourceManager {
    /// Starts it. `None`, visibly, where a program is missing.
    pub fn before(tpm: &Swtpm) -> Option<Self> {
        let transport = |directory: &str| Path::new(directory).join("libtss2-tcti-tabrmd.so.0").exists();
        let there = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
        if !["tpm2-abrmd", "dbus-daemon", "dbus-send"].map(installed).iter().all(|is| *is)
            || !there.into_iter().any(transport)
        {
            let missing = "missing: apt-get install tpm2-abrmd libtss2-tcti-tabrmd0 dbus";
            crate::skip::skip(missing);
            return None;
        }
        let address = format!("unix:path={}", tpm.dir.join("bus").display());
        let quiet = |command: &mut Command| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let bus = quiet(
            Command::new("dbus-daemon")
                .args(["--session", "--nofork", "--nopidfile"])
                .arg(format!("--address={address}")),
        );
        wait_for(&tpm.dir.join("bus"));
        let manager = quiet(
            Command::new("tpm2-abrmd")
                .args([&format!("--tcti={}", tpm.tcti()), "--session", "--allow-root"])
                .env("DBUS_SESSION_BUS_ADDRESS", &address),
        );
        let manager = Self { bus, manager, address };
        manager.wait_until_named();
        Some(manager)
    }

    fn wait_until_named(&self) {
        let named = || {
            let output = Command::new("dbus-send")
                .args(["--session", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus"])
                .args(["org.freedesktop.DBus.NameHasOwner", "string:com.intel.tss2.Tabrmd"])
                .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).contains("true")
        };
        assert!(eventually(Duration::from_secs(20), named), "tpm2-abrmd does not start");
    }
}

impl Drop for ResourceManager {
    fn drop(&mut self) {
        for child in [&mut self.manager, &mut self.bus] {
            let _ = child.kill();
            let _ = child.wait();
            let mut said = String::new();
            let _ = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
            if std::thread::panicking() {
                eprintln!("{said}");
            }
        }
    }
}

fn wait_for(path: &Path) {
    assert!(eventually(Duration::from_secs(20), || path.exists()), "{} does not appear", path.display());
}
