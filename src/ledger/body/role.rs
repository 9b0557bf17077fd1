//! Roles: what a device may do, and their text form.

use crate::ledger::Prefix;
use crate::ledger::name::covers;

/// What a device may do. A prefix of a role covers whole segments of names; the empty one covers all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Tokens under a prefix are sealed to it.
    Open(String),
    /// Changes tokens under a prefix.
    Write(String),
    /// Changes devices, roles and settings, destroys; writes and grants everything.
    Admin,
    /// Grants tokens under a prefix to applications.
    Grant(String),
    /// Its checkpoints count.
    Witness,
}

impl Role {
    /// Whether it lets a device open this name.
    pub fn opens(&self, name: &str) -> bool {
        matches!(self, Self::Open(prefix) if covers(prefix, name))
    }

    /// Whether it lets a device write this name, or everything under this prefix.
    pub fn writes(&self, name: &str) -> bool {
        matches!(self, Self::Write(prefix) if covers(prefix, name)) || *self == Self::Admin
    }

    /// Whether it lets a device grant this name, or everything under this prefix.
    pub fn grants(&self, name: &str) -> bool {
        matches!(self, Self::Grant(prefix) if covers(prefix, name)) || *self == Self::Admin
    }

    /// The prefix it is for, if it has one.
    pub fn prefix(&self) -> Option<&str> {
        match self {
            Self::Open(prefix) | Self::Write(prefix) | Self::Grant(prefix) => Some(prefix),
            Self::Admin | Self::Witness => None,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Write(_) => "write",
            Self::Admin => "admin",
            Self::Grant(_) => "grant",
            Self::Witness => "witness",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.prefix() {
            Some(prefix) if !prefix.is_empty() => write!(f, "{}:{prefix}", self.word()),
            _ => f.write_str(self.word()),
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    /// `open`, `write`, `grant`, each also with `:PREFIX`; `admin` or `witness`.
    fn from_str(s: &str) -> Result<Self, String> {
        let (word, prefix) = match s.split_once(':') {
            None => (s, String::new()),
            // An empty shell variable must not become a role on every name.
            Some((word, prefix)) => match Prefix::parse(prefix)? {
                prefix if prefix.as_str().is_empty() => {
                    return Err(format!("name a prefix after {word}:, or say {word} for all names"));
                }
                prefix => (word, prefix.as_str().to_owned()),
            },
        };
        match (word, prefix.is_empty()) {
            ("open", _) => Ok(Self::Open(prefix)),
            ("write", _) => Ok(Self::Write(prefix)),
            ("grant", _) => Ok(Self::Grant(prefix)),
            ("admin", true) => Ok(Self::Admin),
            ("witness", true) => Ok(Self::Witness),
            _ => Err("a role is open, write or grant, each also with :PREFIX, or admin or witness".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::sorted_roles;

    #[test]
    fn roles_are_read_as_they_are_written() {
        for text in ["open", "open:prod", "write", "write:prod", "write:a:b/c", "admin", "grant:x", "witness"]
        {
            assert_eq!(text.parse::<Role>().unwrap().to_string(), text);
        }
        assert_eq!("write:prod/".parse(), Ok(Role::Write("prod".into())));
        for text in
            ["", "Open", "read", "write:", "open:", "write:/", "write:a//b", "admin:x", "witness:x", "open "]
        {
            assert!(text.parse::<Role>().is_err(), "{text}");
        }
    }

    #[test]
    fn roles_are_sorted_by_their_encoding() {
        let write = |prefix: &str| Role::Write(prefix.into());
        let open = |prefix: &str| Role::Open(prefix.into());
        let sorted =
            vec![Role::Admin, Role::Witness, open(""), open("b"), write(""), write("b"), write("aa")];
        assert_eq!(sorted_roles(sorted.iter().rev().chain(&sorted).cloned().collect()), sorted);
    }

    #[test]
    fn an_admin_writes_and_grants_everything_and_opens_nothing() {
        assert!(Role::Admin.writes("a/b") && Role::Admin.grants("") && !Role::Admin.opens("a"));
        assert!(!Role::Write("a".into()).grants("a") && !Role::Grant("a".into()).writes("a"));
        let open = Role::Open("prod".into());
        assert!(open.opens("prod") && open.opens("prod/db") && !open.opens("production") && !open.opens(""));
    }
}
