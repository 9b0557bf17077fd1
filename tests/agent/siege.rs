//! An agent under siege: by connections that read nothing, by requests that nobody may make, by slow readers of large
//! tokens. The owner is served all the while, and memory stays small.

use crate::credentials::{fetch, named};
use crate::daemon::Daemon;
use crate::served::own_uid;
use std::path::Path;
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

/// So many times what is done by default; `SIEGE=full` makes it thousands.
fn many(n: usize) -> usize {
    match std::env::var("SIEGE").as_deref() {
        Ok("full") => n,
        _ => n.div_ceil(8),
    }
}

#[test]
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
    let open = tempfile::tempdir().unwrap();
    std::fs::set_permissions(open.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let socket = open.path().join("agent.sock");
    std::fs::hard_link(&daemon.socket, &socket).unwrap();
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let get = |path: &str| format!("GET {path} HTTP/1.1|host: x|strongroom: 1||");
    let (most, slowest, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
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
        let _unread = besiege(&socket, 4300, many(6000), &get("/openapi.json"), 40, "none");
        let _slow = besiege(&socket, 4301, many(1100), &get("/v1/values/large"), 2, "slow");
        let _denied = besiege(&socket, 4302, many(400), &get("/v1/values/a%d"), 20, "all");
        std::thread::sleep(Duration::from_secs(6));
        daemon.signal("-HUP");
        std::thread::sleep(Duration::from_secs(6));
        over.store(true, Ordering::SeqCst);
    });
    let (most, slowest) = (most.into_inner() >> 10, slowest.into_inner());
    eprintln!("resident at most {most} MiB, the owner waited {slowest} ms at most");
    assert!(most < 256 && slowest < 1000, "{most} MiB, {slowest} ms");
    // Thousands of denials make few lines, which say how many there were.
    daemon.signal("-TERM");
    assert!(daemon.ended().success());
    let log = home.ok(&["log", "--access", "--json", "-n", "100000"]).stdout;
    let log = String::from_utf8(log).unwrap();
    let denied: Vec<_> = log.lines().filter(|line| line.contains("\"denied")).collect();
    let count = |words: &str| denied.iter().filter(|line| line.contains(words)).count();
    assert!((1..=200).contains(&count("\"denied\"")), "{}", count("\"denied\""));
    assert!(count("times under other names") > 0 && denied.len() <= 400, "{}", denied.len());
}
