//! Runs a hook's program: no shell, a clean environment, a limit of time, values by file descriptors.

use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use command_fds::{CommandFdExt, FdMapping};
use nix::unistd::User;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How much of each output is kept.
const KEPT: usize = 64 << 10;

/// How long outputs are waited for after the program's end: something that it started may hold them open.
const GRACE: Duration = Duration::from_secs(1);

/// A program, and how it is run.
pub(super) struct Program<'a> {
    /// For errors.
    pub(super) operation: String,
    pub(super) command: &'a [String],
    pub(super) user: Option<&'a str>,
    pub(super) timeout: Duration,
}

/// What came back.
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: Zeroizing<Vec<u8>>,
    pub(super) stderr: Zeroizing<Vec<u8>>,
    /// What was written to the file descriptor for a new value.
    pub(super) made: Option<Secret>,
}

/// The file descriptors of a program.
#[derive(Default)]
pub(super) struct Descriptors<'a> {
    /// Values to read, by number.
    pub(super) values: Vec<(i32, &'a Secret)>,
    /// The number that a new value is written to.
    pub(super) makes: Option<i32>,
}

impl Program<'_> {
    pub(super) fn run(&self, input: &[u8], descriptors: &Descriptors<'_>) -> Result<Finished> {
        let deadline = Instant::now() + self.timeout;
        let (mut child, made) = self.start(descriptors)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that reads nothing is judged by its answer. The request fits into the pipe.
            let _ = stdin.write_all(input);
        }
        let stdout = child.stdout.take().map(|pipe| collect(pipe, KEPT));
        let stderr = child.stderr.take().map(|pipe| collect(pipe, KEPT));
        let made = made.map(|pipe| collect(File::from(pipe), crate::secret::MAX_TOKEN_BYTES + 1));
        let status = self.wait(&mut child, deadline)?;
        let finish = |output: Option<Receiver<Zeroizing<Vec<u8>>>>| {
            output.and_then(|output| output.recv_timeout(GRACE).ok()).unwrap_or_default()
        };
        let made = made.map(|made| Secret::from(finish(Some(made))));
        Ok(Finished { status, stdout: finish(stdout), stderr: finish(stderr), made })
    }

    fn failed(&self, message: impl Into<String>) -> Error {
        let program = self.command.first().map_or("", String::as_str);
        Error::new(Kind::Io, &self.operation, message).with_target(crate::error::printable(program))
    }

    fn start(&self, descriptors: &Descriptors<'_>) -> Result<(Child, Option<OwnedFd>)> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(self.failed("it names no program"));
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LC_ALL", "C.UTF-8").current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(user) = self.user {
            let found = account(user).map_err(|why| self.failed(why))?;
            // The standard library drops root's other groups with it.
            command.uid(found.uid.as_raw()).gid(found.gid.as_raw());
        }
        let mut mappings = Vec::new();
        for (number, value) in &descriptors.values {
            let parent_fd = in_memory(value).map_err(|e| self.failed(e.to_string()))?;
            mappings.push(FdMapping { parent_fd, child_fd: *number });
        }
        let made = match descriptors.makes {
            Some(number) => {
                let (ours, theirs) = std::io::pipe().map_err(|e| self.failed(e.to_string()))?;
                mappings.push(FdMapping { parent_fd: theirs.into(), child_fd: number });
                Some(OwnedFd::from(ours))
            }
            None => None,
        };
        command.fd_mappings(mappings).map_err(|e| self.failed(e.to_string()))?;
        // What C libraries or whoever started this process left open is nothing for the program.
        close_fds::set_fds_cloexec_threadsafe(3, &[]);
        let child = command.spawn().map_err(|e| self.failed(format!("it cannot be started: {e}")))?;
        Ok((child, made))
    }

    /// Waits for the end, and ends what the program has left running.
    fn wait(&self, child: &mut Child, deadline: Instant) -> Result<ExitStatus> {
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let ended = loop {
            // Not reaped yet, so that its number is nobody else's when the group is killed.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            match group.map(|pid| waitid(WaitId::Pid(pid), options)) {
                Some(Ok(None)) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Some(Ok(status)) => break status.is_some(),
                _ => break false,
            }
        };
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = child.wait().map_err(|e| self.failed(e.to_string()))?;
        match ended {
            true => Ok(status),
            false => {
                Err(self
                    .failed(format!("it did not answer within {} s, and was killed", self.timeout.as_secs())))
            }
        }
    }
}

/// A user of this machine, or why there is none.
pub(super) fn account(user: &str) -> std::result::Result<User, String> {
    let found = User::from_name(user).map_err(|e| e.to_string())?;
    found.ok_or_else(|| format!("this machine knows no user `{user}`"))
}

/// A file without a name, sealed against changes, to be read from its beginning.
fn in_memory(value: &Secret) -> std::io::Result<OwnedFd> {
    let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
    let fd = memfd_create("strongroom", flags | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| memfd_create("strongroom", flags))?;
    let mut file = File::from(fd);
    file.write_all(value.expose())?;
    file.rewind()?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

/// Reads to the end in a thread of its own, and keeps the first bytes.
fn collect(mut from: impl Read + Send + 'static, kept: usize) -> Receiver<Zeroizing<Vec<u8>>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut all = Zeroizing::new(Vec::with_capacity(kept));
        let mut chunk = Zeroizing::new([0; 4096]);
        while let Ok(n) = from.read(&mut *chunk) {
            if n == 0 {
                break;
            }
            let room = kept.saturating_sub(all.len()).min(n);
            all.extend_from_slice(&chunk[..room]);
        }
        let _ = sender.send(all);
    });
    receiver
}
