//! The sockets: handed over by the service manager (sd_listen_fds(3)), or made here.

use crate::agent::sd_notify::Stored;
use crate::error::{Error, Kind, Result, printable};
use listenfd::ListenFd;
use nix::unistd::Group;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// What the agent listens on.
pub struct Sockets {
    /// Where applications ask.
    pub requests: UnixListener,
    /// Where systemd fetches credentials.
    pub credentials: Option<UnixListener>,
    /// Connections for credentials that an agent which was killed left unanswered.
    pub(super) unanswered: Vec<(Stored, UnixStream)>,
    /// Removed at the end; none for sockets of the service manager's.
    made: Vec<(PathBuf, File)>,
}

/// The name by which a socket unit calls the socket for credentials (`FileDescriptorName=`).
const CREDENTIALS: &str = "credentials";

/// Members of this group may reach the machine's agent. What they get, grants decide.
const GROUP: &str = "strongroom";

impl Sockets {
    /// Those of the service manager, if it handed any over.
    ///
    /// # Errors
    /// `Usage` when they are not what they should be.
    pub fn inherited() -> Result<Option<Self>> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let mut handed = ListenFd::from_env();
        let (mut requests, mut credentials, mut unanswered) = (None, None, Vec::new());
        for i in 0..handed.len() {
            let socket = handed.take_unix_listener(i).map_err(|e| {
                Error::new(Kind::Usage, "take over the service manager's sockets", e.to_string())
                    .with_hint("they are to be of ListenStream= with a path")
            })?;
            let name = names.get(i).copied().unwrap_or_default();
            match Stored::named(name) {
                Some(stored) => {
                    unanswered.extend(socket.map(|own| (stored, UnixStream::from(OwnedFd::from(own)))))
                }
                None if name == CREDENTIALS => credentials = socket,
                None => requests = requests.or(socket),
            }
        }
        match (requests, credentials) {
            (Some(requests), credentials) => {
                Ok(Some(Self { requests, credentials, unanswered, made: Vec::new() }))
            }
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Error::new(
                Kind::Usage,
                "take over the service manager's sockets",
                "only the one for credentials was handed over",
            )),
        }
    }

    /// Makes them. The directory is made too, where it is missing: for its owner alone, and for the group that may reach the
    /// agent, if there is one.
    ///
    /// # Errors
    /// `Conflict` when another agent listens there; `Io`.
    pub fn make(requests: &Path, group: Option<u32>, credentials: Option<&Path>) -> Result<Self> {
        if let Some(directory) = requests.parent().filter(|directory| !directory.exists()) {
            crate::paths::make_private(directory)?;
            group.map_or(Ok(()), |group| give(directory, group, 0o750))?;
        }
        let (socket, lock) = listen(requests, 0o600)?;
        group.map_or(Ok(()), |group| give(requests, group, 0o660))?;
        let mut made = vec![(requests.to_owned(), lock)];
        let credentials = match credentials {
            Some(path) => {
                let (socket, lock) = listen(path, 0o600)?;
                made.push((path.to_owned(), lock));
                Some(socket)
            }
            None => None,
        };
        Ok(Self { requests: socket, credentials, unanswered: Vec::new(), made })
    }
}

impl Sockets {
    /// The path of the socket for applications, as it was made or handed over.
    pub fn path(&self) -> Option<PathBuf> {
        let made = self.made.first().map(|(path, _)| path.clone());
        made.or_else(|| self.requests.local_addr().ok()?.as_pathname().map(Path::to_owned))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for (path, _lock) in &self.made {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The number of the group whose members may reach the machine's agent, where there is one.
pub fn group_of_applications() -> Option<u32> {
    Group::from_name(GROUP).ok().flatten().map(|group| group.gid.as_raw())
}

/// Lets a group in.
fn give(path: &Path, group: u32, mode: u32) -> Result<()> {
    let given = rustix::fs::chown(path, None, Some(rustix::fs::Gid::from_raw(group)));
    let given = given.map_err(std::io::Error::from);
    given
        .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(|e| Error::io(format!("let the group {GROUP} in"), path, e))
}

/// A socket with its mode from the first moment on. The lock beside it tells a socket in use from one that a killed agent
/// left behind.
fn listen(path: &Path, mode: u32) -> Result<(UnixListener, File)> {
    let failed = |e: std::io::Error| Error::io("listen", path, e);
    path.parent().filter(|directory| !directory.exists()).map_or(Ok(()), crate::paths::make_private)?;
    let lock = File::create(path.with_extension("lock")).map_err(failed)?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        let error = Error::new(Kind::Conflict, "listen", "another agent listens there");
        return Err(error
            .with_target(printable(&path.display().to_string()))
            .with_hint("stop it first, or name another --socket"));
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => std::fs::remove_file(path).map_err(failed)?,
        Ok(_) => return Err(failed(std::io::Error::other("there is something that is no socket"))),
        Err(_) => {}
    }
    // Nobody can connect before the mode is right: the name is given last.
    let fresh = path.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let socket = UnixListener::bind(&fresh).map_err(failed)?;
    std::fs::set_permissions(&fresh, Permissions::from_mode(mode)).map_err(failed)?;
    std::fs::rename(&fresh, path).map_err(failed)?;
    Ok((socket, lock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_in_use_is_not_taken_away_and_a_dead_one_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/agent.sock");
        let sockets = Sockets::make(&path, None, Some(&directory.path().join("a/c.sock"))).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Sockets::make(&path, None, None).map(drop).unwrap_err().kind(), Kind::Conflict);
        drop(sockets);
        assert!(!path.exists());
        let own = rustix::process::getegid().as_raw();
        let shared = directory.path().join("b/agent.sock");
        let sockets = Sockets::make(&shared, Some(own), None).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&shared), mode(shared.parent().unwrap())), (0o660, 0o750));
        drop(sockets);
        // As a killed agent leaves it.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Sockets::make(&path, None, None).unwrap());
        std::fs::write(&path, "a file").unwrap();
        assert_eq!(Sockets::make(&path, None, None).map(drop).unwrap_err().kind(), Kind::Io);
    }
}
