//! `check`: whether every token of a project is there and not closed, without opening any.

use super::variables::Selection;
use crate::cli::Execute;
use crate::cli::context::Context;
use clap::Args;
use serde::Serialize;
use strongroom::integrations::project::Variable;
use strongroom::vault::{TokenBackend, TokenRef, counted};
use strongroom::{Error, Kind, Result};

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    selection: Selection,
}

/// One variable.
#[derive(Serialize)]
struct Row<'a> {
    variable: &'a str,
    token: String,
    required: bool,
    problem: Option<String>,
}

impl Execute for Check {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        context.with_tokens(|tokens, out| {
            let variables = self.selection.resolved(tokens)?;
            let (mut table, mut problems, mut kind) = (out.table(&["VARIABLE", "TOKEN", "PROBLEM"]), 0, None);
            for variable in &variables {
                let Some(token) = variable.token() else { continue };
                let found = problem(tokens, token)?;
                if let Some((what, _)) =
                    found.as_ref().filter(|(what, _)| variable.required || *what != Kind::NotFound)
                {
                    problems += 1;
                    kind.get_or_insert(*what);
                }
                let row = row(variable, token, found.map(|(_, words)| words));
                let cells = [
                    row.variable.to_owned(),
                    row.token.clone(),
                    row.problem.clone().unwrap_or_else(|| "-".into()),
                ];
                out.entry(&mut table, &row, cells)?;
            }
            out.end(table)?;
            match kind {
                None => Ok(()),
                Some(kind) => {
                    let message = format!("{} not available", counted(problems, "token is", "tokens are"));
                    Err(Error::new(kind, "start the project's programs", message).into())
                }
            }
        })
    }
}

fn row<'a>(variable: &'a Variable, token: &TokenRef, problem: Option<String>) -> Row<'a> {
    Row { variable: &variable.name, token: token.to_string(), required: variable.required, problem }
}

/// Why a token would not open.
fn problem(tokens: &mut dyn TokenBackend, token: &TokenRef) -> Result<Option<(Kind, String)>> {
    let view = match tokens.show(&token.name, token.version, &format!("look at {}", token.name)) {
        Ok(view) if view.destroyed => return Ok(Some((Kind::NotFound, "destroyed".into()))),
        Ok(view) => view,
        Err(error) if error.kind() == Kind::NotFound => return Ok(Some((Kind::NotFound, "missing".into()))),
        Err(error) => return Err(error),
    };
    Ok(view.closed.map(|why| (Kind::Refused, why)))
}
