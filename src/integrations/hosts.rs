//! Hosts as other programs name them, and the tokens that are theirs.
//!
//! A token goes to the host it is for and to no other. So a host is believed only in one plain form, and whatever could
//! be read in two ways (userinfo, a backslash, escapes, a trailing dot, letters outside ASCII) is no host at all.

use crate::error::{Error, Kind, Result, printable};
use crate::ledger::Name;
use crate::ledger::body::State;
use crate::vault::{EffectiveState, OpenedToken, TokenBackend, TokenRef, VersionView};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;

/// The label of a token that holds the user's name which goes with it.
pub const USERNAME: &str = "username";

/// The most bytes of a host's name (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;

/// The most segments of a path that are looked at.
const MAX_DEPTH: usize = 8;

/// A host, with its port where that is not the usual one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// Whether it is reached over TLS.
    secure: bool,
    /// Lower case: `github.com`, `localhost:5000`, `[::1]:8080`.
    authority: String,
}

/// A host and a path on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The host.
    pub host: Host,
    /// The path's segments; empty also for a path that is not plain.
    pub path: Vec<String>,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "" } else { "http://" };
        write!(f, "{scheme}{}", self.authority)
    }
}

impl Location {
    /// From `HOST[:PORT][/PATH]`, after `https://`, `sparse+https://`, `http://` or nothing, which means TLS. `None` for
    /// everything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (secure, rest) = match text.split_once("://") {
            None => (true, text),
            Some(("https" | "sparse+https", rest)) => (true, rest),
            Some(("http" | "sparse+http", rest)) => (false, rest),
            Some(_) => return None,
        };
        let plain = |c: char| c.is_ascii_graphic() && !"@\\%?#\"'<>^`{|}*$&;,!()=".contains(c);
        if !rest.chars().all(plain) {
            return None;
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        Some(Self {
            host: Host { secure, authority: authority_of(authority, secure)? },
            path: segments(path),
        })
    }

    /// From the parts that a program gives one by one.
    pub fn from_parts(scheme: &str, host: &str, path: Option<&str>) -> Option<Self> {
        // A host that brings its own path, or a scheme, is none.
        if host.contains('/') || !matches!(scheme, "http" | "https") {
            return None;
        }
        let mut location = Self::parse(&format!("{scheme}://{host}"))?;
        location.path = path.map(segments).unwrap_or_default();
        Some(location)
    }

    /// `HOST/PATH`, as keys of the table of hosts are compared.
    fn key(&self, depth: usize) -> String {
        std::iter::once(self.host.to_string())
            .chain(self.path[..depth].iter().cloned())
            .collect::<Vec<_>>()
            .join("/")
    }
}

fn authority_of(text: &str, secure: bool) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (host, port) = match text.rfind(']') {
        Some(end) => (
            &text[..=end],
            text[end + 1..].strip_prefix(':').map_or((text.len() == end + 1).then_some(""), Some)?,
        ),
        None => text.split_once(':').unwrap_or((&text, "")),
    };
    // A colon with nothing behind it.
    if port.is_empty() && text.len() != host.len() {
        return None;
    }
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let sound = match address {
        Some(address) => address.parse::<Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == address),
        None => host.len() <= MAX_HOST && host.split('.').all(is_label),
    };
    let number = match port {
        "" => None,
        port => Some(port.parse::<u16>().ok().filter(|n| *n > 0 && n.to_string() == port)?),
    };
    let usual = if secure { 443 } else { 80 };
    match number.filter(|number| *number != usual) {
        _ if !sound => None,
        None => Some(host.to_owned()),
        Some(number) => Some(format!("{host}:{number}")),
    }
}

/// A label of a host's name (RFC 1123 §2.1).
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A path's segments, without `.git` at its end; none if one of them is no segment of a name.
fn segments(path: &str) -> Vec<String> {
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    let sound = parts.len() <= MAX_DEPTH && Name::parse(path).is_ok();
    if sound { parts } else { Vec::new() }
}

/// Which tokens the hosts of one protocol have.
#[derive(Debug)]
pub struct HostTable {
    protocol: &'static str,
    configured: BTreeMap<String, Name>,
}

/// A token, and what is known of it.
pub struct HostToken {
    /// Its name.
    pub name: Name,
    /// Its bytes.
    pub token: OpenedToken,
    /// Its metadata, where this user may see them.
    pub view: Option<VersionView>,
}

impl HostToken {
    /// The user's name that goes with it.
    pub fn username(&self) -> Option<&str> {
        self.view.as_ref()?.labels.get(USERNAME).map(String::as_str)
    }

    /// When it expires. Milliseconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        self.view.as_ref()?.expires
    }

    /// Its bytes as text, for protocols that know nothing else.
    ///
    /// # Errors
    /// `Usage` for bytes that are no text of one line.
    pub fn text(&self) -> Result<&str> {
        let text =
            std::str::from_utf8(self.token.expose()).ok().map(|text| text.strip_suffix('\n').unwrap_or(text));
        text.filter(|text| !text.chars().any(char::is_control)).ok_or_else(|| {
            Error::new(Kind::Usage, format!("give out {}", self.name), "it is not a text of one line")
        })
    }
}

