//! age and rage, with their plugin protocol.

use crate::{command, done, given, home_with, said};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use test_support::eventually::eventually;
use test_support::home::Home;

fn home(program: &str) -> Option<Home> {
    let package = if program == "rage" { "cargo install rage" } else { "apt-get install age" };
    let home = home_with(program, package)?;
    std::fs::write(home.dir.join("identity"), done(&mut home.strongroom(&["age", "identity"]))).unwrap();
    std::fs::write(home.dir.join("recipients"), done(&mut home.strongroom(&["age", "recipients"]))).unwrap();
    Some(home)
}

fn run(home: &Home, program: &str, arguments: &[&str]) -> Command {
    let mut command = command(home, program);
    command.args(arguments);
    command
}

fn recipient(home: &Home) -> String {
    let lines = std::fs::read_to_string(home.dir.join("recipients")).unwrap();
    lines.lines().nth(1).unwrap().to_owned()
}

fn round_trip(program: &str) {
    let Some(home) = home(program) else { return };
    let recipient = recipient(&home);
    assert!(recipient.starts_with("age1strongroom1"), "{recipient}");
    given(&mut run(&home, program, &["-r", &recipient, "-o", "one.age"]), "s3cret");
    given(&mut run(&home, program, &["-R", "recipients", "-o", "two.age"]), "s3cret");
    for file in ["one.age", "two.age"] {
        assert_eq!(done(&mut run(&home, program, &["-d", "-i", "identity", file])), "s3cret");
    }
    // What was opened stands in the access log, though it is no token.
    assert!(done(&mut home.strongroom(&["log", "--access"])).contains("an age file"));

    // A file of somebody else's says nothing of ours.
    given(
        &mut run(
            &home,
            "sh",
            &["-c", "age-keygen -o key 2>/dev/null && age -r $(age-keygen -y key) -o other.age"],
        ),
        "x",
    );
    let other = run(&home, program, &["-d", "-i", "identity", "other.age"]).output().unwrap();
    assert!(!other.status.success() && !said(&other).contains("strongroom:"), "{}", said(&other));
    assert_eq!(done(&mut run(&home, program, &["-d", "-i", "identity", "-i", "key", "other.age"])), "x");
}

#[test]
fn age_seals_to_devices_and_opens_with_them() {
    round_trip("age");
}

#[test]
fn rage_seals_to_devices_and_opens_with_them() {
    round_trip("rage");
}

/// A sealed token opens with age, by the rules of the ledger.
#[test]
fn age_opens_sealed_tokens_that_are_in_use() {
    let Some(home) = home("age") else { return };
    home.put("prod/db", b"s3cret");
    std::fs::write(home.dir.join("sealed.age"), home.ok(&["show", "--sealed", "prod/db"]).stdout).unwrap();
    let decrypt = || run(&home, "age", &["-d", "-i", "identity", "sealed.age"]);
    assert_eq!(done(&mut decrypt()), "s3cret");
    assert!(done(&mut home.strongroom(&["log", "--access"])).contains("prod/db"));
    home.ok(&["revoke", "-q", "prod/db", "--reason", "leaked"]);
    let refused = decrypt().output().unwrap();
    assert!(
        said(&refused).contains("cannot open prod/db@1: version 1 was revoked: leaked"),
        "{}",
        said(&refused)
    );
}

/// Without a PIN, and nobody to ask, age is told at once.
#[test]
fn a_device_that_nobody_unlocks_is_an_error_at_once() {
    let Some(home) = home("age") else { return };
    given(&mut run(&home, "age", &["-R", "recipients", "-o", "one.age"]), "s3cret");
    std::fs::remove_file(home.dir.join("pin")).unwrap();
    let mut decrypt = command(&home, "setsid");
    decrypt.args(["--wait", "age", "-d", "-i", "identity", "one.age"]);
    let output = decrypt.output().unwrap();
    assert!(!output.status.success() && said(&output).contains("No such file"), "{}", said(&output));

    // With a device that wants its PIN typed, the question goes through age, which has nobody to ask either.
    let config = home.dir.join("config/strongroom/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let (before, after) = text.split_once("&pin-source=").unwrap();
    let after = after.split_once('"').unwrap().1;
    std::fs::write(&config, format!("{before}\"{after}")).unwrap();
    let output = decrypt.output().unwrap();
    let said = said(&output);
    assert!(!output.status.success() && said.contains("the age program did not answer"), "{said}");
}

#[test]
fn age_opens_through_an_agent() {
    let Some(home) = home("age") else { return };
    given(&mut run(&home, "age", &["-R", "recipients", "-o", "one.age"]), "s3cret");
    home.put("prod/db", b"s3cret too");
    std::fs::write(home.dir.join("sealed.age"), home.ok(&["show", "--sealed", "prod/db"]).stdout).unwrap();
    let socket = home.dir.join("agent.sock");
    let mut agent =
        home.strongroom(&["agent", "--socket", "agent.sock"]).stderr(Stdio::null()).spawn().unwrap();
    assert!(eventually(Duration::from_secs(20), || UnixStream::connect(&socket).is_ok()));
    let decrypt = |file: &str| {
        let mut age = run(&home, "age", &["-d", "-i", "identity", file]);
        age.env("STRONGROOM_AGENT", &socket).output().unwrap()
    };
    let (one, sealed) = (decrypt("one.age"), decrypt("sealed.age"));
    home.strongroom(&["lock", "--agent-socket", "agent.sock"]).output().unwrap();
    let locked = decrypt("one.age");
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!((said(&one).as_str(), said(&sealed).as_str()), ("s3cret", "s3cret too"));
    assert!(!locked.status.success() && said(&locked).contains("locked"), "{}", said(&locked));
    assert!(done(&mut home.strongroom(&["log", "--access"])).contains("an age file"));
}

/// What is no conversation ends it, and an unknown one is not begun.
#[test]
fn nonsense_ends_the_conversation() {
    let Some(home) = home("age") else { return };
    let plugin = |protocol: &str, input: &str| {
        let path = Path::new("bin/age-plugin-strongroom");
        let mut plugin = run(&home, path.to_str().unwrap(), &[&format!("--age-plugin={protocol}")]);
        plugin.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = plugin.spawn().unwrap();
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
        child.wait_with_output().unwrap()
    };
    for protocol in ["recipient-v1", "identity-v1"] {
        for input in ["", "nonsense\n", "-> add-identity\n", "-> \n\n", &"x".repeat(1 << 20)] {
            assert!(!plugin(protocol, input).status.success(), "{protocol} {input:.20}");
        }
    }
    assert_eq!(plugin("recipient-v2", "").status.code(), Some(2));
    // age answers every command with `ok`, also those that are there to keep it supple.
    let answered = "-> ok\n\n".repeat(20);
    for (protocol, input, error) in [
        ("identity-v1", "-> add-identity AGE-PLUGIN-YUBIKEY-1\n\n", "-> error identity 0\n"),
        ("identity-v1", "-> recipient-stanza x y\n\n", "-> error internal\n"),
        ("identity-v1", "-> recipient-stanza 1 y\n\n", "-> error internal\n"),
        ("recipient-v1", "-> add-recipient age1yubikey1\n\n", "-> error recipient 0\n"),
        ("recipient-v1", "-> add-identity AGE-PLUGIN-STRONGROOM-1\n\n", "-> error identity 0\n"),
        ("recipient-v1", "-> wrap-file-key\nAAAA\n", "-> error internal\n"),
    ] {
        let output = plugin(protocol, &format!("{input}-> done\n\n{answered}"));
        assert!(output.status.success() && said(&output).contains(error), "{input}: {}", said(&output));
    }
}
