//! Tokens that are watched: over HTTP by whoever was granted them, and by the command, with the real agent.

use crate::agent_in_process::{Served, me};
use crate::daemon::Daemon;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use strongroom::vault::{Op, PutOptions};
use test_support::eventually::eventually;
use test_support::home::Home;
use test_support::test_store::{name, secret};

/// A stream of events.
struct Stream {
    lines: BufReader<UnixStream>,
}

impl Stream {
    fn open(served: &Served, query: &str) -> Self {
        let mut lines = BufReader::new(served.connect());
        let request = format!("GET /v1/watch?{query} HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\n\r\n");
        lines.get_mut().write_all(request.as_bytes()).unwrap();
        let mut stream = Self { lines };
        let head: Vec<String> =
            std::iter::from_fn(|| stream.line().filter(|line| !line.is_empty())).collect();
        assert_eq!(head[0], "HTTP/1.1 200 OK", "{head:?}");
        assert!(
            head.iter().any(|line| line.eq_ignore_ascii_case("content-type: text/event-stream")),
            "{head:?}"
        );
        stream
    }

    /// `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.lines.read_line(&mut line).unwrap() > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event that is no sign of life: its kind and what it says.
    fn next(&mut self) -> Option<(String, Value)> {
        let mut kind = String::new();
        loop {
            let line = self.line()?;
            if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut kind);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((kind, serde_json::from_str(data).unwrap()));
            }
        }
    }

    /// What there is at first, by name, with its version.
    fn first(&mut self) -> Vec<(String, u64)> {
        let events = std::iter::from_fn(|| self.next().filter(|(kind, _)| kind == "token"));
        let token = |(_, data): (_, Value)| {
            (data["name"].as_str().unwrap().to_owned(), data["version"].as_u64().unwrap())
        };
        events.map(token).collect()
    }
}

fn token(name: &str, version: Option<u64>, state: Option<&str>) -> Option<(String, Value)> {
    Some(("token".into(), json!({"name": name, "version": version, "state": state})))
}

