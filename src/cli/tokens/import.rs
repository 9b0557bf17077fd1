//! `import`: many tokens at once, from JSON lines or a `.env` file.

use super::dotenv;
use crate::cli::Execute;
use crate::cli::args::{names, time};
use crate::cli::context::Context;
use crate::cli::output::Output;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use strongroom::error::printable;
use strongroom::integrations::project::FILE_NAME;
use strongroom::ledger::Prefix;
use strongroom::secret::MAX_TOKEN_BYTES;
use strongroom::vault::counted;
use strongroom::vault::{ImportItem, Imported, PutOptions, TokenBackend};
use strongroom::{Error, Kind, Result, Secret};
use zeroize::Zeroizing;

/// Longer than any line that holds a token: 1 MiB in base64 or with every byte escaped, and its metadata.
const MAX_LINE: u64 = 8 << 20;

/// Longer than any `.env` file that somebody wrote.
const MAX_ENV: u64 = 64 << 20;

#[derive(Debug, Args)]
pub struct Import {
    /// The file; standard input by default or for -
    file: Option<PathBuf>,
    /// Its format [default: env for *.env and .env*, else jsonl]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Put the names below this prefix
    #[arg(long)]
    prefix: Option<String>,
    /// Make a new version of every token, also of those that have this value already, and open none to compare
    #[arg(long)]
    all: bool,
    /// Store nothing: list the names, and whether there is such a token already
    #[arg(long)]
    dry_run: bool,
    /// Of an env file: write strongroom.toml, by which `run` sets the same variables
    #[arg(long)]
    write_project: bool,
}

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON lines
    Jsonl,
    /// VAR=value lines
    Env,
}

/// A line of JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    #[serde(default, deserialize_with = "wiped")]
    value: Option<Zeroizing<String>>,
    #[serde(default, deserialize_with = "wiped")]
    base64: Option<Zeroizing<String>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    description: Option<String>,
    expires: Option<String>,
}

fn wiped<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Zeroizing<String>>, D::Error> {
    Ok(Option::deserialize(value)?.map(Zeroizing::new))
}

/// The file being read, for errors and progress.
struct Source {
    shown: String,
    length: u64,
    read: Cell<u64>,
}

impl Execute for Import {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let prefix = self.prefix.as_deref().map(names::prefix).transpose()?.unwrap_or_default();
        let below = match prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        if self.write_project {
            check_no_project()?;
        }
        let path = self.file.as_deref().filter(|path| *path != Path::new("-"));
        let (source, reader) = open(path)?;
        let format = self.format.unwrap_or_else(|| format_of(path));
        if self.write_project && format != Format::Env {
            return Err(Error::new(
                Kind::Usage,
                "write the project file",
                "its variables are those of an env file",
            )
            .with_hint("say --format env, if it is one")
            .into());
        }
        let items: Box<dyn Iterator<Item = Result<ImportItem>>> = match format {
            Format::Jsonl => Box::new(json_lines(&source, BufReader::new(reader), &below)),
            Format::Env => Box::new(env_lines(&source, reader, &below)?),
        };
        if self.dry_run {
            return context.with_tokens(|tokens, out| list(items, tokens, out));
        }
        let names = RefCell::new(Vec::new());
        let noted = |item: &Result<ImportItem>| {
            names.borrow_mut().extend(item.as_ref().ok().map(|item| item.name.to_string()));
        };
        let mut items = items.inspect(noted);
        context.with_tokens(|tokens, out| {
            let (mut progress, mut so_far) = (out.progress(), Imported::default());
            let imported = tokens.import(&mut items, !self.all, &mut |imported| {
                so_far = imported;
                progress("importing", source.read.get(), source.length);
            });
            let done = imported.inspect_err(|_| {
                if so_far.tokens > 0 {
                    let stored = counted(so_far.tokens, "token was", "tokens were");
                    out.warn(&format!("{stored} stored before this; the rest is not"));
                }
            })?;
            let tokens = counted(done.tokens, "token", "tokens");
            let signatures = counted(done.batches, "signature", "signatures");
            let same =
                if done.unchanged > 0 { format!(", {} unchanged", done.unchanged) } else { String::new() };
            let object = json!({"tokens": done.tokens, "unchanged": done.unchanged, "batches": done.batches});
            Ok(out.done(&object, &format!("imported {tokens} with {signatures}{same}"))?)
        })?;
        if self.write_project {
            write_project(&prefix, &below, &names.borrow())?;
            context.out.info(&format!("wrote {FILE_NAME}: `strongroom run -- COMMAND` sets its variables"));
        }
        Ok(())
    }
}

