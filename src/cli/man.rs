//! `man`: the manual pages, for packagers.

use crate::cli::context::Context;
use crate::cli::{Cli, Execute};
use clap::{Args, CommandFactory};
use std::path::PathBuf;
use strongroom::Error;

#[derive(Debug, Args)]
pub struct Man {
    /// The directory, such as /usr/local/share/man/man1
    directory: Option<PathBuf>,
}

impl Execute for Man {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let Some(directory) = self.directory else {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            return Ok(context.out.bytes(&page)?);
        };
        let failed = |e: std::io::Error| Error::io("write the man pages", &directory, e);
        std::fs::create_dir_all(&directory).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), &directory).map_err(failed)?;
        Ok(())
    }
}
