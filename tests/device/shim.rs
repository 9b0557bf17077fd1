//! SoftHSM with faults put in between: see shim.c. It is compiled by the C compiler that Rust links with.

use std::path::{Path, PathBuf};
use std::process::Command;
use test_support::softhsm::{LABEL, SoftHsm, module};

/// SoftHSM behind the shim. The faults are in the process's environment, so it goes with `isolated_with`.
pub struct Shim {
    /// The module's file.
    pub library: PathBuf,
    log: PathBuf,
}

impl Shim {
    /// Compiles it into a SoftHSM's directory. Its name says SoftHSM, so that the driver treats it alike.
    pub fn new(hsm: &SoftHsm) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/device/shim.c");
        let (library, log) = (hsm.dir.join("libsofthsm-shim.so"), hsm.dir.join("calls"));
        let mut compiler = Command::new("cc");
        compiler.args(["-std=c11", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o"]).arg(&library).arg(source);
        compiler.arg(format!("-DMODULE=\"{}\"", module().unwrap().display()));
        compiler.arg(format!("-DCALLS=\"{}\"", log.display()));
        assert!(compiler.status().unwrap().success());
        Self { library, log }
    }

    /// The device URI of the token `demo` behind it.
    pub fn uri(&self) -> String {
        format!("pkcs11:token={LABEL}?module-path={}", self.library.display())
    }

    /// The calls made so far, in order.
    pub fn calls(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().map(String::from).collect()
    }

    /// How often a call was made.
    pub fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|made| *made == call).count()
    }
}
