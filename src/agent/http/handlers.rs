//! From a request to its answer.

use crate::agent::Agent;
use crate::agent::http::query::{Query, name_in_path};
use crate::agent::http::response::{self, Answer};
use crate::agent::http::routes::{Action, Found, ROUTES, Who, find, openapi};
use crate::agent::identity::ClientIdentity;
use crate::error::{Error, Kind, Result};
use crate::ledger::body::State;
use crate::ledger::{Name, Prefix};
use crate::replica::ListFilter;
use crate::secret::{MAX_TOKEN_BYTES, Secret};
use crate::vault::{Op, PutOptions, TokenRef, Vault};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::json;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// The most bytes of a body in JSON.
pub const MAX_JSON_BYTES: usize = 64 << 10;

/// How many tokens a page of a listing holds where nothing is said, and at most.
const PAGE: u64 = 1000;

/// A change of state.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StateBody {
    state: String,
    version: Option<u64>,
    #[serde(default)]
    reason: String,
}

/// A new name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenameBody {
    from: String,
    to: String,
}

/// A PIN for a device.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnlockBody {
    device: Option<String>,
    #[serde(default, deserialize_with = "pin")]
    pin: Option<Secret>,
}

fn pin<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(|pin| Secret::new(pin.into_bytes())))
}

impl Agent {
    /// Answers a request.
    pub async fn handle(&self, caller: &ClientIdentity, request: Request<Incoming>) -> Answer {
        self.metrics.requests.add();
        let (head, body) = request.into_parts();
        let (action, name) = match find(head.method.as_str(), head.uri.path()) {
            Found::Route(action, name) => (action, name),
            Found::Methods(methods) => return response::wrong_method(&methods),
            Found::Nothing => {
                let error =
                    Error::new(Kind::NotFound, "understand the request", "there is nothing at that path");
                return response::problem(&error.with_hint("GET /openapi.json tells what there is"));
            }
        };
        let done = match self.check_owner(caller, action, head.uri.path()) {
            Ok(()) => self.act(caller, action, name, head.uri.query().unwrap_or(""), body).await,
            Err(error) => Err(error),
        };
        done.unwrap_or_else(|error| response::problem(&error))
    }

    /// The caller with the digest of its program, if some grant asks for one and it can be had in time. Programs are
    /// large, and the caller's choice: only a few are read at once.
    pub async fn with_digest(&self, caller: &ClientIdentity, deadline: Instant) -> ClientIdentity {
        if !self.epoch.digests.load(std::sync::atomic::Ordering::Acquire) || caller.digest.is_some() {
            return caller.clone();
        }
        let peer = std::sync::Arc::clone(&caller.peer);
        let reading = std::sync::Arc::clone(&self.digest_permits);
        let digest = async {
            let turn = reading.acquire_owned().await.ok()?;
            let read = tokio::task::spawn_blocking(move || {
                let digest = peer.exe_digest();
                drop(turn);
                digest
            });
            read.await.ok()?
        };
        let digest = tokio::time::timeout_at(deadline.into(), digest).await.ok().flatten();
        ClientIdentity { digest, ..caller.clone() }
    }

    fn check_owner(&self, caller: &ClientIdentity, action: Action, path: &str) -> Result<()> {
        let owners = ROUTES.iter().any(|route| route.to == action && route.who == Who::Owner);
        if !owners || self.realm.is_owner(&caller.peer) {
            return Ok(());
        }
        let denied = self.note_denial(caller, path, "answer");
        Err(Error::new(denied.kind(), "answer", "only the agent's owner may ask for that")
            .with_hint("the owner of the machine's agent is root, that of another the user who runs it"))
    }

