//! Commands and responses as a whole: part 1 §18.

use super::marshal::{Reader, Writer};
use super::session::{Authorization, Session};

/// TPM_ST_NO_SESSIONS (part 2 §6.9).
const NO_SESSIONS: u16 = 0x8001;
/// TPM_ST_SESSIONS.
const SESSIONS: u16 = 0x8002;
/// TPM_RS_PW (part 2 §7.4).
const PASSWORD: u32 = 0x4000_0009;

/// A command.
#[derive(Clone)]
pub struct Command {
    /// As the standard writes it: `TPM2_Load`.
    pub title: &'static str,
    /// TPM_CC.
    pub code: u32,
    /// The handle that it is about, if any.
    pub handle: Option<u32>,
    /// The parameters.
    pub parameters: Writer,
}

impl Command {
    /// Without parameters yet.
    pub fn new(title: &'static str, code: u32, handle: Option<u32>) -> Self {
        Self { title, code, handle, parameters: Writer::default() }
    }

    /// With these parameters.
    pub fn with(self, write: impl FnOnce(Writer) -> Writer) -> Self {
        Self { parameters: write(self.parameters), ..self }
    }

    fn framed(&self, tag: u16, authorization: Option<&[u8]>) -> Vec<u8> {
        let mut body = Writer::default();
        if let Some(handle) = self.handle {
            body = body.u32(handle);
        }
        if let Some(area) = authorization {
            body = body.u32(u32::try_from(area.len()).unwrap_or(u32::MAX)).bytes(area);
        }
        let body = body.bytes(&self.parameters.0).0;
        let size = u32::try_from(10 + body.len()).unwrap_or(u32::MAX);
        Writer::default().u16(tag).u32(size).u32(self.code).bytes(&body).0
    }

    /// The bytes of the command without an authorization.
    pub fn plain(&self) -> Vec<u8> {
        self.framed(NO_SESSIONS, None)
    }

    /// The bytes of the command, authorised by the empty password, which is no secret.
    pub fn by_empty_password(&self) -> Vec<u8> {
        self.framed(SESSIONS, Some(&Writer::default().u32(PASSWORD).sized(&[]).u8(0).sized(&[]).0))
    }

    /// The bytes of the command, authorised by a session, its first parameter encrypted. `name` is its object's.
    pub fn by_session(mut self, session: &Session, by: &Authorization, name: &[u8]) -> Option<Vec<u8>> {
        session.encrypt(by, &mut self.parameters.0)?;
        let area = session.authorize(by, self.code, &[name], &self.parameters.0)?;
        Some(self.framed(SESSIONS, Some(&area)))
    }
}

/// TPM_RC of a response that can be one.
pub fn response_code(response: &[u8]) -> Option<u32> {
    let mut reader = Reader(response);
    let (tag, size, code) = (reader.u16()?, reader.u32()?, reader.u32()?);
    let right = usize::try_from(size) == Ok(response.len());
    match (tag, code) {
        (NO_SESSIONS | SESSIONS, 0) => right.then_some(code),
        // TPM_ST_RSP_COMMAND, by which a TPM 1.2 refuses.
        (NO_SESSIONS | 0x00c4, _) => (right && response.len() == 10).then_some(code),
        _ => None,
    }
}

/// The parts of a response to a command that succeeded.
pub struct Response<'a> {
    /// The handle, where the command gives one.
    pub handle: Option<u32>,
    /// The parameters.
    pub parameters: &'a [u8],
    /// The authorization area, empty without sessions.
    pub authorization: &'a [u8],
}

impl<'a> Response<'a> {
    /// Takes it apart.
    pub fn parse(response: &'a [u8], gives_handle: bool, sessions: bool) -> Option<Self> {
        let mut reader = Reader(response);
        let tag = reader.u16()?;
        reader.bytes(8)?;
        let handle = if gives_handle { Some(reader.u32()?) } else { None };
        if tag != if sessions { SESSIONS } else { NO_SESSIONS } {
            return None;
        }
        if !sessions {
            return Some(Self { handle, parameters: reader.0, authorization: &[] });
        }
        let size = reader.u32()?.try_into().ok()?;
        let parameters = reader.bytes(size)?;
        Some(Self { handle, parameters, authorization: reader.0 })
    }
}
