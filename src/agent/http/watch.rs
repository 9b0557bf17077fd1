//! `GET /v1/watch`: server-sent events (HTML Living Standard, section 9.2) about tokens, for whoever may see them.
//!
//! At first each token comes as it is, and then whenever it is another. What a client may see is judged anew each time. A
//! stream ends after five minutes, and clients ask again: they hear first how things are, so nothing is missed between two.

use super::authorized::PerToken;
use super::params::{Params, Watching};
use super::response::{self, Answer};
use crate::agent::Agent;
use crate::agent::identity::ClientIdentity;
use crate::client::api::texts::WatchEvent;
use crate::error::{Error, Kind, Result};
use crate::vault::{GrantOn, Watched, filter};
use axum::body::Body;
use axum::response::Response;
use hyper::body::{Bytes, Frame};
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long a stream lasts.
const LASTS: Duration = Duration::from_secs(300);

/// How often it is looked for what comes with time alone, and the client is shown that the agent is there.
const ALIVE: Duration = Duration::from_secs(15);

/// The most tokens of one thing that is watched.
const MOST: usize = 1000;

/// The most streams of each user who is not the owner, and of all of them.
const EACH: usize = 32;
const OTHERS: usize = 512;

/// Watch tokens, by server-sent events
///
/// At first an event `token` for each, then one event `all`; from then on an event `token` for each that is another. Its data
/// is a WatchedToken. The stream ends after five minutes: ask again.
///
/// For the owner, and clients that were granted `list`.
#[utoipa::path(
    get, path = "/v1/watch", params(Watching),
    responses((status = 200, description = "Done", body = WatchEvent, content_type = "text/event-stream"))
)]
pub async fn watch(client: PerToken, Params(watching): Params<Watching>) -> Answer<Response> {
    let (on, operation) = (watching.on()?, "watch tokens");
    let (agent, client) = client.into_parts();
    let turn = agent.watchers.take(&agent, client.peer.uid).ok_or_else(|| {
        Error::new(Kind::Device, operation, "too many tokens of this user are watched")
            .with_target("the agent")
    })?;
    let mut watched = Watched::default();
    let first = agent.news(&client, &on, &mut watched).await?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        feed(&agent, &client, &on, watched, first, &sender).await;
        drop(turn);
    });
    Ok(response::stream("text/event-stream", Body::new(Events(receiver))))
}

/// Sends what is new, until the client has gone, the agent stops, or the time is over.
async fn feed(
    agent: &Agent,
    client: &ClientIdentity,
    on: &[GrantOn],
    mut watched: Watched,
    first: String,
    sender: &mpsc::Sender<Bytes>,
) {
    let (mut changed, mut stopping) = (agent.epoch.changed.subscribe(), agent.stopping.subscribe());
    let until = Instant::now() + LASTS;
    let mut next = Bytes::from(format!("retry: 1000\n\n{first}event: all\ndata: {{}}\n\n"));
    while client.peer.is_there() && sender.send(next).await.is_ok() {
        let alive = (Instant::now() + ALIVE).min(until);
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep_until(alive) => {}
            () = sender.closed() => return,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        if Instant::now() >= until {
            return;
        }
        next = match agent.news(client, on, &mut watched).await {
            Ok(news) if news.is_empty() => Bytes::from_static(b":\n\n"),
            Ok(news) => news.into(),
            // It is told when the client asks again.
            Err(_) => return,
        };
    }
}

impl Agent {
    /// What is new to this client, as events.
    async fn news(&self, client: &ClientIdentity, on: &[GrantOn], watched: &mut Watched) -> Result<String> {
        let client = self.with_digest(client, std::time::Instant::now() + self.deadline).await;
        let (first, on) = (self.owner.is_owner(&client.peer), on.to_vec());
        let views = self.read(first, "watch tokens", move |reader| {
            let mut views = Vec::new();
            for on in &on {
                let (page, more) = reader.page(&client, &filter(on), MOST)?;
                if more && matches!(on, GrantOn::Prefix(_)) {
                    let message = format!("more than {MOST} tokens are under {on}");
                    return Err(Error::new(Kind::Conflict, "watch tokens", message)
                        .with_hint("watch a longer prefix, or the tokens themselves"));
                }
                views.extend(page.into_iter().filter(|view| on.covers(&view.name)));
            }
            Ok(views)
        });
        let news = watched.news(&views.await?);
        let event = |token| Some(format!("event: token\ndata: {}\n\n", serde_json::to_string(token).ok()?));
        Ok(news.iter().filter_map(event).collect())
    }
}

/// How many streams each user has.
type Counts = Arc<Mutex<HashMap<u32, usize>>>;

/// The streams of users who are not the owner.
#[derive(Default)]
pub struct Watchers(Counts);

/// A stream's place. It is free again when this goes.
struct Turn(Option<(u32, Counts)>);

impl Watchers {
    /// A place for a stream; `None` if this user, or all together, have too many.
    fn take(&self, agent: &Agent, uid: u32) -> Option<Turn> {
        if agent.owner.is_user(uid) {
            return Some(Turn(None));
        }
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = users.values().sum();
        // Whoever watches holds a connection: others need some, too.
        let most = OTHERS.min(agent.connections / 8);
        let own = users.entry(uid).or_default();
        if all >= most || *own >= EACH.min(most.div_ceil(2)) {
            return None;
        }
        *own += 1;
        Some(Turn(Some((uid, Arc::clone(&self.0)))))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((uid, users)) = self.0.take() else { return };
        let mut users = users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = users.get_mut(&uid) {
            *own -= 1;
            if *own == 0 {
                users.remove(&uid);
            }
        }
    }
}

/// A body that is written as things happen.
struct Events(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
