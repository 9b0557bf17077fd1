//! Arguments that are described to the parser only when their command is the one that was typed.
//!
//! Every start of the program would otherwise build the descriptions of all commands, which takes longer than parsing does.
//! What a listing of commands shows of one, its summary, therefore stands at its variant.

use crate::cli::Execute;
use crate::cli::context::Context;
use clap::builder::{Resettable, StyledStr};
use clap::{ArgMatches, Args, Command, Error, FromArgMatches};

/// The arguments of one command.
#[derive(Debug)]
pub struct LazyArgs<T>(T);

impl<T: Execute> Execute for LazyArgs<T> {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        self.0.execute(context)
    }
}

impl<T: FromArgMatches> FromArgMatches for LazyArgs<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches_mut(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl<T: Args> Args for LazyArgs<T> {
    fn augment_args(command: Command) -> Command {
        command.defer(|command| as_before(command, T::augment_args))
    }

    fn augment_args_for_update(command: Command) -> Command {
        command.defer(|command| as_before(command, T::augment_args_for_update))
    }
}

/// Arguments that several commands share have descriptions too, which are not the command's.
fn as_before(command: Command, augment: fn(Command) -> Command) -> Command {
    let kept = |text: Option<&StyledStr>| text.cloned().map_or(Resettable::Reset, Resettable::Value);
    let (about, long) = (kept(command.get_about()), kept(command.get_long_about()));
    augment(command).about(about).long_about(long)
}
