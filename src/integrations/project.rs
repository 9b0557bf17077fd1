//! `strongroom.toml`: which tokens the programs of a project find in which variables. It holds no secret.
//!
//! docs/reference/project.md has every key.

use crate::config::located;
use crate::error::{Error, Kind, Result, printable};
use crate::ledger::Prefix;
use crate::paths::open_regular;
use crate::replica::ListFilter;
use crate::vault::{EffectiveState, TokenBackend, TokenRef};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use toml::Value as Toml;

/// The file's name.
pub const FILE_NAME: &str = "strongroom.toml";

/// The profile that counts where none is named.
pub const DEFAULT_PROFILE: &str = "default";

/// The prefix of a reference to a token, where a value could also be something else.
pub const SCHEME: &str = "strongroom://";

/// Far more than anybody writes by hand.
const MAX_BYTES: u64 = 1 << 20;

const OPERATION: &str = "read the project file";

/// What a variable is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// This text.
    Plain(String),
    /// A token's bytes.
    Token(TokenRef),
    /// The path of a file in memory that holds a token's bytes.
    File(TokenRef),
}

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it is set to.
    pub value: Value,
    /// Whether it is an error if there is no such token.
    pub required: bool,
}

impl Variable {
    /// One whose token has to be there.
    pub fn required(name: impl Into<String>, value: Value) -> Self {
        Self { name: name.into(), value, required: true }
    }

    /// The token that it is set to, if it is.
    pub fn token(&self) -> Option<&TokenRef> {
        match &self.value {
            Value::Plain(_) => None,
            Value::Token(token) | Value::File(token) => Some(token),
        }
    }
}

/// A project file.
#[derive(Debug)]
pub struct Project {
    path: PathBuf,
    file: File,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default)]
    profile: BTreeMap<String, BTreeMap<String, Toml>>,
}

impl Project {
    /// Reads the project file of the nearest of these directories: `from` and those above it.
    ///
    /// # Errors
    /// As [`Project::load`].
    pub fn find(from: &Path) -> Result<Option<Self>> {
        let candidates = from.ancestors().map(|directory| directory.join(FILE_NAME));
        candidates.into_iter().find(|path| path.exists()).map(|path| Self::load(&path)).transpose()
    }

    /// Reads a project file.
    ///
    /// # Errors
    /// `Untrusted` for one that somebody else can write; `Usage`, with the place, for one that does not parse; `Io`, also for
    /// what is no regular file.
    pub fn load(path: &Path) -> Result<Self> {
        let shown = printable(&path.display().to_string());
        let unreadable = |e| Error::io(OPERATION, path, e);
        let file = open_regular(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let refused = |message: String| {
            let error = Error::new(Kind::Untrusted, OPERATION, message).with_target(shown.clone());
            error.with_hint(
                "it decides which programs get your tokens: make it yours, and writable for you alone",
            )
        };
        let owner = metadata.uid();
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(refused(format!("it belongs to user {owner}, neither root nor you")));
        }
        if metadata.mode() & 0o002 != 0 {
            return Err(refused("everybody may write it".into()));
        }
        let mut text = String::new();
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(Error::new(Kind::Usage, OPERATION, "it is longer than 1 MiB").with_target(shown));
        }
        Self::parse(path, &text)
    }

    /// The same from its text.
    ///
    /// # Errors
    /// `Usage`.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let shown = printable(&path.display().to_string());
        let file = toml::from_str(text)
            .map_err(|e| Error::new(Kind::Usage, OPERATION, located(text, &e)).with_target(shown))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// The names of its profiles.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.file.profile.keys().map(String::as_str)
    }

    /// The variables of a profile, and of those that it inherits from.
    ///
    /// # Errors
    /// `NotFound` for a profile that is not there; `Usage` for one that is wrong.
    pub fn variables(&self, profile: &str) -> Result<Vec<Variable>> {
        let chain = self.ancestry(profile)?;
        let text = |table: &BTreeMap<String, Toml>| match table.get("prefix") {
            None => Ok(None),
            Some(Toml::String(prefix)) => Ok(Some(prefix.clone())),
            Some(_) => Err(self.wrong(profile, "prefix", "a prefix is a text")),
        };
        let mut prefix = None;
        for (_, table) in &chain {
            prefix = prefix.or(text(table)?);
        }
        let prefix = prefix.or_else(|| self.file.prefix.clone()).unwrap_or_default();
        let prefix = Prefix::parse(&prefix).map_err(|why| self.wrong(profile, "prefix", &why))?;
        let mut merged = BTreeMap::new();
        for (owner, table) in chain.iter().rev() {
            merged.extend(table.iter().map(|(key, value)| (key, (*owner, value))));
        }
        let mut variables = Vec::new();
        for (key, (owner, value)) in merged {
            if !matches!(key.as_str(), "prefix" | "inherits") {
                let read = variable(key, value, &prefix).map_err(|why| self.wrong(owner, key, &why))?;
                variables.extend(read);
            }
        }
        Ok(variables)
    }

    /// A profile, the one that it inherits from, and so on.
    fn ancestry<'a>(&'a self, profile: &'a str) -> Result<Vec<(&'a str, &'a BTreeMap<String, Toml>)>> {
        let (mut chain, mut seen, mut next) = (Vec::new(), BTreeSet::new(), Some(profile));
        while let Some(name) = next {
            let table = self.file.profile.get(name).ok_or_else(|| self.no_profile(name))?;
            if !seen.insert(name) {
                return Err(self.wrong(name, "inherits", "it inherits from itself"));
            }
            chain.push((name, table));
            next = match table.get("inherits") {
                None => None,
                Some(Toml::String(parent)) => Some(parent),
                Some(_) => return Err(self.wrong(name, "inherits", "it takes the name of one profile")),
            };
        }
        Ok(chain)
    }

    fn no_profile(&self, name: &str) -> Error {
        let known: Vec<&str> = self.profiles().collect();
        let hint = match known.is_empty() {
            true => "write [profile.default], and below it VARIABLE = \"NAME\"".to_owned(),
            false => format!("its profiles: {}", known.join(", ")),
        };
        let message = format!("it has no profile `{}`", printable(name));
        let shown = self.path.display().to_string();
        Error::new(Kind::NotFound, OPERATION, message).with_target(printable(&shown)).with_hint(hint)
    }

    fn wrong(&self, profile: &str, key: &str, why: &str) -> Error {
        let message = format!("[profile.{}] {}: {why}", printable(profile), printable(key));
        Error::new(Kind::Usage, OPERATION, message).with_target(printable(&self.path.display().to_string()))
    }
}

