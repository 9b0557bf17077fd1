//! The real program on a simulated HSM: started, asked, reloaded, killed.

use crate::http::{Answer, ask};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use test_support::eventually::eventually;
use test_support::home::Home;
use test_support::subprocess::FAILPOINTS;

/// `strongroom agent`, killed when it goes out of scope.
pub struct Daemon {
    pub child: Child,
    pub socket: PathBuf,
    /// What it has written to standard error since it began to listen.
    said: Arc<Mutex<String>>,
}

impl Daemon {
    pub fn start(home: &Home, arguments: &[&str]) -> Self {
        Self::start_with(home, arguments, |_| {})
    }

    pub fn start_with(home: &Home, arguments: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let socket = home.dir.join("agent.sock");
        let mut command = home.strongroom(&["agent", "--socket", socket.to_str().unwrap()]);
        command.args(arguments).stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert!(line.starts_with(&format!("serving on {} with", socket.display())), "{line}");
        let said = Arc::<Mutex<String>>::default();
        let lines = Arc::clone(&said);
        // A child that nobody listens to stops.
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).for_each(|line| *lines.lock().unwrap() += &(line + "\n"));
        });
        Self { child, socket, said }
    }

    pub fn signal(&self, name: &str) {
        let number = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &number]).status().unwrap().success());
    }

    pub fn get(&self, path: &str) -> Answer {
        let mut stream = None;
        let listens = || {
            stream = UnixStream::connect(&self.socket).ok();
            stream.is_some()
        };
        assert!(eventually(Duration::from_secs(20), listens), "it does not listen");
        let mut stream = stream.unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        ask(&mut stream, format!("GET {path} HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\n\r\n").as_bytes())
    }

    /// What it has written to standard error.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub fn ended(&mut self) -> std::process::ExitStatus {
        let ended = || self.child.try_wait().unwrap().is_some();
        assert!(eventually(Duration::from_secs(30), ended), "it does not end");
        self.child.wait().unwrap()
    }
}

