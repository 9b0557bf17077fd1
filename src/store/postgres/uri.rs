//! `postgres://USER@HOST:PORT/DATABASE?sslmode=…`: which server, and how it is reached. A password is never in it.

use super::{password, tls};
use crate::error::{Error, Kind, Result, printable};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Completes "cannot …".
const OPEN: &str = "open the store";

/// Where Debian's PostgreSQL listens.
const DEFAULT_SOCKET: &str = "/var/run/postgresql";
const DEFAULT_PORT: u16 = 5432;

/// How long a server may take to let us in, unless `connect_timeout` says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may be silent while it owes an answer to what TCP sent it.
const SILENCE: Duration = Duration::from_secs(30);

/// How to reach a server.
pub(super) struct Server {
    pub(super) config: postgres::Config,
    pub(super) tls: Option<MakeRustlsConnect>,
    /// Hosts, ports and database: the same for everybody who means this store.
    pub(super) location: String,
}

/// What of a URI this program reads itself.
#[derive(Default)]
struct Options {
    sslmode: Option<String>,
    sslrootcert: Option<PathBuf>,
    password_source: Option<PathBuf>,
    connect_timeout: bool,
    /// For the library.
    rest: Vec<String>,
}

/// Whether a URL names a store of this kind.
pub(crate) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// The URL without a password and without options, for errors.
pub(crate) fn shown(url: &str) -> String {
    let plain = url.split('?').next().unwrap_or(url);
    let Some((scheme, rest)) = plain.split_once("://") else { return printable(plain) };
    let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
    let user = login.and_then(|login| login.split(':').next()).map(|user| format!("{user}@"));
    printable(&format!("{scheme}://{}{place}", user.unwrap_or_default()))
}

/// Where the store at `url` is.
pub(crate) fn location(url: &str) -> Result<String> {
    let (config, _) = parse(url)?;
    locate(&config).map_err(|message| unusable(url, message))
}

/// The server of a URL, with its password and its certificates.
pub(super) fn server(url: &str) -> Result<Server> {
    let (mut config, options) = parse(url)?;
    let location = locate(&config).map_err(|message| unusable(url, message))?;
    let tls = secured(&config, &options).map_err(|message| unusable(url, message))?;
    config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
    if let Some(password) = password::find(&config, options.password_source.as_deref())? {
        config.password(password.as_bytes());
    }
    if !options.connect_timeout {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE);
    }
    config.keepalives_idle(SILENCE).keepalives_interval(SILENCE / 6).keepalives_retries(6);
    config.application_name("strongroom");
    Ok(Server { config, tls, location })
}

fn parse(url: &str) -> Result<(postgres::Config, Options)> {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let (_, rest) = place.split_once("://").unwrap_or_default();
    if rest.rsplit_once('@').is_some_and(|(login, _)| login.contains(':')) {
        return Err(password_refused(url));
    }
    let options = options(query).map_err(|message| unusable(url, message))?;
    if options.rest.iter().any(|pair| pair.starts_with("password=")) {
        return Err(password_refused(url));
    }
    let plain = format!("{place}?{}", options.rest.join("&"));
    let config = plain.trim_end_matches('?').parse::<postgres::Config>();
    // The library's words quote nothing of the URL.
    let mut config = config.map_err(|e| unusable(url, super::error::chain_of(&e)))?;
    if config.get_hosts().is_empty() {
        config.host_path(DEFAULT_SOCKET);
    }
    Ok((config, options))
}

fn options(query: &str) -> Result<Options, String> {
    let mut options = Options::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| format!("`{}` is no text", printable(key)))?;
        match key {
            "sslmode" => options.sslmode = Some(text.into_owned()),
            "sslrootcert" => options.sslrootcert = Some(PathBuf::from(&*text)),
            "password-source" => {
                options.password_source = Some(PathBuf::from(text.strip_prefix("file:").unwrap_or(&text)));
            }
            _ => {
                options.connect_timeout |= key == "connect_timeout";
                options.rest.push(pair.to_owned());
            }
        }
    }
    Ok(options)
}

/// TLS unless the server is on this machine, or the URI says no.
fn secured(config: &postgres::Config, options: &Options) -> Result<Option<MakeRustlsConnect>, String> {
    let ca = options.sslrootcert.as_deref();
    let wanted = match options.sslmode.as_deref() {
        None => ca.is_some() || !is_local(config),
        Some("verify-full") => true,
        Some("disable") if ca.is_none() => false,
        Some("disable") => return Err("`sslrootcert` is for `sslmode=verify-full`".into()),
        Some(other) => {
            let message = "is not supported: `verify-full`, or `disable` on a network that nobody else uses";
            return Err(format!("`sslmode={}` {message}", printable(other)));
        }
    };
    wanted.then(|| tls::verifying(ca.unwrap_or(Path::new(tls::SYSTEM_CA)))).transpose()
}

