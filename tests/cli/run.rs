//! `run` is its program: process id, signals, input, limits.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::Duration;
use test_support::eventually::eventually;
use test_support::home::Home;

fn home() -> Option<Home> {
    let home = Home::with_store()?;
    home.put("a", b"s3cret");
    Some(home)
}

fn start(home: &Home, program: &[&str]) -> Child {
    let arguments = [&["run", "--env", "A=a", "--"], program].concat();
    home.strongroom(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn the_process_is_the_program() {
    let Some(home) = home() else { return };
    let mut child = start(&home, &["sh", "-c", "echo $$"]);
    assert_eq!(first_line(&mut child), child.id().to_string());
    assert!(child.wait().unwrap().success());
}

#[test]
fn signals_reach_it() {
    let Some(home) = home() else { return };
    let trap = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done";
    let mut child = start(&home, &["sh", "-c", trap]);
    assert_eq!(first_line(&mut child), "ready");
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(7));

    let mut child = start(&home, &["sh", "-c", "echo ready; exec sleep 60"]);
    assert_eq!(first_line(&mut child), "ready");
    signal(&child, Signal::KILL);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

#[test]
fn a_closed_pipe_ends_it_as_ever() {
    let Some(home) = home() else { return };
    let mut child = start(&home, &["yes"]);
    assert_eq!(first_line(&mut child), "y");
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().signal(), Some(13), "SIGPIPE");
}

/// The first process of a daemon ends; the file is still there for the one that stays.
#[test]
fn a_daemon_that_forks_keeps_its_files() {
    let Some(home) = home() else { return };
    let script = "(sleep 0.1; while kill -0 $$ 2>/dev/null; do sleep 0.01; done; cat \"$A\" >later; mv later read) >/dev/null 2>&1 &";
    home.ok(&["run", "--file", "A=a", "--", "sh", "-c", script]);
    let read = home.dir.join("read");
    assert!(eventually(Duration::from_secs(20), || read.exists()), "it never read its file");
    assert_eq!(std::fs::read(read).unwrap(), b"s3cret");
}

#[test]
fn input_is_its_own() {
    let Some(home) = home() else { return };
    let mut child = start(&home, &["sh", "-c", "cat; printf %s \"$A\""]);
    child.stdin.take().unwrap().write_all(b"in ").unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "in s3cret");
    assert!(child.wait().unwrap().success());
}

#[test]
fn limits_and_descriptors_are_as_they_were() {
    let Some(home) = home() else { return };
    let script = "ulimit -c; exec ls /proc/self/fd";
    let plain = home.command("sh").args(["-c", script]).output().unwrap();
    let ours = home.ok(&["run", "--env", "A=a", "--", "sh", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&ours.stdout), String::from_utf8_lossy(&plain.stdout));
}

