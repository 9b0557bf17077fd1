//! The program that a client runs: its path, its file and its digest.

use super::ClientIdentity;
use crate::agent::Agent;
use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The largest program whose digest is computed.
pub(super) const MAX_EXE_BYTES: u64 = 256 << 20;

/// A program.
#[derive(Clone, Debug)]
pub struct Exe {
    /// Its path, as the process sees it.
    pub path: PathBuf,
    /// Device and inode.
    pub(super) file: (u64, u64),
}

impl Exe {
    pub(super) fn of(pid: u32) -> Option<Self> {
        let link = format!("/proc/{pid}/exe");
        let path = std::fs::read_link(&link).ok()?;
        // The kernel's knowledge will do: the file system may be the caller's own (FUSE), and take its time.
        let file = statx(CWD, &link, AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok()?;
        Some(Self { path, file: (makedev(file.stx_dev_major, file.stx_dev_minor), file.stx_ino) })
    }

    /// Whether it is the program at this path, which some grant names, for the agent too: a process can make a mount
    /// namespace in which its own program lies at any path.
    pub fn is_at(&self, granted: &Path) -> bool {
        self.path == granted && std::fs::metadata(granted).is_ok_and(|file| self.is(&file))
    }

    pub(super) fn is(&self, file: &Metadata) -> bool {
        self.file == (file.dev(), file.ino())
    }
}

impl Agent {
    /// The caller with the digest of its program, if some grant asks for one and it can be had in time. Programs are
    /// large, and the caller's choice: only a few are read at once.
    pub async fn with_digest(&self, caller: &ClientIdentity, deadline: Instant) -> ClientIdentity {
        if !self.epoch.digests.load(std::sync::atomic::Ordering::Acquire) || caller.digest.is_some() {
            return caller.clone();
        }
        let peer = std::sync::Arc::clone(&caller.peer);
        let reading = std::sync::Arc::clone(&self.digest_permits);
        let digest = async {
            let turn = reading.acquire_owned().await.ok()?;
            let read = tokio::task::spawn_blocking(move || {
                let digest = peer.exe_digest();
                drop(turn);
                digest
            });
            read.await.ok()?
        };
        let digest = tokio::time::timeout_at(deadline.into(), digest).await.ok().flatten();
        ClientIdentity { digest, ..caller.clone() }
    }
}
