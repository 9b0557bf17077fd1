//! What the drop-in libpcsclite and the service say to each other over a Unix socket: one connection per PC/SC context, one
//! answer per request. A frame is its length (32 bits, little-endian) and its body.
//!
//! Names and numbers are those of PC/SC part 5 and of pcsc-lite's `pcsclite.h`.

use std::io::{self, Read, Write};

/// Return codes.
pub mod code {
    /// SCARD_S_SUCCESS.
    pub const SUCCESS: u32 = 0;
    /// SCARD_F_INTERNAL_ERROR.
    pub const INTERNAL_ERROR: u32 = 0x8010_0001;
    /// SCARD_E_CANCELLED.
    pub const CANCELLED: u32 = 0x8010_0002;
    /// SCARD_E_INVALID_HANDLE.
    pub const INVALID_HANDLE: u32 = 0x8010_0003;
    /// SCARD_E_INVALID_PARAMETER.
    pub const INVALID_PARAMETER: u32 = 0x8010_0004;
    /// SCARD_E_INSUFFICIENT_BUFFER.
    pub const INSUFFICIENT_BUFFER: u32 = 0x8010_0008;
    /// SCARD_E_UNKNOWN_READER.
    pub const UNKNOWN_READER: u32 = 0x8010_0009;
    /// SCARD_E_TIMEOUT.
    pub const TIMEOUT: u32 = 0x8010_000a;
    /// SCARD_E_SHARING_VIOLATION.
    pub const SHARING_VIOLATION: u32 = 0x8010_000b;
    /// SCARD_E_NO_SMARTCARD.
    pub const NO_SMARTCARD: u32 = 0x8010_000c;
    /// SCARD_E_PROTO_MISMATCH.
    pub const PROTO_MISMATCH: u32 = 0x8010_000f;
    /// SCARD_E_INVALID_VALUE.
    pub const INVALID_VALUE: u32 = 0x8010_0011;
    /// SCARD_E_NOT_TRANSACTED.
    pub const NOT_TRANSACTED: u32 = 0x8010_0016;
    /// SCARD_E_READER_UNAVAILABLE.
    pub const READER_UNAVAILABLE: u32 = 0x8010_0017;
    /// SCARD_E_NO_SERVICE.
    pub const NO_SERVICE: u32 = 0x8010_001d;
    /// SCARD_E_UNSUPPORTED_FEATURE (pcsc-lite's number).
    pub const UNSUPPORTED_FEATURE: u32 = 0x8010_001f;
    /// SCARD_E_NO_READERS_AVAILABLE.
    pub const NO_READERS: u32 = 0x8010_002e;
    /// SCARD_W_RESET_CARD.
    pub const RESET_CARD: u32 = 0x8010_0068;
    /// SCARD_W_REMOVED_CARD.
    pub const REMOVED_CARD: u32 = 0x8010_0069;
}

/// The name under which `SCardGetStatusChange` watches readers come and go.
pub const ANY_READER: &str = "\\\\?PnP?\\Notification";

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The first on every connection. Answered with the context's number.
    Establish,
    /// The readers' names, each followed by NUL.
    ListReaders,
    /// Reader, share mode, protocols. Answered with a handle.
    Connect(String, u32, u32),
    /// Handle, share mode, protocols, initialisation.
    Reconnect(u32, u32, u32, u32),
    /// Handle, disposition.
    Disconnect(u32, u32),
    /// Handle.
    Begin(u32),
    /// Handle, disposition.
    End(u32, u32),
    /// Handle, APDU. Answered with the card's answer.
    Transmit(u32, Vec<u8>),
    /// Handle. Answered with the state, and the reader's name.
    Status(u32),
    /// Milliseconds to wait (all ones: for ever), and readers with the state that the client knows. Answered with their states.
    Changes(u32, Vec<(String, u32)>),
    /// The number of a context whose waiting ends.
    Cancel(u32),
}

/// What a request comes to: a return code, numbers and bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// One of [`code`].
    pub code: u32,
    /// A handle, a state, or states in the order asked for.
    pub numbers: Vec<u32>,
    /// An answer or names.
    pub bytes: Vec<u8>,
}

impl Reply {
    /// Only a return code.
    pub fn code(code: u32) -> Self {
        Self { code, ..Self::default() }
    }
}

