//! Roles: what a device may do, and their text form.

/// What a device may do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Tokens are sealed to it.
    Open,
    /// Changes tokens under a prefix; the empty one covers all.
    Write(String),
    /// Changes devices and roles, destroys.
    Admin,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Write(prefix) if prefix.is_empty() => f.write_str("write"),
            Self::Write(prefix) => write!(f, "write:{prefix}"),
            Self::Admin => f.write_str("admin"),
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    /// `open`, `write`, `write:PREFIX` or `admin`.
    fn from_str(s: &str) -> Result<Self, String> {
        match s.split_once(':') {
            None if s == "open" => Ok(Self::Open),
            None if s == "write" => Ok(Self::Write(String::new())),
            None if s == "admin" => Ok(Self::Admin),
            // An empty shell variable must not become a role on every name.
            Some(("write", prefix)) => match crate::ledger::Prefix::parse(prefix)? {
                prefix if prefix.as_str().is_empty() => {
                    Err("name a prefix after write:, or say write for all names".into())
                }
                prefix => Ok(Self::Write(prefix.as_str().into())),
            },
            _ => Err("a role is open, write, write:PREFIX or admin".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::sorted_roles;

    #[test]
    fn roles_are_read_as_they_are_written() {
        for text in ["open", "write", "write:prod", "write:a:b/c", "admin"] {
            assert_eq!(text.parse::<Role>().unwrap().to_string(), text);
        }
        assert_eq!("write:prod/".parse(), Ok(Role::Write("prod".into())));
        for text in ["", "Open", "read", "write:", "write:/", "write:a//b", "admin:x", "open "] {
            assert!(text.parse::<Role>().is_err(), "{text}");
        }
    }

    #[test]
    fn roles_are_sorted_by_their_encoding() {
        let write = |prefix: &str| Role::Write(prefix.into());
        let sorted = vec![Role::Open, Role::Admin, write(""), write("b"), write("aa")];
        assert_eq!(sorted_roles(sorted.iter().rev().chain(&sorted).cloned().collect()), sorted);
    }
}
