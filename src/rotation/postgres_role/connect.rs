//! Connections to the server: over TLS that verifies it, or on this machine.

use super::Answer;
use crate::config::HookSettings;
use crate::error::{Error, Kind, Result, printable};
use crate::secret::Secret;
use crate::store::postgres::tls::{SYSTEM_CA, verifying};
use std::time::Duration;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use zeroize::Zeroizing;

/// A role with its password.
pub(super) struct Login {
    pub(super) role: String,
    pub(super) password: Zeroizing<String>,
}

/// The server of a hook.
pub(super) struct Server {
    name: String,
    config: Config,
    /// Of the user in `url`.
    password: Option<Secret>,
    tls: Option<MakeRustlsConnect>,
    timeout: Duration,
}

/// Why a connection or a statement failed.
enum Failure {
    /// The password is not the role's, in the server's words.
    Password(String),
    /// Anything else.
    Other(Error),
}

impl Server {
    pub(super) fn new(name: &str, settings: &HookSettings, password: Option<Secret>) -> Result<Self> {
        let wrong = |message: String| {
            Error::new(Kind::Usage, format!("use the hook {name}"), message)
                .with_hint("`url` is postgresql://HOST/DATABASE, or postgresql://USER@HOST/DATABASE")
        };
        let url = settings.url.as_deref().unwrap_or_default();
        let mut config: Config = url.parse().map_err(|_| wrong("`url` cannot be read".into()))?;
        if config.get_password().is_some() || url.contains("sslmode") {
            return Err(wrong("`url` holds no password and no sslmode".into()));
        }
        let local = config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(host) => matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1"),
        });
        let tls = match (&settings.ca, local) {
            (None, true) => None,
            (ca, _) => Some(verifying(ca.as_deref().unwrap_or(SYSTEM_CA.as_ref())).map_err(wrong)?),
        };
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        config.connect_timeout(settings.timeout()).application_name("strongroom");
        Ok(Self { name: name.into(), config, password, tls, timeout: settings.timeout() })
    }

    /// Whether roles change their own passwords.
    pub(super) fn is_self_service(&self) -> bool {
        self.config.get_user().is_none()
    }

    /// Whether the server lets a role in with this password, and not with any.
    pub(super) fn accepts(&self, login: &Login) -> Result<bool> {
        if !self.lets_in(login)? {
            return Ok(false);
        }
        let random = Secret::random_text(32)?;
        let random = Zeroizing::new(String::from_utf8_lossy(random.expose()).into_owned());
        match self.lets_in(&Login { role: login.role.clone(), password: random })? {
            false => Ok(true),
            true => Err(self
                .failed("probe", "the server lets the role in with any password")
                .with_hint("have pg_hba.conf ask for scram-sha-256 on the way that the hook takes")),
        }
    }

    fn lets_in(&self, login: &Login) -> Result<bool> {
        match self.run("probe", &self.login(&login.role, Some(login.password.as_bytes())), None) {
            Ok(()) => Ok(true),
            Err(Failure::Password(_)) => Ok(false),
            Err(Failure::Other(error)) => Err(error),
        }
    }

    /// Replaces a role's password by one with this verifier, or takes it away.
    pub(super) fn change(&self, role: &str, verifier: Option<&str>, old: Option<&Login>) -> Result<Answer> {
        let quoted = format!("\"{}\"", role.replace('"', "\"\""));
        // A verifier holds letters, digits and $:+/= alone.
        let password = verifier.map_or("NULL".to_owned(), |verifier| format!("'{verifier}'"));
        let sql = format!("ALTER ROLE {quoted} PASSWORD {password}");
        let config = match (self.config.get_user(), old) {
            (Some(user), _) => self.login(user, self.password.as_ref().map(Secret::expose)),
            (None, Some(old)) => self.login(&old.role, Some(old.password.as_bytes())),
            (None, None) => return Err(self.failed("set", "no password is known that the server accepts")),
        };
        // The server judges no new password by its verifier: whatever it says is about the way there.
        match self.run("set", &config, Some(&sql)) {
            Ok(()) => Ok(Answer::Done),
            Err(Failure::Password(why)) => Err(self.failed("set", why).with_hint(
                "the role's password was changed by somebody else: set it back, or name a user in the hook's `url`",
            )),
            Err(Failure::Other(error)) => Err(error),
        }
    }

    fn login(&self, user: &str, password: Option<&[u8]>) -> Config {
        let mut config = self.config.clone();
        config.user(user);
        if let Some(password) = password {
            config.password(password);
        }
        config
    }

    fn failed(&self, step: &str, message: impl Into<String>) -> Error {
        Error::new(Kind::Io, format!("{step} with the hook {}", self.name), message)
    }

    /// Connects, runs a statement if there is one, and hangs up; all within the hook's time.
    fn run(&self, step: &str, config: &Config, sql: Option<&str>) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure::Other(self.failed(step, e.to_string())))?;
        let work = async {
            let client = self.connect(config).await?;
            match sql {
                Some(sql) => client.batch_execute(sql).await,
                None => Ok(()),
            }
        };
        let done = runtime.block_on(async { tokio::time::timeout(self.timeout, work).await });
        match done {
            Err(_) => {
                let message = format!("the server did not answer within {} s", self.timeout.as_secs());
                Err(Failure::Other(self.failed(step, message)))
            }
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.understood(step, &error)),
        }
    }

    async fn connect(&self, config: &Config) -> Result<Client, tokio_postgres::Error> {
        match &self.tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                tokio::spawn(connection);
                Ok(client)
            }
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                tokio::spawn(connection);
                Ok(client)
            }
        }
    }

    fn understood(&self, step: &str, error: &tokio_postgres::Error) -> Failure {
        match error.as_db_error() {
            Some(db) if *db.code() == SqlState::INVALID_PASSWORD => {
                Failure::Password(printable(db.message()))
            }
            Some(db) => Failure::Other(self.failed(step, printable(db.message()))),
            None => {
                let mut message = error.to_string();
                let mut cause = std::error::Error::source(error);
                while let Some(inner) = cause {
                    message = format!("{message}: {inner}");
                    cause = inner.source();
                }
                Failure::Other(self.failed(step, printable(&message)))
            }
        }
    }
}