    async fn act(
        &self,
        caller: &ClientIdentity,
        action: Action,
        name: &str,
        query: &str,
        body: Incoming,
    ) -> Result<Answer> {
        let known = |route: &&crate::agent::http::routes::Route| route.to == action;
        let known = ROUTES.iter().find(known).map_or(&[][..], |route| route.query);
        let known: Vec<&str> = known.iter().map(|parameter| parameter.name).collect();
        let query = Query::parse(query, &known)?;
        match action {
            Action::Get => {
                let wanted = TokenRef { name: name_in_path(name)?, version: query.number("version")? };
                self.open(caller, &wanted).await.map(response::token)
            }
            Action::List => {
                let caller = self.with_digest(caller, Instant::now() + self.deadline).await;
                self.list(&caller, &query).await
            }
            Action::Show => self.show(caller, name_in_path(name)?, query.number("version")?).await,
            Action::Put => self.put(caller, name_in_path(name)?, &query, body).await,
            Action::State => self.state(caller, name_in_path(name)?, body).await,
            Action::Rename => self.rename(body).await,
            Action::Destroy => self.destroy(name_in_path(name)?, &query).await,
            Action::Log => self.log(&query).await,
            Action::Accesses => self.accesses(&query).await,
            Action::History => self.history(name_in_path(name)?, &query).await,
            Action::Sealed => self.sealed(name_in_path(name)?, &query).await,
            Action::Grants => self.grants(&query).await,
            Action::Grant => self.grant(body).await,
            Action::Ungrant => self.ungrant(&query).await,
            Action::WhoAmI => {
                let caller = self.with_digest(caller, Instant::now() + self.deadline).await;
                Ok(who(&caller, self.realm.is_owner(&caller.peer)))
            }
            Action::Unlock => self.unlock(body).await,
            Action::Lock => Ok(self.lock().await),
            Action::Health => Ok(self.health(self.realm.is_owner(&caller.peer))),
            Action::Metrics => self.metrics().await,
            Action::OpenApi => Ok(response::json(&openapi())),
        }
    }

    async fn list(&self, caller: &ClientIdentity, query: &Query) -> Result<Answer> {
        let prefix = query.one("prefix")?.unwrap_or("").to_owned();
        let prefix = Prefix::parse(&prefix).map_err(|why| Error::new(Kind::Usage, "list", why))?;
        let after = query.one("after")?.unwrap_or("").to_owned();
        let filter = ListFilter { prefix, destroyed: query.flag("destroyed")?, after };
        let limit = query.number("limit")?;
        let limit = usize::try_from(limit.unwrap_or(PAGE).clamp(1, PAGE)).unwrap_or(1);
        let caller = caller.clone();
        let page = self.read("list tokens", move |reader| reader.page(&caller, &filter, limit)).await?;
        let next = (page.len() == limit).then(|| page.last().map(|last| last.name.clone())).flatten();
        Ok(response::json(&json!({"tokens": page, "next": next})))
    }

    async fn show(&self, caller: &ClientIdentity, name: Name, version: Option<u64>) -> Result<Answer> {
        let tried = match version {
            Some(version) => format!("show {name}@{version}"),
            None => format!("show {name}"),
        };
        self.check(caller, &name, Op::List, &tried).await?;
        let owner = self.realm.is_owner(&caller.peer);
        let mut view =
            self.read("show a token", move |reader| reader.vault.shown(&name, version, &tried)).await?;
        if !owner {
            // Who else may have it is the owner's business.
            view.grants.clear();
        }
        Ok(response::json(&view))
    }

    async fn put(
        &self,
        caller: &ClientIdentity,
        name: Name,
        query: &Query,
        body: Incoming,
    ) -> Result<Answer> {
        let options = put_options(query)?;
        self.check_put(caller, &name, &options).await?;
        let token = Secret::from(self.read_body(body, MAX_TOKEN_BYTES, &format!("put {name}")).await?);
        // A body may take its time: what was granted may not be any more.
        self.check_put(caller, &name, &options).await?;
        let put = self.write("put", move |vault| vault.put(&name, &token, &options)).await?;
        Ok(response::json(&json!({
            "token": put.token.to_string(), "version": put.version, "recipients": put.recipients,
        })))
    }

