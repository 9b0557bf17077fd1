//! Which tokens a program finds in which variables: options that `run`, `env` and `check` have in common.

use super::dotenv;
use crate::cli::args::{names, unusable_value};
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::exit::{ExitWith, code_of};
use crate::cli::output::Output;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use std::path::{Path, PathBuf};
use strongroom::error::printable;
use strongroom::integrations::project::{
    DEFAULT_PROFILE, EMBEDDED, NO_VARIABLE, Project, SCHEME, Value, Variable, is_variable, variables_below,
};
use strongroom::ledger::Prefix;
use strongroom::vault::{GrantOn, TokenBackend, TokenRef};
use strongroom::{Error, Kind, Result, Secret};

#[derive(Debug, Args)]
pub struct Selection {
    /// Put a token into an environment variable
    #[arg(long = "env", short, value_name = "VAR=NAME[@VERSION]", add = ArgValueCompleter::new(completions::bindings))]
    env: Vec<String>,
    /// Put a token into a file in memory, and the file's path into an environment variable
    #[arg(long = "file", short, value_name = "VAR=NAME[@VERSION]", add = ArgValueCompleter::new(completions::bindings))]
    file: Vec<String>,
    /// Read variables from a file of VAR=strongroom://NAME[@VERSION] and VAR=value lines
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Put every token below a prefix into a variable: PREFIX/api-key into API_KEY
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// The profile of the project file [default: default]
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    /// The project file [default: the nearest strongroom.toml, here or above]
    #[arg(long, value_name = "FILE")]
    project: Option<PathBuf>,
}

/// Variables whose tokens were opened.
pub struct OpenedVariables {
    /// Every variable once. One that is not required, and has no token, is left out.
    pub variables: Vec<Variable>,
    tokens: Vec<(TokenRef, Secret)>,
}

impl OpenedVariables {
    /// The bytes of all of its tokens.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.tokens.iter().map(|(_, secret)| secret.expose())
    }

    /// The bytes of one of its tokens.
    pub fn token(&self, of: &TokenRef) -> &[u8] {
        let found = self.tokens.iter().find(|(token, _)| token == of);
        found.map(|(_, secret)| secret.expose()).unwrap_or_default()
    }
}

impl Selection {
    /// Opens every token once. Says of each that does not open why, and then fails.
    ///
    /// # Errors
    /// Those of the options, and of the first token that does not open.
    pub fn open(&self, context: &mut Context) -> anyhow::Result<OpenedVariables> {
        let (mut variables, prefix) = (self.variables()?, self.below()?);
        if prefix.is_none() && variables.iter().all(|variable| variable.token().is_none()) {
            return Ok(OpenedVariables { variables, tokens: Vec::new() });
        }
        context.with_tokens(|store, out| {
            if let Some(prefix) = &prefix {
                variables.extend(variables_below(store, prefix)?);
                each_once(&variables)?;
            }
            let wanted = distinct(&variables);
            let required =
                |token: &TokenRef| variables.iter().any(|v| v.required && v.token() == Some(token));
            let tokens = open_each(store, out, &wanted, required)?;
            let is_there = |token: &TokenRef| tokens.iter().any(|(opened, _)| opened == token);
            variables.retain(|variable| variable.token().is_none_or(is_there));
            Ok(OpenedVariables { variables, tokens })
        })
    }

    /// Every variable once, with those below the prefix.
    ///
    /// # Errors
    /// Those of the options.
    pub fn resolved(&self, tokens: &mut dyn TokenBackend) -> Result<Vec<Variable>> {
        let mut variables = self.variables()?;
        if let Some(prefix) = self.below()? {
            variables.extend(variables_below(tokens, &prefix)?);
        }
        each_once(&variables).map(|()| variables)
    }

    /// What is to be watched for new versions: tokens without a version of their own, and the prefix.
    ///
    /// # Errors
    /// Those of the options.
    pub fn watched(&self) -> Result<Vec<GrantOn>> {
        let wanted = distinct(&self.variables()?);
        let tokens = wanted.into_iter().filter(|token| token.version.is_none());
        let prefix = self.below()?.map(GrantOn::Prefix);
        Ok(tokens.map(|token| GrantOn::Token(token.name)).chain(prefix).collect())
    }

    fn below(&self) -> Result<Option<Prefix>> {
        self.prefix.as_deref().map(names::prefix).transpose()
    }