/// A variable of a profile; `None` for one that it takes away from what it inherits.
fn variable(name: &str, value: &Toml, prefix: &Prefix) -> Result<Option<Variable>, String> {
    if !is_variable(name) {
        return Err(NO_VARIABLE.into());
    }
    let token = |text: &str| reference(text, prefix);
    let table = match value {
        Toml::Boolean(false) => return Ok(None),
        Toml::String(text) => return Ok(Some(Variable::required(name, Value::Token(token(text)?)))),
        Toml::Table(table) => table,
        _ => return Err("a variable is set to a token's name or to a table".into()),
    };
    if let Some(unknown) =
        table.keys().find(|key| !["token", "file", "value", "required"].contains(&key.as_str()))
    {
        return Err(format!(
            "unknown key `{}`; there are token, file, value and required",
            printable(unknown)
        ));
    }
    let value = match (table.get("token"), table.get("file"), table.get("value")) {
        (Some(Toml::String(text)), None, None) => Value::Token(token(text)?),
        (None, Some(Toml::String(text)), None) => Value::File(token(text)?),
        (None, None, Some(Toml::String(text))) if text.contains(SCHEME) => return Err(EMBEDDED.into()),
        (None, None, Some(Toml::String(text))) if text.contains('\0') => return Err("it holds a NUL".into()),
        (None, None, Some(Toml::String(text))) => Value::Plain(text.clone()),
        _ => return Err("it takes one of token, file and value, and that is a text".into()),
    };
    let required = match table.get("required") {
        None => true,
        Some(Toml::Boolean(required)) => *required,
        Some(_) => return Err("`required` is true or false".into()),
    };
    Ok(Some(Variable { name: name.into(), value, required }))
}

/// Why a value with a reference inside is refused: it would reach the program as it stands.
pub const EMBEDDED: &str = "strongroom:// is not replaced inside a longer value";

/// Why a name is no variable's.
pub const NO_VARIABLE: &str =
    "a variable's name consists of letters, digits and _, and does not begin with a digit";

/// A token's name below the prefix, or, after `/` or `strongroom://`, as it stands.
fn reference(text: &str, prefix: &Prefix) -> Result<TokenRef, String> {
    if let Some(whole) = text.strip_prefix(SCHEME).or_else(|| text.strip_prefix('/')) {
        return whole.parse();
    }
    if text.contains(SCHEME) {
        return Err(EMBEDDED.into());
    }
    match prefix.as_str() {
        "" => text.parse(),
        prefix => format!("{prefix}/{text}").parse(),
    }
}

