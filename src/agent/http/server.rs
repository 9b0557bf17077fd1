//! Connections: taken up to a bound, served one request after another, and let go in peace at the end.

use super::authorized::Gate;
use super::io_timeout::{IDLE, TimeoutIo};
use super::response::{refused_connection, too_many_requests};
use super::routes;
use crate::agent::Agent;
use crate::agent::identity::ClientIdentity;
use crate::agent::identity::peer::Peer;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::TokioTimer;
use rustix::net::{RecvFlags, recv};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::JoinSet;
use tower_service::Service;

/// The most bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// The most header fields of a request.
const MAX_FIELDS: usize = 64;
/// At the end, a connection that was just made may still ask within this time.
const LAST_CALL: Duration = Duration::from_millis(100);
/// Of four connections, a user who is not the owner may have three.
const SHARE: (usize, usize) = (3, 4);

/// Requests of one user who is not the owner that are in hand at once, bodies included; others of that user wait. So nobody
/// fills the queues that all share, nor the memory.
const AT_ONCE: usize = 64;

/// What every connection is served with.
#[derive(Clone)]
struct Server {
    agent: Arc<Agent>,
    router: Router,
}

/// How many connections each user has.
#[derive(Default)]
pub struct ConnectionCounts(Mutex<HashMap<u32, User>>);

/// What the connections of one user share.
struct User {
    connections: usize,
    turns: Arc<Semaphore>,
}

/// One connection's place among those of its user.
struct ConnectionSlot {
    counts: Arc<ConnectionCounts>,
    uid: u32,
    turns: Arc<Semaphore>,
}

