//! Handles on the processes that are connected (pidfd_open(2)), so that their numbers are not reused.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Processes that are held, each once, however many connections it has.
#[derive(Default)]
pub struct PidfdCache(Mutex<HashMap<u32, Weak<OwnedFd>>>);

impl PidfdCache {
    /// The handle that is there for this process already, or this one. A number means the same process as long as that is
    /// running.
    pub(super) fn share(&self, pid: u32, process: OwnedFd) -> Arc<OwnedFd> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = held.get(&pid).and_then(Weak::upgrade)
            && is_running(&known)
        {
            return known;
        }
        held.retain(|_, known| known.strong_count() > 0);
        let process = Arc::new(process);
        held.insert(pid, Arc::downgrade(&process));
        process
    }
}

/// A pidfd becomes readable when its process ends (pidfd_open(2)).
pub(super) fn is_running(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::identity::peer::Peer;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_process_is_held_once() {
        let (held, (one, other)) = (PidfdCache::default(), UnixStream::pair().unwrap());
        let (a, b) = (Peer::of(&one, &held).unwrap(), Peer::of(&other, &held).unwrap());
        assert!(Arc::ptr_eq(&a.held, &b.held));
    }
}
