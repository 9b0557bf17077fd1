//! sd_notify(3): tells the service manager how it goes. Without a service manager, nothing.

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::time::{ClockId, clock_gettime};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How names of stored sockets begin.
const PENDING: &str = "pending-";

/// Sends lines such as `READY=1`.
pub fn tell(state: &str) {
    send(state, None);
}

fn send(state: &str, attached: Option<BorrowedFd<'_>>) {
    if let Some(name) = std::env::var_os("NOTIFY_SOCKET") {
        let fds: Vec<_> = attached.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let sent = address(name.as_bytes()).and_then(|to| {
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&to)?;
            let bytes = [IoSlice::new(state.as_bytes())];
            Ok(sendmsg(&socket, &bytes, &mut ancillary, SendFlags::empty())?)
        });
        // A service manager that does not listen is none of the clients' business.
        if let Err(error) = sent {
            log::warn!("the service manager cannot be told: {error}");
        }
    }
}

fn address(name: &[u8]) -> std::io::Result<SocketAddr> {
    match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
    }
}

/// A socket that the service manager keeps open as well (`FDSTORE=1`), until this is dropped: when the agent is killed, the
/// other end does not take that for an answer, and the next agent is handed the socket.
pub struct Stored(String);

impl Stored {
    /// Hands a copy over.
    pub fn new(socket: &impl AsFd) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let stored = Self(format!("{PENDING}{pid}-{count}"));
        send(&format!("FDSTORE=1\nFDNAME={}", stored.0), Some(socket.as_fd()));
        stored
    }

    /// One that an agent before this one handed over, if the name says so.
    pub fn named(name: &str) -> Option<Self> {
        name.starts_with(PENDING).then(|| Self(name.into()))
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        tell(&format!("FDSTOREREMOVE=1\nFDNAME={}", self.0));
    }
}

/// That the configuration is read again: with the time, as `Type=notify-reload` wants it.
pub fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// How often the service manager wants to hear that the process is alive: half of what it allows.
pub fn watchdog() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC")
        .filter(|micros| for_us && *micros > 0)
        .map(|micros| Duration::from_micros(micros / 2))
}
