//! Opening through the agent beside the module's own operation, kept tokens beside a bare HTTP answer, and what ten thousand
//! idle connections take. `scripts/bench` runs it.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use test_support::softhsm::{self, SoftHsm};

const LASTS: Duration = Duration::from_secs(4);
const IDLE: usize = 10_000;

fn main() {
    softhsm::benchmark(measure);
}

fn measure(hsm: &SoftHsm) {
    strongroom(hsm, &["init", "--quiet", "--device", &hsm.uri()]).status().unwrap();
    strongroom(hsm, &["put", "--quiet", "token", "--generate"]).status().unwrap();
    let raw = raw(hsm);
    println!("{:<24} {:>8} {:>10} {:>9} {:>9} {:>7}", "", "clients", "per s", "p50, µs", "p99, µs", "ratio");
    row("module, ECDH", 1, &raw, None);
    let agent = Agent::start(hsm, &[]);
    for clients in [1, 8, 64] {
        row("agent", clients, &ask(&agent.socket, clients, "/v1/values/token"), Some(&raw));
    }
    println!("start to ready: {} ms", agent.ready.as_millis());
    let before = agent.resident();
    let held: Vec<_> = (0..IDLE).map_while(|_| UnixStream::connect(&agent.socket).ok()).collect();
    std::thread::sleep(Duration::from_secs(1));
    println!("{} idle connections: {} MiB more than {before} MiB", held.len(), agent.resident() - before);
    drop((held, agent));

    let bare_socket = hsm.dir.join("bare.sock");
    bare(&bare_socket);
    let kept = Agent::start(hsm, &["--cache", "token=10m"]);
    for clients in [1, 8, 64] {
        let bare = ask(&bare_socket, clients, "/");
        row("bare answer", clients, &bare, None);
        row("agent, kept token", clients, &ask(&kept.socket, clients, "/v1/values/token"), Some(&bare));
    }
}

/// How many, and each one's time in microseconds, sorted.
struct PcrBinding {
    rate: f64,
    micros: Vec<u64>,
}

fn row(what: &str, clients: usize, measured: &PcrBinding, beside: Option<&PcrBinding>) {
    let at = |share: f64| measured.micros[(measured.micros.len() as f64 * share) as usize];
    let ratio = beside.map(|beside| format!("{:.2}", measured.rate / beside.rate)).unwrap_or_default();
    println!("{what:<24} {clients:>8} {:>10.0} {:>9} {:>9} {ratio:>7}", measured.rate, at(0.5), at(0.99));
}

fn strongroom(hsm: &SoftHsm, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(arguments).envs(hsm.environment()).env("STRONGROOM_AGENT", "").stdin(Stdio::null());
    for directory in ["CONFIG", "STATE", "DATA"] {
        command.env(format!("XDG_{directory}_HOME"), hsm.dir.join(directory));
    }
    command
}

struct Agent {
    child: Child,
    socket: std::path::PathBuf,
    ready: Duration,
}

impl Agent {
    fn start(hsm: &SoftHsm, arguments: &[&str]) -> Self {
        let (socket, started) = (hsm.dir.join("agent.sock"), Instant::now());
        let mut command = strongroom(hsm, &["agent", "--socket", socket.to_str().unwrap()]);
        let mut child = command.args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        said.read_line(&mut String::new()).unwrap();
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::stderr()));
        get(&mut BufReader::new(UnixStream::connect(&socket).unwrap()), "/v1/values/token");
        Self { child, socket, ready: started.elapsed() }
    }

    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(stream: &mut BufReader<UnixStream>, path: &str) {
    stream
        .get_mut()
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\n\r\n").as_bytes())
        .unwrap();
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if line == "\r\n" {
            break;
        }
        assert!(!line.starts_with("HTTP/1.1 ") || line.starts_with("HTTP/1.1 200"), "{line}");
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    std::io::copy(&mut stream.take(length), &mut std::io::sink()).unwrap();
}

fn ask(socket: &Path, clients: usize, path: &str) -> PcrBinding {
    let started = Instant::now();
    let client = || {
        let (mut stream, mut micros) = (BufReader::new(UnixStream::connect(socket).unwrap()), Vec::new());
        while started.elapsed() < LASTS {
            let begun = Instant::now();
            get(&mut stream, path);
            micros.push(u64::try_from(begun.elapsed().as_micros()).unwrap());
        }
        micros
    };
    let mut micros = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let rate = micros.len() as f64 / started.elapsed().as_secs_f64();
    micros.sort_unstable();
    PcrBinding { rate, micros }
}

/// What hyper makes of an answer that is there already, on a runtime as the agent's.
fn bare(socket: &Path) {
    let socket = std::os::unix::net::UnixListener::bind(socket).unwrap();
    socket.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let socket = tokio::net::UnixListener::from_std(socket).unwrap();
            loop {
                let (stream, _) = socket.accept().await.unwrap();
                tokio::spawn(async move {
                    let answer = service_fn(|_| async {
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&[b'x'; 32]))))
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
    });
}

/// ECDH in the module, on one session.
fn raw(hsm: &SoftHsm) -> PcrBinding {
    let module = Pkcs11::new(softhsm::module().unwrap()).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let _ = hsm;
    let slot = module.get_slots_with_initialized_token().unwrap()[0];
    let session = module.open_ro_session(slot).unwrap();
    session.login(UserType::User, Some(&AuthPin::new(softhsm::PIN.into()))).unwrap();
    let wanted = [Attribute::Label(b"strongroom-open".to_vec()), Attribute::Class(ObjectClass::PRIVATE_KEY)];
    let key = session.find_objects(&wanted).unwrap()[0];
    let peer = [Attribute::Label(b"strongroom-open".to_vec()), Attribute::Class(ObjectClass::PUBLIC_KEY)];
    let peer = session.find_objects(&peer).unwrap()[0];
    let Attribute::EcPoint(point) = &session.get_attributes(peer, &[AttributeType::EcPoint]).unwrap()[0]
    else {
        panic!("no point")
    };
    let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), &point[2..]));
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::ValueLen(32.into()),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Token(false),
    ];
    let (started, mut micros) = (Instant::now(), Vec::new());
    while started.elapsed() < LASTS {
        let begun = Instant::now();
        let secret = session.derive_key(&mechanism, key, &template).unwrap();
        session.get_attributes(secret, &[AttributeType::Value]).unwrap();
        session.destroy_object(secret).unwrap();
        micros.push(u64::try_from(begun.elapsed().as_micros()).unwrap());
    }
    let rate = micros.len() as f64 / started.elapsed().as_secs_f64();
    micros.sort_unstable();
    PcrBinding { rate, micros }
}
