//! A reader's home: nothing in it but what the page puts there, and simulators in place of hardware.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use test_support::postgres::{Postgres, SUPERUSER};
use test_support::swtpm::Swtpm;
use test_support::yubikey::{Options, PIN, VirtualYubiKey};

/// The serial numbers of the YubiKeys that the pages name.
const SERIALS: [u32; 2] = [12_345_678, 87_654_321];

/// Answers each question for a PIN with [`PIN`], as a person would.
const PINENTRY: &str = "#!/bin/sh
echo OK
while read -r command rest; do
    [ \"$command\" != GETPIN ] || echo \"D @PIN@\"
    echo OK
done
";

/// The pages' readers may become root; the tests need not.
const SUDO: &str = "#!/bin/sh
exec \"$@\"
";

/// A directory, a SoftHSM without tokens, a TPM and two YubiKeys.
pub struct Home {
    dir: tempfile::TempDir,
    tpm: Swtpm,
    yubikeys: VirtualYubiKey,
}

impl Home {
    /// `None`, visibly, where a simulator is missing. Where `CI` is set that is a failure.
    pub fn new() -> Option<Self> {
        if test_support::softhsm::module().is_none() {
            test_support::skip::skip("SoftHSM is missing: apt-get install softhsm2");
            return None;
        }
        let tpm = Swtpm::new()?;
        let yubikeys = VirtualYubiKey::start(Options { serial: SERIALS[0], ..Options::default() });
        yubikeys.add(&Options { serial: SERIALS[1], ..Options::default() });
        let dir = tempfile::Builder::new().prefix("docs-").tempdir().unwrap();
        let home = Self { dir, tpm, yubikeys };
        home.program("pinentry", &PINENTRY.replace("@PIN@", PIN));
        home.program("sudo", SUDO);
        let pinentry = home.path("bin/pinentry");
        // `new` is where the pages put a second machine.
        for machine in [".config", "new/config"] {
            home.file(
                &format!("{machine}/strongroom/config.toml"),
                &format!("[prompt]\npinentry = {pinentry:?}\n"),
            );
        }
        // The page on recovery has its readers take these from the sources.
        home.file("open_seal.py", include_str!("../../docs/howto/recovery/open_seal.py"));
        home.file("tpm_keys.py", include_str!("../../docs/howto/recovery/tpm_keys.py"));
        let tokens = home.path(".softhsm/tokens");
        home.file(".softhsm/softhsm2.conf", &format!("directories.tokendir = {}\n", tokens.display()));
        std::fs::create_dir(tokens).unwrap();
        Some(home)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        self.file(&format!("bin/{name}"), text);
        let path = self.path(&format!("bin/{name}"));
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Runs a page's script. The pages name `tpm:`, the machine's own; here that is the simulator.
    pub fn run(&self, script: &str) -> Output {
        let uri = format!("'{}'", self.tpm.uri());
        let words = script.split_inclusive([' ', '\n']);
        // So it is with the server of a page about PostgreSQL.
        let postgres = script.contains("psql").then(Postgres::start).flatten();
        let script: String = words
            .map(|word| match word.trim_end() {
                "tpm:" => word.replace("tpm:", &uri),
                _ => word.replace("\"tpm:?", &format!("\"{}&", self.tpm.uri())),
            })
            .collect();
        let socket = postgres.as_ref().map_or("", |postgres| postgres.dir.to_str().unwrap());
        let script = script.replace("%2Fvar%2Frun%2Fpostgresql", &socket.replace('/', "%2F"));
        let bin = Path::new(env!("CARGO_BIN_EXE_strongroom")).parent().unwrap();
        let installed = std::env::var_os("PATH").unwrap();
        let path = [self.path("bin"), bin.to_owned()].into_iter().chain(std::env::split_paths(&installed));
        // Without a terminal of its own, so that nobody at the tests' terminal is asked.
        let mut command = Command::new("setsid");
        // What a page starts in the background ends with it.
        let script = format!("trap 'kill $(jobs -p) 2>/dev/null || :' EXIT\n{script}");
        command.args(["--wait", "bash", "-euo", "pipefail", "-c", &script]);
        command
            .env_clear()
            .env("PATH", std::env::join_paths(path).unwrap())
            .envs(self.yubikeys.environment());
        command.current_dir(self.dir.path()).env("HOME", self.dir.path()).stdin(Stdio::null());
        command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").env("STRONGROOM_AGENT", "");
        // As for any user, also where root runs the tests.
        for (variable, directory) in
            [("CONFIG", ".config"), ("STATE", ".local/state"), ("DATA", ".local/share")]
        {
            command.env(format!("XDG_{variable}_HOME"), self.path(directory));
        }
        command.env("TPM2TOOLS_TCTI", self.tpm.tcti());
        if let Some(postgres) = &postgres {
            command.env("PGHOST", &postgres.dir).env("PGUSER", SUPERUSER).env("PGDATABASE", "postgres");
        }
        command.env("SOFTHSM2_CONF", self.path(".softhsm/softhsm2.conf"));
        command.env("STRONGROOM_PKCS11_MODULE", test_support::softhsm::module().unwrap());
        command.output().unwrap()
    }
}
