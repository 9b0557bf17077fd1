//! `completions`: what shells want to know of the command line.

use crate::cli::context::Context;
use crate::cli::{Cli, Execute};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Execute for Completions {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "strongroom", &mut script);
        Ok(context.out.bytes(&script)?)
    }
}