/// What would be stored.
fn list(
    items: impl Iterator<Item = Result<ImportItem>>,
    tokens: &mut dyn TokenBackend,
    out: &mut Output,
) -> anyhow::Result<()> {
    let mut table = out.table(&["NAME", "THERE"]);
    for item in items {
        let name = item?.name;
        let there = match tokens.expect(&name, &format!("look for {name}")) {
            Ok(()) => true,
            Err(error) if error.kind() == Kind::NotFound => false,
            Err(error) => return Err(error.into()),
        };
        let cells = [name.to_string(), (if there { "yes" } else { "no" }).to_owned()];
        out.entry(&mut table, &json!({"name": name.as_str(), "there": there}), cells)?;
    }
    Ok(out.end(table)?)
}

/// Fails where there is a project file: nobody's is overwritten.
fn check_no_project() -> Result<()> {
    match Path::new(FILE_NAME).symlink_metadata() {
        Ok(_) => Err(Error::new(Kind::Usage, "write the project file", "it is there already")
            .with_target(FILE_NAME)
            .with_hint("add the variables to it, or move it away")),
        Err(_) => Ok(()),
    }
}

fn write_project(prefix: &Prefix, below: &str, names: &[String]) -> Result<()> {
    let variables: BTreeSet<&str> = names.iter().filter_map(|name| name.strip_prefix(below)).collect();
    // Names and prefixes hold nothing that TOML would read as anything else.
    let lines: String = variables.iter().map(|variable| format!("{variable} = \"{variable}\"\n")).collect();
    let prefix =
        if prefix.as_str().is_empty() { String::new() } else { format!("prefix = \"{prefix}\"\n\n") };
    let text = format!("{prefix}[profile.default]\n{lines}");
    let written = File::create_new(FILE_NAME).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|e| Error::io("write the project file", Path::new(FILE_NAME), e))
}

fn open(path: Option<&Path>) -> Result<(Source, Box<dyn Read>)> {
    let Some(path) = path else {
        let source = Source { shown: "standard input".into(), length: 0, read: Cell::default() };
        return Ok((source, Box::new(std::io::stdin())));
    };
    let shown = printable(&path.display().to_string());
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (length, file) = opened.map_err(|e| Error::io("import tokens", path, e))?;
    Ok((Source { shown, length, read: Cell::default() }, Box::new(file)))
}

fn format_of(path: Option<&Path>) -> Format {
    let name =
        path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name.ends_with(".env") || name.starts_with(".env") { Format::Env } else { Format::Jsonl }
}

impl Source {
    /// An error that names the line and nothing of what is in it.
    fn wrong(&self, line: usize, what: impl Into<String>) -> Error {
        Error::new(Kind::Usage, format!("import line {line}"), what).with_target(self.shown.clone())
    }

    fn unreadable(&self, error: std::io::Error) -> Error {
        Error::new(Kind::Io, "import tokens", error.to_string())
            .with_target(self.shown.clone())
            .caused_by(error)
    }

    /// The item of a line, once its name and its length are in order.
    fn item(&self, line: usize, name: &str, token: Secret, options: PutOptions) -> Result<ImportItem> {
        let name = names::name(name).map_err(|e| self.wrong(line, e.message()))?;
        match token.len() {
            0 => Err(self.wrong(line, "the token is empty")),
            n if n > MAX_TOKEN_BYTES => Err(self.wrong(line, "a token holds at most 1 MiB")),
            _ => Ok(ImportItem { name, token, options }),
        }
    }
}

fn json_lines<'a>(
    source: &'a Source,
    mut reader: BufReader<impl Read + 'a>,
    below: &'a str,
) -> impl Iterator<Item = Result<ImportItem>> + 'a {
    let mut number = 0;
    std::iter::from_fn(move || {
        loop {
            let mut bytes = Zeroizing::new(Vec::new());
            number += 1;
            match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut bytes) {
                Err(error) => return Some(Err(source.unreadable(error))),
                Ok(0) => return None,
                Ok(n) => source.read.set(source.read.get() + n as u64),
            }
            if bytes.len() as u64 == MAX_LINE {
                return Some(Err(source.wrong(number, "it is too long to be a token")));
            }
            if !bytes.trim_ascii().is_empty() {
                return Some(json_line(source, number, &bytes, below));
            }
        }
    })
}

