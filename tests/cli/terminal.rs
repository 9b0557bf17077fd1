//! What differs for a person at a terminal. `script` of util-linux makes one.

use std::io::{Read, Write};
use std::process::{ChildStdout, Stdio};
use test_support::home::Home;
use test_support::softhsm::{self, LABEL};

/// Runs a command line on a terminal of 60 columns. Each time the screen shows the first of a pair, the second is typed.
pub fn at_terminal(home: &Home, line: &str, dialogue: &[(&str, &str)]) -> String {
    let line = format!("stty cols 60; {line}; echo \"[$?]\"");
    let mut script = home.command("script");
    script
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh");
    let mut child =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = String::new();
    for (prompt, typed) in dialogue {
        let from = shown.len();
        while !shown[from..].contains(prompt) {
            assert!(read_some(&mut screen, &mut shown), "it never showed {prompt}: {shown}");
        }
        keyboard.write_all(format!("{typed}\n").as_bytes()).unwrap();
    }
    while read_some(&mut screen, &mut shown) {}
    child.wait().unwrap();
    shown.replace("\r\n", "\n")
}

fn read_some(screen: &mut ChildStdout, shown: &mut String) -> bool {
    let mut buffer = [0; 4096];
    let count = screen.read(&mut buffer).unwrap();
    shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
    count > 0
}

fn home() -> Option<Home> {
    if !softhsm::installed("script") {
        test_support::skip::skip("script is missing: apt-get install bsdutils");
        return None;
    }
    Home::with_store()
}

#[test]
fn a_token_is_typed_twice_and_never_shown() {
    let Some(home) = home() else { return };
    let twice = [("Token for a: ", "s3cret"), ("Repeat it: ", "s3cret")];
    let shown = at_terminal(&home, "strongroom put a", &twice);
    assert!(shown.contains("a: version 1, sealed to demo") && !shown.contains("s3cret"), "{shown}");
    assert_eq!(home.ok(&["get", "a"]).stdout, b"s3cret");

    let other = [("Token for a: ", "s3cret"), ("Repeat it: ", "secret")];
    let shown = at_terminal(&home, "strongroom put a", &other);
    assert!(shown.contains("the two entries differ") && shown.ends_with("[2]\n"), "{shown}");
}

#[test]
fn a_newline_follows_a_token_and_nothing_garbles() {
    let Some(home) = home() else { return };
    home.put("text", b"s3cret");
    home.put("binary", b"\x1b[31m\xff");
    assert_eq!(at_terminal(&home, "strongroom get text", &[]), "s3cret\n[0]\n");
    let shown = at_terminal(&home, "strongroom get binary; strongroom show text --sealed", &[]);
    assert_eq!(shown.matches("would garble the terminal").count(), 2, "{shown}");
    assert!(!shown.contains("\u{1b}[31m\u{fffd}") && !shown.contains("age-encryption"), "{shown}");
}

#[test]
fn tables_have_a_header_and_fit() {
    let Some(home) = home() else { return };
    let label = format!("purpose={}", "long-".repeat(20));
    home.ok(&["put", "-q", "prod/db", "--generate", "--label", &label]);
    let shown = at_terminal(&home, "strongroom list", &[]);
    assert!(shown.starts_with("NAME "), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 60), "{shown}");
    assert!(shown.matches("long").count() > 15, "{shown}");
}

