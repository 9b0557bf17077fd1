//! Authorization as a part of a route's type.
//!
//! The router's state is a [`Gate`], which holds the agent and lets nobody at it. A handler reaches the agent only by
//! taking an argument `Authorized<R>`, and there is none before the rule `R` was checked: [`Owner`], [`Granted`] with a
//! permission, or [`Anyone`]. So a handler that forgets to check has nothing to work with and does not compile, and its
//! signature says who may call it. Reading values and listing are authorized token by token, on the thread that looks them
//! up; for them there is [`PerToken`], whose only methods do that.
//!
//! ```
//! use strongroom::agent::authorized::{Authorized, Owner};
//!
//! async fn checks(allowed: Authorized<Owner>) {
//!     let _agent = allowed.agent();
//! }
//! ```
//!
//! ```compile_fail,E0616
//! use axum::extract::State;
//! use strongroom::agent::authorized::Gate;
//!
//! async fn forgets(State(gate): State<Gate>) {
//!     let _agent = gate.0;
//! }
//! ```

use super::params::token_name;
use super::response::Failure;
use crate::agent::Agent;
use crate::agent::identity::ClientIdentity;
use crate::agent::ledger_queries::LedgerQueries;
use crate::client::GUARD;
use crate::error::{Error, Kind, Result};
use crate::ledger::Name;
use crate::replica::ListFilter;
use crate::vault::{Op, OpenedToken, TokenRef, Vault, VersionView};
use axum::body::Body;
use axum::extract::FromRequestParts;
use http::request::Parts;
use hyper::http;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;
use zeroize::Zeroizing;

/// The router's state: the agent, out of reach of handlers.
#[derive(Clone)]
pub struct Gate(Arc<Agent>);

impl Gate {
    /// Around an agent.
    pub fn new(agent: Arc<Agent>) -> Self {
        Self(agent)
    }

    /// A body, which tells nothing of the agent.
    ///
    /// # Errors
    /// As [`Agent::read_body`].
    pub async fn read_body(&self, body: Body, most: usize, operation: &str) -> Result<Zeroizing<Vec<u8>>> {
        self.0.read_body(body, most, operation).await
    }

    fn client(&self, parts: &Parts, guarded: bool) -> Result<ClientIdentity> {
        let says_so = parts.headers.get(GUARD).is_some_and(|value| value == "1");
        if guarded && !says_so {
            return Err(Error::new(
                Kind::Usage,
                "understand the request",
                "it has no header `Strongroom: 1`",
            )
            .with_hint(
                "add the header; it tells requests that are meant for the agent from forwarded ones",
            ));
        }
        let client = parts.extensions.get::<ClientIdentity>().cloned();
        client.ok_or_else(|| crate::agent::authz::denied("answer"))
    }
}

/// A rule about who may call a route.
pub trait Rule: Sized + Send + Sync {
    /// Whether the request must say that it is meant for an agent.
    const GUARDED: bool = true;

    /// Checks it. An error is the answer; what is denied is recorded.
    fn check(
        agent: &Agent,
        client: &ClientIdentity,
        parts: &mut Parts,
    ) -> impl Future<Output = Result<Self>> + Send;
}

/// The agent, in the hands of a handler whose rule was checked.
pub struct Authorized<R> {
    agent: Arc<Agent>,
    client: ClientIdentity,
    rule: R,
}

impl<R: Rule> FromRequestParts<Gate> for Authorized<R> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gate: &Gate) -> Result<Self, Failure> {
        let client = gate.client(parts, R::GUARDED)?;
        let rule = R::check(&gate.0, &client, parts).await?;
        Ok(Self { agent: Arc::clone(&gate.0), client, rule })
    }
}

impl<R: Rule> Authorized<R> {
    /// The agent.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The client.
    pub fn client(&self) -> &ClientIdentity {
        &self.client
    }

    /// Whether the client is the agent's owner.
    pub fn is_owner(&self) -> bool {
        self.agent.owner.is_owner(&self.client.peer)
    }

    /// As [`Agent::read`].
    ///
    /// # Errors
    /// The job's.
    pub async fn read<T: Send + 'static>(
        &self,
        operation: &str,
        job: impl FnOnce(&mut LedgerQueries) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.agent.read(self.is_owner(), operation, job).await
    }

    /// As [`Agent::write`].
    ///
    /// # Errors
    /// The job's.
    pub async fn write<T: Send + 'static>(
        &self,
        operation: &str,
        job: impl FnOnce(&mut Vault) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.agent.write(self.is_owner(), operation, job).await
    }
}

/// Anybody who reaches the socket.
pub struct Anyone;

impl Rule for Anyone {
    const GUARDED: bool = false;

    async fn check(_: &Agent, _: &ClientIdentity, _: &mut Parts) -> Result<Self> {
        Ok(Self)
    }
}

