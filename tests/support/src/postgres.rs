//! PostgreSQL servers: one of a test's own, or one that all tests of a process share, each with a database of its own. What
//! they leave behind goes with the process, however that ends.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
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
    _guard: Guard,
}

/// A database of a test's own on a server.
pub struct Database {
    /// Its name.
    pub name: String,
    server: &'static Postgres,
}

/// Settings of small servers: many run at once.
const SMALL: [&str; 3] = ["shared_buffers=1MB", "max_connections=20", "log_statement=all"];

/// Settings of the one that is shared.
const SHARED: [&str; 3] = ["shared_buffers=32MB", "max_connections=200", "log_statement=none"];

impl Postgres {
    /// The server that all tests of this process share; `None`, visibly, where PostgreSQL is missing.
    pub fn shared() -> Option<&'static Self> {
        static SERVER: LazyLock<Option<Postgres>> = LazyLock::new(|| Postgres::launch(&SHARED, &[]));
        SERVER.as_ref()
    }

    /// An empty database on the server that is shared.
    pub fn database() -> Option<Database> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = Self::shared()?;
        let name = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
        server.sql(&format!("CREATE DATABASE {name}"));
        Some(Database { name, server })
    }

    /// A server that listens on its socket alone; `None`, visibly, where PostgreSQL is missing.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// A server that also speaks TLS on 127.0.0.1, with a certificate of the authority in `ca.pem`.
    pub fn with_tls() -> Option<Self> {
        Self::start_with(&["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on"])
    }

    fn start_with(options: &[&str]) -> Option<Self> {
        Self::launch(&SMALL, options)
    }

    fn launch(settings: &[&str], options: &[&str]) -> Option<Self> {
        let Some((template, _)) = &*TEMPLATE else {
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
        let quick =
            ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off", "jit=off"];
        for setting in quick.iter().chain(settings) {
            command.args(["-c", setting]);
        }
        command.args(["-c", &format!("unix_socket_directories={}", dir.display())]);
        if options.is_empty() {
            command.args(["-c", "listen_addresses="]);
        }
        let log = std::fs::File::create(dir.join("log")).unwrap();
        command.args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let server = command.spawn().unwrap();
        let guard = Guard::new(&format!("kill -QUIT {} 2>/dev/null; rm -rf \"$1\"", server.id()), &dir);
        let postgres = Self { dir, port, server, _guard: guard };
        let up = crate::eventually::eventually(Duration::from_secs(60), || {
            postgres.psql(SUPERUSER, None, "SELECT 1").status.success()
        });
        assert!(up, "PostgreSQL does not start: {}", postgres.log());
        Some(postgres)
    }

    /// Runs a statement as this role, on the socket.
    pub fn psql(&self, role: &str, password: Option<&str>, sql: &str) -> Output {
        self.psql_in("postgres", role, password, sql)
    }

    /// Runs a statement in a database.
    pub fn psql_in(&self, database: &str, role: &str, password: Option<&str>, sql: &str) -> Output {
        let mut command = Command::new("psql");
        command.args(["-X", "-w", "-q", "-A", "-t", "-h"]).arg(&self.dir);
        command.args(["-p", &self.port.to_string(), "-U", role, "-d", database, "-c", sql]);
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

    /// Has the server show a certificate that is out of date in a moment.
    pub fn expire_certificate(&self) {
        let script = "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 0 \
            -extfile extensions -out data/server.crt";
        run(Command::new("sh").args(["-ec", script]).current_dir(&self.dir));
        self.sql("SELECT pg_reload_conf()");
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
        // SIGQUIT: at once.
        let _ = Command::new("kill").args(["-QUIT", &self.server.id().to_string()]).status();
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Database {
    /// The URL of a store in it, for the superuser.
    pub fn url(&self) -> String {
        self.url_for(SUPERUSER)
    }

    /// The URL for a role.
    pub fn url_for(&self, role: &str) -> String {
        let dir = self.server.dir.to_str().unwrap().replace('/', "%2F");
        format!("postgres://{role}@{dir}:{}/{}", self.server.port, self.name)
    }

    /// Runs statements as the superuser; what they print.
    pub fn sql(&self, sql: &str) -> String {
        let output = self.server.psql_in(&self.name, SUPERUSER, None, sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its server.
    pub fn server(&self) -> &'static Postgres {
        self.server
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Those who are connected are thrown out.
        let _ = self.server.psql(SUPERUSER, None, &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// Does something when this process is gone: its end of a pipe is closed then.
struct Guard(#[allow(dead_code)] ChildStdin);

impl Guard {
    /// Runs a line of shell with `path` as its argument.
    fn new(line: &str, path: &Path) -> Self {
        let mut shell = Command::new("setsid");
        shell.args(["sh", "-c", &format!("cat >/dev/null; {line}"), "sh"]).arg(path);
        let shell = shell.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(shell.spawn().unwrap().stdin.take().unwrap())
    }
}

/// A cluster to copy, made once.
static TEMPLATE: LazyLock<Option<(PathBuf, Guard)>> = LazyLock::new(|| {
    let initdb = program("initdb")?;
    program("postgres")?;
    let dir = tempfile::Builder::new().prefix("pg-template-").tempdir().unwrap().keep();
    let guard = Guard::new("rm -rf \"$1\"", &dir);
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
    Some((data, guard))
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
