//! `inject`: a template with tokens in their places.

use crate::cli::Execute;
use crate::cli::context::Context;
use crate::cli::tokens::get::write_file;
use crate::cli::tokens::variables::open_each;
use clap::Args;
use std::io::Read;
use std::path::{Path, PathBuf};
use strongroom::error::printable;
use strongroom::integrations::template::{Part, parse, render};
use strongroom::paths::open_regular;
use strongroom::vault::TokenRef;
use strongroom::{Error, Kind, Result, Secret};

/// Longer than any template that somebody wrote.
const MAX_TEMPLATE: u64 = 16 << 20;

#[derive(Debug, Args)]
pub struct Inject {
    /// The template [default: standard input]
    #[arg(long, short, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Write to this file, readable by its owner only [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Execute for Inject {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let shown = self.input.as_deref().map_or("standard input".into(), |path| path.display().to_string());
        let text = self.template()?;
        let parts = parse(&text).map_err(|error| error.with_target(printable(&shown)))?;
        let mut wanted: Vec<TokenRef> = Vec::new();
        for part in &parts {
            if let Part::Token(token) = part
                && !wanted.contains(token)
            {
                wanted.push(token.clone());
            }
        }
        let opened = match wanted.is_empty() {
            true => Vec::new(),
            false => context.with_tokens(|store, out| open_each(store, out, &wanted, |_| true))?,
        };
        let token = |of: &TokenRef| {
            let found = opened.iter().find(|(token, _)| token == of);
            found.map(|(_, secret): &(TokenRef, Secret)| secret.expose()).unwrap_or_default()
        };
        let rendered = Secret::from(render(&parts, token));
        match &self.output {
            Some(path) => Ok(write_file(path, &rendered)?),
            None => Ok(context.out.bytes(rendered.expose())?),
        }
    }
}

impl Inject {
    fn template(&self) -> Result<String> {
        const OPERATION: &str = "read the template";
        let path = self.input.as_deref().filter(|path| *path != Path::new("-"));
        let mut text = String::new();
        let read = match path {
            None => std::io::stdin().lock().take(MAX_TEMPLATE + 1).read_to_string(&mut text),
            Some(path) => {
                open_regular(path).and_then(|file| file.take(MAX_TEMPLATE + 1).read_to_string(&mut text))
            }
        };
        read.map_err(|e| Error::io(OPERATION, path.unwrap_or(Path::new("standard input")), e))?;
        match text.len() as u64 > MAX_TEMPLATE {
            true => Err(Error::new(Kind::Usage, OPERATION, "it is longer than 16 MiB")),
            false => Ok(text),
        }
    }
}
