//! The client's side of a context: a connection to the service, and the handles made on it.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use virtual_yubikey::protocol::{self, Reply, Request, code};

/// Where the service listens.
const SOCKET: &str = "STRONGROOM_TEST_PCSC";

/// All contexts and handles of this process.
static CLIENT: LazyLock<Mutex<Client>> = LazyLock::new(Mutex::default);
/// Numbers are never used twice.
static LAST: AtomicI64 = AtomicI64::new(0x5742_0000);

#[derive(Default)]
struct Client {
    contexts: HashMap<i64, Context>,
    handles: HashMap<i64, Handle>,
}

#[derive(Clone)]
struct Context {
    number: u32,
    stream: Arc<Mutex<UnixStream>>,
}

#[derive(Clone)]
struct Handle {
    context: i64,
    number: u32,
}

pub type Outcome<T> = Result<T, u32>;

/// `SCardEstablishContext`.
pub fn establish() -> Outcome<i64> {
    let stream = connect()?;
    let reply = exchange(&stream, &Request::Establish)?;
    let number = *reply.numbers.first().ok_or(code::INTERNAL_ERROR)?;
    let id = LAST.fetch_add(1, Ordering::Relaxed);
    client().contexts.insert(id, Context { number, stream: Arc::new(Mutex::new(stream)) });
    Ok(id)
}

/// `SCardReleaseContext`.
pub fn release(context: i64) -> Outcome<()> {
    let mut client = client();
    client.handles.retain(|_, handle| handle.context != context);
    client.contexts.remove(&context).map(drop).ok_or(code::INVALID_HANDLE)
}

/// `SCardIsValidContext`.
pub fn is_valid(context: i64) -> Outcome<()> {
    client().contexts.get(&context).map(|_| ()).ok_or(code::INVALID_HANDLE)
}

/// `SCardCancel`: on a connection of its own, for the context's is busy waiting.
pub fn cancel(context: i64) -> Outcome<()> {
    let number = client().contexts.get(&context).ok_or(code::INVALID_HANDLE)?.number;
    exchange(&connect()?, &Request::Cancel(number)).map(drop)
}

/// A call on a context.
pub fn on_context(context: i64, request: &Request) -> Outcome<Reply> {
    let context = client().contexts.get(&context).cloned().ok_or(code::INVALID_HANDLE)?;
    let stream = context.stream.lock().unwrap_or_else(PoisonError::into_inner);
    exchange(&stream, request)
}

/// `SCardConnect`.
pub fn connect_card(context: i64, reader: &str, share: u32, protocols: u32) -> Outcome<i64> {
    let reply = on_context(context, &Request::Connect(reader.into(), share, protocols))?;
    let number = *reply.numbers.first().ok_or(code::INTERNAL_ERROR)?;
    let id = LAST.fetch_add(1, Ordering::Relaxed);
    client().handles.insert(id, Handle { context, number });
    Ok(id)
}

/// A call on a handle, whose number the service knows.
pub fn on_handle(handle: i64, request: impl FnOnce(u32) -> Request) -> Outcome<Reply> {
    let handle = client().handles.get(&handle).cloned().ok_or(code::INVALID_HANDLE)?;
    on_context(handle.context, &request(handle.number))
}

/// `SCardDisconnect`.
pub fn disconnect(handle: i64, disposition: u32) -> Outcome<()> {
    let done = on_handle(handle, |number| Request::Disconnect(number, disposition));
    client().handles.remove(&handle);
    done.map(drop)
}

fn client() -> MutexGuard<'static, Client> {
    CLIENT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect() -> Outcome<UnixStream> {
    let socket = std::env::var_os(SOCKET).ok_or(code::NO_SERVICE)?;
    UnixStream::connect(socket).map_err(|_| code::NO_SERVICE)
}

/// Asks and hears. A service that is gone stays gone for this connection, as pcscd's clients know it.
fn exchange(mut stream: &UnixStream, request: &Request) -> Outcome<Reply> {
    let sent = protocol::write_frame(&mut stream, &request.encode()).and_then(|()| stream.flush());
    sent.map_err(|_| code::NO_SERVICE)?;
    let body = protocol::read_frame(&mut stream).map_err(|_| code::NO_SERVICE)?;
    let reply = Reply::decode(&body).ok_or(code::INTERNAL_ERROR)?;
    if reply.code == code::SUCCESS { Ok(reply) } else { Err(reply.code) }
}
