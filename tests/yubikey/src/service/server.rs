//! The service's socket.

use super::calls::Context;
use super::{Service, Shared};
use crate::protocol::{Reply, Request, code, read_frame, write_frame};
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Weak};
use std::thread;

/// Listens until the service is dropped.
pub(super) fn listen(service: &Service) -> io::Result<()> {
    let listener = UnixListener::bind(service.socket())?;
    // The thread must not keep the service alive: a last connection, made by its drop, lets it see that it is over.
    let shared = Arc::downgrade(&service.shared);
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let Some(shared) = Weak::upgrade(&shared) else { return };
            let service = Service { shared };
            thread::spawn(move || serve(&service, stream));
        }
    });
    Ok(())
}

impl Drop for Shared {
    fn drop(&mut self) {
        let socket = self.directory.join("socket");
        let _ = UnixStream::connect(&socket);
        let _ = std::fs::remove_file(socket);
    }
}

fn serve(service: &Service, mut stream: UnixStream) -> io::Result<()> {
    let context = {
        let mut state = service.lock();
        if !state.running {
            return Ok(());
        }
        state.last_number += 1;
        let number = state.last_number;
        state.connections.push((number, stream.try_clone()?));
        Context { service: service.clone(), number, run: state.run }
    };
    let end = converse(&context, &mut stream);
    context.close();
    end
}

fn converse(context: &Context, stream: &mut UnixStream) -> io::Result<()> {
    loop {
        let body = read_frame(stream)?;
        let reply = match Request::decode(&body) {
            Some(request) => context.answer(request),
            None => Reply::code(code::INVALID_PARAMETER),
        };
        write_frame(stream, &reply.encode())?;
    }
}
