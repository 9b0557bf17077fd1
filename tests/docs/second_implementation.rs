//! The format's page suffices: a program that was written from it alone, in another language, agrees with the test vectors
//! and verifies a store that Strongroom made.

use crate::links::root;
use std::path::Path;
use std::process::{Command, Output};
use test_support::home::Home;
use test_support::skip::skip;

/// A store with a bit of everything: two devices, versions that were resealed, a grant, an end.
const STORE: &str = r#"
strongroom put --quiet demo/a --generate --label owner=ops
strongroom put --quiet demo/b --generate
strongroom device add "$BACKUP" --name backup --role open --role admin --reseal
strongroom put --quiet demo/b --generate --keep 1
strongroom put --quiet demo/e --generate --threshold 2
strongroom grant demo/a --to unit:web.service --as key
strongroom grant demo/ --to user:www-data
strongroom get demo/a >/dev/null
strongroom rename demo/a demo/c
strongroom suspend demo/b
strongroom put --quiet demo/d --generate
strongroom destroy --yes demo/d
"#;

/// What none may do to it.
const EDITS: [&str; 5] = [
    "UPDATE statements SET bytes = (SELECT bytes FROM statements WHERE n = 4) WHERE n = 3",
    "DELETE FROM statements WHERE n = 4",
    "UPDATE batches SET sign1 = (SELECT sign1 FROM batches WHERE first = 4) WHERE first = 3",
    "UPDATE sealed SET bytes = zeroblob(length(bytes)) WHERE id = (SELECT max(id) FROM sealed WHERE NOT destroyed)",
    "UPDATE access SET exe = '/bin/true' WHERE n = 1",
];

/// `None`, visibly, where it cannot run.
fn second_implementation(arguments: &[&str]) -> Option<Output> {
    let has_cryptography = Command::new("python3").args(["-c", "import cryptography"]).output();
    if !has_cryptography.is_ok_and(|output| output.status.success()) {
        skip("cryptography for Python is missing: apt-get install python3-cryptography");
        return None;
    }
    let program = root().join("tests/vectors/strongroom_format.py");
    Some(Command::new("python3").arg(program).args(arguments).output().unwrap())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_second_implementation_agrees_with_every_vector() {
    let Some(output) = second_implementation(&["check"]) else { return };
    assert!(output.status.success(), "{}", text(&output.stderr));
    // Nothing was left out: each line begins with a count.
    let counts: Vec<u32> = text(&output.stdout)
        .lines()
        .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
        .collect();
    assert!(counts.len() >= 11 && counts.iter().all(|&count| count > 0), "{counts:?}");
}

#[test]
fn a_second_implementation_verifies_a_store() {
    let Some(home) = Home::with_store() else { return };
    home.hsm.add_token("backup");
    let made = home.command("bash").args(["-euo", "pipefail", "-c", STORE]).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let anchor = text(&home.ok(&["head"]).stdout);
    let id = anchor.split(':').next().unwrap();
    let store = home.dir.join("data/strongroom/store.sqlite");
    let verify = |store: &Path, id: &str| second_implementation(&["verify", store.to_str().unwrap(), id]);

    let Some(verified) = verify(&store, id) else { return };
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    let said = text(&verified.stdout);
    assert!(said.starts_with(anchor.trim_end()), "{said}");
    assert!(said.contains(", 0 without effect\n") && said.contains(" backup\n"), "{said}");

    for edit in EDITS {
        let copy = home.dir.join("copy.sqlite");
        let _ = std::fs::remove_file(&copy);
        let from = rusqlite::Connection::open(&store).unwrap();
        from.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        assert_eq!(rusqlite::Connection::open(&copy).unwrap().execute(edit, []).unwrap(), 1, "{edit}");
        let refused = verify(&copy, id).unwrap();
        assert!(
            !refused.status.success() && text(&refused.stderr).starts_with("Tampering: "),
            "{edit}: {refused:?}"
        );
    }
    assert!(!verify(&store, &id.chars().rev().collect::<String>()).unwrap().status.success());
}
