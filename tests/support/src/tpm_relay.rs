//! Somebody between program and TPM, who sees every command and response, and may change them.

use crate::swtpm::{Swtpm, pair_of_ports, tcti, uri};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Takes a command's bytes and what forwards them; gives the response's, or none, with which the connection ends.
pub type Act = dyn FnMut(&[u8], &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Vec<u8> + Send;

/// Serves any number of connections over one to the TPM, command by command.
pub struct Relay {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    upstream: TcpStream,
    act: Box<Act>,
    seen: Vec<u8>,
}

/// TPM_CC of a command.
pub fn code(command: &[u8]) -> u32 {
    u32::from_be_bytes(command[6..10].try_into().unwrap())
}

/// TPM_CC.
pub const CREATE_PRIMARY: u32 = 0x131;
/// TPM_CC.
pub const CREATE: u32 = 0x153;
/// TPM_CC.
pub const READ_PUBLIC: u32 = 0x173;
/// TPM_CC.
pub const LOAD: u32 = 0x157;
/// TPM_CC.
pub const ECDH_ZGEN: u32 = 0x154;
/// TPM_CC.
pub const START_AUTH_SESSION: u32 = 0x176;
/// TPM_CC.
pub const SIGN: u32 = 0x15d;
/// TPM_CC.
pub const NV_INCREMENT: u32 = 0x134;

/// A response without a body.
pub fn refusal(code: u32) -> Vec<u8> {
    [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat()
}

impl Relay {
    /// Before this TPM; passes everything on for now.
    pub fn before(tpm: &Swtpm) -> Self {
        let upstream = TcpStream::connect(("127.0.0.1", tpm.port)).unwrap();
        upstream.set_nodelay(true).unwrap();
        let act: Box<Act> = Box::new(|command, forward| forward(command));
        let shared = Arc::new(Mutex::new(Shared { upstream, act, seen: Vec::new() }));
        let (port, commands, control) = listeners();
        let (own, upstream_control) = (Arc::clone(&shared), tpm.port + 1);
        std::thread::spawn(move || {
            for client in commands.incoming() {
                let (client, shared) = (client.unwrap(), Arc::clone(&own));
                std::thread::spawn(move || serve(client, &shared));
            }
        });
        std::thread::spawn(move || {
            for client in control.incoming() {
                let Ok(upstream) = TcpStream::connect(("127.0.0.1", upstream_control)) else { return };
                splice(client.unwrap(), upstream);
            }
        });
        Self { port, shared }
    }

    /// The device's URI through it.
    pub fn uri(&self) -> String {
        uri(self.port)
    }

    /// Its transport, as tpm2-tss names it.
    pub fn tcti(&self) -> String {
        tcti(self.port)
    }

    /// Does something else with commands from now on.
    pub fn act(&self, act: impl FnMut(&[u8], &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Vec<u8> + Send + 'static) {
        self.shared.lock().unwrap().act = Box::new(act);
    }

    /// Passes everything on again.
    pub fn pass(&self) {
        self.act(|command, forward| forward(command));
    }

    /// A command of its own.
    pub fn send(&self, command: &[u8]) -> Vec<u8> {
        exchange(&mut self.shared.lock().unwrap().upstream, command).unwrap()
    }

    /// Everything that went through, both ways.
    pub fn seen(&self) -> Vec<u8> {
        self.shared.lock().unwrap().seen.clone()
    }

    /// How many objects and sessions are loaded in the TPM, by its own word.
    pub fn loaded(&self) -> (usize, usize) {
        let count = |first: u32| {
            // TPM2_GetCapability(TPM_CAP_HANDLES, first, 254)
            let mut command = vec![0x80, 1, 0, 0, 0, 0x16, 0, 0, 1, 0x7a, 0, 0, 0, 1];
            command.extend([first.to_be_bytes(), 254u32.to_be_bytes()].concat());
            let response = self.send(&command);
            u32::from_be_bytes(response[15..19].try_into().unwrap()) as usize
        };
        (count(0x8000_0000), count(0x0200_0000))
    }
}

/// Whether one byte string lies in another.
pub fn contains(all: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && all.windows(part.len()).any(|window| window == part)
}

fn listeners() -> (u16, TcpListener, TcpListener) {
    loop {
        let port = pair_of_ports();
        let listen = |port: u16| TcpListener::bind(("127.0.0.1", port));
        if let (Ok(commands), Ok(control)) = (listen(port), listen(port + 1)) {
            return (port, commands, control);
        }
    }
}

fn serve(mut client: TcpStream, shared: &Mutex<Shared>) {
    client.set_nodelay(true).unwrap();
    while let Some(command) = frame(&mut client) {
        let response = {
            let mut shared = shared.lock().unwrap();
            let Shared { upstream, act, seen } = &mut *shared;
            let mut failed = false;
            let response = act(&command, &mut |command| {
                exchange(upstream, command).unwrap_or_else(|| {
                    failed = true;
                    Vec::new()
                })
            });
            if failed || response.is_empty() {
                return;
            }
            seen.extend_from_slice(&command);
            seen.extend_from_slice(&response);
            response
        };
        if client.write_all(&response).is_err() {
            return;
        }
    }
}

fn exchange(upstream: &mut TcpStream, command: &[u8]) -> Option<Vec<u8>> {
    upstream.write_all(command).ok()?;
    frame(upstream)
}

/// Tag, size, code, and what belongs to them.
fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 10];
    stream.read_exact(&mut frame).ok()?;
    let size = u32::from_be_bytes(frame[2..6].try_into().unwrap()) as usize;
    frame.resize(size.max(10), 0);
    stream.read_exact(&mut frame[10..]).ok()?;
    Some(frame)
}

fn splice(client: TcpStream, upstream: TcpStream) {
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    };
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    copy(client.try_clone().unwrap(), upstream.try_clone().unwrap());
    copy(upstream, client);
}
