//! `put`: a new version of a token, from stdin, a file, a prompt or the machine's own randomness.

use crate::cli::args::{names, time};
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::exit::{self, ExitWith};
use crate::cli::output::Output;
use crate::cli::{Execute, confirm};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::json;
use std::ffi::OsString;
use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use strongroom::error::printable;
use strongroom::ledger::Name;
use strongroom::secret::{DEFAULT_TEXT_LENGTH, MAX_TOKEN_BYTES};
use strongroom::vault::{PutOptions, PutReport, TokenBackend, recipients_in_words};
use strongroom::{Error, Kind, Result, Secret};

/// The value of --expires that takes the version before for no example.
const NEVER: &str = "never";

#[derive(Debug, Args)]
pub struct Put {
    /// The token's name: segments of A-Z a-z 0-9 . _ - + : with / between them
    #[arg(add = ArgValueCompleter::new(completions::names))]
    name: String,
    /// The length for --generate. Anything else here is likely a token, which is refused.
    #[arg(hide = true)]
    extra: Option<OsString>,
    /// Read the token from this file
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    file: Option<PathBuf>,
    /// Make a random token of LEN letters and digits, 32 by default, and do not show it
    #[arg(long, value_name = "LEN", num_args = 0..=1, require_equals = true)]
    generate: Option<Option<usize>>,
    /// Leave out one newline at the end
    #[arg(long, conflicts_with = "generate")]
    trim: bool,
    /// A label; if any is given, they replace those of the version before
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// What the token is for; holds no secret
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[arg(long, value_name = "TIME", help = format!("Refuse to open it from then on: {}, or never", time::FORMS))]
    expires: Option<String>,
    /// Refuse to open it before then
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,
    /// Keep this many versions openable, and close older ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep: Option<u64>,
    /// Store it without putting it into use: `strongroom resume NAME@VERSION` does that
    #[arg(long)]
    staged: bool,
    /// Seal it to this device only; may be given several times [default: every device with the role `open`]
    #[arg(long, value_name = "DEVICE")]
    only: Vec<String>,
    /// How many devices must open it together: so many of those that it is sealed to [default: as many as for the version
    /// before, and as the settings ask for]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=254))]
    threshold: Option<u64>,
}

impl Execute for Put {
    fn execute(mut self, context: &mut Context) -> anyhow::Result<()> {
        self.take_detached_length()?;
        let name = names::name(&self.name)?;
        if self.extra.is_some() {
            return Err(as_argument(&name).into());
        }
        let options = self.options()?;
        context.with_tokens(|tokens, out| {
            let operation = format!("put {name}");
            let token = self.token(&operation)?;
            if self.generate.is_none() && !self.trim && ends_like_echo(&token) {
                out.warn("the token ends with a newline, which is now part of it; --trim leaves it out");
            }
            let report = match self.is_typed() {
                true => put_typed(tokens, out, &name, &token, &options)?,
                false => tokens.put(&name, &token, &options)?,
            };
            let (version, recipients, threshold) = (report.version, &report.recipients, report.threshold);
            let sealed_to = recipients_in_words(recipients, threshold, ", ");
            let expires = match (report.expires, options.expiry) {
                (None, _) => String::new(),
                (Some(at), Some(_)) => format!(", expires {}", time::rfc3339_secs(at)),
                (Some(at), None) => format!(
                    ", expires {} (as long after its put as the version before; --expires changes that)",
                    time::rfc3339_secs(at)
                ),
            };
            let object = json!({
                "name": name.as_str(), "version": version, "token_id": report.token.to_string(), "recipients": recipients,
                "threshold": threshold, "expires": report.expires.map(time::rfc3339_millis),
            });
            Ok(out.done(&object, &format!("{name}: version {version}, sealed to {sealed_to}{expires}"))?)
        })
    }
}

impl Put {
    /// `--generate 40` means `--generate=40`, before the name and after it.
    ///
    /// # Errors
    /// `Usage` for a number alone, which is most likely a length without a name.
    fn take_detached_length(&mut self) -> Result<()> {
        let Some(None) = self.generate else { return Ok(()) };
        let length = self.name.parse::<usize>();
        let Some(extra) = self.extra.as_ref().and_then(|extra| extra.to_str()) else {
            let message = "a number is a length for --generate, and the token's name is missing";
            let hint = format!("to give a token this name: `strongroom put {} --generate=LEN`", self.name);
            let alone = length.is_ok() && self.extra.is_none();
            return if alone {
                Err(Error::new(Kind::Usage, "put a token", message).with_hint(hint))
            } else {
                Ok(())
            };
        };
        if let Ok(length) = extra.parse() {
            (self.generate, self.extra) = (Some(Some(length)), None);
        } else if let Ok(length) = length {
            (self.generate, self.name, self.extra) = (Some(Some(length)), extra.to_owned(), None);
        }
        Ok(())
    }