/// Whether a shell takes this as a variable's name.
pub fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A variable for every token below a prefix that is in use: `dev/app/api-key` below `dev/app` becomes `API_KEY`.
///
/// # Errors
/// `NotFound` if there is none; `Usage` for names that make no variable, or the same one.
pub fn variables_below(tokens: &mut dyn TokenBackend, prefix: &Prefix) -> Result<Vec<Variable>> {
    let operation = format!("take the tokens below {prefix}");
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let filter = ListFilter { prefix: prefix.clone(), ..ListFilter::default() };
    tokens.list(&filter, &mut |view| {
        let rest = view.name.strip_prefix(prefix.as_str()).unwrap_or(&view.name).trim_start_matches('/');
        // The token that is called like the prefix itself does not lie below it.
        if rest.is_empty() || view.state != EffectiveState::Active {
            return Ok(true);
        }
        let variable = variable_of(rest);
        if !is_variable(&variable) {
            let message = format!("`{}` makes no variable: {NO_VARIABLE}", view.name);
            return Err(Error::new(Kind::Usage, operation.clone(), message));
        }
        match found.insert(variable.clone(), view.name.clone()) {
            None => Ok(true),
            Some(other) => {
                let message = format!("`{other}` and `{}` both make {variable}", view.name);
                Err(Error::new(Kind::Usage, operation.clone(), message))
            }
        }
    })?;
    if found.is_empty() {
        let hint = format!("`strongroom list {prefix}` shows the names");
        return Err(Error::new(Kind::NotFound, operation, "there is none in use").with_hint(hint));
    }
    let variable = |(name, token): (String, String)| {
        let token = token.parse().map_err(|why: String| Error::new(Kind::Usage, operation.clone(), why))?;
        Ok(Variable::required(name, Value::Token(token)))
    };
    found.into_iter().map(variable).collect()
}

fn variable_of(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(text: &str) -> Project {
        Project::parse(Path::new("strongroom.toml"), text).unwrap()
    }

    fn shown(text: &str, profile: &str) -> Vec<String> {
        let variables = project(text).variables(profile).unwrap();
        let show = |variable: &Variable| {
            let value = match &variable.value {
                Value::Plain(text) => format!("={text}"),
                Value::Token(token) => format!(" {}", token),
                Value::File(token) => format!(" file {}", token),
            };
            format!("{}{value}{}", variable.name, if variable.required { "" } else { "?" })
        };
        variables.iter().map(show).collect()
    }

    const EXAMPLE: &str = r#"
        prefix = "dev/app"
        [profile.default]
        DB = "db"
        KEY = { file = "tls.key" }
        LEVEL = { value = "debug" }
        SENTRY = { token = "/shared/sentry@3", required = false }
        [profile.prod]
        inherits = "default"
        prefix = "prod/app"
        LEVEL = { value = "info" }
        SENTRY = false
        OLD = "strongroom://dev/app/old"
    "#;

    #[test]
    fn profiles_are_read() {
        let default = ["DB dev/app/db", "KEY file dev/app/tls.key", "LEVEL=debug", "SENTRY shared/sentry@3?"];
        assert_eq!(shown(EXAMPLE, "default"), default);
        let prod = ["DB prod/app/db", "KEY file prod/app/tls.key", "LEVEL=info", "OLD dev/app/old"];
        assert_eq!(shown(EXAMPLE, "prod"), prod);
        assert_eq!(project(EXAMPLE).variables("test").unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn what_is_wrong_is_placed() {
        for (profile, what) in [
            ("A = 1", "A: a variable is set to"),
            ("1A = \"a\"", "1A: a variable's name"),
            ("A = \"a//b\"", "A: a name has no empty segment"),
            ("A = \"x strongroom://a\"", "A: strongroom:// is not replaced"),
            ("A = { value = \"postgres://strongroom://a@h\" }", "A: strongroom:// is not replaced"),
            ("A = { token = \"a\", file = \"a\" }", "A: it takes one of"),
            ("A = { nmae = \"a\" }", "A: unknown key `nmae`"),
            ("A = { token = \"a\", required = 1 }", "A: `required`"),
            ("inherits = \"default\"", "inherits: it inherits from itself"),
            ("inherits = \"nosuch\"", "no profile `nosuch`"),
            ("inherits = 1", "inherits: it takes"),
            ("prefix = 1", "prefix: a prefix is a text"),
            ("prefix = \"a//b\"", "prefix: a name has no empty"),
            ("A = \"a@0\"", "A: a version follows"),
        ] {
            let error = project(&format!("[profile.default]\n{profile}\n")).variables("default").unwrap_err();
            assert!(error.to_string().contains(what), "{profile}: {error}");
        }
        for text in ["stor = 1", "[profile]\nA = \"a\"", "[profile.default"] {
            let error = Project::parse(Path::new("x"), text).unwrap_err();
            assert!(error.message().starts_with("line "), "{text}: {error}");
        }
    }

    #[test]
    fn names_become_variables() {
        for (name, variable) in [("db", "DB"), ("tls.key", "TLS_KEY"), ("a/b-c:d", "A_B_C_D"), ("9", "9")] {
            assert_eq!(variable_of(name), variable);
        }
        assert!(is_variable("_A1") && !is_variable("9") && !is_variable(""));
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        std::fs::write(&path, "[profile.default]\n").unwrap();
        let below = directory.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        assert!(Project::find(&below).unwrap().is_some());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(Project::find(&below).unwrap_err().kind(), Kind::Untrusted);
    }
}
