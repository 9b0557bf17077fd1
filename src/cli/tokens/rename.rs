//! `rename`: gives a token another name.

use crate::cli::Execute;
use crate::cli::args::names;
use crate::cli::completions;
use crate::cli::context::Context;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::json;

#[derive(Debug, Args)]
pub struct Rename {
    /// The name it has
    #[arg(add = ArgValueCompleter::new(completions::names))]
    from: String,
    /// The name it gets
    to: String,
}

impl Execute for Rename {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let (from, to) = (names::name(&self.from)?, names::name(&self.to)?);
        context.with_tokens(|tokens, out| {
            tokens.rename(&from, &to)?;
            let object = json!({"from": from.as_str(), "to": to.as_str()});
            Ok(out.done(&object, &format!("{from}: renamed to {to}"))?)
        })
    }
}
