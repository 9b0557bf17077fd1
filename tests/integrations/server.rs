//! The web server that the programs are let in to, or not.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use test_support::home::Home;

pub struct Server {
    child: Child,
    directory: PathBuf,
    pub port: u16,
}

impl Server {
    /// One that lets in who shows this header, without TLS.
    pub fn start(home: &Home, authorization: &str) -> Self {
        Self::with(home, authorization, &[])
    }

    /// The same over TLS, as `localhost`; its certificate is `certificate.pem` in the home.
    pub fn start_tls(home: &Home, authorization: &str) -> Self {
        let made = home
            .command("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-keyout", "key.pem", "-out", "certificate.pem"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let file = |name: &str| home.dir.join(name).display().to_string();
        Self::with(home, authorization, &[file("certificate.pem"), file("key.pem")])
    }

    fn with(home: &Home, authorization: &str, more: &[String]) -> Self {
        let directory = home.dir.join("served");
        std::fs::create_dir_all(&directory).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integrations/server.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(&directory).arg(authorization).args(more).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self { child, directory, port: line.trim().parse().unwrap() }
    }

    /// Puts a file where it is served.
    pub fn file(&self, path: &str, text: &str) {
        let path = self.directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The requests so far: method, path and header.
    pub fn requests(&self) -> String {
        std::fs::read_to_string(self.directory.join("requests")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