    /// Those of the options, in the order given; without any, those of the project.
    fn variables(&self) -> Result<Vec<Variable>> {
        let mut variables = Vec::new();
        let named = !(self.env.is_empty() && self.file.is_empty() && self.env_file.is_empty());
        if self.profile.is_some() || self.project.is_some() || !(named || self.prefix.is_some()) {
            variables.extend(self.project_variables()?);
        }
        for path in &self.env_file {
            variables.extend(from_file(path)?);
        }
        for text in &self.env {
            variables.push(binding("--env", text, Value::Token)?);
        }
        for text in &self.file {
            variables.push(binding("--file", text, Value::File)?);
        }
        each_once(&variables).map(|()| variables)
    }

    fn project_variables(&self) -> Result<Vec<Variable>> {
        let project = match &self.project {
            Some(path) => Some(Project::load(path)?),
            None => Project::find(
                &std::env::current_dir()
                    .map_err(|e| Error::io("find the project file", Path::new("."), e))?,
            )?,
        };
        let missing = || {
            Error::new(Kind::Usage, "find the project file", "there is no strongroom.toml here or above")
                .with_hint(
                    "write one, or say which tokens with --env VAR=NAME, --file, --env-file or --prefix",
                )
        };
        project.ok_or_else(missing)?.variables(self.profile.as_deref().unwrap_or(DEFAULT_PROFILE))
    }
}

/// Opens tokens. Says of each that does not open why, and then fails; one that is not required may be missing.
///
/// # Errors
/// Those of the first token that does not open.
pub fn open_each(
    store: &mut dyn TokenBackend,
    out: &mut Output,
    wanted: &[TokenRef],
    required: impl Fn(&TokenRef) -> bool,
) -> anyhow::Result<Vec<(TokenRef, Secret)>> {
    let (mut tokens, mut failed) = (Vec::new(), None);
    for (token, opened) in wanted.iter().zip(store.open_all(wanted)) {
        match opened {
            Ok(opened) => tokens.push((token.clone(), opened.value)),
            Err(error) if error.kind() == Kind::NotFound && !required(token) => {}
            Err(error) => {
                out.error(&error);
                failed.get_or_insert(code_of(error.kind()));
            }
        }
    }
    failed.map_or(Ok(tokens), |code| Err(ExitWith(code).into()))
}

fn each_once(variables: &[Variable]) -> Result<()> {
    let mut names: Vec<_> = variables.iter().map(|variable| &variable.name).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::new(Kind::Usage, format!("set {}", pair[0]), "it is set twice")),
        None => Ok(()),
    }
}

fn binding(option: &str, text: &str, value: fn(TokenRef) -> Value) -> Result<Variable> {
    let (variable, name) =
        text.split_once('=').ok_or_else(|| unusable_value(option, "it is not VAR=NAME"))?;
    if !is_variable(variable) {
        return Err(unusable_value(option, NO_VARIABLE));
    }
    let name = names::versioned(name.strip_prefix(SCHEME).unwrap_or(name))?;
    Ok(Variable::required(variable, value(name)))
}

fn from_file(path: &Path) -> Result<Vec<Variable>> {
    let shown = printable(&path.display().to_string());
    let failed = |kind, message: String| {
        Error::new(kind, "read the environment file", message).with_target(shown.clone())
    };
    let text = std::fs::read_to_string(path).map_err(|e| failed(Kind::Io, e.to_string()))?;
    let lines =
        dotenv::parse(&text).map_err(|(line, what)| failed(Kind::Usage, format!("line {line}: {what}")))?;
    let value = |line: dotenv::Assignment| {
        let wrong = |what: &str| failed(Kind::Usage, format!("line {}: {what}", line.line));
        let value = match line.value.strip_prefix(SCHEME) {
            Some(name) => Value::Token(names::versioned(name).map_err(|e| wrong(e.message()))?),
            None if line.value.contains(SCHEME) => {
                return Err(wrong(EMBEDDED)
                    .with_hint("make the reference the whole value, or store the whole value as a token"));
            }
            None => Value::Plain(line.value.to_string()),
        };
        Ok(Variable::required(line.variable, value))
    };
    lines.into_iter().map(value).collect()
}

/// Each token once, however many variables it goes into.
fn distinct(variables: &[Variable]) -> Vec<TokenRef> {
    let mut wanted: Vec<TokenRef> = Vec::new();
    for token in variables.iter().filter_map(Variable::token) {
        if !wanted.contains(token) {
            wanted.push(token.clone());
        }
    }
    wanted
}