impl HostTable {
    /// The hosts of a protocol: those of config.toml, and the default names `PROTOCOL/HOST`.
    ///
    /// # Errors
    /// `Usage` for an entry that names no host or no token.
    pub fn new(
        protocol: &'static str,
        configured: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<Self> {
        let entry = |(key, name): (&String, &String)| {
            let wrong = |why: &str| {
                let message = format!("[hosts.{protocol}] `{}`: {why}", printable(key));
                Error::new(Kind::Usage, "read the configuration", message)
            };
            let location =
                Location::parse(key).ok_or_else(|| wrong("it is not HOST, HOST:PORT or HOST/PATH"))?;
            let name = Name::parse(name).map_err(|why| wrong(&why))?;
            Ok((location.key(location.path.len()), name))
        };
        let configured = configured.get(protocol).into_iter().flatten().map(entry).collect::<Result<_>>()?;
        Ok(Self { protocol, configured })
    }

    /// The names that may hold a location's token, the best first. A host without TLS has those of config.toml only.
    pub fn names(&self, at: &Location) -> Vec<Name> {
        let mut names = Vec::new();
        for depth in (0..=at.path.len()).rev() {
            let key = at.key(depth);
            if let Some(name) = self.configured.get(&key) {
                names.push(name.clone());
                break;
            }
            if at.host.secure {
                names.extend(Name::parse(&format!("{}/{key}", self.protocol)));
            }
        }
        names
    }

    /// Where a new token for this location goes: to the location's own name, or in the place of a wider one that was closed.
    /// A wider one that is in use is other locations', too, and stays.
    pub fn name_to_store(&self, tokens: &mut dyn TokenBackend, at: &Location) -> Option<Name> {
        let own = self.own_name(at);
        for name in self.names(at) {
            if let Some(view) = current(tokens, &name) {
                let free = view.state != EffectiveState::Active || own.as_ref() == Some(&name);
                return if free { Some(name) } else { own };
            }
        }
        own
    }

    /// The name of exactly this location.
    fn own_name(&self, at: &Location) -> Option<Name> {
        let whole = at.path.len();
        if let Some(name) = self.configured.get(&at.key(whole)) {
            return Some(name.clone());
        }
        // Docker Hub's path is a version of its interface, and no part of the host.
        let key = at.key(if self.protocol == "docker" { 0 } else { whole });
        at.host.secure.then(|| Name::parse(&format!("{}/{key}", self.protocol)).ok()).flatten()
    }

    /// The hosts of config.toml with their tokens.
    pub fn configured(&self) -> impl Iterator<Item = (&str, &Name)> {
        self.configured.iter().map(|(host, name)| (host.as_str(), name))
    }

    /// Opens the first of [`HostTable::names`] that there is. `None` if there is none, or it is another user's.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn open(
        &self,
        tokens: &mut dyn TokenBackend,
        at: &Location,
        user: Option<&str>,
    ) -> Result<Option<HostToken>> {
        open_first(tokens, &self.names(at), user)
    }

    /// Suspends the token of a location, if it is in use, so that it is given out no more and can be resumed: a logout.
    ///
    /// # Errors
    /// Those of the change.
    pub fn suspend(&self, tokens: &mut dyn TokenBackend, at: &Location, reason: &str) -> Result<()> {
        for name in self.names(at) {
            if let Some(view) = current(tokens, &name) {
                return match view.state {
                    EffectiveState::Active => {
                        tokens.set_state(&name, Some(view.version), State::Suspended, reason)
                    }
                    _ => Ok(()),
                };
            }
        }
        Ok(())
    }
}

/// Opens the first of these tokens that there is. `None` if there is none, or it is another user's.
///
/// # Errors
/// Those of opening it.
pub fn open_first(
    tokens: &mut dyn TokenBackend,
    names: &[Name],
    user: Option<&str>,
) -> Result<Option<HostToken>> {
    for name in names {
        // Somebody who was granted a token may open it, and need not be allowed to look at it.
        let view = current(tokens, name);
        let owner = view.as_ref().and_then(|view| view.labels.get(USERNAME));
        if let (Some(owner), Some(user)) = (owner, user)
            && owner != user
        {
            continue;
        }
        if let Some(token) = tokens.open_if_there(&TokenRef { name: name.clone(), version: None })? {
            return Ok(Some(HostToken { name: name.clone(), token, view }));
        }
    }
    Ok(None)
}

