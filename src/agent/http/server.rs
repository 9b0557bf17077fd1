//! Connections: they are accepted up to a limit, served one request after another, and closed in order at the end.

use super::authorized::Gate;
use super::clients::{Clients, ConnectionSlot};
use super::io_timeout::{IDLE, TimeoutIo};
use super::response::{refused_connection, too_large, too_many_requests};
use super::routes;
use crate::agent::Agent;
use crate::agent::identity::ClientIdentity;
use crate::agent::identity::peer::Peer;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::TokioTimer;
use rustix::net::{RecvFlags, recv};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_service::Service;

/// The most bytes of a request's head, and of a client who is not the owner: so much is read ahead.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEAD_OF_OTHERS: usize = 8 << 10;
/// The most bytes of an answer to a client who is not the owner: a token's.
const MAX_ANSWER: u64 = crate::secret::MAX_TOKEN_BYTES as u64;
/// How many bytes of answers the kernel holds for one who does not read. It takes twice that.
const SEND_BUFFER: usize = 4 << 10;
/// The most header fields of a request.
const MAX_FIELDS: usize = 64;
/// At the end, a connection that was just made may still ask within this time.
const LAST_CALL: Duration = Duration::from_millis(100);
/// What every connection is served with.
#[derive(Clone)]
struct Server {
    agent: Arc<Agent>,
    router: Router,
}

/// Takes connections until told to stop, then waits for those that have something in hand.
pub async fn serve(agent: Arc<Agent>, socket: UnixListener, mut stop: watch::Receiver<bool>) {
    let (mut connections, clients) = (JoinSet::new(), Arc::new(Clients::new(agent.connections)));
    let router = routes::router(Gate::new(Arc::clone(&agent)));
    loop {
        tokio::select! {
            biased;
            _ = stop.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            taken = socket.accept() => match taken {
                Ok((stream, _)) => match uid_of(&stream).and_then(|uid| clients.take(uid, agent.owner)) {
                    Some(slot) => {
                        agent.metrics.connections.add();
                        let server = Server { agent: Arc::clone(&agent), router: router.clone() };
                        connections.spawn(serve_connection(server, slot, stream, stop.clone()));
                    }
                    None => agent.metrics.turned_away.add(),
                },
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

fn uid_of(stream: &UnixStream) -> Option<u32> {
    rustix::net::sockopt::socket_peercred(stream).ok().map(|peer| peer.uid.as_raw())
}

async fn serve_connection(
    server: Server,
    slot: ConnectionSlot,
    stream: UnixStream,
    mut stop: watch::Receiver<bool>,
) {
    let peer = match slot.paced(|| Peer::of(&stream, &server.agent.pidfds)).await {
        Ok(peer) => peer,
        Err(error) => return log::debug!("{error}"),
    };
    // What a client does not read waits in this process, or in the kernel on its account.
    if !slot.is_owner() && rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER).is_err() {
        return;
    }
    let asked = tokio::select! {
        asked = asked(&stream, &mut stop) => asked,
        () = slot.reaped() => None,
    };
    let Some(last) = asked else { return };
    slot.paced(|| ()).await;
    // Boxed, so that an idle connection does not hold the memory for it.
    Box::pin(serve_http(server, peer, slot, stream, last, stop)).await;
}

/// The answer, to a process that is still there.
async fn answer(
    router: &Router,
    client: &ClientIdentity,
    owner: bool,
    request: Request<Incoming>,
) -> Response {
    let nobody = || refused_connection(&crate::agent::authz::denied("answer"));
    if !client.peer.is_there() {
        return nobody();
    }
    let answer = route(router.clone(), client.clone(), request.map(Body::new)).await;
    // A device may have taken its time.
    match client.peer.is_there() {
        true if owner || answer.body().size_hint().lower() <= MAX_ANSWER => answer,
        true => too_large(),
        false => nobody(),
    }
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
    slot: ConnectionSlot,
    stream: UnixStream,
    last: bool,
    mut stop: watch::Receiver<bool>,
) {
    let client = ClientIdentity { peer: Arc::new(peer), digest: None };
    let (owner, slot) = (slot.is_owner(), Arc::new(slot));
    let own = Arc::clone(&slot);
    let service = service_fn(move |request| {
        let (server, client, slot) = (server.clone(), client.clone(), Arc::clone(&own));
        async move {
            let answer = match slot.begin(server.agent.deadline).await {
                true => {
                    server.agent.metrics.requests.add();
                    answer(&server.router, &client, owner, request).await
                }
                false => too_many_requests(),
            };
            slot.answered();
            Ok::<Response, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .keep_alive(!last)
        .max_buf_size(if owner { MAX_HEAD } else { MAX_HEAD_OF_OTHERS })
        .max_headers(MAX_FIELDS)
        .serve_connection(TimeoutIo::new(stream, Arc::clone(&slot)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = slot.reaped() => None,
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
