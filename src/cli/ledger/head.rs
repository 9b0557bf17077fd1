//! `head`: the trust anchor, a line that introduces this store to another machine.

use crate::cli::Execute;
use crate::cli::context::Context;
use clap::Args;
use serde_json::json;

#[derive(Debug, Args)]
pub struct Head {}

impl Execute for Head {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        context.with_vault(|vault, out| {
            let head = vault.head();
            if !out.json_wanted() {
                return Ok(out.line(&head.to_string())?);
            }
            let (store, chain) = (head.store.to_string(), head.position.chain.to_string());
            Ok(out.json(
                &json!({"store": store, "n": head.position.n, "chain": chain, "line": head.to_string()}),
            )?)
        })
    }
}