    async fn check_put(&self, caller: &ClientIdentity, name: &Name, options: &PutOptions) -> Result<()> {
        self.check(caller, name, Op::Put, &format!("put {name}")).await?;
        if options.keep.is_some() || !options.only.is_empty() {
            // It takes older versions, or devices, away from others.
            self.check(caller, name, Op::State, &format!("put {name}, and choose what else opens")).await?;
        }
        Ok(())
    }

    async fn state(&self, caller: &ClientIdentity, name: Name, body: Incoming) -> Result<Answer> {
        let tried = format!("change the state of {name}");
        // Before the body is held in memory, and again after it took its time.
        self.check(caller, &name, Op::State, &tried).await?;
        let body: StateBody = parse(&self.read_body(body, MAX_JSON_BYTES, "change a state").await?)?;
        let state = match body.state.as_str() {
            "active" => State::Active,
            "suspended" => State::Suspended,
            "revoked" => State::Revoked,
            _ => {
                return Err(Error::new(
                    Kind::Usage,
                    "change a state",
                    "it is one of active, suspended, revoked",
                ));
            }
        };
        self.check(caller, &name, Op::State, &tried).await?;
        let (shown, version) = (name.to_string(), body.version);
        self.write("change a state", move |vault| vault.set_state(&name, version, state, &body.reason))
            .await?;
        Ok(response::json(&json!({"name": shown, "version": version, "state": state.to_string()})))
    }

    async fn rename(&self, body: Incoming) -> Result<Answer> {
        let body: RenameBody = parse(&self.read_body(body, MAX_JSON_BYTES, "rename").await?)?;
        let name = |text: &str| Name::parse(text).map_err(|why| Error::new(Kind::Usage, "rename", why));
        let (from, to) = (name(&body.from)?, name(&body.to)?);
        self.write("rename", move |vault| vault.rename(&from, &to)).await?;
        Ok(response::json(&json!({"from": body.from, "to": body.to})))
    }

    async fn destroy(&self, name: Name, query: &Query) -> Result<Answer> {
        let (version, reason) = (query.number("version")?, query.one("reason")?.unwrap_or("").to_owned());
        let shown = name.to_string();
        let count = self.write("destroy", move |vault| vault.destroy(&name, version, &reason)).await?;
        Ok(response::json(&json!({"name": shown, "version": version, "destroyed": count})))
    }

    /// Has the reader look something up on the newest state of the store.
    pub async fn read<T: Send + 'static>(
        &self,
        tried: &str,
        job: impl FnOnce(&mut crate::agent::ledger_queries::LedgerQueries) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = self.reader.ask(Instant::now() + self.deadline, move |reader| {
            reader.follow()?;
            job(reader)
        });
        done.await.map_err(|trouble| trouble.told(tried, "the store"))?
    }

    /// Has the writer make a change; everybody knows of it before the answer goes out.
    pub async fn write<T: Send + 'static>(
        &self,
        tried: &str,
        job: impl FnOnce(&mut Vault) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store_file = self.store_file.clone();
        let job = move |vault: &mut Vault| store_file.check().and_then(|()| job(vault));
        let done = self.writer.ask(Instant::now() + self.deadline, job).await;
        let value = done.map_err(|trouble| trouble.told(tried, "the writer"))??;
        self.metrics.changed.add();
        self.tick().await;
        Ok(value)
    }
}

/// What the query of a put says.
///
/// # Errors
/// `Usage`.
pub fn put_options(query: &Query) -> Result<PutOptions> {
    let label = |text: &str| {
        let pair = text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        pair.ok_or_else(|| Error::new(Kind::Usage, "put", "a label is KEY=VALUE"))
    };
    let labels = query.all("label").map(label).collect::<Result<Vec<_>>>()?;
    Ok(PutOptions {
        labels: (!labels.is_empty()).then_some(labels),
        description: query.one("description")?.map(str::to_owned),
        not_before: query.time("not_before")?,
        expiry: query.time("expires")?,
        keep: query.number("keep")?,
        staged: query.flag("staged")?,
        only: query.all("only").map(str::to_owned).collect(),
    })
}

