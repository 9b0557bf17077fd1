//! `run --mask`: starts the program as a child, and hides tokens in what it writes.
//!
//! It ends with the child. What a daemon that the child left behind writes later goes nowhere.

use super::child::{SIGNALS, outcome, pass_on};
use crate::cli::output::Output;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::process::Pid;
use signal_hook::iterator::Signals;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use strongroom::secret::mask::Masker;

/// How much is read at once.
const PIECE: usize = 32 << 10;

/// Runs the program until it ends, and fails with its exit code if that is not 0; of one that a signal ended, with 128 and
/// its number, as shells do. Standard output and standard error are pipes to it.
///
/// # Errors
/// That it cannot be started, as `io::Error`.
pub fn run(command: &mut Command, hidden: &[&[u8]]) -> io::Result<anyhow::Result<()>> {
    // Before it starts: none may end this process and leave the program behind.
    let mut signals = Signals::new(SIGNALS)?;
    let (out, words) = Output::descriptors()?;
    // Open as long as the program runs.
    let (ended, running) = io::pipe()?;
    let ended_too = ended.try_clone()?;
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (handle, pid) = (signals.handle(), Pid::from_child(&child));
    let copies = [
        child.stdout.take().map(|from| copy(from, out, hidden, ended)),
        child.stderr.take().map(|from| copy(from, words, hidden, ended_too)),
    ];
    let forwarding = std::thread::spawn(move || signals.forever().for_each(|signal| pass_on(pid, signal)));
    let status = wait(&mut child);
    handle.close();
    let _ = forwarding.join();
    drop(running);
    for copy in copies.into_iter().flatten() {
        let _ = copy.join();
    }
    Ok(outcome(status?))
}

fn wait(child: &mut Child) -> io::Result<std::process::ExitStatus> {
    loop {
        match child.wait() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Copies what comes, masked, until all have closed the pipe or the program has ended: a daemon that it left behind may hold
/// the pipe for ever.
fn copy(
    mut from: impl Read + AsFd + Send + 'static,
    mut to: File,
    hidden: &[&[u8]],
    ended: PipeReader,
) -> JoinHandle<()> {
    let mut masker = Masker::new(hidden.iter().copied());
    std::thread::spawn(move || {
        let mut piece = vec![0; PIECE];
        // What lay in the pipe when the program had ended.
        let mut left = None;
        loop {
            if left.is_none() && is_closed(&ended, &from) {
                let there = ioctl_fionread(&from).unwrap_or(0);
                left = Some(usize::try_from(there).unwrap_or(usize::MAX));
            }
            let room = left.map_or(PIECE, |left| left.min(PIECE));
            match from.read(&mut piece[..room]) {
                Ok(0) => break,
                // A reader that has gone ends the program by its next write, as without this.
                Ok(n) if to.write_all(&masker.push(&piece[..n])).is_err() => return,
                Ok(n) => left = left.map(|left| left - n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let _ = to.write_all(&masker.finish());
    })
}

/// Waits until there is something to read, or nobody holds the other end of `ended`. Answers the latter.
fn is_closed(ended: &PipeReader, from: &impl AsFd) -> bool {
    let mut both = [PollFd::new(ended, PollFlags::IN), PollFd::new(from, PollFlags::IN)];
    while poll(&mut both, None) == Err(Errno::INTR) {}
    !both[0].revents().is_empty()
}
