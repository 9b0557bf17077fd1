//! An agent under siege: by connections that read nothing, by requests that nobody may make, by slow readers of large
//! tokens; while its device or its store hangs, it is reloaded and it stops. The owner is served all the while, and memory
//! stays small. `scripts/test-siege` runs these, with as many connections as it is told.

use crate::agent_in_process::{Served, own_uid};
use crate::credentials::{self, TOO_LONG, fetch, named, rest};
use crate::daemon::Daemon;
use crate::hanging_store::HangingStore;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use test_support::home::Home;

/// What a besieger runs: as another user, with many connections, each with the same requests; it reads nothing, or slowly.
const BESIEGER: &str = "
import os,resource,socket,sys,time
path,uid,count,request,times,slow = sys.argv[1:7]
resource.setrlimit(resource.RLIMIT_NOFILE,(20000,20000))
os.setgroups([]); os.setgid(int(uid)); os.setuid(int(uid))
request = request.replace('|','\\r\\n')
held = []
for n in range(int(count)):
    data = ''.join(request.replace('%d',f'{n}-{i}') for i in range(int(times))).encode()
    s = socket.socket(socket.AF_UNIX)
    try:
        s.settimeout(20)
        s.connect(path)
        s.setblocking(False)
        s.send(data)
        held.append(s)
    except OSError:
        pass
print(len(held), flush=True)
end = time.time()+int(os.environ.get('SIEGE_SECONDS','12'))
while time.time() < end:
    time.sleep(0.05)
    for s in held:
        try:
            if slow == 'slow': s.recv(512)
            elif slow == 'all':
                if s.recv(65536): s.send(data)
        except OSError:
            pass
";

struct Besieger(Child);

impl Drop for Besieger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn besiege(socket: &Path, uid: u32, count: usize, request: &str, times: usize, manner: &str) -> Besieger {
    let mut python = Command::new("python3");
    python.args(["-c", BESIEGER]).arg(socket);
    python.args([&uid.to_string(), &count.to_string(), request, &times.to_string(), manner]);
    Besieger(python.stdout(Stdio::null()).spawn().unwrap())
}

/// This part of all connections, in percent.
fn connections(percent: usize) -> usize {
    let all = std::env::var("SIEGE_CONNECTIONS").map_or(1200, |all| all.parse().unwrap());
    (all * percent / 100).max(1)
}

/// The agent's socket, where every user reaches it.
fn open_to_all(daemon: &Daemon) -> (tempfile::TempDir, PathBuf) {
    let open = tempfile::tempdir().unwrap();
    std::fs::set_permissions(open.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let socket = open.path().join("agent.sock");
    std::fs::hard_link(&daemon.socket, &socket).unwrap();
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    (open, socket)
}

/// A request, for [`BESIEGER`].
fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1|host: x|strongroom: 1||")
}

