//! A card in a reader of vpcd's (vsmartcard), behind a real pcscd. The card is the TCP client; frames are their length (16
//! bits, big-endian) and their body, and a body of one byte is a control code.

use crate::body::Body;
use crate::card::ATR;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// A card that is plugged in; dropping it pulls it out.
pub struct Plugged {
    stream: TcpStream,
    thread: Option<JoinHandle<()>>,
}

/// Plugs a card in where vpcd listens on this machine.
///
/// # Errors
/// When nobody listens there.
pub fn plug(body: &Arc<Body>, port: u16) -> io::Result<Plugged> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    body.hand.set_gone(false);
    let (body, theirs) = (body.clone(), stream.try_clone()?);
    let thread = thread::spawn(move || {
        let _ = serve(&body, theirs);
        body.card().power_cycle();
    });
    Ok(Plugged { stream, thread: Some(thread) })
}

impl Drop for Plugged {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(body: &Body, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut message)?;
        let answer = match *message {
            // Power off, power on, reset.
            [0..=2] => {
                body.card().power_cycle();
                continue;
            }
            [4] => ATR.to_vec(),
            _ => body.transmit(&message)?,
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat())?;
    }
}