#[test]
fn each_change_is_told_to_who_watches_the_token() {
    let mut served = Served::to_owner();
    let mut all = Stream::open(&served, "on=/");
    assert_eq!(all.first(), [("prod/db".into(), 2), ("prod/key".into(), 1), ("w/own".into(), 1)]);
    let mut one = Stream::open(&served, "on=prod/key&on=none");
    assert_eq!(one.first(), [("prod/key".into(), 1)]);
    let mut vault = served.another();
    let put = |vault: &mut strongroom::Vault, token: &str, options| {
        vault.put(&name(token), &secret("x"), &options).unwrap()
    };
    put(&mut vault, "prod/db", PutOptions::default());
    assert_eq!(all.next(), token("prod/db", Some(3), Some("active")));
    // What is staged is nothing yet.
    put(&mut vault, "prod/db", PutOptions { staged: true, ..PutOptions::default() });
    put(&mut vault, "prod/key", PutOptions::default());
    for stream in [&mut all, &mut one] {
        assert_eq!(stream.next(), token("prod/key", Some(2), Some("active")));
    }
    assert_eq!(served.ask("POST", "/v1/states/prod/key", br#"{"state":"suspended"}"#).status, 200);
    assert_eq!(one.next(), token("prod/key", Some(2), Some("suspended")));
    vault.destroy(&name("prod/key"), None, "").unwrap();
    assert_eq!(one.next(), token("prod/key", None, None));
    // The agent's end is the stream's, and not the other way round.
    served.stop();
    assert_eq!(one.next(), None);
}

#[test]
fn a_stranger_watches_what_was_granted_and_for_as_long() {
    let served = Served::to_strangers();
    let mut nothing = Stream::open(&served, "on=/");
    assert_eq!(nothing.first(), []);
    let id = served.grant("prod/db", &me(), &[Op::Get]);
    assert_eq!(nothing.next(), token("prod/db", Some(2), Some("active")));
    served.another().put(&name("prod/key"), &secret("x"), &PutOptions::default()).unwrap();
    served.ungrant(&id);
    assert_eq!(nothing.next(), token("prod/db", None, None));
    let problem = served.get("/v1/watch").problem();
    assert_eq!(problem.0, 400, "{problem:?}");
    assert_eq!(served.get("/v1/watch?on=..").problem().0, 400);
}

/// One user's streams leave room for others, and end with their connections.
#[test]
fn nobody_watches_without_end() {
    let served = Served::to_strangers();
    let streams: Vec<Stream> = (0..32).map(|_| Stream::open(&served, "on=/")).collect();
    let (status, _, message) = served.get("/v1/watch?on=/").problem();
    assert_eq!((status, message.as_str()), (503, "too many tokens of this user are watched"));
    assert_eq!(served.get("/v1/tokens").status, 200);
    drop(streams);
    let opens = || {
        let mut stream = served.connect();
        stream.write_all(b"GET /v1/watch?on=/ HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\n\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.contains("200")
    };
    assert!(eventually(Duration::from_secs(20), opens));
}

/// The command, and what it has printed.
struct Watch {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Watch {
    fn start(home: &Home, agent: Option<&Daemon>, arguments: &[&str]) -> Self {
        let mut command = home.strongroom(arguments);
        if let Some(daemon) = agent {
            command.env("STRONGROOM_AGENT", &daemon.socket);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = Arc::<Mutex<String>>::default();
        let (lines, stdout) = (Arc::clone(&said), BufReader::new(child.stdout.take().unwrap()));
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).for_each(|line| *lines.lock().unwrap() += &(line + "\n"));
        });
        Self { child, said }
    }

    fn says(&self, text: &str) {
        let said = || self.said.lock().unwrap().clone();
        assert!(eventually(Duration::from_secs(30), || said() == text), "{:?}, not {text:?}", said());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_command_tells_the_same_through_an_agent_that_is_reloaded_and_without_one() {
    let Some(home) = Home::with_store() else { return };
    home.put("prod/db", b"one");
    home.put("other", b"x");
    let daemon = Daemon::start(&home, &[]);
    let watches = [Some(&daemon), None].map(|agent| Watch::start(&home, agent, &["watch", "prod/", "none"]));
    let mut expected = "prod/db\t1\tactive\n".to_owned();
    watches.iter().for_each(|watch| watch.says(&expected));
    home.put("prod/db", b"two");
    expected += "prod/db\t2\tactive\n";
    watches.iter().for_each(|watch| watch.says(&expected));
    daemon.signal("-HUP");
    std::thread::sleep(Duration::from_millis(1500));
    home.ok(&["rename", "prod/db", "prod/orders"]);
    // Both in one look, in the order of their names.
    expected += "prod/db\t\tgone\nprod/orders\t2\tactive\n";
    watches.iter().for_each(|watch| watch.says(&expected));
}

/// A program that is given a token by `run` gets the next version, too.
#[test]
fn a_program_is_started_again_through_the_agent() {
    let Some(home) = Home::with_store() else { return };
    home.put("prod/db", b"one");
    let daemon = Daemon::start(&home, &[]);
    let program =
        r#"trap 'echo bye; exit 0' TERM; echo "$A"; [ "$A" = last ] && exit 5; while :; do sleep 0.02; done"#;
    let arguments = ["run", "-q", "--restart-on-change", "--env", "A=prod/db", "--", "sh", "-c", program];
    let mut run = Watch::start(&home, Some(&daemon), &arguments);
    run.says("one\n");
    home.put("prod/db", b"two");
    run.says("one\nbye\ntwo\n");
    // SIGTERM is the program's, and its end the command's.
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&run.child),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert_eq!(run.child.wait().unwrap().code(), Some(0));
    run.says("one\nbye\ntwo\nbye\n");
}
