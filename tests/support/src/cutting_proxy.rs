//! A way to a server on a Unix socket that breaks where a test wants it to.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tempfile::TempDir;

/// Passes connections on to a server, until one is cut.
pub struct CuttingProxy {
    dir: TempDir,
    plan: Arc<Plan>,
}

/// What is cut, and when. Once it was, all is passed on again.
struct Plan {
    /// How many more messages from the client go through; negative for all.
    requests: AtomicI64,
    /// How many more answers of the server go through; negative for all.
    answers: AtomicI64,
}

impl CuttingProxy {
    /// Before the server whose socket this is.
    pub fn before(socket: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
        let plan = Arc::new(Plan { requests: AtomicI64::new(-1), answers: AtomicI64::new(-1) });
        let passed = Arc::clone(&plan);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&socket)) else { continue };
                pass_on(&client, &server, &passed);
            }
        });
        Self { dir, plan }
    }

    /// Where it listens.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Cuts the connection at what the client sends after `requests` more messages.
    pub fn cut_request(&self, requests: i64) {
        self.plan.requests.store(requests, Ordering::SeqCst);
    }

    /// Cuts the connection at what the server answers after `answers` more messages: it has done what was asked.
    pub fn cut_answer(&self, answers: i64) {
        self.plan.answers.store(answers, Ordering::SeqCst);
    }

    /// Whether what was to be cut was cut.
    pub fn has_cut(&self) -> bool {
        self.plan.requests.load(Ordering::SeqCst) < 0 && self.plan.answers.load(Ordering::SeqCst) < 0
    }
}

fn pass_on(client: &UnixStream, server: &UnixStream, plan: &Arc<Plan>) {
    let clone = |stream: &UnixStream| stream.try_clone().unwrap();
    for (from, to, requests) in [(clone(client), clone(server), true), (clone(server), clone(client), false)]
    {
        let plan = Arc::clone(plan);
        std::thread::spawn(move || {
            copy(&from, &to, if requests { &plan.requests } else { &plan.answers });
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }
}

/// Passes on what comes, chunk by chunk, until the count runs out.
fn copy(mut from: &UnixStream, mut to: &UnixStream, left: &AtomicI64) {
    let mut bytes = vec![0; 1 << 20];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes) else { return };
        // Zero becomes -1, which cuts nothing more.
        let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n >= 0).then(|| n - 1));
        if before == Ok(0) || to.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}
