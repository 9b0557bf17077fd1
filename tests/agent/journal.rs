//! What the agent logs, with fields: to a real systemd-journald, and to standard error.

use crate::agent_in_process::own_uid;
use crate::daemon::Daemon;
use serde_json::Value;
use std::path::Path;
use test_support::home::Home;

/// Everything in the journal of an agent that was asked for these; `None` where there can be no journal.
fn journal(home: &Home, requests: &[&str]) -> Option<Vec<Value>> {
    if own_uid() != 0 || !Path::new("/lib/systemd/systemd-journald").exists() {
        test_support::skip::skip("no journald, or not root");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agent/systemd/journal.sh");
    let mut command = home.command(script.to_str().unwrap());
    command.arg(&home.dir).args(requests).env("STRONGROOM_LOG", "info");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare failed") {
        test_support::skip::skip("no namespaces");
        return None;
    }
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    Some(lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn the_journal_has_a_field_for_each_thing_that_is_said() {
    let Some(home) = Home::with_store() else { return };
    home.put("prod/db", b"the token");
    home.put("late", b"suspended");
    home.ok(&["suspend", "late"]);
    let paths = ["/v1/values/prod/db", "/v1/values/late", "/v1/values/the-last"];
    let Some(journal) = journal(&home, &paths) else { return };
    let of = |name: &str| {
        let found = journal.iter().find(|entry| entry["STRONGROOM_TOKEN"] == name);
        found.unwrap_or_else(|| panic!("nothing of {name} in {journal:#?}")).clone()
    };
    let opened = of("prod/db");
    let text = |field: &str| opened[field].as_str().unwrap_or_default().to_owned();
    assert_eq!(text("MESSAGE"), "prod/db@1: opened");
    assert_eq!((text("STRONGROOM_VERSION"), text("STRONGROOM_OUTCOME")), ("1".into(), "opened".into()));
    assert_eq!((text("STRONGROOM_UID"), text("SYSLOG_IDENTIFIER")), ("0".into(), "strongroom".into()));
    assert!(text("STRONGROOM_PROGRAM").contains("curl"), "{opened:#}");
    assert_eq!((text("_TRANSPORT"), text("STRONGROOM_DEVICE").len()), ("journal".into(), 32));
    assert!(text("OBJECT_PID").parse::<u32>().unwrap() > 1);
    assert_eq!(of("late")["STRONGROOM_OUTCOME"], "refused");
    assert_eq!(of("the-last")["STRONGROOM_OUTCOME"], "not found");
    // The page tells which is which.
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/agent.md"));
    let page = page.unwrap();
    let (yes, no) = (text("MESSAGE_ID"), of("late")["MESSAGE_ID"].as_str().unwrap().to_owned());
    assert!(page.contains(&format!("`{yes}` if a token was handed out, `{no}` if not")), "{yes} {no}");
    // Once, and nothing by way of standard error.
    let ours = journal.iter().filter(|entry| entry.to_string().contains("prod/db"));
    assert_eq!(ours.count(), 1);
}

#[test]
fn standard_error_has_the_same_as_text() {
    let Some(home) = Home::with_store() else { return };
    home.put("prod/db", b"the token");
    // Some other stream is the journal's.
    let mut daemon = Daemon::start_with(&home, &[], |command| {
        command.env("STRONGROOM_LOG", "info").env("JOURNAL_STREAM", "1:1");
    });
    assert_eq!(daemon.get("/v1/values/prod/db").status, 200);
    daemon.signal("-TERM");
    assert!(daemon.ended().success());
    let said = daemon.said();
    let line = said.lines().find(|line| line.contains("prod/db@1: opened")).expect(&said);
    assert!(line.starts_with("info strongroom::agent::"), "{line}");
    for field in [" token=prod/db ", " version=1 ", " outcome=opened ", &format!(" uid={} ", own_uid())] {
        assert!(line.contains(field), "{line}");
    }
    assert!(!line.contains("message_id") && line.contains(" program="), "{line}");
}