impl ConnectionCounts {
    fn take(self: &Arc<Self>, uid: u32, most: usize) -> Option<ConnectionSlot> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || User { connections: 0, turns: Arc::new(Semaphore::new(AT_ONCE)) };
        let user = counts.entry(uid).or_insert_with(new);
        if user.connections >= most {
            return None;
        }
        user.connections += 1;
        Some(ConnectionSlot { counts: Arc::clone(self), uid, turns: Arc::clone(&user.turns) })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = counts.get_mut(&self.uid) {
            user.connections -= 1;
            if user.connections == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

/// Takes connections until told to stop, then waits for those that have something in hand.
pub async fn serve(agent: Arc<Agent>, socket: UnixListener, mut stop: watch::Receiver<bool>) {
    let (mut connections, counts) = (JoinSet::new(), Arc::new(ConnectionCounts::default()));
    let router = routes::router(Gate::new(Arc::clone(&agent)));
    loop {
        tokio::select! {
            biased;
            _ = stop.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            taken = socket.accept() => match taken {
                Ok((stream, _)) if connections.len() < agent.connections => {
                    agent.metrics.connections.add();
                    let server = Server { agent: Arc::clone(&agent), router: router.clone() };
                    let (counts, stop) = (Arc::clone(&counts), stop.clone());
                    connections.spawn(serve_connection(server, counts, stream, stop));
                }
                Ok(_) => agent.metrics.turned_away.add(),
                // No more file descriptors: some will be closed.
                Err(error) => {
                    log::warn!("a connection could not be taken: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(
    server: Server,
    counts: Arc<ConnectionCounts>,
    stream: UnixStream,
    mut stop: watch::Receiver<bool>,
) {
    let agent = &server.agent;
    let peer = match Peer::of(&stream, &agent.pidfds) {
        Ok(peer) => peer,
        Err(error) => return log::debug!("{error}"),
    };
    let owner = agent.owner.is_owner(&peer);
    let most = match owner {
        true => agent.connections,
        false => agent.connections * SHARE.0 / SHARE.1,
    };
    let Some(slot) = counts.take(peer.uid, most) else { return agent.metrics.turned_away.add() };
    let Some(last) = asked(&stream, &mut stop).await else { return };
    // Apart, so that a connection that asks for nothing does not hold the room for it.
    let turns = (!owner).then(|| Arc::clone(&slot.turns));
    Box::pin(serve_http(server, peer, turns, stream, last, stop)).await;
}

/// A turn among the requests of one user, for those who need one; `None` when none comes in time.
async fn turn(turns: Option<&Semaphore>, patience: Duration) -> Option<Option<SemaphorePermit<'_>>> {
    let Some(turns) = turns else { return Some(None) };
    tokio::time::timeout(patience, turns.acquire()).await.ok()?.ok().map(Some)
}

/// The answer, to a process that is still there.
async fn answer(router: &Router, client: &ClientIdentity, request: Request<Incoming>) -> Response {
    let nobody = || refused_connection(&crate::agent::authz::denied("answer"));
    if !client.peer.is_there() {
        return nobody();
    }
    let answer = route(router.clone(), client.clone(), request.map(Body::new)).await;
    // A device may have taken its time.
    if client.peer.is_there() { answer } else { nobody() }
}

async fn route(mut router: Router, client: ClientIdentity, mut request: Request<Body>) -> Response {
    request.extensions_mut().insert(client);
    // The router would run GET for it, and open a token only to drop it.
    if request.method() == Method::HEAD {
        *request.method_mut() = Method::TRACE;
    }
    let Ok(mut answer) = router.call(request).await;
    if let Some(allow) = answer.headers().get(ALLOW).and_then(|allow| allow.to_str().ok()) {
        let allow = allow.split(',').filter(|method| *method != "HEAD").collect::<Vec<_>>().join(", ");
        answer.headers_mut().extend(HeaderValue::from_str(&allow).ok().map(|allow| (Some(ALLOW), allow)));
    }
    answer
}

/// HTTP, until either side has had enough.
async fn serve_http(
    server: Server,
    peer: Peer,
    turns: Option<Arc<Semaphore>>,
    stream: UnixStream,
    last: bool,
    mut stop: watch::Receiver<bool>,
) {
    let client = ClientIdentity { peer: Arc::new(peer), digest: None };
    let handling = Arc::new(AtomicBool::new(false));
    let in_hand = Arc::clone(&handling);
    let service = service_fn(move |request| {
        let (server, client, in_hand) = (server.clone(), client.clone(), Arc::clone(&in_hand));
        let turns = turns.clone();
        in_hand.store(true, Ordering::Relaxed);
        async move {
            let answer = match turn(turns.as_deref(), server.agent.deadline).await {
                Some(_turn) => {
                    server.agent.metrics.requests.add();
                    answer(&server.router, &client, request).await
                }
                None => too_many_requests(),
            };
            in_hand.store(false, Ordering::Relaxed);
            Ok::<Response, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .keep_alive(!last)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_FIELDS)
        .serve_connection(TimeoutIo::new(stream, handling), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stop.changed() => tokio::time::timeout(LAST_CALL, connection.as_mut()).await.ok(),
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        log::debug!("a connection ended: {error}");
    }
}

/// Waits until something is asked for: before that, a connection costs next to nothing. Answers whether it is the last request,
/// as the agent stops; `None` when nothing came.
async fn asked(stream: &UnixStream, stop: &mut watch::Receiver<bool>) -> Option<bool> {
    let (asks, last) = tokio::select! {
        biased;
        ready = tokio::time::timeout(IDLE, first_byte(stream)) => (ready, false),
        // A request may be on its way.
        _ = stop.changed() => (tokio::time::timeout(LAST_CALL, first_byte(stream)).await, true),
    };
    matches!(asks, Ok(Ok(()))).then_some(last)
}

/// Waits for the first byte, or the end. Tokio takes a new connection for readable until somebody looked.
async fn first_byte(stream: &UnixStream) -> std::io::Result<()> {
    let look = || Ok(recv(stream, &mut [0_u8], RecvFlags::PEEK)?);
    loop {
        stream.readable().await?;
        match stream.try_io(Interest::READABLE, look) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            looked => return looked.map(drop),
        }
    }
}