/// The version of a token that `get` would open.
pub fn current(tokens: &mut dyn TokenBackend, name: &Name) -> Option<VersionView> {
    let view = tokens.show(name, None, &format!("open {name}")).ok().filter(|view| !view.destroyed)?;
    view.current_version().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(configured: &[(&str, &str)]) -> HostTable {
        let hosts = configured.iter().map(|(host, name)| ((*host).to_owned(), (*name).to_owned())).collect();
        HostTable::new("git", &BTreeMap::from([("git".to_owned(), hosts)])).unwrap()
    }

    fn names(table: &HostTable, url: &str) -> Vec<String> {
        Location::parse(url).map_or(Vec::new(), |at| table.names(&at).iter().map(Name::to_string).collect())
    }

    #[test]
    fn hosts_have_one_form() {
        for (text, host) in [
            ("github.com", "github.com"),
            ("HTTPS://x", ""),
            ("https://GitHub.com", "github.com"),
            ("https://github.com:443/a/b", "github.com"),
            ("http://github.com:443", "http://github.com:443"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("sparse+https://index.crates.io/", "index.crates.io"),
            ("[::1]:5000", "[::1]:5000"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            let parsed = Location::parse(text).map_or(String::new(), |at| at.host.to_string());
            assert_eq!(parsed, host, "{text}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_no_host() {
        for text in [
            "",
            ".",
            "github.com.",
            "github..com",
            ".github.com",
            "user@github.com",
            "https://github.com@evil.org",
            "https://evil.org\\@github.com",
            "https://evil.org?@github.com",
            "https://evil.org#github.com",
            "https://github.com%2eevil.org",
            "github.com:",
            "github.com:0",
            "github.com:0443",
            "github.com:65536",
            "github.com:44 3",
            "github.com:443:443",
            "g\u{456}thub.com",
            "github\u{3002}com",
            "github.com\n",
            "github.com\0",
            "-github.com",
            "github-.com",
            "ftp://github.com",
            "ssh://github.com",
            "//github.com",
            "[::1",
            "::1]",
            "[::1]x",
            "[0:0::1]",
            "[fe80::1%eth0]",
            "git_hub.com",
            "https://https://github.com",
        ] {
            assert_eq!(Location::parse(text), None, "{text:?}");
        }
        for (scheme, host) in
            [("https", "github.com/x"), ("file", "github.com"), ("https", "a@github.com"), ("", "github.com")]
        {
            assert_eq!(Location::from_parts(scheme, host, None), None, "{host}");
        }
    }

    #[test]
    fn the_longest_path_comes_first() {
        let table = table(&[("github.com/acme", "work/acme"), ("http://127.0.0.1:8080", "test/local")]);
        let of = |url| names(&table, url);
        assert_eq!(of("https://github.com"), ["git/github.com"]);
        assert_eq!(
            of("https://github.com/me/x.git"),
            ["git/github.com/me/x", "git/github.com/me", "git/github.com"]
        );
        assert_eq!(of("https://github.com/acme/x.git"), ["git/github.com/acme/x", "work/acme"]);
        assert_eq!(of("https://github.com/../acme"), ["git/github.com"]);
        assert_eq!(of("http://127.0.0.1:8080/x"), ["test/local"]);
        assert_eq!(of("http://github.com"), Vec::<String>::new(), "no TLS");
        assert_eq!(of("https://github.com:8443"), ["git/github.com:8443"]);
        assert_eq!(of("[::1]"), Vec::<String>::new());
    }

    #[test]
    fn entries_are_checked() {
        for (host, name) in [("a@b", "x"), ("a", "x//y"), ("ftp://a", "x")] {
            let hosts = BTreeMap::from([(host.to_owned(), name.to_owned())]);
            assert_eq!(
                HostTable::new("git", &BTreeMap::from([("git".into(), hosts)])).unwrap_err().kind(),
                Kind::Usage
            );
        }
    }

    proptest! {
        /// Whatever is put around a host's name, its token is reached under that very name alone.
        #[test]
        fn no_other_host_reaches_a_token(before in "[ -~а-я\u{3002}\\pC]{0,6}", after in "[ -~а-я\u{3002}\\pC]{0,6}", scheme in "(https://|http://|sparse\\+https://|)") {
            let text = format!("{scheme}{before}github.com{after}");
            let own = names(&table(&[("github.com", "own/token")]), &text).contains(&"own/token".to_owned());
            let default = names(&table(&[]), &text).contains(&"git/github.com".to_owned());
            if own || default {
                // What a URL's reader, such as curl's, takes for the host.
                let rest = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
                let authority = rest.split(['/', '?', '#', '\\']).next().unwrap();
                let host = authority.strip_suffix(":443").or(authority.strip_suffix(":80").filter(|_| scheme == "http://")).unwrap_or(authority);
                prop_assert_eq!(host.to_ascii_lowercase(), "github.com", "{}", text);
                prop_assert!(!default || scheme != "http://", "{}", text);
            }
        }

        #[test]
        fn nothing_panics_and_names_stay_below_the_host(text in "\\PC{0,40}", path in "\\PC{0,20}") {
            for at in Location::parse(&text).into_iter().chain(Location::from_parts("https", &text, Some(&path))) {
                let below = format!("git/{}", at.host.authority);
                for name in table(&[]).names(&at) {
                    prop_assert!(crate::ledger::name::covers(&below, name.as_str()), "{}", name);
                }
            }
        }
    }
}
