//! One connection to the server, made again when it breaks, and what runs on it.

use super::error;
use super::row::Fields;
use super::uri::Server;
use crate::error::{Error, Kind, Result, printable};
use crate::store::rules;
use postgres::types::{ToSql, Type};
use postgres::{Client, NoTls, Row};
use rand_core::{OsRng, RngCore};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often what is transient is tried again.
const TRIES: u32 = 9;

/// A statement's parameter.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// Why work on a connection failed.
pub(super) enum Failure {
    /// The server said so, or went away.
    Server(postgres::Error),
    /// Anything else.
    Told(Error),
}

impl From<postgres::Error> for Failure {
    fn from(error: postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

/// The connection of one store.
pub(super) struct Connection {
    server: Server,
    client: Option<Client>,
    /// What the server said beside its answers since [`Session::forget_warnings`].
    warnings: Arc<Mutex<Vec<String>>>,
}

impl Connection {
    /// Connects, once.
    pub(super) fn open(mut server: Server, to: &str) -> Result<Self> {
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&warnings);
        server.config.notice_callback(move |notice| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(printable(notice.message()));
        });
        let mut connection = Self { server, client: None, warnings };
        let connected = connection.client().map(drop);
        connected.map_err(|e| error::decode(to, &connection.server.location, &e))?;
        Ok(connection)
    }

    pub(super) fn location(&self) -> &str {
        &self.server.location
    }

    fn client(&mut self) -> Result<&mut Client, postgres::Error> {
        if let Some(client) = self.client.take_if(|client| !client.is_closed()) {
            return Ok(self.client.insert(client));
        }
        let config = &self.server.config;
        let client = match &self.server.tls {
            Some(tls) => config.connect(tls.clone()),
            None => config.connect(NoTls),
        };
        Ok(self.client.insert(client?))
    }

    /// Does `work`, again if it met another's change or a broken connection. It must bear being repeated. `to` completes
    /// "cannot …".
    pub(super) fn run<T>(
        &mut self,
        to: &'static str,
        mut work: impl FnMut(&mut Session<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        let mut attempt = 0;
        loop {
            let answer = match self.once(to, &mut work) {
                Ok(done) => return Ok(done),
                Err(Failure::Told(error)) => return Err(error),
                Err(Failure::Server(answer)) => answer,
            };
            if error::is_broken(&answer) {
                self.client = None;
            }
            if !error::is_transient(&answer) || attempt == TRIES {
                return Err(error::decode(to, self.location(), &answer));
            }
            pause(attempt);
            attempt += 1;
        }
    }

    fn once<T>(
        &mut self,
        to: &'static str,
        work: &mut impl FnMut(&mut Session<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (location, warnings) = (self.server.location.clone(), Arc::clone(&self.warnings));
        let client = self.client()?;
        let mut session = Session { client, warnings, at: Place { to, location: &location }, open: false };
        let done = work(&mut session);
        if done.is_err() && session.open {
            // If it fails too, the connection is gone, and the server rolls back by itself.
            let _ = session.client.batch_execute("ROLLBACK");
        }
        done
    }
}

/// Waits a while that grows with the attempts, and differs between those who collided.
pub(super) fn pause(attempt: u32) {
    let longest = 5_u64 << attempt.min(9);
    let mut random = [0; 8];
    let random = OsRng.try_fill_bytes(&mut random).map_or(0, |()| u64::from_le_bytes(random));
    std::thread::sleep(Duration::from_millis(longest / 2 + random % (longest / 2 + 1)));
}

/// What is done where, for errors.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Completes "cannot …".
    pub(super) to: &'static str,
    pub(super) location: &'a str,
}

impl Place<'_> {
    /// As [`rules::tampered`].
    pub(super) fn tampered(&self, table: &str, row: &str, what: &str) -> Error {
        rules::tampered(self.to, self.location, table, row, what)
    }

    /// A number in the database's range.
    pub(super) fn integer(&self, n: u64) -> Result<i64> {
        rules::integer(self.to, self.location, n)
    }
}

/// Work on a connection that stands.
pub(super) struct Session<'a> {
    client: &'a mut Client,
    warnings: Arc<Mutex<Vec<String>>>,
    pub(super) at: Place<'a>,
    /// Whether a transaction was begun.
    open: bool,
}

impl<'a> Session<'a> {
    /// Begins a transaction that reads one snapshot.
    pub(super) fn begin_reading(&mut self) -> Result<(), Failure> {
        self.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    }

    /// Begins a transaction that changes rows which it has locked before it reads them.
    pub(super) fn begin_writing(&mut self) -> Result<(), Failure> {
        self.begin("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL client_min_messages = warning")
    }

    fn begin(&mut self, sql: &str) -> Result<(), Failure> {
        self.open = true;
        Ok(self.client.batch_execute(sql)?)
    }

    /// Commits. Whether that is lasting, [`Session::expect_no_warning`] tells.
    pub(super) fn commit(&mut self) -> Result<(), Failure> {
        self.client.batch_execute("COMMIT")?;
        self.open = false;
        Ok(())
    }

    /// Runs statements without parameters.
    pub(super) fn batch(&mut self, sql: &str) -> Result<(), Failure> {
        Ok(self.client.batch_execute(sql)?)
    }

    /// The rows of a query, in one round trip and without a prepared statement: these get lost in connection pools.
    pub(super) fn rows(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        Ok(self.client.query_typed(sql, params)?)
    }

    /// Runs a statement. Returns the number of changed rows.
    pub(super) fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, Failure> {
        Ok(self.client.execute_typed(sql, params)?)
    }

    /// The first row of a query on `table`. The query's first column names the row.
    pub(super) fn first<T>(
        &mut self,
        table: &'static str,
        sql: &str,
        params: &[Param<'_>],
        read: impl FnOnce(&Fields<'_>) -> Result<T>,
    ) -> Result<Option<T>, Failure> {
        let rows = self.rows(sql, params)?;
        Ok(rows.first().map(|row| read(&Fields { at: self.at, table, row })).transpose()?)
    }

    /// Visits the rows of a query on `table` in a transaction that was begun, some at a time, until `visit` returns false.
    /// The query has no parameters; its first column names the row.
    pub(super) fn scan(
        &mut self,
        table: &'static str,
        sql: &str,
        mut visit: impl FnMut(&mut Self, &Fields<'_>) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let cursor = format!("page_of_{table}");
        self.batch(&format!("DECLARE {cursor} NO SCROLL CURSOR FOR {sql}"))?;
        'pages: loop {
            let rows = self.rows(&format!("FETCH 500 FROM {cursor}"), &[])?;
            for row in &rows {
                if !visit(self, &Fields { at: self.at, table, row })? {
                    break 'pages;
                }
            }
            if rows.is_empty() {
                break;
            }
        }
        self.batch(&format!("CLOSE {cursor}"))
    }

    /// Forgets what the server said until now.
    pub(super) fn forget_warnings(&self) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// An error if the server warned since [`Session::forget_warnings`]: a commit that a standby has not confirmed is said so,
    /// and may be lost with this server.
    pub(super) fn expect_no_warning(&self) -> Result<(), Failure> {
        let warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner).join("; ");
        if warnings.is_empty() {
            return Ok(());
        }
        let message =
            format!("the database took it with a warning, so that it may still be lost: {warnings}");
        Err(Error::new(Kind::Store, self.at.to, message)
            .with_target(self.at.location)
            .with_hint("wait until a standby has caught up (pg_stat_replication), then see with `strongroom log` whether it is there")
            .into())
    }
}