#[test]
fn times_stay_whole_on_narrow_terminals() {
    let Some(home) = home() else { return };
    home.ok(&[
        "put",
        "-q",
        "prod/database/password",
        "--generate",
        "--expires",
        "2999-01-31",
        "--label",
        "purpose=long-long-long",
    ]);
    for line in ["strongroom list", "strongroom show prod/database/password", "strongroom log"] {
        for columns in [40, 80] {
            let shown = at_terminal(&home, &format!("stty cols {columns}; {line}"), &[]);
            assert!(
                !shown.lines().any(|line| line.ends_with("2999-01-31T") || line.trim() == "2999"),
                "{shown}"
            );
            assert!(line.ends_with("log") || shown.contains("2999-01-31T00:00:00Z"), "{shown}");
        }
    }
    // Without a configuration but with the device's URI, as after a restore.
    std::fs::write(
        home.dir.join("config/strongroom/config.toml"),
        format!("[[device]]\nuri = \"{}\"\n", home.device()),
    )
    .unwrap();
    assert_eq!(home.ok(&["get", "prod/database/password"]).stdout.len(), 32);
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let Some(home) = home() else { return };
    let red = "\u{1b}[1;31mstrongroom\u{1b}[0m: ";
    assert!(at_terminal(&home, "strongroom get nosuch", &[]).starts_with(red));
    for plain in [
        "NO_COLOR=1 strongroom get nosuch",
        "strongroom get nosuch --color never",
        "TERM=dumb strongroom get nosuch",
    ] {
        assert!(at_terminal(&home, plain, &[]).starts_with("strongroom: "), "{plain}");
    }
    let always = home.strongroom(&["get", "nosuch", "--color", "always"]).output().unwrap();
    assert!(String::from_utf8_lossy(&always.stderr).starts_with(red));
}

#[test]
fn destruction_has_to_be_typed() {
    let Some(home) = home() else { return };
    home.put("a", b"one");
    let shown = at_terminal(&home, "strongroom destroy a", &[("Type a to continue: ", "y")]);
    assert!(shown.contains("you typed something else") && shown.ends_with("[1]\n"), "{shown}");
    let shown = at_terminal(&home, "strongroom destroy a", &[("Type a to continue: ", "a")]);
    assert!(shown.contains("a: destroyed, 1 version"), "{shown}");
}

#[test]
fn a_pin_is_asked_for_and_not_shown() {
    let Some(home) = home() else { return };
    home.put("a", b"one");
    let line = "strongroom get a --device \"${DEVICE%%&*}\"";
    let shown = at_terminal(&home, line, &[("PIN of pkcs11:token=demo", softhsm::PIN)]);
    assert!(shown.contains("one\n[0]") && !shown.contains(softhsm::PIN), "{shown}");
    let shown = at_terminal(&home, line, &[("PIN of pkcs11:token=demo", "9999")]);
    assert!(shown.contains("CKR_PIN_INCORRECT") && shown.ends_with("[6]\n"), "{shown}");
    assert_eq!(shown.matches("PIN of").count(), 1, "{shown}");
}

#[test]
fn a_wrong_pin_does_not_cost_a_typed_token() {
    let Some(home) = home() else { return };
    let line = "strongroom put a --device \"${DEVICE%%&*}\"";
    let typed =
        [("Token for a: ", "s3cret"), ("Repeat it: ", "s3cret"), ("PIN of pkcs11:token=demo", "9999")];
    let again = "Try again with the token that you typed? [y/N] ";
    let yes = [typed.as_slice(), &[(again, "y"), ("PIN of pkcs11:token=demo", softhsm::PIN)]].concat();
    let shown = at_terminal(&home, line, &yes);
    assert!(shown.contains("a: version 1, sealed to demo") && !shown.contains("s3cret"), "{shown}");
    assert_eq!(home.ok(&["get", "a"]).stdout, b"s3cret");
    // A person says so each time: nothing is sent again by itself.
    let no = [typed.as_slice(), &[(again, "n")]].concat();
    let shown = at_terminal(&home, line, &no);
    assert!(shown.ends_with("[6]\n") && shown.matches("PIN of").count() == 1, "{shown}");
}