impl Request {
    /// The frame's body.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let (kind, numbers): (u8, &[u32]) = match self {
            Self::Establish => (0, &[]),
            Self::ListReaders => (1, &[]),
            Self::Connect(_, share, protocols) => (2, &[*share, *protocols]),
            Self::Reconnect(handle, share, protocols, initialisation) => {
                (3, &[*handle, *share, *protocols, *initialisation])
            }
            Self::Disconnect(handle, disposition) => (4, &[*handle, *disposition]),
            Self::Begin(handle) => (5, &[*handle]),
            Self::End(handle, disposition) => (6, &[*handle, *disposition]),
            Self::Transmit(handle, _) => (7, &[*handle]),
            Self::Status(handle) => (8, &[*handle]),
            Self::Changes(milliseconds, _) => (9, &[*milliseconds]),
            Self::Cancel(context) => (10, &[*context]),
        };
        out.push(kind);
        numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
        match self {
            Self::Connect(reader, ..) => out.extend(reader.as_bytes()),
            Self::Transmit(_, apdu) => out.extend(apdu),
            Self::Changes(_, readers) => {
                for (reader, state) in readers {
                    out.extend(state.to_le_bytes());
                    out.extend(reader.as_bytes());
                    out.push(0);
                }
            }
            _ => {}
        }
        out
    }

    /// Parses a frame's body.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let (&kind, mut rest) = body.split_first()?;
        let rest = &mut rest;
        let request = match kind {
            0 => Self::Establish,
            1 => Self::ListReaders,
            2 => {
                let (share, protocols) = (number(rest)?, number(rest)?);
                Self::Connect(text(std::mem::take(rest))?, share, protocols)
            }
            3 => Self::Reconnect(number(rest)?, number(rest)?, number(rest)?, number(rest)?),
            4 => Self::Disconnect(number(rest)?, number(rest)?),
            5 => Self::Begin(number(rest)?),
            6 => Self::End(number(rest)?, number(rest)?),
            7 => Self::Transmit(number(rest)?, std::mem::take(rest).to_vec()),
            8 => Self::Status(number(rest)?),
            9 => {
                let milliseconds = number(rest)?;
                let mut readers = Vec::new();
                while !rest.is_empty() {
                    let state = number(rest)?;
                    let end = rest.iter().position(|byte| *byte == 0)?;
                    readers.push((text(&rest[..end])?, state));
                    *rest = &rest[end + 1..];
                }
                Self::Changes(milliseconds, readers)
            }
            10 => Self::Cancel(number(rest)?),
            _ => return None,
        };
        rest.is_empty().then_some(request)
    }
}

impl Reply {
    /// The frame's body.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.code.to_le_bytes().to_vec();
        out.extend((self.numbers.len() as u32).to_le_bytes());
        self.numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
        out.extend(&self.bytes);
        out
    }

    /// Parses a frame's body.
    pub fn decode(mut body: &[u8]) -> Option<Self> {
        let code = number(&mut body)?;
        let count = number(&mut body)?;
        let numbers = (0..count).map(|_| number(&mut body)).collect::<Option<_>>()?;
        Some(Self { code, numbers, bytes: body.to_vec() })
    }
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*number))
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// Writes a frame in one piece.
///
/// # Errors
/// The stream's.
pub fn write_frame(stream: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_le_bytes(), body].concat())
}

/// Reads a frame.
///
/// # Errors
/// The stream's; `InvalidData` for one longer than a megabyte.
pub fn read_frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > 1 << 20 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let requests = [
            Request::Establish,
            Request::ListReaders,
            Request::Connect("a reader".into(), 1, 2),
            Request::Reconnect(1, 2, 3, 4),
            Request::Disconnect(1, 2),
            Request::Begin(7),
            Request::End(7, 0),
            Request::Transmit(7, vec![0, 0xa4, 4, 0]),
            Request::Status(7),
            Request::Changes(u32::MAX, vec![("a".into(), 1), ("b".into(), 0x10022)]),
            Request::Cancel(3),
        ];
        for request in requests {
            assert_eq!(Request::decode(&request.encode()), Some(request.clone()));
            let cut = &request.encode()[..request.encode().len() - 1];
            assert_ne!(Request::decode(cut), Some(request));
        }
        assert_eq!(Request::decode(&[77]), None);
        let reply = Reply { code: code::RESET_CARD, numbers: vec![1, 2], bytes: vec![3] };
        assert_eq!(Reply::decode(&reply.encode()), Some(reply));
    }
}
