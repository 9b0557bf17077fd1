//! A PostgreSQL server of a test's own: its own cluster, socket and port, gone when the test is.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

/// The superuser, who is let in on the socket without a password. Everybody else has one.
pub const SUPERUSER: &str = "postgres";

const HBA: &str = "local all postgres trust
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
";

/// A running server.
pub struct Postgres {
    /// Its socket lies here, and its cluster and its log.
    pub dir: PathBuf,
    /// Its port; also that of the socket's name.
    pub port: u16,
    server: Child,
    owned: bool,
}

impl Postgres {
    /// A server that listens on its socket alone; `None`, visibly, where PostgreSQL is missing.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// A server that also speaks TLS on 127.0.0.1, with a certificate of the authority in `ca.pem`.
    pub fn with_tls() -> Option<Self> {
        Self::start_with(&["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on"])
    }

    fn start_with(options: &[&str]) -> Option<Self> {
        let Some(template) = &*TEMPLATE else {
            crate::skip::skip("PostgreSQL is missing: apt-get install postgresql");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("pg-").tempdir().unwrap().keep();
        run(Command::new("cp").arg("-a").arg(template).arg(dir.join("data")));
        std::fs::write(dir.join("data/pg_hba.conf"), HBA).unwrap();
        if options.contains(&"ssl=on") {
            certificates(&dir);
        }
        give_away(&dir);
        // A socket of its own, and so the port that everybody expects.
        let port = if options.is_empty() { 5432 } else { free_port() };
        let mut command = unprivileged(&program("postgres").unwrap());
        command.arg("-D").arg(dir.join("data")).args(["-p", &port.to_string()]);
        for setting in ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "log_statement=all"] {
            command.args(["-c", setting]);
        }
        // Small: many run at once.
        for setting in ["shared_buffers=1MB", "max_connections=20", "autovacuum=off", "jit=off"] {
            command.args(["-c", setting]);
        }
        command.args(["-c", &format!("unix_socket_directories={}", dir.display())]);
        if options.is_empty() {
            command.args(["-c", "listen_addresses="]);
        }
        let log = std::fs::File::create(dir.join("log")).unwrap();
        command.args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let server = command.spawn().unwrap();
        let postgres = Self { dir, port, server, owned: true };
        let up = crate::eventually::eventually(Duration::from_secs(60), || {
            postgres.psql(SUPERUSER, None, "SELECT 1").status.success()
        });
        assert!(up, "PostgreSQL does not start: {}", postgres.log());
        Some(postgres)
    }

    /// Runs a statement as this role, on the socket.
    pub fn psql(&self, role: &str, password: Option<&str>, sql: &str) -> Output {
        let mut command = Command::new("psql");
        command.args(["-X", "-w", "-q", "-A", "-t", "-h"]).arg(&self.dir);
        command.args(["-p", &self.port.to_string(), "-U", role, "-d", "postgres", "-c", sql]);
        command.env("PGPASSWORD", password.unwrap_or_default()).env_remove("PGSSLMODE").output().unwrap()
    }

    /// Runs a statement as the superuser.
    pub fn sql(&self, sql: &str) {
        let output = self.psql(SUPERUSER, None, sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Whether the server lets the role in with this password.
    pub fn lets_in(&self, role: &str, password: &str) -> bool {
        self.psql(role, Some(password), "SELECT 1").status.success()
    }

    /// Its log, with every statement.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap()
    }

    /// The URL of its socket, for this user or for none.
    pub fn url(&self, user: Option<&str>) -> String {
        let dir = self.dir.to_str().unwrap().replace('/', "%2F");
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        format!("postgresql://{user}{dir}:{}/postgres", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.owned {
            // SIGQUIT: at once.
            let _ = Command::new("kill").args(["-QUIT", &self.server.id().to_string()]).status();
            let _ = self.server.wait();
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// A cluster to copy, made once.
static TEMPLATE: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let initdb = program("initdb")?;
    program("postgres")?;
    let dir = tempfile::Builder::new().prefix("pg-template-").tempdir().unwrap().keep();
    give_away(&dir);
    let data = dir.join("data");
    let mut command = unprivileged(&initdb);
    command.arg("-D").arg(&data).args([
        "-U",
        SUPERUSER,
        "-A",
        "trust",
        "--no-sync",
        "-E",
        "UTF8",
        "--locale=C",
    ]);
    run(&mut command);
    Some(data)
});

/// On the path, or where Debian has it.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = debian.map(|version| version.path().join("bin"));
    std::env::split_paths(&path).chain(debian).map(|dir| dir.join(name)).find(|path| path.exists())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

/// PostgreSQL does not run as root.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(65534).gid(65534);
    }
    command.current_dir("/");
    command
}

fn give_away(dir: &Path) {
    if is_root() {
        run(Command::new("chown").args(["-R", "65534:65534"]).arg(dir));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An authority in `ca.pem`, and the server's certificate.
fn certificates(dir: &Path) {
    let script = r#"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout data/server.key -out server.csr -subj /CN=db
printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >extensions
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out data/server.crt
chmod 600 data/server.key
"#;
    run(Command::new("sh").args(["-ec", script]).current_dir(dir));
}
