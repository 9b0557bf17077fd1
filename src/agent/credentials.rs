//! `LoadCredential=ID:/run/strongroom/credentials.sock` in an unmodified unit.
//!
//! systemd connects from an abstract socket whose name says which unit wants which credential, sends nothing, and reads to
//! the end. Anybody can bind such a name, so only root is believed, and only root can reach the socket. There is no way to
//! say no: an empty answer starts the unit with an empty credential, and one that is cut off with a part of it. Only an
//! answer that is too long makes the unit fail, so that is how a credential is denied. No connection is closed without an
//! answer: not when the agent stops, and, with the service manager's help, not when it is killed.

use super::Agent;
use crate::agent::access_log;
use crate::agent::identity::ClientIdentity;
use crate::agent::identity::peer::Peer;
use crate::agent::ledger_queries::Permit;
use crate::agent::open_token::Requester;
use crate::agent::sd_notify::Stored;
use crate::error::{Error, Kind, Result};
use crate::secret::MAX_TOKEN_BYTES;
use crate::vault::{Denial, OpenOutcome, TokenRef};
use std::os::linux::net::SocketAddrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The most connections at once: a few units that start together.
const AT_ONCE: usize = 1024;

/// What has not been opened so long after the agent was told to stop is refused.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// What a unit asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialRequest {
    /// The unit.
    pub unit: String,
    /// `LoadCredential=`'s ID.
    pub id: String,
}

impl CredentialRequest {
    /// From the abstract name of the other end, without its leading NUL: hexadecimal digits, `/unit/`, unit, `/`, ID.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(name).ok()?;
        let (random, rest) = text.split_once("/unit/")?;
        let (unit, id) = rest.split_once('/')?;
        let hex =
            !random.is_empty() && random.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let plain =
            |text: &str| !text.is_empty() && !text.contains('/') && !text.chars().any(char::is_control);
        (hex && plain(unit) && plain(id)).then(|| Self { unit: unit.into(), id: id.into() })
    }
}

/// Refuses what an agent before this one left unanswered: nobody knows how much of an answer was sent.
pub async fn refuse_unanswered(connections: Vec<(Stored, std::os::unix::net::UnixStream)>) {
    for (stored, stream) in connections {
        let taken = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
        if let Ok(mut stream) = taken {
            log::warn!("a credential is refused: the agent was killed while it was asked for it");
            tokio::spawn(async move {
                // The service manager still holds the socket: closing it here would end nothing.
                let _ = refuse(&mut stream).await;
                let _ = stream.shutdown().await;
                drop(stored);
            });
        }
    }
}

