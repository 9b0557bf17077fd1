//! Who is at the other end of a socket: the kernel's word, and nothing that the other end says itself.
//!
//! SO_PEERCRED names the process that connected, by a number that may be another's by now. So the process is held by a
//! pidfd (SO_PEERPIDFD, Linux 6.5); what `/proc` says of the number is believed only if the held process was still running
//! after it was read, and if its user and group are those who connected. An older kernel has no way to get the pidfd of the
//! connection itself: there the number is opened.

use super::pidfd_cache::{PidfdCache, is_running};
use super::program::{Exe, MAX_EXE_BYTES};
use super::systemd_unit::Unit;
use crate::error::{Error, Kind, Result};
use crate::ledger::Hash;
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A process at the other end, as it was when it connected.
#[derive(Debug)]
pub struct Peer {
    /// Counts connections: no two peers have the same.
    pub serial: u64,
    /// Effective user.
    pub uid: u32,
    /// Effective and supplementary groups.
    pub groups: Vec<u32>,
    /// Process id.
    pub pid: u32,
    /// The unit it runs in.
    pub unit: Option<Unit>,
    /// The program it runs, where that can be seen.
    pub exe: Option<Exe>,
    /// The program's digest, once somebody asked for it.
    pub(in crate::agent) digest: OnceLock<Hash>,
    /// Keeps the number from being reused.
    pub(in crate::agent) held: Arc<OwnedFd>,
}

impl Peer {
    /// The process that connected this socket.
    ///
    /// # Errors
    /// `Refused` when it is not there any more; `Io` when the kernel does not tell.
    pub fn of(socket: &impl AsFd, held: &PidfdCache) -> Result<Self> {
        Self::by(socket, held, tells_pidfds())
    }

    /// As [`Peer::of`], on a kernel that tells the pidfd of a connection or one that does not.
    fn by(socket: &impl AsFd, held: &PidfdCache, pidfds: bool) -> Result<Self> {
        let credentials = getsockopt(&socket.as_fd(), sockopt::PeerCredentials).map_err(unknown)?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let strangers = strangers();
        if strangers.is_some_and(|(nobody, _)| nobody == uid) {
            return Err(Error::new(Kind::Refused, IDENTIFY, "its user has no number in this user namespace"));
        }
        // Zero stands for a process that has no number here: one outside of this namespace.
        let pid = Some(credentials.pid()).filter(|pid| *pid > 0).and_then(Pid::from_raw).ok_or_else(gone)?;
        let number = pid.as_raw_nonzero().get().unsigned_abs();
        let process = if pidfds { process_of(socket)? } else { open_process(pid)? };
        let process = held.share(number, process);
        let (groups, user, group) = groups_and_ids(number).ok_or_else(gone)?;
        let unit = read(number, "cgroup").and_then(|text| Unit::from_cgroup(&text));
        let exe = Exe::of(number);
        // Where they differ, it is another process, or another program by now: one that is set-user-id.
        if !is_running(&process) || (user, group) != (uid, gid) {
            return Err(gone());
        }
        let known = |group: &u32| strangers.is_none_or(|(_, nobody)| nobody != *group);
        let groups = std::iter::once(gid).chain(groups).filter(known).collect();
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        let serial = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { serial, uid, groups, pid: number, unit, exe, digest: OnceLock::new(), held: process })
    }

    /// Whether the process that connected is still there: somebody who merely inherited the connection is not it.
    pub fn is_there(&self) -> bool {
        is_running(&self.held)
    }

    /// SHA-256 of the program it ran when it connected, computed once.
    pub fn exe_digest(&self) -> Option<Hash> {
        if let Some(digest) = self.digest.get() {
            return Some(*digest);
        }
        let file = File::open(format!("/proc/{}/exe", self.pid)).ok()?;
        let metadata = file.metadata().ok()?;
        // It may have become another program since.
        let same = self.exe.as_ref().is_some_and(|exe| exe.is(&metadata));
        if !same || metadata.len() >= MAX_EXE_BYTES {
            return None;
        }
        let digest = match known_digest(&metadata) {
            Some(digest) => digest,
            None => {
                let (mut program, mut digest) = ((&file).take(MAX_EXE_BYTES), Sha256::new());
                std::io::copy(&mut program, &mut digest).ok()?;
                let whole =
                    program.limit() > 0 && file.metadata().is_ok_and(|now| state(&now) == state(&metadata));
                let digest = whole.then(|| Hash(digest.finalize().into()))?;
                remember_digest(&metadata, digest);
                digest
            }
        };
        self.is_there().then(|| *self.digest.get_or_init(|| digest))
    }

    /// The program and the unit in one text, for the access log.
    pub fn program(&self) -> String {
        let exe = self.exe.as_ref().map(|exe| plain(&exe.path.to_string_lossy())).unwrap_or_default();
        match &self.unit {
            Some(unit) => {
                // A long path must not push the unit out.
                let unit = plain(&unit.to_string());
                let room = SHOWN.saturating_sub(unit.chars().count() + 3);
                let exe: String = exe.chars().take(room).collect();
                format!("{exe} ({unit})").trim_start().to_owned()
            }
            None => exe,
        }
    }

    /// Who it is, for a person who is asked for a PIN: what it cannot choose itself comes first.
    pub fn introduction(&self) -> String {
        let exe = self.exe.as_ref().map(|exe| plain(&exe.path.to_string_lossy())).unwrap_or_default();
        match &self.unit {
            Some(unit) => format!("{}, uid {}, {exe}", plain(&unit.to_string()), self.uid),
            None => format!("uid {}, {exe}", self.uid),
        }
    }
}