/// The agent's owner.
pub struct Owner;

impl Rule for Owner {
    async fn check(agent: &Agent, client: &ClientIdentity, parts: &mut Parts) -> Result<Self> {
        if agent.owner.is_owner(&client.peer) {
            return Ok(Self);
        }
        let denied = agent.note_denial(client, parts.uri.path(), "answer");
        Err(Error::new(denied.kind(), "answer", "only the agent's owner may ask for that")
            .with_hint("the owner of the machine's agent is root, that of another the user who runs it"))
    }
}

/// An operation that is granted on a token.
pub trait Permission: Send + Sync {
    /// The operation.
    const OP: Op;
    /// What it is called in errors.
    fn operation(name: &Name) -> String;
}

/// Seeing that a token is there.
pub struct ToList;
/// Storing a version.
pub struct ToPut;
/// Suspending, resuming, revoking.
pub struct ToSetState;

impl Permission for ToList {
    const OP: Op = Op::List;
    fn operation(name: &Name) -> String {
        format!("show {name}")
    }
}

impl Permission for ToPut {
    const OP: Op = Op::Put;
    fn operation(name: &Name) -> String {
        format!("put {name}")
    }
}

impl Permission for ToSetState {
    const OP: Op = Op::State;
    fn operation(name: &Name) -> String {
        format!("change the state of {name}")
    }
}

/// The owner, and clients that were granted the operation on the token that the path names.
pub struct Granted<P> {
    name: Name,
    permission: PhantomData<P>,
}

impl<P: Permission> Rule for Granted<P> {
    async fn check(agent: &Agent, client: &ClientIdentity, parts: &mut Parts) -> Result<Self> {
        let name = token_name(parts).await?;
        agent.check(client, &name, P::OP, &P::operation(&name)).await?;
        Ok(Self { name, permission: PhantomData })
    }
}

impl<P: Permission> Authorized<Granted<P>> {
    /// The token's name.
    pub fn name(&self) -> &Name {
        &self.rule.name
    }

    /// An error unless the client may do this with the token as well.
    ///
    /// # Errors
    /// `Refused`.
    pub async fn also(&self, op: Op, operation: &str) -> Result<()> {
        self.agent.check(&self.client, &self.rule.name, op, operation).await.map(drop)
    }

    /// The body.
    ///
    /// # Errors
    /// `Usage`.
    pub async fn read_body(&self, body: Body, most: usize, operation: &str) -> Result<Zeroizing<Vec<u8>>> {
        self.agent.read_body(body, most, operation).await
    }

    /// Makes a change. The body took its time, and what was granted may not be any more: so the rule is checked again, and
    /// the change is made to that token and no other that gets its name meanwhile. With `also`, that has to be granted, too.
    ///
    /// # Errors
    /// `Refused`; `Conflict`; the change's.
    pub async fn change<T: Send + 'static>(
        &self,
        operation: &str,
        also: Option<(Op, &str)>,
        job: impl FnOnce(&mut Vault) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let name = self.rule.name.clone();
        let token = self.agent.check(&self.client, &name, P::OP, &P::operation(&name)).await?;
        if let Some((op, operation)) = also
            && self.agent.check(&self.client, &name, op, operation).await? != token
        {
            return Err(Error::new(Kind::Conflict, operation, "the name stands for another token by now"));
        }
        self.write(operation, move |vault| vault.with_token(&name, token, job)).await
    }
}

/// A client whose rights are checked for each token by itself, where the token is looked up.
pub struct PerToken {
    agent: Arc<Agent>,
    client: ClientIdentity,
}

impl FromRequestParts<Gate> for PerToken {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gate: &Gate) -> Result<Self, Failure> {
        Ok(Self { agent: Arc::clone(&gate.0), client: gate.client(parts, true)? })
    }
}

impl PerToken {
    /// The agent and the client, for what goes on after the answer has begun, and judges what the client may see each time.
    pub(super) fn into_parts(self) -> (Arc<Agent>, ClientIdentity) {
        (self.agent, self.client)
    }

    /// Opens a token that the client was granted.
    ///
    /// # Errors
    /// As [`Agent::open`].
    pub async fn open(&self, wanted: &TokenRef) -> Result<OpenedToken> {
        self.agent.open(&self.client, wanted).await
    }

    /// The tokens that the client may see, and whether there may be more.
    ///
    /// # Errors
    /// The replica's.
    pub async fn list(&self, filter: ListFilter, limit: usize) -> Result<(Vec<VersionView>, bool)> {
        let client = self.agent.with_digest(&self.client, Instant::now() + self.agent.deadline).await;
        let first = self.agent.owner.is_owner(&client.peer);
        self.agent.read(first, "list tokens", move |queries| queries.page(&client, &filter, limit)).await
    }
}
