//! An agent that is stopped, killed or told to read its configuration again, in the middle of something.

use crate::agent_in_process::{Served, own_uid};
use crate::credentials::{TOO_LONG, connect, named, rest};
use crate::daemon::Daemon;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use strongroom::agent::AgentOwner;
use strongroom::vault::{GrantOn, GrantOptions};
use test_support::executable::write_executable;
use test_support::home::Home;

fn only_root() -> bool {
    let root = own_uid() == 0;
    if !root {
        test_support::skip::skip("only root is believed");
    }
    root
}

#[test]
fn a_credential_that_is_pending_at_the_end_is_refused() {
    if !only_root() {
        return;
    }
    let mut served = Served::new(AgentOwner::Machine, |_| {});
    let socket = served.test_store.dir.path().join("credentials.sock");
    let options = GrantOptions { alias: Some("db".into()), ..GrantOptions::default() };
    let on = GrantOn::Token(test_support::test_store::name("prod/db"));
    served.another().grant(&on, &"unit:web.service".parse().unwrap(), &options).unwrap();
    served.faults.iter().for_each(|faults| faults.hang(true));
    let pending = connect(&socket, Some(&named("c0", "web.service", "db")));
    served.until("it is asked for", || served.faults[0].busy.load(Ordering::SeqCst) > 0);
    let pending = std::thread::spawn(|| rest(pending));
    served.stop();
    assert_eq!(pending.join().unwrap().len(), TOO_LONG);
}

/// What the service manager is told, and the sockets that it is handed.
fn told(manager: &UnixDatagram) -> (String, Vec<OwnedFd>) {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let got = recvmsg(manager, &mut slices, &mut ancillary, RecvFlags::empty()).unwrap();
    let fds = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let fds = fds.collect();
    (String::from_utf8_lossy(&bytes[..got.bytes]).into_owned(), fds)
}

/// The service manager keeps the connection, and hands it to the next agent, as systemd does.
#[test]
fn a_credential_that_is_pending_when_the_agent_is_killed_is_refused_by_the_next() {
    let Some(home) = Home::with_store().filter(|_| only_root()) else { return };
    home.put("db", b"token");
    home.ok(&["grant", "db", "--to", "unit:web.service", "--quiet"]);
    let config = home.dir.join("config/strongroom/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let (before, after) = text.split_once("&pin-source").unwrap();
    std::fs::write(&config, format!("{before}\"{}", after.split_once('"').unwrap().1)).unwrap();
    let (prompt, credentials) = (home.dir.join("prompt"), home.dir.join("credentials.sock"));
    write_executable(&prompt, "#!/bin/sh\nexec sleep 5\n");
    let manager = UnixDatagram::bind(home.dir.join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let arguments = ["--credentials", credentials.to_str().unwrap(), "--prompt", prompt.to_str().unwrap()];
    let mut daemon = Daemon::start_with(&home, &arguments, |command| {
        command.env("NOTIFY_SOCKET", home.dir.join("notify"));
    });
    let mut pending = connect(&credentials, Some(&named("d0", "web.service", "db")));
    let (name, kept) = loop {
        let (line, mut fds) = told(&manager);
        if let Some(name) = line.strip_prefix("FDSTORE=1\nFDNAME=") {
            break (name.to_owned(), fds.remove(0));
        }
    };
    daemon.signal("-KILL");
    daemon.ended();
    pending.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let closed = crate::http::is_closed_now(&mut pending);
    assert!(!closed, "it would be taken for an empty credential");
    // As systemd starts it anew: its sockets from 3 on.
    let requests = UnixListener::bind(home.dir.join("requests.sock")).unwrap();
    let script = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ LISTEN_FDS=2 exec strongroom agent";
    let mut next = home.command("sh");
    next.args(["-c", script]).env("LISTEN_FDNAMES", format!("strongroom.socket:{name}"));
    next.stdin(Stdio::from(OwnedFd::from(requests))).stdout(Stdio::from(kept)).stderr(Stdio::null());
    let next = Killed(next.spawn().unwrap());
    pending.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(rest(pending).len(), TOO_LONG);
    drop(next);
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks for much and reads nothing.
fn glutton(daemon: &Daemon) -> UnixStream {
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    let request = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(40);
    stream.write_all(&request).unwrap();
    stream
}

#[test]
fn a_client_that_reads_nothing_delays_no_reload_for_others() {
    let Some(home) = Home::with_store() else { return };
    home.put("a", b"token");
    let daemon = Daemon::start(&home, &[]);
    let _held: Vec<_> = (0..20).map(|_| glutton(&daemon)).collect();
    std::thread::sleep(Duration::from_millis(300));
    daemon.signal("-HUP");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        assert_eq!(daemon.get("/v1/values/a").text(), "token");
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
}