/// The program is a child then: signals are passed on, and its exit code is the command's.
#[test]
fn masked_programs_get_signals_too() {
    let Some(home) = home() else { return };
    let trap = "trap 'echo $A; exit 7' TERM; echo ready; while :; do sleep 0.02; done";
    let mut run = home.strongroom(&["run", "--mask", "--env", "A=a", "--", "sh", "-c", trap]);
    let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    signal(&child, Signal::TERM);
    line.clear();
    out.read_to_string(&mut line).unwrap();
    assert_eq!(line, "***\n");
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

/// Goes on for about a minute, whoever forgets to end it.
const LOOP: &str = "n=0; while [ $n -lt 3000 ]; do n=$((n+1)); sleep 0.02; done";

/// A program that writes what it hears into a file, and its run.
struct Run {
    home: Home,
    child: Child,
}

impl Run {
    fn start(options: &[&str], program: &str) -> Option<Self> {
        let (home, program) = (home()?, program.replace("LOOP", LOOP));
        let arguments =
            [&["run", "--quiet", "--env", "A=a"], options, &["--", "sh", "-c", &program]].concat();
        let child = home.strongroom(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        Some(Self { home, child })
    }

    fn hears(&self, text: &str) {
        let heard = || std::fs::read_to_string(self.home.dir.join("log")).unwrap_or_default();
        assert!(eventually(Duration::from_secs(30), || heard() == text), "{:?}, not {text:?}", heard());
    }

    /// Its exit code and what it said.
    fn ends(mut self) -> (Option<i32>, String) {
        let ended = || self.child.try_wait().unwrap().is_some();
        assert!(eventually(Duration::from_secs(30), ended), "it goes on");
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

#[test]
fn a_program_is_started_again_with_each_new_version() {
    let program = r#"trap 'echo bye >>log; exit 0' TERM; echo "$A" >>log; [ "$A" = last ] && exit 0
        LOOP"#;
    let Some(run) = Run::start(&["--restart-on-change"], program) else { return };
    run.hears("s3cret\n");
    // Nothing else is a change: not another token, not a version that is staged.
    run.home.put("b", b"x");
    run.home.ok(&["put", "-q", "a", "--generate", "--staged"]);
    run.home.put("a", b"two");
    run.hears("s3cret\nbye\ntwo\n");
    // It keeps what it has when there is nothing to be had.
    run.home.ok(&["suspend", "a"]);
    run.home.ok(&["resume", "a"]);
    run.home.put("a", b"last");
    run.hears("s3cret\nbye\ntwo\nbye\nlast\n");
    assert_eq!(run.ends(), (Some(0), String::new()));
}

#[test]
fn a_program_that_does_not_heed_its_end_is_ended_and_one_that_fails_is_tried_again() {
    let program = r#"trap '' TERM; trap 'exit 9' INT; echo "$A" >>log; [ "$A" = bad ] && exit 3; LOOP"#;
    let Some(run) = Run::start(&["--restart-on-change", "--grace", "1s"], program) else { return };
    run.hears("s3cret\n");
    run.home.put("a", b"bad");
    run.hears("s3cret\nbad\nbad\n");
    run.home.put("a", b"good");
    let log = run.home.dir.join("log");
    let good = || std::fs::read_to_string(&log).unwrap().ends_with("good\n");
    assert!(eventually(Duration::from_secs(30), good));
    signal(&run.child, Signal::INT);
    let (code, said) = run.ends();
    assert!(said.contains("it ended with exit status: 3, and is started again in 1 s"), "{said}");
    assert_eq!(code, Some(9), "{said}");
}

#[test]
fn a_program_that_does_not_work_is_started_once_more() {
    let program = r#"echo "$A" >>log; exec sleep 60"#;
    let health = r#"test "$A" != bad"#;
    let Some(run) = Run::start(&["--restart-on-change", "--health-command", health], program) else { return };
    run.hears("s3cret\n");
    run.home.put("a", b"bad");
    run.hears("s3cret\nbad\nbad\n");
    run.home.put("a", b"good");
    run.hears("s3cret\nbad\nbad\ngood\n");
    signal(&run.child, Signal::TERM);
    let (code, said) = run.ends();
    assert!(code == Some(143) && said.contains("it does not work"), "{code:?} {said}");
}

/// A health command that hangs is no answer, and holds nothing up.
#[test]
fn a_health_command_that_does_not_end_holds_nothing_up() {
    let program = r#"echo "$A" >>log; exec sleep 60"#;
    let health = r#"test "$A" != bad || exec sleep 60"#;
    let Some(run) = Run::start(&["--restart-on-change", "--health-command", health], program) else { return };
    run.hears("s3cret\n");
    run.home.put("a", b"bad");
    run.hears("s3cret\nbad\n");
    std::thread::sleep(Duration::from_millis(1500));
    run.home.put("a", b"good");
    run.hears("s3cret\nbad\ngood\n");
    signal(&run.child, Signal::TERM);
    assert_eq!(run.ends().0, Some(143));
}

#[test]
fn a_program_is_sent_a_signal_at_each_new_version() {
    let program = r#"trap 'echo again >>log' USR1; trap 'exit 7' HUP; echo start >>log; LOOP"#;
    let Some(run) = Run::start(&["--signal-on-change", "SIGUSR1"], program) else { return };
    run.hears("start\n");
    run.home.put("a", b"two");
    run.hears("start\nagain\n");
    signal(&run.child, Signal::HUP);
    assert_eq!(run.ends(), (Some(7), String::new()));
}