fn is_local(config: &postgres::Config) -> bool {
    let loopback = |host: &str| {
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(host) => loopback(host),
    }) && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
}

fn locate(config: &postgres::Config) -> Result<String, String> {
    let Some(database) = config.get_dbname().filter(|name| !name.is_empty()) else {
        return Err("it names no database".into());
    };
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let port = |i| port(config, i);
    let hosts = config.get_hosts().iter().enumerate().map(|(i, host)| match host {
        Host::Unix(path) if path == Path::new(DEFAULT_SOCKET) && port(i) == DEFAULT_PORT => String::new(),
        Host::Unix(path) => format!("{}:{}", encoded(&path.to_string_lossy()), port(i)),
        Host::Tcp(host) if host.contains(':') => format!("[{host}]:{}", port(i)),
        Host::Tcp(host) => format!("{}:{}", host.to_lowercase(), port(i)),
    });
    let hosts: Vec<_> = hosts.collect();
    Ok(printable(&format!(
        "postgres://{}/{}",
        hosts.join(","),
        encoded(database).replace("%5F", "_").replace("%2D", "-")
    )))
}

/// The port of the host with this number.
pub(super) fn port(config: &postgres::Config, host: usize) -> u16 {
    let ports = config.get_ports();
    ports.get(host).or(ports.first()).copied().unwrap_or(DEFAULT_PORT)
}

fn unusable(url: &str, message: impl Into<String>) -> Error {
    Error::new(Kind::Usage, OPEN, message).with_target(shown(url)).with_hint(
        "a store on PostgreSQL is postgres://USER@HOST/DATABASE; docs/howto/fleet.md shows how to set one up",
    )
}

fn password_refused(url: &str) -> Error {
    Error::new(Kind::Usage, OPEN, "there is a password in the URI, where other users and the shell's history see it")
        .with_target(shown(url))
        .with_hint("put it into ~/.pgpass (HOST:PORT:DATABASE:USER:PASSWORD, mode 0600), or name a file: ?password-source=FILE; and change it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_the_same_for_all_who_mean_the_store() {
        for (url, expected) in [
            ("postgres://db.example/tokens", "postgres://db.example:5432/tokens"),
            (
                "postgresql://web1@DB.example:5432/tokens?connect_timeout=3",
                "postgres://db.example:5432/tokens",
            ),
            (
                "postgres://a:5432,b:5433/tokens?target_session_attrs=read-write",
                "postgres://a:5432,b:5433/tokens",
            ),
            ("postgres:///tokens", "postgres:///tokens"),
            ("postgres://%2Frun%2Fpg:5433/tokens", "postgres://%2Frun%2Fpg:5433/tokens"),
            ("postgres://[::1]/tokens", "postgres://[::1]:5432/tokens"),
        ] {
            assert_eq!(location(url).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn passwords_are_refused_and_not_repeated() {
        for url in [
            "postgres://web1:hunter2@db.example/tokens",
            "postgres://db.example/tokens?password=hunter2",
            "postgres://db.example/tokens?sslmode=disable&password=hunter2",
        ] {
            let error = location(url).unwrap_err();
            let said = format!("{error} {}", error.hint().unwrap());
            assert!(said.contains("pgpass") && !said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        for (url, words) in [
            ("postgres://db.example", "names no database"),
            ("postgres://db.example/tokens?sslmode=require", "`sslmode=require` is not supported"),
            ("postgres://db.example/tokens?nosuch=1", "nosuch"),
            ("postgres://db.example/tokens?sslrootcert=/nosuch", "/nosuch"),
            ("postgres://db.example/tokens?sslmode=disable&sslrootcert=/nosuch", "is for"),
        ] {
            let error = server(url).err().unwrap();
            assert_eq!(error.kind(), Kind::Usage, "{error}");
            assert!(error.message().contains(words), "{error}");
        }
    }

    #[test]
    fn tls_is_left_out_on_this_machine_alone() {
        let secured = |url: &str| {
            let (config, options) = parse(url).unwrap();
            secured(&config, &options).map(|tls| tls.is_some())
        };
        for url in [
            "postgres:///t",
            "postgres://127.0.0.1/t",
            "postgres://[::1]/t",
            "postgres://localhost/t",
            "postgres://db/t?sslmode=disable",
        ] {
            assert_eq!(secured(url), Ok(false), "{url}");
        }
        let elsewhere =
            ["postgres://db/t", "postgres://localhost,db/t", "postgres://localhost/t?hostaddr=192.0.2.1"];
        for url in elsewhere.into_iter().chain(["postgres://localhost/t?sslmode=verify-full"]) {
            // Where the system has no certificates, that is the error.
            assert_ne!(secured(url), Ok(false), "{url}");
        }
    }
}
