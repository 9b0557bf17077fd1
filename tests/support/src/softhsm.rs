//! A SoftHSM of a test's own: its own directory, configuration and tokens, gone when the test is.
//!
//! SoftHSM reads its configuration once per process from the environment, so a test that loads the module itself runs in a
//! process of its own: see [`isolated`]. A test that starts the `strongroom` binary passes [`SoftHsm::environment`] on.

use crate::subprocess::{assert_passes, rerun};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The label of the token that every SoftHSM here starts with.
pub const LABEL: &str = "demo";
/// Its user PIN.
pub const PIN: &str = "1234";
/// Its security officer's PIN.
pub const SO_PIN: &str = "12345678";

/// Tells a process of [`isolated`] where its SoftHSM lies.
const DIRECTORY: &str = "STRONGROOM_TEST_SOFTHSM";

/// SoftHSM with one initialised token.
pub struct SoftHsm {
    /// What it lies in; room for a test's other files too.
    pub dir: PathBuf,
    /// The configuration file, for `SOFTHSM2_CONF`.
    pub conf: PathBuf,
    owned: bool,
}

impl SoftHsm {
    /// A new one, or `None` where SoftHSM is not installed. Where `CI` is set that is a failure.
    pub fn new() -> Option<Self> {
        if module().is_none() || !installed("softhsm2-util") {
            crate::skip::skip("SoftHSM is missing: apt-get install softhsm2");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("softhsm-").tempdir().unwrap().keep();
        std::fs::create_dir(dir.join("tokens")).unwrap();
        let template = include_str!("../../../softhsm/softhsm2.conf.in");
        std::fs::write(dir.join("softhsm2.conf"), template.replace("@DIR@", dir.to_str().unwrap())).unwrap();
        let mut hsm = Self::at(&dir);
        hsm.owned = true;
        hsm.add_token(LABEL);
        Some(hsm)
    }

    /// That of a process started by [`isolated`].
    pub fn of_this_process() -> Option<Self> {
        std::env::var_os(DIRECTORY).map(|dir| Self::at(Path::new(&dir)))
    }

    fn at(dir: &Path) -> Self {
        Self { dir: dir.into(), conf: dir.join("softhsm2.conf"), owned: false }
    }

    /// One more token, with the same PINs.
    pub fn add_token(&self, label: &str) {
        self.run(
            "softhsm2-util",
            &["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN],
        );
    }

    /// What a child process needs to see this SoftHSM.
    pub fn environment(&self) -> [(&'static str, &Path); 1] {
        [("SOFTHSM2_CONF", &self.conf)]
    }

    /// A device URI without PIN: `pkcs11:`, these attributes, and the module's path.
    pub fn uri_without_pin(&self, attributes: &str) -> String {
        format!("pkcs11:{attributes}?module-path={}", module().unwrap().display())
    }

    /// A device URI whose pin-source is a file with this PIN.
    pub fn uri_with_pin(&self, attributes: &str, pin: &str) -> String {
        let file = self.dir.join(format!("pin-{pin}"));
        std::fs::write(&file, format!("{pin}\n")).unwrap();
        format!("{}&pin-source=file:{}", self.uri_without_pin(attributes), file.display())
    }

    /// The URI of the token `demo`, with its right PIN in a file.
    pub fn uri(&self) -> String {
        self.uri_with_pin(&format!("token={LABEL}"), PIN)
    }

    /// Runs a tool on this SoftHSM; its standard output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).env("SOFTHSM2_CONF", &self.conf).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs OpenSC's `pkcs11-tool` on the token `demo`, logged in.
    pub fn pkcs11_tool(&self, arguments: &[&str]) -> String {
        let module = module().unwrap();
        let mut all =
            vec!["--module", module.to_str().unwrap(), "--token-label", LABEL, "--login", "--pin", PIN];
        all.extend(arguments);
        self.run("pkcs11-tool", &all)
    }
}

impl Drop for SoftHsm {
    fn drop(&mut self) {
        if self.owned {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// SoftHSM's module on this machine.
pub fn module() -> Option<PathBuf> {
    let candidates = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/lib64/libsofthsm2.so",
        "/usr/local/lib/softhsm/libsofthsm2.so",
    ];
    candidates.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Whether a program is on the path.
pub fn installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
}

/// Runs a test in a process of its own with a SoftHSM of its own: the test binary starts itself again for that one test.
/// Skips, visibly, where SoftHSM is missing.
pub fn isolated<F: FnOnce(&SoftHsm)>(test: F) {
    isolated_with(&[], test);
}

/// As [`isolated`], with more variables in the process's environment.
pub fn isolated_with<F: FnOnce(&SoftHsm)>(environment: &[(&str, &str)], test: F) {
    if let Some(hsm) = SoftHsm::of_this_process() {
        return test(&hsm);
    }
    let Some(hsm) = SoftHsm::new() else { return };
    let mut command = rerun(std::any::type_name::<F>());
    command.envs(hsm.environment()).env(DIRECTORY, &hsm.dir).envs(environment.iter().copied());
    assert_passes(&mut command);
}

/// The same for a benchmark: the program starts itself again with its arguments.
pub fn benchmark(measure: impl FnOnce(&SoftHsm)) {
    if let Some(hsm) = SoftHsm::of_this_process() {
        return measure(&hsm);
    }
    let Some(hsm) = SoftHsm::new() else { return };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(std::env::args().skip(1)).envs(hsm.environment()).env(DIRECTORY, &hsm.dir);
    assert!(command.status().unwrap().success());
}