/// Which file it is, and since when it has been as it is: writing to a file changes that time, and only root can set it.
type FileState = (u64, u64, i64, i64, u64);

/// Digests of programs, for other processes that run the same.
static DIGESTS: Mutex<BTreeMap<FileState, Hash>> = Mutex::new(BTreeMap::new());

/// The most digests that are remembered.
const MAX_DIGESTS: usize = 256;

fn state(file: &Metadata) -> FileState {
    (file.dev(), file.ino(), file.ctime(), file.ctime_nsec(), file.len())
}

fn known_digest(file: &Metadata) -> Option<Hash> {
    DIGESTS.lock().unwrap_or_else(PoisonError::into_inner).get(&state(file)).copied()
}

fn remember_digest(file: &Metadata, digest: Hash) {
    let mut known = DIGESTS.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= MAX_DIGESTS {
        known.clear();
    }
    known.insert(state(file), digest);
}

/// The most characters that are shown of a program's path, or of a unit.
const SHOWN: usize = 512;

/// Text that a process can choose, without what could make it look like other text.
fn plain(text: &str) -> String {
    let safe = |c: char| match c {
        '"' | '(' | ')' | '\\' => '_',
        // Also invisible ones, and those that turn the direction of writing.
        c if c == ' ' || c.is_alphanumeric() || c.is_ascii_graphic() => c,
        _ => '_',
    };
    text.chars().take(SHOWN).map(safe).collect()
}

/// The numbers of users and groups that have none in this user namespace (user_namespaces(7)); `None` in the first one,
/// where every user has its own.
fn strangers() -> Option<(u32, u32)> {
    static STRANGERS: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *STRANGERS.get_or_init(|| {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let number = |what: &str| {
            let text = std::fs::read_to_string(format!("/proc/sys/kernel/overflow{what}"));
            text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(65_534)
        };
        (!is_whole(&map)).then(|| (number("uid"), number("gid")))
    })
}

/// Whether a map of users maps all of them to themselves.
fn is_whole(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

const IDENTIFY: &str = "learn who connected";

fn gone() -> Error {
    Error::new(Kind::Refused, IDENTIFY, "the process that connected is not there any more")
}

/// Whether this kernel gives the pidfd of a connection: found out once, with a process that is there.
fn tells_pidfds() -> bool {
    static TELLS: OnceLock<bool> = OnceLock::new();
    // Not to be found out now: nobody is believed less strictly for that.
    let Ok((one, _other)) = std::os::unix::net::UnixStream::pair() else { return true };
    *TELLS.get_or_init(|| {
        !matches!(getsockopt(&one, sockopt::PeerPidfd), Err(Errno::ENOPROTOOPT | Errno::EINVAL))
    })
}

fn unknown(e: Errno) -> Error {
    Error::new(Kind::Io, IDENTIFY, e.desc()).caused_by(std::io::Error::from(e))
}

/// The process that made the connection.
fn process_of(socket: &impl AsFd) -> Result<OwnedFd> {
    getsockopt(&socket.as_fd(), sockopt::PeerPidfd).map_err(|e| match e {
        // EINVAL is said of a process that has ended.
        Errno::EINVAL | Errno::ESRCH | Errno::ENODATA => gone(),
        e => unknown(e),
    })
}

fn open_process(pid: Pid) -> Result<OwnedFd> {
    pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())
}

