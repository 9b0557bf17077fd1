//! Neither tokens nor PINs are found where they were not asked for: logs at every level, errors, files, arguments.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use test_support::home::Home;

/// Nothing else on a disk or in a log looks like these.
const TOKEN: &str = "tok-Qm7vXw2ZpL9fKd4s";
pub const PIN: &str = "8305917264";

/// How a secret might stand somewhere.
fn spellings(secret: &str) -> Vec<Vec<u8>> {
    let debug: Vec<String> = secret.bytes().map(|b| b.to_string()).collect();
    vec![
        secret.into(),
        hex::encode(secret).into(),
        hex::encode_upper(secret).into(),
        STANDARD.encode(secret).trim_end_matches('=').into(),
        debug.join(", ").into(),
    ]
}

pub fn assert_clean(what: &str, bytes: &[u8], secret: &str) {
    for spelling in spellings(secret) {
        let found = bytes.windows(spelling.len()).any(|window| window == spelling);
        assert!(!found, "{what} holds {}", String::from_utf8_lossy(&spelling));
    }
}

/// Every file below a directory, but those with the PIN.
pub fn each_file(directory: &Path, look: &mut dyn FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_file(&path, look);
        } else if !path.file_name().unwrap().to_string_lossy().starts_with("pin") {
            look(&path, &std::fs::read(&path).unwrap());
        }
    }
}

/// A home whose device has the PIN above.
fn home() -> Option<Home> {
    let home = Home::new()?;
    let change = [
        "--login",
        "--login-type",
        "user",
        "--pin",
        test_support::softhsm::PIN,
        "--change-pin",
        "--new-pin",
        PIN,
    ];
    let module = test_support::softhsm::module().unwrap();
    let token = ["--module", module.to_str().unwrap(), "--token-label", test_support::softhsm::LABEL];
    home.hsm.run("pkcs11-tool", &[&token[..], &change].concat());
    std::fs::write(home.dir.join("pin"), PIN).unwrap();
    Some(home)
}

/// Runs a command with everything logged; its output when nothing that it says holds a secret but stdout.
fn run(home: &Home, arguments: &[&str], input: &str) -> Output {
    let mut command = home.strongroom(arguments);
    command.env("STRONGROOM_LOG", "trace").env("RUST_BACKTRACE", "full").env("RUST_LOG", "trace");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that fails early does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    assert_clean(&format!("stderr of {arguments:?}"), &output.stderr, TOKEN);
    assert_clean(&format!("stderr of {arguments:?}"), &output.stderr, PIN);
    assert_clean(&format!("stdout of {arguments:?}"), &output.stdout, PIN);
    output
}

#[test]
fn nothing_secret_is_logged_or_stored() {
    if !test_support::softhsm::installed("pkcs11-tool") {
        return test_support::skip::skip("pkcs11-tool is missing: apt-get install opensc");
    }
    let Some(home) = home() else { return };
    let device = home.device();
    let (wrong_token, line) =
        (device.replace("demo", "gone"), format!("{{\"name\":\"b\",\"value\":\"{TOKEN}\"}}\n"));
    let broken = format!("{{\"name\":\"c\",\"value\":[\"{TOKEN}\"]}}\n");
    for (arguments, input, succeeds) in [
        (&["init", "--device", &device][..], "", true),
        (&["put", "a", "--label", "x=y"], TOKEN, true),
        (&["import"], &line, true),
        (&["import"], &broken, false),
        (&["import", "--format", "env"], TOKEN, false),
        (&["put", "a/"], TOKEN, false),
        (&["put", "a", TOKEN], "", false),
        (&["put", "a", "--expires", "soon"], TOKEN, false),
        (&["run", "--env", "A=a", "--file", "B=b", "--", "true"], "", true),
        (&["run", "--env", "A=a", "--", "nosuch-program"], "", false),
        (&["show", "a", "--json"], "", true),
        (&["log", "--json"], "", true),
        (&["log", "--access", "--json"], "", true),
        (&["verify"], "", true),
        (&["doctor", "--json"], "", true),
        (&["get", "a", "--device", &wrong_token], "", false),
    ] {
        let output = run(&home, arguments, input);
        assert_eq!(output.status.success(), succeeds, "{arguments:?}: {output:?}");
        assert_clean(&format!("stdout of {arguments:?}"), &output.stdout, TOKEN);
    }
    assert_eq!(run(&home, &["get", "a"], "").stdout, TOKEN.as_bytes());

    std::fs::write(home.dir.join("pin"), PIN.replace('8', "9")).unwrap();
    let refused = run(&home, &["get", "a"], "");
    assert_eq!(refused.status.code(), Some(6));
    assert_clean("a refusal", &refused.stderr, &PIN.replace('8', "9"));

    each_file(&home.dir, &mut |path, bytes| {
        assert_clean(&path.display().to_string(), bytes, TOKEN);
        assert_clean(&path.display().to_string(), bytes, PIN);
    });
}
