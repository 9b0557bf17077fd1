//! The client of an agent: a [`TokenBackend`] over its socket. Blocking, one connection, one request after another; needs
//! no tokio.

pub mod api;
mod problem;

pub use problem::Problem;

use crate::error::{Error, Kind, Result, printable};
use crate::ledger::Name;
use crate::ledger::body::State;
use crate::replica::ListFilter;
use crate::secret::{MAX_TOKEN_BYTES, Secret};
use crate::vault::unchanged;
use crate::vault::{
    AccessView, EntryView, GrantOn, GrantOptions, GrantView, Grantee, ImportItem, Imported, LogOrder,
    OpenedToken, PutOptions, PutReport, Revoked, TokenBackend, TokenRef, TokenView, VersionView,
};
use api::{
    AccessPage, Destroyed, GrantList, GrantRequest, Health, Locked, LogPage, Rename, StateChange,
    StoredVersion, TokenPage, Unlocked, WantedState, WhoAmI,
};
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

    /// Reads a response (RFC 9112). The agent always sends a length.
    fn response(&mut self) -> Result<Response> {
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
        let most = if media == "application/octet-stream" { MAX_TOKEN_BYTES } else { MAX_ANSWER };
        let length = length
            .filter(|length| *length <= most)
            .ok_or_else(|| odd("no sound length").with_target(&self.on))?;
        let mut body = Zeroizing::new(vec![0; length]);
        self.stream.read_exact(&mut body).map_err(|e| lost(&e, &self.on))?;
        Ok(Response { status, media, version, body })
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

impl TokenBackend for Client {
    fn open_all(&mut self, wanted: &[TokenRef]) -> Vec<Result<OpenedToken>> {
        let open = |wanted: &TokenRef| {
            let version = wanted.version.map(|version| ("version", version.to_string()));
            let path = format!("/v1/values/{}", wanted.name);
            let response = self.exchange("GET", &path, version.as_slice(), None)?;
            let version = response.version.ok_or_else(|| odd("no version").with_target(&self.on))?;
            Ok(OpenedToken { version, value: Secret::from(response.body) })
        };
        wanted.iter().map(open).collect()
    }

    fn list(&mut self, filter: &ListFilter, each: &mut dyn FnMut(VersionView) -> Result<bool>) -> Result<()> {
        let mut after = None;
        loop {
            let mut query = vec![
                ("prefix", filter.prefix.as_str().to_owned()),
                ("destroyed", filter.destroyed.to_string()),
            ];
            query.extend(after.map(|after| ("after", after)));
            let page: TokenPage = parse(&self.ask("GET", "/v1/tokens", &query, None)?)?;
            for view in page.tokens {
                if !each(view)? {
                    return Ok(());
                }
            }
            if page.next.is_none() {
                return Ok(());
            }
            after = page.next;
        }
    }

    fn show(&mut self, name: &Name, version: Option<u64>, operation: &str) -> Result<TokenView> {
        let version = version.map(|version| ("version", version.to_string()));
        let shown = self.ask("GET", &format!("/v1/tokens/{name}"), version.as_slice(), None);
        parse(&shown.map_err(|error| error.with_operation(operation))?)
    }

    fn put(&mut self, name: &Name, token: &Secret, options: &PutOptions) -> Result<PutReport> {
        let time = |ms: u64| {
            let at = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
            at.map_or_else(|| ms.to_string(), |at| at.to_string())
        };
        let mut query = Vec::new();
        query.extend(options.expiry.map(|at| ("expires", time(at))));
        query.extend(options.never_expires.then(|| ("never_expires", "true".to_owned())));
        query.extend(options.not_before.map(|at| ("not_before", time(at))));
        query.extend(options.keep.map(|keep| ("keep", keep.to_string())));
        query.extend(options.description.clone().map(|text| ("description", text)));
        query.extend(options.staged.then(|| ("staged", "true".to_owned())));
        let labels = options.labels.iter().flatten();
        query.extend(labels.map(|(key, value)| ("label", format!("{key}={value}"))));
        query.extend(options.only.iter().map(|device| ("only", device.clone())));
        let put = self.ask("PUT", &format!("/v1/values/{name}"), &query, Some(token.expose()))?;
        let put: StoredVersion = parse(&put)?;
        let token = put.token_id.parse().map_err(|_| odd("no token id"))?;
        Ok(PutReport { token, version: put.version, expires: put.expires, recipients: put.recipients })
    }

    fn set_state(&mut self, name: &Name, version: Option<u64>, state: State, reason: &str) -> Result<()> {
        let state = match state {
            State::Active => WantedState::Active,
            State::Suspended => WantedState::Suspended,
            State::Revoked => WantedState::Revoked,
            State::Staged => {
                return Err(Error::new(
                    Kind::Usage,
                    "change a state",
                    "a token is not staged after it was put",
                ));
            }
        };
        let body = StateChange { state, version, reason: reason.to_owned() };
        self.send(&format!("/v1/states/{name}"), &body).map(drop)
    }

    fn sealed(&mut self, wanted: &TokenRef, operation: &str) -> Result<Vec<u8>> {
        let version = wanted.version.map(|version| ("version", version.to_string()));
        let sealed = self.ask("GET", &format!("/v1/sealed/{}", wanted.name), version.as_slice(), None);
        Ok(sealed.map_err(|error| error.with_operation(operation))?.to_vec())
    }

    fn log(&mut self, order: LogOrder, each: &mut dyn FnMut(EntryView) -> Result<bool>) -> Result<()> {
        let (direction, from) = match order {
            LogOrder::NewestFirst => ("before", None),
            LogOrder::OldestFirst => ("after", Some(0)),
        };
        self.entries("/v1/log", direction, from, each)
    }

    fn history(&mut self, name: &Name) -> Result<Vec<EntryView>> {
        let mut entries = Vec::new();
        self.entries(&format!("/v1/history/{name}"), "after", Some(0), &mut |entry| {
            entries.push(entry);
            Ok(true)
        })?;
        Ok(entries)
    }

    fn accesses(&mut self, before: u64, limit: u32) -> Result<Vec<AccessView>> {
        let query = [("before", before.to_string()), ("limit", limit.clamp(1, MAX_PAGE).to_string())];
        let page: AccessPage = parse(&self.ask("GET", "/v1/accesses", &query, None)?)?;
        Ok(page.accesses)
    }

    fn grant(&mut self, on: &GrantOn, to: &Grantee, options: &GrantOptions) -> Result<GrantView> {
        let body = GrantRequest {
            on: on.to_string(),
            to: to.to_string(),
            ops: options.ops.iter().map(|op| (*op).into()).collect(),
            until: options.until,
            alias: options.alias.clone(),
        };
        parse(&self.send("/v1/grants", &body)?)
    }

    fn ungrant(&mut self, which: &Revoked) -> Result<Vec<GrantView>> {
        let gone = match which {
            Revoked::Id(id) => self.ask("DELETE", &format!("/v1/grants/{id}"), &[], None),
            Revoked::Of(on, to) => {
                let query = [("on", on.to_string()), ("to", to.to_string())];
                self.ask("DELETE", "/v1/grants", &query, None)
            }
        };
        let gone: GrantList = parse(&gone?)?;
        Ok(gone.grants)
    }

    fn grants(&mut self, on: Option<&GrantOn>) -> Result<Vec<GrantView>> {
        let query: Vec<_> = on.map(|on| ("on", on.to_string())).into_iter().collect();
        let stand: GrantList = parse(&self.ask("GET", "/v1/grants", &query, None)?)?;
        Ok(stand.grants)
    }

    fn rename(&mut self, from: &Name, to: &Name) -> Result<()> {
        self.send("/v1/rename", &Rename { from: from.to_string(), to: to.to_string() }).map(drop)
    }

    fn import(
        &mut self,
        items: &mut dyn Iterator<Item = Result<ImportItem>>,
        skip_unchanged: bool,
        progress: &mut dyn FnMut(Imported),
    ) -> Result<Imported> {
        let mut imported = Imported::default();
        for item in items {
            let item = vec![item?];
            let changed = if skip_unchanged { unchanged::changed(self, item)? } else { item };
            imported.unchanged += u64::from(changed.is_empty());
            for item in changed {
                self.put(&item.name, &item.token, &item.options)?;
                (imported.tokens, imported.batches) = (imported.tokens + 1, imported.batches + 1);
            }
            progress(imported);
        }
        Ok(imported)
    }

    fn is_restricted(&mut self) -> Result<bool> {
        let caller: WhoAmI = parse(&self.ask("GET", "/v1/whoami", &[], None)?)?;
        Ok(!caller.owner)
    }

    fn destroy(&mut self, name: &Name, version: Option<u64>, reason: &str) -> Result<u64> {
        let mut query = vec![("reason", reason.to_owned())];
        query.extend(version.map(|version| ("version", version.to_string())));
        let done: Destroyed = parse(&self.ask("DELETE", &format!("/v1/tokens/{name}"), &query, None)?)?;
        Ok(done.destroyed)
    }
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