#[test]
fn after_a_wrong_pin_the_next_device_is_used_only_when_confirmed() {
    let Some(home) = home() else { return };
    home.hsm.add_token("backup");
    let backup = home.device().replacen("token=demo", "token=backup", 1);
    home.ok(&["device", "add", &backup, "--quiet"]);
    home.put("a", b"one");
    let line = "strongroom get a --device \"${DEVICE%%&*}\" --device \"${BACKUP%%&*}\"";
    let question = "(CKR_PIN_INCORRECT from C_Login). Go on with backup? [y/N] ";
    let shown = at_terminal(&home, line, &[("PIN of pkcs11:token=demo", "9999"), (question, "n")]);
    assert!(shown.ends_with("[6]\n") && !shown.contains("PIN of pkcs11:token=backup"), "{shown}");
    let dialogue =
        [("PIN of pkcs11:token=demo", "9999"), (question, "y"), ("PIN of pkcs11:token=backup", softhsm::PIN)];
    let shown = at_terminal(&home, line, &dialogue);
    assert!(shown.contains("one\n[0]"), "{shown}");

    // Where nobody can be asked, each device has a PIN of its own.
    std::fs::write(home.dir.join("wrong"), "9999").unwrap();
    let wrong = home.device().replace("/pin", "/wrong");
    let output = home.strongroom(&["get", "a", "--device", &wrong, "--device", &backup]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout, b"one", "{said}");
    assert!(said.contains("warning: pkcs11:token=demo: the PIN is wrong"), "{said}");
}

#[test]
fn init_asks_before_it_takes_the_only_device() {
    let Some(home) = home() else { return };
    let shown = at_terminal(&home, "strongroom init --store new.sqlite", &[("Use it? [y/N] ", "n")]);
    assert!(shown.contains("you declined") && shown.ends_with("[1]\n"), "{shown}");
    let dialogue = [("Use it? [y/N] ", "y"), ("PIN of pkcs11:token=demo", softhsm::PIN)];
    let shown = at_terminal(&home, "strongroom init --store new.sqlite", &dialogue);
    assert!(shown.contains("store id"), "{shown}");
}

#[test]
fn a_new_device_is_offered_what_it_cannot_open() {
    let Some(home) = home() else { return };
    home.put("a", b"token");
    home.hsm.add_token("backup");
    let question = "backup cannot open 1 version yet. Reseal now?";
    let shown = at_terminal(&home, "strongroom device add \"$BACKUP\"", &[("Reseal now?", "n")]);
    assert!(shown.contains(question), "{shown}");
    assert!(shown.contains("run `strongroom reseal`.") && shown.ends_with("[0]\n"), "{shown}");
    home.hsm.add_token("third");
    let third = home.device().replacen("token=demo", "token=third", 1);
    let line = format!("strongroom device add '{third}'");
    let shown = at_terminal(&home, &line, &[("third cannot open 1 version yet. Reseal now?", "y")]);
    assert!(shown.contains("resealed 1 version with 1 signature"), "{shown}");
    assert_eq!(home.ok(&["get", "a", "--device", &third]).stdout, b"token");
}

/// Each of the two people sees which device wants a PIN, and what for.
#[test]
fn a_pin_for_a_share_says_so() {
    let Some(home) = home() else { return };
    home.hsm.add_token("backup");
    let [front, back] = [LABEL, "backup"].map(|label| home.hsm.uri_without_pin(&format!("token={label}")));
    let with_pin = home.device().replacen(&format!("token={LABEL}"), "token=backup", 1);
    home.ok(&["device", "add", &with_pin, "--role", "open", "--quiet"]);
    home.ok(&["put", "prod/root", "--generate=5", "--threshold", "2", "--quiet"]);
    let line = format!("strongroom get prod/root --device '{front}' --device '{back}'");
    let both = [
        ("for share 1 of 2 of prod/root: ", softhsm::PIN),
        ("for share 2 of 2 of prod/root: ", softhsm::PIN),
    ];
    let shown = at_terminal(&home, &line, &both);
    assert!(shown.contains("PIN of pkcs11:token=demo, for share 1 of 2"), "{shown}");
    assert!(shown.contains("PIN of pkcs11:token=backup, for share 2 of 2"), "{shown}");
    assert!(shown.ends_with("[0]\n"), "{shown}");
    // One device alone is not asked.
    let shown = at_terminal(&home, &format!("strongroom get prod/root --device '{front}'"), &[]);
    assert!(!shown.contains("PIN") && shown.ends_with("[5]\n"), "{shown}");
}
