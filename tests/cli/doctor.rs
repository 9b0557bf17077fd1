//! What `doctor` does with modules: it leaves nothing behind, keeps them quiet, and tells of a PIN's last try.

use std::path::Path;
use std::process::Command;
use test_support::home::Home;
use test_support::softhsm;

/// Compiles a C file to a module. Its name says SoftHSM, so that the driver treats it alike.
fn compile(home: &Home, source: &Path) -> String {
    let library = home.dir.join("libsofthsm-module.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o"]).arg(&library).arg(source);
    compiler.arg(format!("-DMODULE=\"{}\"", softhsm::module().unwrap().display()));
    compiler.arg(format!("-DCALLS=\"{}\"", home.dir.join("calls").display()));
    assert!(compiler.status().unwrap().success());
    library.display().to_string()
}

/// Standard output and standard error of `doctor` with one module.
fn doctor(home: &Home, module: &str, environment: &[(&str, &str)]) -> (String, String) {
    let mut doctor = home.strongroom(&["doctor"]);
    doctor.env("STRONGROOM_PKCS11_MODULE", module).envs(environment.iter().copied());
    let output = doctor.output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_module_that_writes_to_standard_error_is_not_heard() {
    let Some(home) = Home::new() else { return };
    let source = home.dir.join("noisy.c");
    std::fs::write(
        &source,
        "#include <stdio.h>\nlong C_GetFunctionList(void *list) { fputs(\"noise\\n\", stderr); return 5; }\n",
    )
    .unwrap();
    let module = compile(&home, &source);
    let (found, said) = doctor(&home, &module, &[]);
    assert!(found.contains(&module), "{found}");
    assert_eq!(said, "");
}

#[test]
fn the_last_try_of_a_pin_is_noted() {
    let Some(home) = Home::new() else { return };
    let module = compile(&home, &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/device/shim.c"));
    // CKF_USER_PIN_FINAL_TRY.
    let (found, _) = doctor(&home, &module, &[("SHIM_FLAGS", "0x20000")]);
    let line = found.lines().find(|line| line.contains("one more wrong PIN locks it"));
    assert!(line.is_some_and(|line| line.starts_with("note")), "{found}");
}

#[test]
fn tpm2_pkcs11_makes_no_store_of_its_own() {
    let Some(home) = Home::new() else { return };
    let candidates =
        ["/usr/lib/x86_64-linux-gnu/libtpm2_pkcs11.so.1", "/usr/lib/aarch64-linux-gnu/libtpm2_pkcs11.so.1"];
    let Some(module) = candidates.into_iter().find(|path| Path::new(path).exists()) else {
        return test_support::skip::skip("tpm2-pkcs11 is missing: apt-get install libtpm2-pkcs11-1");
    };
    let (found, said) = doctor(&home, module, &[]);
    assert!(found.contains("no token"), "{found}");
    assert_eq!(said, "");
    assert!(!home.dir.join(".tpm2_pkcs11").exists());
}