    fn options(&self) -> Result<PutOptions> {
        Ok(PutOptions {
            labels: (!self.labels.is_empty()).then(|| names::labels(&self.labels)).transpose()?,
            description: self
                .description
                .as_deref()
                .map(|text| names::text("--description", text))
                .transpose()?,
            not_before: self
                .not_before
                .as_deref()
                .map(|at| time::timestamp("--not-before", at))
                .transpose()?,
            never_expires: self.expires.as_deref() == Some(NEVER),
            expiry: self
                .expires
                .as_deref()
                .filter(|at| *at != NEVER)
                .map(|at| time::future("--expires", at))
                .transpose()?,
            keep: self.keep,
            staged: self.staged,
            only: self.only.clone(),
            threshold: self.threshold,
        })
    }

    /// Whether a person types the token.
    fn is_typed(&self) -> bool {
        let from_input =
            self.generate.is_none() && self.file.as_deref().is_none_or(|path| path == Path::new("-"));
        from_input && std::io::stdin().is_terminal()
    }

    fn token(&self, operation: &str) -> Result<Secret> {
        let token = match (self.generate, &self.file) {
            (Some(length), _) => return generate(length.unwrap_or(DEFAULT_TEXT_LENGTH), operation),
            (None, Some(path)) if path != Path::new("-") => from_file(path, operation)?,
            _ if self.is_typed() => confirm::ask_new_token(operation, &self.name)?,
            _ => Secret::read_from(std::io::stdin().lock(), operation)?,
        };
        let token = if self.trim { trimmed(&token) } else { token };
        match token.is_empty() {
            true => Err(Error::new(Kind::Usage, operation, "the token is empty")
                .with_hint("give it on standard input or with --file, or make one with --generate")),
            false => Ok(token),
        }
    }
}

/// A token that was typed is nowhere else: it is kept for another try, if the person wants one.
fn put_typed(
    tokens: &mut dyn TokenBackend,
    out: &mut Output,
    name: &Name,
    token: &Secret,
    options: &PutOptions,
) -> anyhow::Result<PutReport> {
    use Kind::{Device, DeviceGone, PinLocked, PinUnavailable, PinWrong, Store};
    loop {
        let error = match tokens.put(name, token, options) {
            Ok(report) => return Ok(report),
            Err(error) => error,
        };
        if !matches!(error.kind(), Device | DeviceGone | PinLocked | PinUnavailable | PinWrong | Store) {
            return Err(error.into());
        }
        out.error(&error);
        let again = confirm::ask_yes_no("Try again with the token that you typed?")?;
        if again != Some(true) {
            return Err(ExitWith(exit::code_of(error.kind())).into());
        }
        tokens.forget_pins();
    }
}

/// The token itself is not repeated.
fn as_argument(name: &Name) -> Error {
    let message = "a token cannot be given as an argument: every user of this machine sees arguments, and shells keep them";
    let hint =
        format!("if it was a real one, change it; then run `strongroom put {name}` and type it when asked");
    Error::new(Kind::Usage, format!("put {name}"), message).with_hint(hint)
}

fn from_file(path: &Path, operation: &str) -> Result<Secret> {
    let file = File::open(path).map_err(|e| Error::io(operation, path, e))?;
    Secret::read_from(file, operation).map_err(|e| e.with_target(printable(&path.display().to_string())))
}

fn trimmed(token: &Secret) -> Secret {
    let bytes = token.expose();
    let line = bytes.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Secret::new(line.unwrap_or(bytes).to_vec())
}

/// One line of text with a newline, which was most likely not intended. Files of several lines are expected to end with one.
fn ends_like_echo(token: &Secret) -> bool {
    let bytes = token.expose();
    bytes.iter().position(|b| *b == b'\n') == Some(bytes.len() - 1) && std::str::from_utf8(bytes).is_ok()
}

fn generate(length: usize, operation: &str) -> Result<Secret> {
    if !(1..=MAX_TOKEN_BYTES).contains(&length) {
        return Err(Error::new(
            Kind::Usage,
            operation,
            format!("--generate makes 1 to {MAX_TOKEN_BYTES} letters and digits"),
        ));
    }
    Secret::random_text(length).map_err(|e| e.with_operation(operation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_tokens_have_the_length_and_the_alphabet() {
        for length in [1, 32, 1000] {
            let token = generate(length, "").unwrap();
            assert_eq!(token.len(), length);
            assert!(token.expose().iter().all(u8::is_ascii_alphanumeric));
        }
        assert!(generate(0, "").is_err() && generate(MAX_TOKEN_BYTES + 1, "").is_err());
    }

    #[test]
    fn every_letter_comes_up_about_as_often() {
        let token = generate(62_000, "").unwrap();
        for letter in b'0'..=b'9' {
            let count = token.expose().iter().filter(|b| **b == letter).count();
            assert!((800..1200).contains(&count), "{}: {count}", char::from(letter));
        }
    }

    #[test]
    fn one_newline_is_trimmed() {
        for (before, after) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("\n", "")] {
            assert_eq!(trimmed(&Secret::new(before.into())).expose(), after.as_bytes());
        }
        for (text, echo) in [("a\n", true), ("a", false), ("a\nb\n", false), ("\n", true)] {
            assert_eq!(ends_like_echo(&Secret::new(text.into())), echo, "{text:?}");
        }
    }
}