fn json_line(source: &Source, number: usize, bytes: &[u8], below: &str) -> Result<ImportItem> {
    // The parser's own words may repeat a value.
    let line: Line = serde_json::from_slice(bytes).map_err(|e| {
        let what = if e.is_data() { "is not an object of the known form" } else { "is not JSON" };
        source.wrong(number, format!("it {what} (at byte {})", e.column())).with_hint(
            "write {\"name\": \"prod/db\", \"value\": \"...\"}; also base64, labels, description, expires",
        )
    })?;
    let token = match (&line.value, &line.base64) {
        (Some(value), None) => Secret::new(value.as_bytes().to_vec()),
        (None, Some(base64)) => Secret::new(
            STANDARD
                .decode(base64.as_bytes())
                .map_err(|_| source.wrong(number, "its base64 is not base64"))?,
        ),
        _ => return Err(source.wrong(number, "it needs one of value and base64")),
    };
    let labels: Vec<String> = line.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let options = PutOptions {
        labels: (!labels.is_empty())
            .then(|| names::labels(&labels))
            .transpose()
            .map_err(|e| source.wrong(number, e.message()))?,
        description: line.description,
        expiry: line
            .expires
            .map(|at| time::future("expires", &at))
            .transpose()
            .map_err(|e| source.wrong(number, e.message()))?,
        ..PutOptions::default()
    };
    source.item(number, &format!("{below}{}", line.name), token, options)
}

fn env_lines<'a, R: Read>(
    source: &'a Source,
    reader: R,
    below: &'a str,
) -> Result<impl Iterator<Item = Result<ImportItem>> + use<'a, R>> {
    let mut text = Zeroizing::new(String::new());
    reader.take(MAX_ENV).read_to_string(&mut text).map_err(|e| source.unreadable(e))?;
    let assignments = dotenv::parse(&text).map_err(|(line, what)| source.wrong(line, what))?;
    source.read.set(source.length);
    Ok(assignments.into_iter().map(move |assignment| {
        let token = Secret::new(assignment.value.as_bytes().to_vec());
        source.item(assignment.line, &format!("{below}{}", assignment.variable), token, PutOptions::default())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        Source { shown: "tokens.jsonl".into(), length: 0, read: Cell::default() }
    }

    #[test]
    fn lines_become_tokens() {
        let text = "{\"name\":\"a\",\"value\":\"x\\ny\",\"labels\":{\"env\":\"prod\"}}\n\n{\"name\":\"b\",\"base64\":\"AP8=\"}";
        let source = source();
        let items: Vec<_> =
            json_lines(&source, BufReader::new(text.as_bytes()), "p/").collect::<Result<_>>().unwrap();
        assert_eq!(items[0].name.as_str(), "p/a");
        assert_eq!(items[0].token.expose(), b"x\ny");
        assert_eq!(items[0].options.labels, Some(vec![("env".into(), "prod".into())]));
        assert_eq!(items[1].token.expose(), b"\x00\xff");
    }

    #[test]
    fn what_is_wrong_is_placed_and_not_repeated() {
        for bad in [
            "s3cret",
            "\"s3cret\"",
            "{\"name\":\"a\",\"value\":[\"s3cret\"]}",
            "{\"name\":\"a\",\"s3cret\":1}",
            "{\"name\":\"a\",\"base64\":\"s3cret!\"}",
            "{\"name\":\"a\"}",
            "{\"name\":\"a\",\"value\":\"s3cret\",\"base64\":\"\"}",
            "{\"name\":\"../s3cret\",\"value\":\"x\"}",
            "{\"name\":\"a\",\"value\":\"\"}",
            "{\"name\":\"a\",\"value\":\"s3cret\",\"expires\":\"soon\"}",
        ] {
            let error = json_line(&source(), 7, bad.as_bytes(), "").unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{bad}");
            assert!(
                error.to_string().contains("import line 7: tokens.jsonl")
                    && !error.to_string().contains("s3cret"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_format_follows_the_name() {
        for (name, format) in [("a.env", Format::Env), (".env.local", Format::Env), ("a.json", Format::Jsonl)]
        {
            assert_eq!(format_of(Some(Path::new(name))), format);
        }
        assert_eq!(format_of(None), Format::Jsonl);
    }
}
