//! The real agent rotates by itself: SoftHSM, hooks, and a policy whose time is short.

use crate::daemon::Daemon;
use std::path::PathBuf;
use std::time::Duration;
use test_support::eventually::eventually;
use test_support::executable::write_executable;
use test_support::home::Home;

const PATIENCE: Duration = Duration::from_secs(60);

/// A file that a service reads, and what is told.
struct Scene {
    home: Home,
    password: PathBuf,
    told: PathBuf,
}

impl Scene {
    fn new() -> Option<Self> {
        let home = Home::with_store()?;
        let (password, told) = (home.dir.join("service/password"), home.dir.join("told"));
        std::fs::create_dir(home.dir.join("service")).unwrap();
        std::fs::write(&password, "first").unwrap();
        let tell = home.dir.join("tell");
        write_executable(&tell, &format!("#!/bin/sh\ncat >>{0}; echo >>{0}\n", told.display()));
        home.put("prod/db", b"first");
        let scene = Self { home, password, told };
        scene.configure(&format!(
            "[agent.rotation]\nevery = \"1s\"\njitter = \"1s\"\nretry-max = \"2s\"\nnotify = [{tell:?}]\n\
             [hooks.service]\nkind = \"file\"\ntokens = [\"prod/\"]\npath = {:?}\n",
            scene.password
        ));
        Some(scene)
    }

    fn configure(&self, more: &str) {
        let path = self.home.dir.join("config/strongroom/config.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        // Tables come after what `init` wrote, which is a list of tables.
        std::fs::write(&path, format!("{config}\n{more}")).unwrap();
    }

    fn policy(&self, every: &str) {
        self.home.ok(&[
            "policy",
            "set",
            "-q",
            "prod/db",
            "--every",
            every,
            "--overlap",
            "0",
            "--hook",
            "service",
        ]);
    }

    /// What the service reads, and what the token opens to.
    fn values(&self) -> (String, String) {
        let opened = self.home.ok(&["get", "prod/db"]).stdout;
        (std::fs::read_to_string(&self.password).unwrap_or_default(), String::from_utf8(opened).unwrap())
    }

    fn told(&self) -> Vec<serde_json::Value> {
        let lines = std::fs::read_to_string(&self.told).unwrap_or_default();
        let lines = lines.lines().filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
    }
}

fn number(daemon: &Daemon, name: &str) -> u64 {
    let text = daemon.get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("strongroom_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[test]
fn what_is_due_is_rotated_and_what_fails_is_said_and_tried_again() {
    let Some(scene) = Scene::new() else { return };
    let daemon = Daemon::start_with(&scene.home, &[], |command| {
        command.env("STRONGROOM_LOG", "info");
    });
    assert_eq!(number(&daemon, "rotations_due"), 0);
    scene.policy("3s");
    let rotated = || {
        let (read, opened) = scene.values();
        read != "first" && read == opened
    };
    assert!(eventually(PATIENCE, rotated), "{}", daemon.said());
    assert!(eventually(PATIENCE, || number(&daemon, "rotations_total") > 1), "{}", daemon.said());
    assert!(number(&daemon, "rotation_last_success_timestamp_seconds") > 1_600_000_000);
    assert!(daemon.said().contains("prod/db: rotated, version 2 is in use"), "{}", daemon.said());
    // The service's directory goes: nothing is lost, and it is said in all the ways there are.
    let (service, away) = (scene.home.dir.join("service"), scene.home.dir.join("away"));
    std::fs::rename(&service, &away).unwrap();
    assert!(eventually(PATIENCE, || number(&daemon, "failed_rotations_total") > 1), "{}", daemon.said());
    assert_eq!((number(&daemon, "rotations_failing"), daemon.get("/v1/health").status), (1, 503));
    assert!(daemon.get("/v1/health").text().contains("prod/db"), "{}", daemon.get("/v1/health").text());
    assert!(daemon.said().contains("it is tried again in"), "{}", daemon.said());
    let failed = || scene.told().iter().any(|event| event["event"] == "failed" && event["failures"] == 2);
    assert!(eventually(PATIENCE, failed), "{:?}", scene.told());
    scene.values();
    std::fs::rename(&away, &service).unwrap();
    let before = number(&daemon, "rotations_total");
    let goes_on = || number(&daemon, "rotations_total") > before && daemon.get("/v1/health").status == 200;
    assert!(eventually(PATIENCE, goes_on), "{}", daemon.said());
    let events = scene.told();
    let first = events.iter().find(|event| event["event"] == "rotated").unwrap();
    assert_eq!(
        (&first["token"], &first["hook"], &first["version"]),
        (&"prod/db".into(), &"service".into(), &2.into())
    );
    // No value is in what was said.
    let (_, value) = scene.values();
    assert!(!daemon.said().contains(&value) && !format!("{events:?}").contains(&value));
}

/// Killed with -9 in the middle of it, by chance and again and again, the next one goes on.
#[test]
fn an_agent_that_is_killed_leaves_nothing_undone() {
    let Some(scene) = Scene::new() else { return };
    scene.policy("30d");
    for point in ["rotate.set", "rotate.tested", "rotate.finished", "rotate.retired"] {
        let before = scene.values();
        scene.home.ok(&["put", "-q", "prod/db", "--generate", "--staged"]);
        let mut daemon = Daemon::start_with(&scene.home, &[], |command| {
            command.env("STRONGROOM_FAILPOINT", point);
        });
        daemon.ended();
        drop(daemon);
        let daemon = Daemon::start(&scene.home, &[]);
        let done = || {
            let (read, opened) = scene.values();
            read == opened && read != before.0 && number(&daemon, "rotations_due") == 0
        };
        assert!(eventually(PATIENCE, done), "{point}: {}", daemon.said());
    }
}

/// Where a machine has no such hook, or its devices may not write, or it was not told to, its agent leaves the token alone.
#[test]
fn an_agent_rotates_nothing_that_it_was_not_told_to() {
    let Some(scene) = Scene::new() else { return };
    scene.home.put("other", b"x");
    scene.home.ok(&["policy", "set", "-q", "other", "--every", "1s", "--overlap", "0", "--hook", "service"]);
    scene.home.put("prod/web", b"x");
    scene.home.ok(&[
        "policy",
        "set",
        "-q",
        "prod/web",
        "--every",
        "1s",
        "--overlap",
        "0",
        "--hook",
        "elsewhere",
    ]);
    scene.policy("2s");
    let daemon = Daemon::start(&scene.home, &[]);
    assert!(eventually(PATIENCE, || number(&daemon, "rotations_total") > 0), "{}", daemon.said());
    assert_eq!((number(&daemon, "failed_rotations_total"), number(&daemon, "rotations_failing")), (0, 0));
    for name in ["other", "prod/web"] {
        assert_eq!(scene.home.ok(&["get", name]).stdout, b"x");
    }
    drop(daemon);
    let path = scene.home.dir.join("config/strongroom/config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = config.split_once("[agent.rotation]").unwrap();
    let (_, hooks) = rest.split_once("[hooks").unwrap();
    std::fs::write(&path, format!("{before}[hooks{hooks}")).unwrap();
    let (daemon, before) = (Daemon::start(&scene.home, &[]), scene.values());
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(scene.values(), before);
    assert!(!daemon.get("/metrics").text().contains("rotations_due"));
}