fn read(pid: u32, what: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/{what}")).ok()
}

/// Supplementary groups, and the effective user and group (proc_pid_status(5)).
fn groups_and_ids(pid: u32) -> Option<(Vec<u32>, u32, u32)> {
    let status = read(pid, "status")?;
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
    let groups = line("Groups:")?.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let effective = |key: &str| line(key)?.split_whitespace().nth(1)?.parse().ok();
    Some((groups, effective("Uid:")?, effective("Gid:")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    #[test]
    fn this_process_is_known_by_its_user_groups_and_program() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one, &PidfdCache::default()).unwrap();
        assert_eq!((peer.pid, peer.uid), (std::process::id(), rustix::process::geteuid().as_raw()));
        assert_eq!(peer.groups[0], rustix::process::getegid().as_raw());
        let exe = peer.exe.as_ref().unwrap();
        let path = std::env::current_exe().unwrap().canonicalize().unwrap();
        assert!(exe.is_at(&path) && !exe.is_at(Path::new("/proc/self/exe")));
        // Another file at the same path, as another mount namespace shows it.
        assert!(!Exe { file: (0, 1), ..exe.clone() }.is_at(&path));
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(peer.exe_digest(), Some(crate::ledger::sha256(&own)));
        assert!(peer.is_there());
    }

    #[test]
    fn the_first_user_namespace_is_told_from_others() {
        assert!(is_whole("         0          0 4294967295\n"));
        for map in ["", "0 1000 1\n", "0 100000 65536\n", "0 0 4294967295\n1 1 1\n"] {
            assert!(!is_whole(map), "{map}");
        }
    }

    #[test]
    fn a_digest_is_remembered_until_the_program_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::write(&path, "one").unwrap();
        let (before, digest) = (std::fs::metadata(&path).unwrap(), crate::ledger::sha256(b"one"));
        remember_digest(&before, digest);
        assert_eq!(known_digest(&std::fs::metadata(&path).unwrap()), Some(digest));
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&path, "two").unwrap();
        assert_eq!(known_digest(&std::fs::metadata(&path).unwrap()), None);
    }

    #[test]
    fn what_a_process_can_choose_looks_like_nothing_else() {
        assert_eq!(plain("/opt/a (web.service)\"\n\\\u{202e}x é"), "/opt/a _web.service_____x é");
        assert_eq!(plain(&"é".repeat(2000)).chars().count(), SHOWN);
        let (one, _other) = UnixStream::pair().unwrap();
        let unit = Some(Unit::System("web.service".into()));
        let peer = Peer { unit, uid: 7, ..Peer::of(&one, &PidfdCache::default()).unwrap() };
        assert!(peer.introduction().starts_with("web.service, uid 7, /"));
    }

    /// Kernels before 6.5 do not tell the process of a connection, only its number.
    #[test]
    fn with_and_without_the_kernels_help_a_process_is_known_while_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        for pidfds in [tells_pidfds(), false] {
            let mut curl = std::process::Command::new("curl");
            let mut caller = curl.arg("--unix-socket").arg(&path).arg("http://x/").spawn().unwrap();
            let (connection, _) = socket.accept().unwrap();
            let peer = Peer::by(&connection, &PidfdCache::default(), pidfds).unwrap();
            assert_eq!((peer.pid, peer.uid), (caller.id(), rustix::process::geteuid().as_raw()));
            assert!(peer.is_there() && peer.exe.as_ref().unwrap().path.ends_with("curl"));
            caller.kill().unwrap();
            caller.wait().unwrap();
            assert!(!peer.is_there());
            let error = Peer::by(&connection, &PidfdCache::default(), pidfds).unwrap_err();
            assert_eq!(error.kind(), Kind::Refused, "{error}");
        }
    }
}