fn who(caller: &ClientIdentity, owner: bool) -> Answer {
    let peer = &caller.peer;
    response::json(&json!({
        "owner": owner,
        "uid": peer.uid,
        "groups": peer.groups,
        "pid": peer.pid,
        "unit": peer.unit.as_ref().map(ToString::to_string),
        "exe": peer.exe.as_ref().map(|exe| exe.path.display().to_string()),
        "exe_sha256": caller.digest.map(|digest| digest.to_string()),
    }))
}

/// JSON that was sent.
///
/// # Errors
/// `Usage`, without what was sent.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        // Serde's own words could repeat what was sent.
        let at = format!("the JSON is not as it should be, at line {}, column {}", e.line(), e.column());
        Error::new(Kind::Usage, "understand the request", at)
    })
}

/// An answer to what is no request of ours.
pub fn refused_connection(error: &Error) -> Answer {
    response::and_close(response::problem_with(StatusCode::FORBIDDEN, error))
}

/// The answer to a request whose turn did not come, for all the others of the same user.
pub fn too_many_requests() -> Answer {
    let error = Error::new(Kind::Device, "answer", "too many requests of this user are in hand");
    response::and_close(response::problem(&error.with_target("the agent").with_hint("try again in a moment")))
}

impl Agent {
    /// A body of at most `most` bytes, that arrives in time. Its buffer never grows: that would leave copies behind.
    pub async fn read_body(
        &self,
        mut body: Incoming,
        most: usize,
        tried: &str,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let too_large = || Error::new(Kind::Usage, tried, format!("the body holds more than {most} bytes"));
        if body.size_hint().lower() > most as u64 {
            return Err(too_large());
        }
        let expected = body.size_hint().exact().and_then(|n| usize::try_from(n).ok()).unwrap_or(most);
        let mut bytes = Zeroizing::new(Vec::with_capacity(expected.min(most)));
        let deadline = tokio::time::Instant::now() + self.body_time;
        loop {
            let frame = tokio::time::timeout_at(deadline, body.frame()).await;
            let frame =
                frame.map_err(|_| Error::new(Kind::Usage, tried, "the body did not arrive in time"))?;
            let Some(frame) = frame else { return Ok(bytes) };
            let frame = frame.map_err(|_| Error::new(Kind::Usage, tried, "the body was cut off"))?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > most {
                    return Err(too_large());
                }
                bytes.extend_from_slice(data);
            }
        }
    }

    async fn unlock(&self, body: Incoming) -> Result<Answer> {
        let bytes = self.read_body(body, MAX_JSON_BYTES, "unlock").await?;
        let body: UnlockBody = parse(&bytes)?;
        let chosen: Vec<_> = self
            .stations
            .iter()
            .filter(|s| body.device.as_ref().is_none_or(|name| s.name == *name))
            .collect();
        let station = match chosen.as_slice() {
            [station] => station,
            [] => return Err(Error::new(Kind::NotFound, "unlock", "there is no such device here")),
            _ => {
                let error = Error::new(Kind::Usage, "unlock", "there are several devices here");
                return Err(error.with_hint("name one: `strongroom status` lists them"));
            }
        };
        station.check("unlock")?;
        let done =
            station.thread().ask(Instant::now() + self.deadline, move |host| host.unlock(body.pin)).await;
        done.map_err(|trouble| trouble.told("unlock", &station.name))??;
        Ok(response::json(&json!({"device": station.name, "condition": station.condition().0.word()})))
    }

    /// Forgets at once what is kept; the devices as soon as they have finished what they are doing.
    pub async fn lock(&self) -> Answer {
        self.cache.clear();
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut locked = Vec::new();
        for station in &self.stations {
            let done = station.thread().ask(deadline, crate::agent::device::Host::lock).await;
            locked.push(json!({"device": station.name, "locked": done.is_ok()}));
        }
        // What was opened meanwhile by requests that were under way.
        self.cache.clear();
        response::json(&json!({"devices": locked}))
    }
}