impl Daemon {
    /// KiB of memory.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn through(home: &Home, daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = home.strongroom(arguments);
    let output = command.env("STRONGROOM_AGENT", &daemon.socket).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn direct(home: &Home, arguments: &[&str]) -> (Option<i32>, String) {
    let output = home.strongroom(arguments).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn the_command_says_the_same_through_the_agent() {
    let Some(home) = Home::with_store() else { return };
    for (name, token) in [("prod/db", "one"), ("prod/db", "two"), ("prod/key", "k\n"), ("bin", "\0\x01")] {
        home.put(name, token.as_bytes());
    }
    home.ok(&["suspend", "prod/key", "--reason", "holiday"]);
    home.ok(&[
        "put",
        "--quiet",
        "labelled",
        "--generate",
        "--label",
        "a=b",
        "--expires",
        "2199-01-01",
        "--keep",
        "3",
    ]);
    home.ok(&["grant", "prod/db", "--to", "user:nobody", "--quiet"]);
    let daemon = Daemon::start(&home, &[]);
    for arguments in [
        &["get", "prod/db"][..],
        &["get", "prod/db@1"],
        &["get", "prod/db", "--json"],
        &["get", "bin", "--json"],
        &["get", "prod/key"],
        &["get", "prod/no"],
        &["get", "prod/db@9"],
        &["list"],
        &["list", "prod", "--json"],
        &["list", "--label", "a=b", "--json"],
        &["list", "--state", "suspended"],
        &["list", "nothing"],
        &["show", "prod/db"],
        &["show", "labelled", "--json"],
        &["show", "prod/key"],
        &["show", "prod/no"],
        &["show", "--sealed", "prod/db"],
        &["show", "--sealed", "prod/db@1"],
        &["show", "--sealed", "prod/db@9"],
        &["history", "prod/db"],
        &["history", "prod/key", "--json"],
        &["history", "prod/no"],
        &["log"],
        &["log", "--json"],
        &["log", "--reverse", "-n", "3"],
        &["log", "--access", "-n", "5"],
        &["log", "--access", "--json"],
        &["grants"],
        &["grants", "prod/db", "--json"],
        &["grants", "prod/"],
        &["grants", "prod/no"],
        &["grant", "prod/no", "--to", "user:nobody"],
        &["grant", "prod/db", "--to", "user:nobody"],
        &["grant", "prod/", "--to", "user:nobody", "--as", "x"],
        &["ungrant", "prod/", "--to", "user:nobody"],
        &["run", "--env", "A=prod/db", "--", "sh", "-c", "echo $A"],
        &["run", "--env", "A=prod/key", "--", "true"],
        &["revoke", "prod/no", "--reason", "x"],
        &["rename", "prod/db", "prod/key"],
        &["destroy", "prod/no", "--yes"],
        &["resume", "prod/db@9"],
    ] {
        assert_eq!(through(&home, &daemon, arguments), direct(&home, arguments), "{arguments:?}");
    }
    // What changes something is done once each way.
    let changes = |name: &str| {
        [
            vec!["put", name, "--generate", "--json", "--label", "x=y z", "--description", "é & co"],
            vec![
                "grant",
                name,
                "--to",
                "user:nobody",
                "--ops",
                "get,list",
                "--until",
                "2199-01-01",
                "--quiet",
            ],
            vec!["ungrant", name, "--to", "user:nobody"],
            vec!["suspend", name, "--reason", "why?"],
            vec!["resume", name],
            vec!["revoke", name, "--reason", "leaked", "--json"],
            vec!["destroy", name, "--yes"],
        ]
        .map(|arguments| arguments.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    for (one, other) in changes("new/a").iter().zip(changes("new/b")) {
        let one: Vec<&str> = one.iter().map(String::as_str).collect();
        let other: Vec<&str> = other.iter().map(String::as_str).collect();
        let (by_agent, by_itself) = (through(&home, &daemon, &one), direct(&home, &other));
        let plain = |text: &str| {
            let text = text.replace("new/a", "new/b");
            text.split('"').filter(|part| part.len() != 32).collect::<Vec<_>>().join("\"")
        };
        assert_eq!((by_agent.0, plain(&by_agent.1)), (by_itself.0, plain(&by_itself.1)), "{one:?}");
    }
    let log = home.ok(&["log", "--access", "-n", "100"]);
    assert!(String::from_utf8_lossy(&log.stdout).contains("prod/db@2\topened"));
}

#[test]
fn it_ends_in_peace_and_starts_anew_after_being_killed() {
    let Some(home) = Home::with_store() else { return };
    home.put("a", b"token");
    let mut daemon = Daemon::start(&home, &[]);
    assert_eq!(daemon.get("/v1/values/a").text(), "token");
    daemon.signal("-TERM");
    assert!(daemon.ended().success());
    assert!(!daemon.socket.exists());
    for _ in 0..3 {
        let mut daemon = Daemon::start(&home, &[]);
        assert_eq!(daemon.get("/v1/values/a").text(), "token");
        daemon.signal("-KILL");
        assert!(!daemon.ended().success() && daemon.socket.exists());
    }
    let daemon = Daemon::start(&home, &[]);
    assert_eq!(daemon.get("/v1/values/a").text(), "token");
    let second = home.strongroom(&["agent", "--socket", daemon.socket.to_str().unwrap()]).output().unwrap();
    assert!(String::from_utf8_lossy(&second.stderr).contains("another agent listens there"));
    home.ok(&["verify"]);
}

/// Asks again and again until nobody listens, and counts; what did not go well.
fn load(socket: PathBuf, asked: &AtomicUsize, ending: &AtomicBool) -> Vec<String> {
    let mut failures = Vec::new();
    loop {
        let ending = || ending.load(Ordering::SeqCst);
        let Ok(mut stream) = UnixStream::connect(&socket) else { break };
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        use std::io::Write;
        let sent = stream
            .write_all(b"GET /v1/values/a HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\nconnection: close\r\n\r\n");
        if sent.is_err() && ending() {
            break;
        }
        match crate::http::read(&mut stream) {
            Some(answer) if answer.status == 200 => drop(asked.fetch_add(1, Ordering::SeqCst)),
            Some(answer) => failures.push(answer.text()),
            // It was not taken any more.
            None if ending() => break,
            None => failures.push("closed without an answer".into()),
        }
    }
    failures
}

#[test]
fn an_agent_that_is_named_and_missing_is_an_error() {
    let Some(home) = Home::with_store() else { return };
    home.put("a", b"token");
    for arguments in [&["--agent-socket", "nobody.sock", "get", "a"][..], &["get", "a"]] {
        let mut command = home.strongroom(arguments);
        let output = command.env("STRONGROOM_AGENT", "nobody.sock").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(9) && said.contains("nobody listens there"), "{said}");
        assert!(output.stdout.is_empty());
    }
    home.ok(&["--no-agent", "get", "a"]);
}

#[test]
fn what_was_begun_is_finished_on_reload_and_at_the_end() {
    let Some(home) = Home::with_store() else { return };
    home.put("a", b"token");
    let mut daemon = Daemon::start(&home, &[]);
    let (ending, asked) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; 4]);
    std::thread::scope(|scope| {
        let load = |asked| load(daemon.socket.clone(), asked, &ending);
        let clients: Vec<_> = asked.iter().map(|asked| scope.spawn(move || load(asked))).collect();
        // Each client is answered some more times before each signal.
        let all_go_on = || {
            let counts = || asked.each_ref().map(|asked| asked.load(Ordering::SeqCst));
            let before = counts();
            let more = || counts().iter().zip(before).all(|(now, before)| *now >= before + 10);
            assert!(eventually(Duration::from_secs(60), more), "{before:?} {:?}", counts());
        };
        for _ in 0..3 {
            all_go_on();
            daemon.signal("-HUP");
        }
        all_go_on();
        assert_eq!(daemon.get("/v1/values/a").status, 200);
        ending.store(true, Ordering::SeqCst);
        daemon.signal("-TERM");
        for client in clients {
            assert_eq!(client.join().unwrap(), [""; 0]);
        }
    });
    assert!(daemon.ended().success());
}

#[test]
fn a_broken_configuration_is_not_taken_over() {
    let Some(home) = Home::with_store() else { return };
    home.put("a", b"token");
    let daemon = Daemon::start(&home, &[]);
    std::fs::write(home.dir.join("config/strongroom/config.toml"), "nonsense").unwrap();
    daemon.signal("-HUP");
    let refused = || daemon.said.lock().unwrap().contains("everything stays as it was");
    assert!(eventually(Duration::from_secs(20), refused), "{}", daemon.said.lock().unwrap());
    assert_eq!(daemon.get("/v1/values/a").text(), "token");
}

#[test]
fn a_pin_that_is_typed_opens_until_it_is_locked() {
    use std::io::Write;
    let Some(home) = Home::with_store() else { return };
    home.put("a", b"token");
    let config = home.dir.join("config/strongroom/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let without = text.lines().map(|line| {
        line.split("&pin-source").next().unwrap().to_owned()
            + if line.contains("&pin-source") { "\"" } else { "" }
    });
    std::fs::write(&config, without.collect::<Vec<_>>().join("\n")).unwrap();
    let daemon = Daemon::start(&home, &[]);
    let (code, text) = through(&home, &daemon, &["get", "a"]);
    assert!(code == Some(6) && text.contains("strongroom unlock"), "{text}");
    let unlock = |pin: &str| {
        let mut command = home.strongroom(&["unlock"]);
        let mut child = command
            .env("STRONGROOM_AGENT", &daemon.socket)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(pin.as_bytes()).unwrap();
        child.wait().unwrap().code()
    };
    assert_eq!(unlock("9999\n"), Some(6));
    assert_eq!(unlock("1234\n"), Some(0));
    assert_eq!(through(&home, &daemon, &["get", "a"]), (Some(0), "token".into()));
    let (code, text) = through(&home, &daemon, &["status"]);
    assert!(code == Some(0) && text.contains("ready"), "{text}");
    // What goes through an unlocked agent asks for no PIN.
    std::fs::write(
        home.dir.join("tokens"),
        "{\"name\":\"a\",\"value\":\"token\"}\n{\"name\":\"b\",\"value\":\"x\"}\n",
    )
    .unwrap();
    let (code, text) = through(&home, &daemon, &["import", "tokens"]);
    assert!(code == Some(0) && text.contains("imported 1 token with 1 signature, 1 unchanged"), "{text}");
    assert_eq!(through(&home, &daemon, &["lock"]).0, Some(0));
    assert_eq!(through(&home, &daemon, &["get", "a"]).0, Some(6));
    drop(daemon);
    let (code, text) = direct(&home, &["status"]);
    assert!(code == Some(9) && text.contains("none is running here"), "{text}");
}

