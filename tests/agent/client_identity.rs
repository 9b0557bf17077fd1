//! Who connected is a process, and not a number.

use crate::agent_in_process::{Served, me};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use strongroom::vault::Op;
use test_support::subprocess::in_namespaces;

/// Connects, asks, leaves the connection to a child, and ends; the child asks when it is told to.
const HEIR: &str = r#"
    use Socket;
    socket(my $agent, AF_UNIX, SOCK_STREAM, 0) or die $!;
    connect($agent, sockaddr_un($ARGV[0])) or die $!;
    $| = 1;
    sub ask {
        syswrite $agent, "GET /v1/values/prod/db HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\n\r\n";
        sysread $agent, my $answer, 65536;
        print $answer;
    }
    ask;
    exit if fork;
    <STDIN>;
    ask;
"#;

#[test]
fn whoever_gets_the_number_of_a_peer_that_ended_is_not_that_peer() {
    in_namespaces(&["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"], "true", || {
        let served = Served::to_strangers();
        served.grant("prod/db", &me(), &[Op::Get]);
        let mut perl = Command::new("perl");
        perl.args(["-e", HEIR]).arg(&served.socket).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut peer = perl.spawn().unwrap();
        let (mut tell, mut answers) = (peer.stdin.take().unwrap(), peer.stdout.take().unwrap());
        peer.wait().unwrap();
        // The next process gets the number after this one (proc_sys_kernel(5)).
        std::fs::write("/proc/sys/kernel/ns_last_pid", (peer.id() - 1).to_string()).unwrap();
        let mut another = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(another.id(), peer.id());
        tell.write_all(b"now\n").unwrap();
        drop(tell);
        let mut said = String::new();
        answers.read_to_string(&mut said).unwrap();
        another.kill().unwrap();
        another.wait().unwrap();
        let (as_itself, inherited) = said.split_at(said.rfind("HTTP/1.1").unwrap());
        assert!(as_itself.starts_with("HTTP/1.1 200") && as_itself.ends_with("two"), "{said}");
        assert!(inherited.starts_with("HTTP/1.1 403") && !inherited.contains("two"), "{said}");
    });
}
