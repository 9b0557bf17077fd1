//! The socket for systemd's credentials, by somebody who is not systemd.

use crate::agent_in_process::{Served, own_uid};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use strongroom::agent::AgentOwner;
use strongroom::vault::{GrantOn, GrantOptions};

/// What comes back to an end of this abstract name.
pub fn fetch(socket: &Path, name: Option<&[u8]>) -> Vec<u8> {
    rest(connect(socket, name))
}

/// A connection from an end of this abstract name.
pub fn connect(socket: &Path, name: Option<&[u8]>) -> UnixStream {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, socket as new_socket};
    let fd = new_socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    if let Some(name) = name {
        bind(&fd, &SocketAddrUnix::new_abstract_name(name).unwrap()).unwrap();
    }
    connect(&fd, &SocketAddrUnix::new(socket).unwrap()).unwrap();
    let stream = UnixStream::from(fd);
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    stream
}

/// All that comes.
pub fn rest(mut stream: UnixStream) -> Vec<u8> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// As systemd names its end, with digits of this test's own.
pub fn named(digits: &str, unit: &str, id: &str) -> Vec<u8> {
    format!("{digits}{:x}/unit/{unit}/{id}", std::process::id()).into_bytes()
}

pub const TOO_LONG: usize = (1 << 20) + 1;

#[test]
fn root_gets_what_the_unit_was_granted_and_a_refusal_is_too_long() {
    if own_uid() != 0 {
        return test_support::skip::skip("only root is believed");
    }
    let served = Served::new(AgentOwner::Machine, |_| {});
    let socket = served.test_store.dir.path().join("credentials.sock");
    let options = GrantOptions { alias: Some("db".into()), ..GrantOptions::default() };
    let on = GrantOn::Token(test_support::test_store::name("prod/db"));
    served.another().grant(&on, &"unit:web.service".parse().unwrap(), &options).unwrap();
    assert_eq!(fetch(&socket, Some(&named("a0", "web.service", "db"))), b"two");
    for (digits, unit, id) in
        [("a1", "web.service", "other"), ("a2", "db.service", "db"), ("a3", "web.service", "prod")]
    {
        assert_eq!(fetch(&socket, Some(&named(digits, unit, id))).len(), TOO_LONG, "{unit} {id}");
    }
    assert_eq!(fetch(&socket, Some(b"no unit at all")).len(), TOO_LONG);
    assert_eq!(fetch(&socket, None).len(), TOO_LONG);
    // A client that leaves again stops nobody.
    for _ in 0..20 {
        drop(UnixStream::connect(&socket).unwrap());
    }
    assert_eq!(fetch(&socket, Some(&named("a4", "web.service", "db"))), b"two");
    served.faults.iter().for_each(|faults| faults.gone.store(true, std::sync::atomic::Ordering::SeqCst));
    assert_eq!(fetch(&socket, Some(&named("a5", "web.service", "db"))).len(), TOO_LONG);
}

#[test]
fn a_forged_name_is_of_no_use_to_anybody_else() {
    if own_uid() != 0 {
        return test_support::skip::skip("only root can be somebody else");
    }
    let served = Served::new(AgentOwner::Machine, |_| {});
    let options = GrantOptions { alias: Some("db".into()), ..GrantOptions::default() };
    let on = GrantOn::Token(test_support::test_store::name("prod/db"));
    served.another().grant(&on, &"unit:web.service".parse().unwrap(), &options).unwrap();
    // Even if the socket were open to everybody.
    let socket = served.test_store.dir.path().join("credentials.sock");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(served.test_store.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    let script = "import socket,sys,os\n\
                  os.setgroups([]); os.setgid(4242); os.setuid(4242)\n\
                  s=socket.socket(socket.AF_UNIX)\n\
                  s.bind('\\0'+sys.argv[2])\n\
                  s.connect(sys.argv[1])\n\
                  n=0\n\
                  while True:\n\
                  \u{20}d=s.recv(1<<16)\n\
                  \u{20}if not d: break\n\
                  \u{20}n+=len(d)\n\
                  print(n)";
    let name = String::from_utf8(named("b0", "web.service", "db")).unwrap();
    let mut python = std::process::Command::new("python3");
    let Ok(output) = python.args(["-c", script]).arg(&socket).arg(name).output() else {
        return test_support::skip::skip("python3 is missing");
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), TOO_LONG.to_string(), "{said}");
    let log = || served.another().accesses(0, 1).unwrap();
    served.until("it is written down", || !log().is_empty());
    let log = log();
    assert_eq!((log[0].access.outcome.as_str(), log[0].access.uid), ("denied", 4242));
}
