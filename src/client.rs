//! The client of an agent: a [`TokenBackend`](crate::vault::TokenBackend) over its socket. Blocking, one connection, one request after another; needs
//! no tokio.

pub mod api;
mod problem;
mod token_backend;
mod watch;

pub use problem::Problem;

use crate::error::{Error, Kind, Result, printable};
use crate::secret::{MAX_TOKEN_BYTES, Secret};
use crate::vault::EntryView;
use api::{Health, Locked, LogPage, Unlocked};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// The header that says which version of a token was opened.
pub const VERSION: &str = "strongroom-version";

/// The header, with the value 1, by which a request says that it is meant for an agent. A browser, or a proxy that
/// forwards what others send, does not add it.
pub const GUARD: &str = "strongroom";

/// Longer than the agent takes for any answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// The most bytes of an answer that is no token.
const MAX_ANSWER: usize = 16 << 20;

/// How many statements are asked for at once.
const PAGE: u64 = 500;

/// The most lines that an agent answers at once.
const MAX_PAGE: u32 = 1000;

/// The most bytes of a line of an answer's head.
const MAX_LINE: u64 = 8 << 10;

/// What a value in a query is not sent as it is (RFC 3986 §3.4).
const IN_QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A connection to an agent.
pub struct Client {
    stream: BufReader<UnixStream>,
    on: String,
}

