//! `env`: variables as a shell reads them, for direnv and `eval`.

use super::variables::Selection;
use crate::cli::Execute;
use crate::cli::context::Context;
use clap::Args;
use serde_json::{Map, json};
use strongroom::integrations::project::Value;
use strongroom::{Error, Kind, Result};
use zeroize::Zeroizing;

#[derive(Debug, Args)]
pub struct Env {
    #[command(flatten)]
    selection: Selection,
}

impl Execute for Env {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        if context.out.to_terminal() {
            context.out.warn("this shows tokens on the terminal; `eval \"$(strongroom env)\"` does not");
        }
        let opened = self.selection.open(context)?;
        let mut values = Vec::new();
        for variable in &opened.variables {
            let value = match &variable.value {
                Value::Plain(text) => Zeroizing::new(text.clone()),
                Value::Token(of) => text_of(&variable.name, opened.token(of))?,
                Value::File(_) => {
                    let error = Error::new(
                        Kind::Usage,
                        format!("print {}", variable.name),
                        "it is a file, which lives as long as the program that it is for",
                    );
                    return Err(error.with_hint("use `strongroom run`, or make it a `token`").into());
                }
            };
            values.push((&variable.name, value));
        }
        if context.out.json_wanted() {
            let object: Map<_, _> =
                values.iter().map(|(name, value)| ((*name).clone(), json!(value.as_str()))).collect();
            return Ok(context.out.json(&object)?);
        }
        for (name, value) in values {
            let line = Zeroizing::new(format!("export {name}={}\n", *quoted(&value)));
            context.out.bytes(line.as_bytes())?;
        }
        Ok(())
    }
}

fn text_of(variable: &str, token: &[u8]) -> Result<Zeroizing<String>> {
    let text = std::str::from_utf8(token).ok().filter(|text| !text.contains('\0'));
    let text = text.ok_or_else(|| {
        Error::new(Kind::Usage, format!("print {variable}"), "the token is not text")
            .with_hint(format!("give it as a file: `strongroom run --file {variable}=NAME`"))
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// In single quotes, where a shell changes nothing (POSIX.1-2024, 2.2.2).
fn quoted(value: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(value.len() * 4 + 2));
    text.push('\'');
    for c in value.chars() {
        if c == '\'' { text.push_str("'\\''") } else { text.push(c) }
    }
    text.push('\'');
    text
}
