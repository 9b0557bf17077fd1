//! A store of three devices in software, and an agent that serves it.

use crate::failing_device::{Faults, connect};
use crate::http::{Answer, ask};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use strongroom::agent::{AgentDevice, AgentOwner, CachePolicy, Options, Sockets, StopHandle, run};
use strongroom::ledger::Prefix;
use strongroom::vault::{GrantOn, GrantOptions, Op, Revoked};
use strongroom::{Result, Vault};
use test_support::eventually::eventually;
use test_support::test_store::{Actor, NOW, TestStore, name};

/// Nobody here is this user: the agent's clients are strangers to it.
pub const SOMEBODY_ELSE: u32 = 4_242;

/// An agent in this process.
pub struct Served {
    pub test_store: TestStore,
    pub socket: PathBuf,
    /// Of the admin's device and of the opener's.
    pub faults: [Arc<Faults>; 2],
    running: StopHandle,
    thread: Option<JoinHandle<Result<()>>>,
}

fn device(actor: &Actor, faults: &Arc<Faults>) -> AgentDevice {
    let (inner, faults) = (actor.device.clone(), Arc::clone(faults));
    let connect = Arc::new(move || connect(&inner, &faults));
    AgentDevice { uri: actor.device.uri(), id: Some(actor.id), connect }
}

/// This process's user.
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// This process, as a grantee.
pub fn me() -> String {
    format!("user:{}", own_uid())
}

impl Served {
    /// To its owner.
    pub fn to_owner() -> Self {
        Self::new(AgentOwner::User(own_uid()), |_| {})
    }

    /// To strangers.
    pub fn to_strangers() -> Self {
        Self::new(AgentOwner::User(SOMEBODY_ELSE), |_| {})
    }

    pub fn new(owner: AgentOwner, change: impl FnOnce(&mut Options)) -> Self {
        let test_store = TestStore::populated();
        let faults: [Arc<Faults>; 2] = Default::default();
        let devices = vec![device(&test_store.admin, &faults[0]), device(&test_store.opener, &faults[1])];
        let state = test_store.dir.path().join("admin");
        let mut options = Options::new(test_store.url(), state, devices, owner);
        options.clock = || NOW;
        options.deadline = Duration::from_secs(10);
        change(&mut options);
        let socket = test_store.dir.path().join("agent.sock");
        let sockets =
            Sockets::make(&socket, None, Some(&test_store.dir.path().join("credentials.sock"))).unwrap();
        let running = StopHandle::default();
        let stop = running.clone();
        let thread = std::thread::spawn(move || {
            run(options, sockets, &stop, &mut || {}, &mut || panic!("nobody hung up"))
        });
        Self { test_store, socket, faults, running, thread: Some(thread) }
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// One request on a connection of its own.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let length =
            if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\n{length}\r\n").into_bytes();
        request.extend_from_slice(body);
        ask(&mut self.connect(), &request)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, b"")
    }

    /// Another process's vault on the same store, with the admin's device.
    pub fn another(&self) -> Vault {
        self.test_store.client("another", &[&self.test_store.admin]).unwrap()
    }

    /// Grants something by another process.
    pub fn grant(&self, on: &str, to: &str, ops: &[Op]) -> String {
        let options = GrantOptions { ops: ops.to_vec(), ..GrantOptions::default() };
        self.another().grant(&grant_on(on), &to.parse().unwrap(), &options).unwrap().id.to_string()
    }

    pub fn ungrant(&self, id: &str) {
        self.another().ungrant(&Revoked::Id(id.parse().unwrap())).unwrap();
    }

    /// Waits until `holds`, for what comes about by itself.
    pub fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        assert!(eventually(Duration::from_secs(20), holds), "{what}");
    }

    /// What the owner's health says of a device.
    pub fn status(&self, device: usize) -> String {
        self.get("/v1/health").json()["devices"][device]["status"].as_str().unwrap().to_owned()
    }

    pub fn stop(&mut self) {
        self.running.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

pub fn grant_on(on: &str) -> GrantOn {
    match on.ends_with('/') {
        true => GrantOn::Prefix(Prefix::parse(on).unwrap()),
        false => GrantOn::Token(name(on)),
    }
}

/// Keeps everything under a prefix for a while.
pub fn cached(on: &str, time: Duration) -> CachePolicy {
    CachePolicy { on: Prefix::parse(on).unwrap(), time }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.faults.iter().for_each(|faults| faults.hang(false));
        self.stop();
    }
}