impl Client {
    /// Connects to the agent at this path; `None` when none listens there.
    ///
    /// # Errors
    /// `Refused` when this user may not reach it, or it is neither this user's nor root's.
    pub fn connect(path: &Path) -> Result<Option<Self>> {
        let on = printable(&path.display().to_string());
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(e) => {
                let kind =
                    if e.kind() == std::io::ErrorKind::PermissionDenied { Kind::Refused } else { Kind::Io };
                let error = Error::new(kind, "reach the agent", e.to_string()).with_target(on).caused_by(e);
                return Err(error.with_hint("join the group `strongroom`, or say --no-agent"));
            }
        };
        let failed = |e: std::io::Error| Error::new(Kind::Io, "reach the agent", e.to_string()).caused_by(e);
        let peer = rustix::net::sockopt::socket_peercred(&stream).map_err(|e| failed(e.into()))?;
        // Tokens and PINs go to nobody who could not have them anyway.
        if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
            let message = format!("user {} listens there, neither root nor you", peer.uid.as_raw());
            return Err(Error::new(Kind::Untrusted, "reach the agent", message).with_target(on));
        }
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Some(Self { stream: BufReader::with_capacity(16 << 10, stream), on }))
    }

    /// Unlocks a device, the only one where none is named, with a PIN or with its pin-source.
    ///
    /// # Errors
    /// `PinWrong` and the like.
    pub fn unlock(&mut self, device: Option<&str>, pin: Option<&Secret>) -> Result<Unlocked> {
        let pin = match pin.map(|pin| std::str::from_utf8(pin.expose())).transpose() {
            Ok(pin) => pin,
            Err(_) => return Err(Error::new(Kind::Usage, "unlock", "the PIN is not UTF-8")),
        };
        // Written by hand: a JSON value would leave copies of the PIN behind.
        let body = Zeroizing::new(serde_json::to_vec(&Unlock { device, pin }).unwrap_or_default());
        parse(&self.ask("POST", "/v1/unlock", &[], Some(&body))?)
    }

    /// Locks all devices, and has cached tokens forgotten.
    ///
    /// # Errors
    /// The agent's.
    pub fn lock(&mut self) -> Result<Locked> {
        parse(&self.ask("POST", "/v1/lock", &[], Some(b""))?)
    }

    /// How the agent is.
    ///
    /// # Errors
    /// `Io`.
    pub fn health(&mut self) -> Result<Health> {
        self.request("GET", "/v1/health", &[], None)?;
        parse(&self.response()?.body)
    }

    /// Statements, page after page, in this direction from a position.
    fn entries(
        &mut self,
        path: &str,
        direction: &str,
        mut from: Option<u64>,
        each: &mut dyn FnMut(EntryView) -> Result<bool>,
    ) -> Result<()> {
        loop {
            let mut query = vec![("limit", PAGE.to_string())];
            query.extend(from.map(|position| (direction, position.to_string())));
            let page: LogPage = parse(&self.ask("GET", path, &query, None)?)?;
            if page.entries.is_empty() {
                return Ok(());
            }
            from = page.entries.last().map(|entry| entry.n);
            for entry in page.entries {
                if !each(entry)? {
                    return Ok(());
                }
            }
        }
    }

    fn send(&mut self, path: &str, body: &impl Serialize) -> Result<Zeroizing<Vec<u8>>> {
        let body = Zeroizing::new(serde_json::to_vec(body).unwrap_or_default());
        self.ask("POST", path, &[], Some(&body))
    }

    fn ask(
        &mut self,
        method: &str,
        path: &str,
        query: &[(&str, String)],
        body: Option<&[u8]>,
    ) -> Result<Zeroizing<Vec<u8>>> {
        self.exchange(method, path, query, body).map(|response| response.body)
    }

    fn exchange(
        &mut self,
        method: &str,
        path: &str,
        query: &[(&str, String)],
        body: Option<&[u8]>,
    ) -> Result<Response> {
        self.request(method, path, query, body)?;
        let response = self.response()?;
        match (response.status, response.media.as_str()) {
            (200..=299, _) => Ok(response),
            (_, "application/problem+json") => {
                let problem: Problem = parse(&response.body)?;
                Err(problem.into_error())
            }
            (status, _) => Err(odd(&format!("the status {status}")).with_target(&self.on)),
        }
    }

    fn request(
        &mut self,
        method: &str,
        path: &str,
        query: &[(&str, String)],
        body: Option<&[u8]>,
    ) -> Result<()> {
        let mut head = format!("{method} {path}");
        for (i, (key, value)) in query.iter().enumerate() {
            head += if i == 0 { "?" } else { "&" };
            head += key;
            head += "=";
            head.extend(utf8_percent_encode(value, IN_QUERY));
        }
        head += " HTTP/1.1\r\nhost: strongroom\r\nstrongroom: 1\r\n";
        if let Some(body) = body {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += "\r\n";
        let stream = self.stream.get_mut();
        let sent =
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.unwrap_or_default()));
        match sent {
            // The agent refused a body before it had all of it: its answer says why.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|e| lost(&e, &self.on)),
        }
    }

    /// Reads a response (RFC 9112). The agent always sends a length, but with what it writes as things happen.
    fn response(&mut self) -> Result<Response> {
        let (mut response, length) = self.head()?;
        let most = if response.media == "application/octet-stream" { MAX_TOKEN_BYTES } else { MAX_ANSWER };
        let length = length
            .filter(|length| *length <= most)
            .ok_or_else(|| odd("no sound length").with_target(&self.on))?;
        response.body = Zeroizing::new(vec![0; length]);
        self.stream.read_exact(&mut response.body).map_err(|e| lost(&e, &self.on))?;
        Ok(response)
    }

    /// What a response begins with, and the length of what follows.
    fn head(&mut self) -> Result<(Response, Option<usize>)> {
        let first = self.line()?;
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| odd("no HTTP").with_target(&self.on))?;
        let (mut length, mut media, mut version) = (None, String::new(), None);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (key, value) =
                line.split_once(':').ok_or_else(|| odd("a broken head").with_target(&self.on))?;
            match key.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse::<usize>().ok(),
                "content-type" => value.trim().clone_into(&mut media),
                VERSION => version = value.trim().parse().ok(),
                _ => {}
            }
        }
        Ok((Response { status, media, version, body: Zeroizing::default() }, length))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = (&mut self.stream).take(MAX_LINE).read_line(&mut line);
        read.map_err(|e| lost(&e, &self.on))?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(lost(&std::io::ErrorKind::UnexpectedEof.into(), &self.on)),
        }
    }
}

/// What the agent answered.
struct Response {
    status: u16,
    media: String,
    /// The version of the token in `body`, where it is one.
    version: Option<u64>,
    body: Zeroizing<Vec<u8>>,
}

#[derive(serde::Serialize)]
struct Unlock<'a> {
    device: Option<&'a str>,
    pin: Option<&'a str>,
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|_| odd("JSON of another form"))
}

fn odd(what: &str) -> Error {
    Error::new(Kind::Unsupported, "understand the agent", format!("it answered with {what}"))
        .with_hint("agent and command are of different versions: restart the agent, or say --no-agent")
}

fn lost(e: &std::io::Error, on: &str) -> Error {
    Error::new(Kind::Io, "ask the agent", e.to_string())
        .with_target(on)
        .with_hint("is it running? `strongroom status` tells")
}