#[test]
fn another_user_is_known_by_its_number() {
    let Some(home) = Home::with_store() else { return };
    if !rustix::process::geteuid().is_root() {
        return test_support::skip::skip("only root can be somebody else");
    }
    use std::os::unix::fs::PermissionsExt;
    home.put("a", b"token");
    home.ok(&["grant", "a", "--to", "user:4243", "--quiet"]);
    let daemon = Daemon::start(&home, &[]);
    // In /tmp, so that somebody else gets there.
    let open = tempfile::tempdir().unwrap();
    std::fs::set_permissions(open.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let socket = open.path().join("agent.sock");
    std::fs::hard_link(&daemon.socket, &socket).unwrap();
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    let url = "http://x/v1/values/a";
    let status = |uid: &str| {
        let mut command = Command::new("setpriv");
        command
            .args([
                &format!("--reuid={uid}"),
                "--clear-groups",
                "curl",
                "-s",
                "-H",
                "Strongroom: 1",
                "--unix-socket",
            ])
            .arg(&socket);
        let output = command.args(["-w", "%{http_code}", url]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(status("4243"), "token200");
    assert!(status("4242").ends_with("403"));
    assert_eq!(status("0"), "token200");
    let list = |uid: &str| {
        let mut command = home.command("setpriv");
        command.args([&format!("--reuid={uid}"), "--clear-groups", test_support::home::strongroom(), "list"]);
        let output = command.arg("--agent-socket").arg(&socket).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    assert!(list("4243").starts_with("a\t1\tactive"), "{}", list("4243"));
    assert!(list("4242").contains("no token is granted to you"), "{}", list("4242"));
}

#[test]
fn the_service_managers_socket_is_used() {
    let Some(home) = Home::with_store() else { return };
    if !test_support::softhsm::installed("systemd-socket-activate") {
        return test_support::skip::skip("systemd-socket-activate is missing: apt-get install systemd");
    }
    home.put("a", b"token");
    let socket = home.dir.join("activated.sock");
    let mut command = home.command("systemd-socket-activate");
    command.args(["-l", socket.to_str().unwrap(), "-E", "PATH", "-E", "HOME", "-E", "SOFTHSM2_CONF"]);
    for variable in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "STRONGROOM_PKCS11_MODULE"] {
        command.args(["-E", variable]);
    }
    command.args([test_support::home::strongroom(), "agent"]).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let daemon = Daemon { child, socket, said: Arc::default() };
    assert_eq!(daemon.get("/v1/values/a").text(), "token");
}

/// Puts tokens until the agent is gone; the names of those that it said were there.
fn put_many(socket: PathBuf, round: usize) -> Vec<String> {
    use std::io::Write;
    let Ok(mut stream) = UnixStream::connect(&socket) else { return Vec::new() };
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut there = Vec::new();
    for i in 0.. {
        let name = format!("many/{round}-{i}");
        let request = format!(
            "PUT /v1/values/{name} HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\ncontent-length: 1\r\n\r\nx"
        );
        if stream.write_all(request.as_bytes()).is_err() {
            break;
        }
        match crate::http::read(&mut stream) {
            Some(answer) => assert_eq!(answer.status, 200, "{answer:?}"),
            None => break,
        }
        there.push(name);
    }
    there
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let Some(home) = Home::with_store() else { return };
    let mut there = Vec::new();
    for (round, point) in FAILPOINTS.into_iter().enumerate() {
        let mut daemon = Daemon::start_with(&home, &[], |agent| {
            agent.env("STRONGROOM_FAILPOINT", format!("{point}:3"));
        });
        let acknowledged = put_many(daemon.socket.clone(), round);
        there.extend(acknowledged);
        assert_eq!(daemon.ended().signal(), Some(9), "{point}");
    }
    assert!(there.len() > FAILPOINTS.len(), "{there:?}");
    let listed = home.ok(&["list", "many"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    for name in &there {
        assert!(listed.contains(&format!("{name}\t1\tactive")), "{name} is lost");
    }
    home.ok(&["verify"]);
}

#[test]
fn ten_thousand_idle_connections_are_held() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const MANY: usize = 10_000;
    let Some(home) = Home::with_store() else { return };
    home.put("a", b"token");
    let limit = getrlimit(Resource::Nofile).maximum;
    if limit.is_some_and(|most| most < MANY as u64 + 1_000) {
        return test_support::skip::skip(&format!("no process may have {MANY} files here"));
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
    let daemon = Daemon::start(&home, &[]);
    let before = daemon.resident();
    let mut held: Vec<UnixStream> = (0..MANY).map(|_| UnixStream::connect(&daemon.socket).unwrap()).collect();
    assert_eq!(daemon.get("/v1/values/a").text(), "token");
    // One that asks for nothing has no room for a request yet.
    let more = daemon.resident() - before;
    assert!(more < 64 << 10, "{more} KiB");
    let metrics = daemon.get("/metrics").text();
    assert!(metrics.contains("strongroom_turned_away_total 0\n"), "{metrics}");
    for stream in held.iter_mut().step_by(1_000) {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert_eq!(
            ask(stream, b"GET /v1/values/a HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\n\r\n").text(),
            "token"
        );
    }
}
