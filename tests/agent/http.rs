//! HTTP as a client without any library speaks it.

use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status, kind and answer of a problem.
    pub fn problem(&self) -> (u16, String, String) {
        let json = self.json();
        assert!(self.head.contains("application/problem+json"), "{self:?}");
        let text = |key: &str| json[key].as_str().unwrap().to_owned();
        (self.status, text("kind"), text("message"))
    }
}

/// Sends bytes and reads one answer.
pub fn ask(stream: &mut UnixStream, request: &[u8]) -> Answer {
    // Who refuses early does not read to the end.
    match stream.write_all(request) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => panic!("{e}"),
        _ => read(stream).expect("an answer"),
    }
}

/// One answer; `None` when the connection is closed instead.
pub fn read(stream: &mut UnixStream) -> Option<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) => return None,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
            Err(e) => panic!("{e} after {:?}", String::from_utf8_lossy(&head)),
        }
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    Some(Answer { status, head, body })
}

/// Whether the other end closes without another word.
pub fn is_closed(stream: &mut UnixStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(n) => n == 0,
        Err(e) => e.kind() == ErrorKind::ConnectionReset,
    }
}

/// Whether it is closed already, with a timeout for reading.
pub fn is_closed_now(stream: &mut UnixStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(n) => n == 0,
        Err(e) => !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}
