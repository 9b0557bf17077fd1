//! A user's home with a SoftHSM: what a command runs in.

use crate::softhsm::{self, LABEL, PIN, SoftHsm};
use crate::swtpm::Swtpm;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// The path of the command under test, which cargo builds beside the directory of this test.
pub fn strongroom() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| {
        let path = std::env::current_exe().unwrap().parent().unwrap().with_file_name("strongroom");
        assert!(path.exists(), "{} is missing", path.display());
        path.into_os_string().into_string().unwrap()
    });
    &PATH
}

/// A directory with nothing in it but what a test puts there, and a device.
pub struct Home {
    /// Its device.
    pub hsm: SoftHsm,
    /// `$HOME`.
    pub dir: PathBuf,
    /// A simulated TPM, for those who start one.
    pub tpm: Option<Swtpm>,
}

impl Home {
    /// `None`, visibly, where SoftHSM is missing.
    pub fn new() -> Option<Self> {
        let hsm = SoftHsm::new()?;
        let dir = hsm.dir.join("home");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("pin"), PIN).unwrap();
        std::fs::set_permissions(dir.join("pin"), PermissionsExt::from_mode(0o600)).unwrap();
        Some(Self { hsm, dir, tpm: None })
    }

    /// With a store whose device is the SoftHSM's token.
    pub fn with_store() -> Option<Self> {
        let home = Self::new()?;
        home.ok(&["init", "--quiet", "--device", &home.device()]);
        Some(home)
    }

    /// The token's URI, with its PIN in a file.
    pub fn device(&self) -> String {
        let without = self.hsm.uri_without_pin(&format!("token={LABEL}"));
        format!("{without}&pin-source=file:{}", self.dir.join("pin").display())
    }

    /// Another token's, for those who make it.
    fn backup(&self) -> String {
        self.device().replacen(&format!("token={LABEL}"), "token=backup", 1)
    }

    /// A program here, with nothing in its environment but what it needs.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let bin = PathBuf::from(strongroom());
        let path = std::env::join_paths(
            std::iter::once(bin.parent().unwrap().to_owned())
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        command.env_clear().env("PATH", path.unwrap()).envs(self.hsm.environment());
        command.current_dir(&self.dir).env("HOME", &self.dir).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        for (variable, directory) in [("CONFIG", "config"), ("STATE", "state"), ("DATA", "data")] {
            command.env(format!("XDG_{variable}_HOME"), self.dir.join(directory));
        }
        if let Some(tpm) = &self.tpm {
            command.env("TPM", tpm.uri()).env("TPM2TOOLS_TCTI", tpm.tcti());
        }
        // No other device of this machine has a part in it.
        command.env("STRONGROOM_PKCS11_MODULE", softhsm::module().unwrap());
        command.env("DEVICE", self.device()).env("BACKUP", self.backup()).stdin(Stdio::null());
        command.env("STRONGROOM_AGENT", "");
        command
    }

    /// `strongroom` with these arguments.
    pub fn strongroom(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(strongroom());
        command.args(arguments);
        command
    }

    /// Its output, when it succeeds.
    pub fn ok(&self, arguments: &[&str]) -> Output {
        let output = self.strongroom(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Puts a token.
    pub fn put(&self, name: &str, token: &[u8]) {
        let mut put = self.strongroom(&["put", "--quiet", name]);
        let mut child = put.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(token).unwrap();
        assert!(child.wait().unwrap().success());
    }
}
