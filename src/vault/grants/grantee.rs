//! Grantees and operations: the texts in the ledger, in one canonical spelling.

use crate::ledger::Hash;
use crate::ledger::name::{MAX_TEXT_BYTES, check_text};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The grantee: an application as the kernel identifies it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Grantee {
    /// `unit:web.service`: a unit of the machine's own service manager; for an agent that a user runs, of the user's.
    Unit(String),
    /// `unit:deploy/sync.service`: a unit of that user's service manager. The user decides what runs in it.
    UserUnit {
        /// Whose service manager.
        user: String,
        /// The unit.
        unit: String,
    },
    /// `user:deploy`, or a number.
    User(String),
    /// `group:ops`, or a number.
    Group(String),
    /// `exe:/usr/bin/x`: processes that run this file.
    Exe(PathBuf),
    /// `exe:sha256:…`: processes that run a file with this digest.
    ExeDigest(Hash),
    /// `unit:web.service+user:web`: processes that are all of these. Two or more, in the order of their texts.
    All(Vec<Grantee>),
}

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Open the token.
    Get,
    /// See the token and its metadata. Every other operation includes this.
    List,
    /// Open the token after a person has agreed, each time.
    GetConfirmed,
    /// Store a new version; under a prefix, also a new token.
    Put,
    /// Suspend, resume and revoke it.
    State,
}

/// All of them.
pub const OPS: [Op; 5] = [Op::Get, Op::GetConfirmed, Op::List, Op::Put, Op::State];

/// Suffixes of units that run processes.
const UNIT_TYPES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(unit) => write!(f, "unit:{unit}"),
            Self::UserUnit { user, unit } => write!(f, "unit:{user}/{unit}"),
            Self::User(user) => write!(f, "user:{user}"),
            Self::Group(group) => write!(f, "group:{group}"),
            Self::Exe(path) => write!(f, "exe:{}", path.display()),
            Self::ExeDigest(digest) => write!(f, "exe:sha256:{digest}"),
            Self::All(all) => {
                let texts: Vec<_> = all.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join("+"))
            }
        }
    }
}

impl FromStr for Grantee {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if s.len() > MAX_TEXT_BYTES {
            return Err(format!("at most {MAX_TEXT_BYTES} bytes"));
        }
        let mut all = parts(s).map(Self::single).collect::<Result<Vec<_>, _>>()?;
        all.sort_by_key(ToString::to_string);
        all.dedup();
        match all.len() {
            1 => Ok(all.remove(0)),
            _ => Ok(Self::All(all)),
        }
    }
}

/// What is joined by a `+`. A path may hold one, too.
fn parts(s: &str) -> impl Iterator<Item = &str> {
    let begins = |rest: &str| ["unit:", "user:", "group:", "exe:"].iter().any(|kind| rest.starts_with(kind));
    let mut rest = Some(s);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.match_indices('+').map(|(at, _)| at).find(|at| begins(&text[at + 1..]));
        rest = end.map(|at| &text[at + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    })
}

impl Grantee {
    fn single(s: &str) -> Result<Self, String> {
        match s.split_once(':') {
            Some(("unit", rest)) => match rest.split_once('/') {
                Some((user, unit)) => Ok(Self::UserUnit { user: account(user)?, unit: unit_name(unit)? }),
                None => unit_name(rest).map(Self::Unit),
            },
            Some(("user", name)) => account(name).map(Self::User),
            Some(("group", name)) => account(name).map(Self::Group),
            Some(("exe", file)) => exe(file),
            _ => Err("it is one of unit:web.service, user:deploy, group:ops, exe:/usr/bin/x".into()),
        }
    }
}

fn unit_name(unit: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":_.\\-@".contains(c);
    if unit.len() > 255 || !unit.chars().all(allowed) {
        return Err("a unit's name has at most 255 letters, digits and : _ . \\ - @".into());
    }
    match UNIT_TYPES.iter().any(|kind| unit.len() > kind.len() && unit.ends_with(kind)) {
        true => Ok(unit.into()),
        false => Err("a unit's name ends in .service, .scope, .socket, .mount or .swap".into()),
    }
}

/// A user's or group's name or number, as shadow-utils and systemd take it.
fn account(name: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    match !name.is_empty() && name.len() <= 64 && name.chars().all(allowed) && !name.starts_with('-') {
        true => Ok(name.into()),
        false => Err("a user or group has a name of letters, digits and _ . -, or a number".into()),
    }
}

fn exe(file: &str) -> Result<Grantee, String> {
    if let Some(digest) = file.strip_prefix("sha256:") {
        return Ok(Grantee::ExeDigest(digest.parse()?));
    }
    let plain = file.starts_with('/') && !file.ends_with('/') && !file.contains("//");
    let steps = file.split('/').any(|part| part == "." || part == "..");
    match plain && !steps {
        true => check_text(file, MAX_TEXT_BYTES).map(|()| Grantee::Exe(file.into())),
        false => Err("a program is named by its whole path, as in exe:/usr/bin/x".into()),
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::GetConfirmed => "get-confirmed",
            Self::List => "list",
            Self::Put => "put",
            Self::State => "state",
        })
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let known = OPS.into_iter().find(|op| op.to_string() == s);
        known.ok_or_else(|| "an operation is one of get, get-confirmed, list, put, state".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grantees_are_read_as_they_are_written() {
        let digest = format!("exe:sha256:{}", "0a".repeat(32));
        for text in [
            "unit:web.service",
            "unit:web@1.service",
            "unit:dev-disk\\x2d1.mount",
            "unit:deploy/sync.service",
            "user:deploy",
            "user:1000",
            "group:ops",
            "exe:/usr/bin/a b",
            "exe:/usr/bin/g++",
            "exe:/usr/bin/g+++user:web",
            "exe:/usr/bin/web+unit:web.service+user:web",
            &digest,
        ] {
            assert_eq!(text.parse::<Grantee>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn several_selectors_have_one_order() {
        let grantee: Grantee = "user:web+exe:/usr/bin/web+user:web".parse().unwrap();
        assert_eq!(grantee.to_string(), "exe:/usr/bin/web+user:web");
        assert_eq!("user:web+user:web".parse(), Ok(Grantee::User("web".into())));
    }

    #[test]
    fn what_is_no_grantee_is_refused() {
        for text in [
            "",
            "web",
            "unit:",
            "unit:web",
            "unit:.service",
            "unit:a b.service",
            "unit:/web.service",
            "unit:a/b/c.service",
            "user:",
            "user:-x",
            "user:a:b",
            "group:a/b",
            "exe:",
            "exe:bin/x",
            "exe:/",
            "exe:/a/../b",
            "exe:/a//b",
            "exe:/a\nb",
            "exe:/a\u{1b}[2Jb",
            "exe:/a\u{202e}b",
            "exe:sha256:12",
            "host:x",
            "user:web+",
            "+user:web",
            "user:web++group:ops",
            "user:web+exe:",
            "user:web+nobody",
        ] {
            assert!(text.parse::<Grantee>().is_err(), "{text}");
        }
        assert!("open".parse::<Op>().is_err() && "get".parse() == Ok(Op::Get));
    }
}
