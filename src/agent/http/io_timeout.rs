//! A connection with patience: a request that begins must arrive, an answer must be taken. One that is idle may stay.

use super::clients::ConnectionSlot;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{Sleep, sleep};

/// A request's head has to arrive within this time from its first byte on.
pub const HEAD: Duration = Duration::from_secs(5);
/// A client has to take something of an answer within this time.
pub const TAKE: Duration = Duration::from_secs(20);
/// A connection on which nothing is asked for may stay this long.
pub const IDLE: Duration = Duration::from_secs(600);

/// A stream whose reads and writes do not wait for ever.
pub struct TimeoutIo {
    io: TokioIo<UnixStream>,
    slot: Arc<ConnectionSlot>,
    begun: bool,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl TimeoutIo {
    /// Around a connection's stream.
    pub fn new(stream: UnixStream, slot: Arc<ConnectionSlot>) -> Self {
        Self { io: TokioIo::new(stream), slot, begun: false, reading: None, writing: None }
    }

    fn io(&mut self) -> Pin<&mut TokioIo<UnixStream>> {
        Pin::new(&mut self.io)
    }

    fn wait_for_writing<T>(
        &mut self,
        cx: &mut Context<'_>,
        done: Poll<Result<T, Error>>,
    ) -> Poll<Result<T, Error>> {
        match done {
            Poll::Pending => over(&mut self.writing, TAKE, cx).map(|()| Err(ErrorKind::TimedOut.into())),
            ready => {
                self.writing = None;
                ready
            }
        }
    }
}

/// Whether the time is over that began when this was first asked.
fn over(timer: &mut Option<Pin<Box<Sleep>>>, patience: Duration, cx: &mut Context<'_>) -> Poll<()> {
    timer.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx)
}

impl Read for TimeoutIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<Result<(), Error>> {
        if self.slot.is_handling() {
            // A body that is read, or a look at whether the client is still there.
            (self.begun, self.reading) = (false, None);
            return self.io().poll_read(cx, buffer);
        }
        let read = self.io().poll_read(cx, buffer);
        if read.is_ready() && !self.begun {
            (self.begun, self.reading) = (true, None);
        }
        let patience = if self.begun { HEAD } else { IDLE };
        // Also when bytes came: a client that sends a byte now and then never completes a head.
        match over(&mut self.reading, patience, cx) {
            Poll::Ready(()) => Poll::Ready(Err(ErrorKind::TimedOut.into())),
            Poll::Pending => read,
        }
    }
}

impl Write for TimeoutIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Error>> {
        let done = self.io().poll_write(cx, bytes);
        self.wait_for_writing(cx, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let done = self.io().poll_flush(cx);
        // Asked for when nothing is left to write.
        if done.is_ready() {
            self.slot.sent();
        }
        self.wait_for_writing(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let done = self.io().poll_shutdown(cx);
        self.wait_for_writing(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        let done = self.io().poll_write_vectored(cx, slices);
        self.wait_for_writing(cx, done)
    }
}