#[test]
#[ignore = "scripts/test-siege runs it"]
fn the_owner_is_served_and_memory_stays_small() {
    let Some(home) = Home::with_store().filter(|_| own_uid() == 0) else {
        return test_support::skip::skip("only root can be somebody else");
    };
    home.put("a", b"token");
    home.put("large", &vec![b'x'; 1 << 20]);
    home.ok(&["grant", "a", "--to", "unit:web.service", "--quiet"]);
    home.ok(&["grant", "large", "--to", "user:4301", "--force", "--quiet"]);
    let mut daemon = Daemon::start(&home, &[]);
    // A bug that takes more is killed by its own limit, and not this machine.
    let number = daemon.child.id().to_string();
    let limited = Command::new("prlimit").args(["--pid", &number, "--data=1073741824"]).status().unwrap();
    assert!(limited.success());
    let credentials = daemon.socket.with_file_name("credentials.sock");
    let (_open, socket) = open_to_all(&daemon);
    let (most, slowest, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let owner = scope.spawn(|| {
            let mut asked_for = 0;
            while !over.load(Ordering::SeqCst) {
                let asked = Instant::now();
                assert_eq!(daemon.get("/v1/values/a").text(), "token");
                let took = u64::try_from(asked.elapsed().as_millis()).unwrap();
                slowest.fetch_max(took, Ordering::SeqCst);
                // No credential is empty or cut off.
                let unit = named(&format!("e{asked_for:x}"), "web.service", "a");
                assert_eq!(fetch(&credentials, Some(&unit)), b"token");
                asked_for += 1;
                most.fetch_max(daemon.resident(), Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let _unread = besiege(&socket, 4300, connections(82), &get("/openapi.json"), 40, "none");
        let _slow = besiege(&socket, 4301, connections(13), &get("/v1/values/large"), 2, "slow");
        let _denied = besiege(&socket, 4302, connections(5), &get("/v1/values/a%d"), 20, "all");
        std::thread::sleep(Duration::from_secs(6));
        daemon.signal("-HUP");
        std::thread::sleep(Duration::from_secs(6));
        over.store(true, Ordering::SeqCst);
        // What the owner asks for last is answered before it stops: who comes later finds nobody.
        owner.join().unwrap();
        // A credential that is asked for when it stops is whole or refused.
        let pending: Vec<_> = (0..20)
            .map(|n| credentials::connect(&credentials, Some(&named(&format!("f{n:x}"), "web.service", "a"))))
            .collect();
        daemon.signal("-TERM");
        for credential in pending {
            let credential = rest(credential);
            assert!(credential == b"token" || credential.len() == TOO_LONG, "{}", credential.len());
        }
    });
    assert!(daemon.ended().success());
    let (most, slowest) = (most.into_inner() >> 10, slowest.into_inner());
    eprintln!("resident at most {most} MiB, the owner waited {slowest} ms at most");
    assert!(most < 256 && slowest < 1000, "{most} MiB, {slowest} ms");
    // Thousands of denials make few lines, which say how many there were.
    let log = home.ok(&["log", "--access", "--json", "-n", "100000"]).stdout;
    let log = String::from_utf8(log).unwrap();
    let denied: Vec<_> = log.lines().filter(|line| line.contains("\"denied")).collect();
    let count = |words: &str| denied.iter().filter(|line| line.contains(words)).count();
    assert!((1..=200).contains(&count("\"denied\"")), "{}", count("\"denied\""));
    assert!(count("times under other names") > 0 && denied.len() <= 400, "{}", denied.len());
}

/// The longest that the owner waits for this, in the midst of a crowd.
fn slowest_amid_a_crowd(daemon: &Daemon, asks: impl Fn()) -> Duration {
    let (_open, socket) = open_to_all(daemon);
    let _unread = besiege(&socket, 4300, connections(50), &get("/openapi.json"), 40, "none");
    let _denied = besiege(&socket, 4302, connections(10), &get("/v1/values/a%d"), 20, "all");
    let (began, mut slowest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        asks();
        slowest = slowest.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("the owner waited {} ms at most", slowest.as_millis());
    slowest
}

#[test]
#[ignore = "scripts/test-siege runs it"]
fn the_owner_is_served_while_the_store_takes_no_access_log() {
    let Some(home) = Home::with_store().filter(|_| own_uid() == 0) else {
        return test_support::skip::skip("only root can be somebody else");
    };
    home.put("a", b"token");
    let daemon = Daemon::start(&home, &[]);
    assert_eq!(daemon.get("/v1/values/a").text(), "token");
    // Somebody begins to write, and does not go on.
    let db = rusqlite::Connection::open(home.dir.join("data/strongroom/store.sqlite")).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let slowest = slowest_amid_a_crowd(&daemon, || assert_eq!(daemon.get("/v1/values/a").text(), "token"));
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(daemon.said().contains("in the access log"));
    db.execute_batch("ROLLBACK").unwrap();
}

#[test]
#[ignore = "scripts/test-siege runs it"]
fn the_owner_hears_how_it_is_while_the_store_hangs() {
    let Some(home) = Home::with_store().filter(|_| own_uid() == 0) else {
        return test_support::skip::skip("only root can be somebody else");
    };
    let daemon = Daemon::start(&home, &[]);
    let hanging = HangingStore::of(&home);
    let slowest =
        slowest_amid_a_crowd(&daemon, || assert!(daemon.get("/v1/health").text().contains("status")));
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    drop(hanging);
    let is_well = || daemon.get("/v1/health").json()["status"] == "ok";
    assert!(test_support::eventually::eventually(Duration::from_secs(30), is_well));
}

#[test]
#[ignore = "scripts/test-siege runs it"]
fn the_owner_is_served_while_a_device_hangs() {
    if own_uid() != 0 {
        return test_support::skip::skip("only root can be somebody else");
    }
    let served = Served::to_owner();
    served.faults[0].hang(true);
    // The first pays for it, and the other device opens it.
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
    let strangers =
        |uid| besiege(&served.socket, uid, connections(20), &get("/v1/values/prod/a%d"), 20, "all");
    std::fs::set_permissions(&served.socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    std::fs::set_permissions(
        served.test_store.dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let _besiegers = [strangers(4300), strangers(4301)];
    served.until("it is known to hang", || served.status(0) == "hung");
    let (began, mut slowest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        assert_eq!(served.get("/v1/values/prod/db").text(), "two");
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}