/// Hands out credentials until told to stop. Where the agent `ends`, those that are not opened in time are refused.
pub async fn serve(
    agent: Arc<Agent>,
    socket: UnixListener,
    mut stop: watch::Receiver<bool>,
    ends: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = stop.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            taken = socket.accept(), if connections.len() < AT_ONCE => match taken {
                Ok((stream, _)) => {
                    connections.spawn(hand_out(Arc::clone(&agent), stream, ends.clone()));
                }
                Err(error) => {
                    log::warn!("a connection for a credential could not be taken: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn hand_out(agent: Arc<Agent>, mut stream: UnixStream, ends: watch::Receiver<bool>) {
    let stored = Stored::new(&stream);
    let answer = tokio::select! {
        answer = agent.credential(&stream) => answer,
        () = last_moment(ends) => Err(Error::new(Kind::Cancelled, "hand out a credential", "the agent stops")),
    };
    // There is no limit of time: what is cut off would be taken for the whole.
    let sent = match &answer {
        Ok(token) => stream.write_all(token.expose()).await,
        Err(error) => {
            log::warn!("{error}");
            refuse(&mut stream).await
        }
    };
    match sent {
        Ok(()) => drop(stream.shutdown().await),
        // The service manager has gone: there is nobody left to take it for whole.
        Err(error) => log::debug!("a credential was not taken: {error}"),
    }
    drop(stored);
}

async fn last_moment(mut ends: watch::Receiver<bool>) {
    while !*ends.borrow_and_update() && ends.changed().await.is_ok() {}
    tokio::time::sleep(LAST_MOMENT).await;
}

/// One byte more than a credential may have.
async fn refuse(stream: &mut UnixStream) -> std::io::Result<()> {
    let page = [b'!'; 4096];
    for _ in 0..MAX_TOKEN_BYTES / page.len() {
        stream.write_all(&page).await?;
    }
    stream.write_all(b"!").await
}

impl Agent {
    async fn credential(&self, stream: &UnixStream) -> Result<crate::Secret> {
        let operation = "hand out a credential";
        let peer = Peer::of(stream, &self.pidfds)?;
        let caller = ClientIdentity { peer: Arc::new(peer), digest: None };
        if caller.peer.uid != 0 {
            return Err(self.note_denial(&caller, "", "hand out a credential to anybody but root"));
        }
        let address = stream.peer_addr().map_err(|e| Error::new(Kind::Io, operation, e.to_string()))?;
        let address: std::os::unix::net::SocketAddr = address.into();
        let asked = address.as_abstract_name().and_then(CredentialRequest::parse);
        let asked =
            asked.ok_or_else(|| self.note_denial(&caller, "", "hand out a credential to what is no unit"))?;
        let locks = self.cache.locks();
        let (opening, name) = self.open_credential(&asked).await;
        self.count(&opening);
        let mut access = self.access(&caller, &name, &opening);
        access.exe = format!("credential {} of {}", asked.id, asked.unit);
        access_log::announce(&access, Some(&asked.unit));
        self.access_log.record(access, opening.denial.is_some()).await;
        self.check_unlocked(locks, operation)?;
        if opening.token.is_ok() {
            self.metrics.credentials.add();
        }
        opening.token
    }

    async fn open_credential(&self, asked: &CredentialRequest) -> (OpenOutcome, String) {
        let deadline = Instant::now() + self.deadline;
        let failed = |error| OpenOutcome::unopened(0, Err(error));
        match self.look_up_credential(asked, deadline).await {
            Ok(Some((wanted, Ok(permit)))) => {
                let unit = Requester::Unit(asked);
                let opening = match self.confirm(&unit, &permit, &wanted, deadline).await {
                    Ok(deadline) => self.open_granted(&unit, &permit.token, &wanted, deadline).await,
                    Err(refused) => refused,
                };
                (opening, wanted.name.to_string())
            }
            Ok(Some((wanted, Err(error)))) => (failed(error), wanted.name.to_string()),
            Ok(None) => {
                let error = crate::agent::authz::denied(operation(asked));
                (OpenOutcome::denied(Denial::NoGrant, error), String::new())
            }
            Err(error) => (failed(error), String::new()),
        }
    }

    /// What the unit may have by this id now; `None` when nothing is granted to it.
    ///
    /// # Errors
    /// As [`LedgerQueries::credential`](crate::agent::ledger_queries::LedgerQueries::credential).
    pub async fn credential_permit(
        &self,
        asked: &CredentialRequest,
        deadline: Instant,
    ) -> Result<Option<Permit>> {
        let now = self.look_up_credential(asked, deadline).await?;
        now.map(|(_, permit)| permit).transpose()
    }

    async fn look_up_credential(
        &self,
        asked: &CredentialRequest,
        deadline: Instant,
    ) -> Result<Option<(TokenRef, Result<Permit>)>> {
        let (unit, id) = (asked.unit.clone(), asked.id.clone());
        let looked = self.reader.first().call(deadline, move |reader| reader.credential(&unit, &id)).await;
        looked.map_err(|trouble| trouble.into_error(&operation(asked), "the store"))?
    }
}

fn operation(asked: &CredentialRequest) -> String {
    format!("hand out the credential {} to {}", asked.id, asked.unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_unit_and_id() {
        let asked = CredentialRequest::parse(b"16e1aa2bf90a/unit/web@1.service/db-password").unwrap();
        assert_eq!((asked.unit.as_str(), asked.id.as_str()), ("web@1.service", "db-password"));
    }

    #[test]
    fn anything_else_is_no_unit() {
        for name in [
            &b""[..],
            b"/unit/web.service/id",
            b"XY/unit/web.service/id",
            b"a/unit/web.service",
            b"a/unit//id",
            b"a/unit/web.service/",
            b"a/unit/web.service/a/b",
            b"a/unit/web.service/a\0b",
            b"a/system/web.service/id",
            b"a/unit/\xff/id",
        ] {
            assert_eq!(CredentialRequest::parse(name), None, "{name:?}");
        }
    }
}
