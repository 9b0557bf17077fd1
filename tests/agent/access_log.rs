//! The access log is kept short, and says what it lost.

use crate::daemon::Daemon;
use std::time::Duration;
use strongroom::store::Access;
use test_support::eventually::eventually;
use test_support::home::Home;

#[test]
fn the_oldest_lines_go_and_verify_tells_how_many() {
    let Some(home) = Home::with_store() else { return };
    home.put("a", b"token");
    let mut store =
        strongroom::store::open(&home.dir.join("data/strongroom/store.sqlite").display().to_string())
            .unwrap();
    let line = |n| Access {
        time: n,
        device: String::new(),
        uid: 1,
        pid: 1,
        exe: "/usr/bin/x".into(),
        name: "a".into(),
        version: 1,
        outcome: "denied".into(),
    };
    store.record(&(0..500).map(line).collect::<Vec<_>>()).unwrap();
    let mut daemon = Daemon::start(&home, &["--access-log-max", "100"]);
    assert_eq!(daemon.get("/v1/values/a").text(), "token");
    let is_short = || store.accesses(0, 1000).unwrap().len() == 100;
    assert!(eventually(Duration::from_secs(20), is_short));
    let log = home.ok(&["log", "--access", "-n", "1000"]).stdout;
    let log = String::from_utf8(log).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("dropped 402 lines")).count(), 1, "{log}");
    assert_eq!(log.lines().filter(|line| line.contains("\topened\t")).count(), 1, "{log}");
    let verified = home.strongroom(&["verify"]).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(said.contains("100 lines of the access log (402 dropped before)"), "{said}");
    // It goes on from there, also after the next start.
    daemon.signal("-TERM");
    assert!(daemon.ended().success());
    assert_eq!(home.ok(&["get", "a"]).stdout, b"token");
    let said = String::from_utf8(home.ok(&["verify", "--json"]).stdout).unwrap();
    assert!(said.contains("\"accesses\":101") && said.contains("\"dropped_accesses\":402"), "{said}");
}
