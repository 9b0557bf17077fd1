//! The command line: parse, resolve, act, and say what happened.
//!
//! One file per group of commands. A command takes its own arguments and a [`Context`], and answers an error or nothing:
//! what a person or a program gets to see goes through [`Output`], the exit code through [`exit`].

mod agent;
mod ask;
mod context;
mod describe;
mod device;
mod doctor;
mod dotenv;
mod exit;
mod get;
mod grant;
mod harden;
mod import;
mod init;
mod keys;
mod list;
mod log;
mod logging;
mod names;
mod output;
mod put;
mod quiet;
mod reseal;
mod run;
mod shell;
mod show;
mod state;
mod statement;
mod status;
mod survey;
mod table;
mod time;
mod trust;
mod verify;

use clap::{Parser, Subcommand};
use context::Context;
pub use context::Globals;
use output::Output;
use std::ffi::OsString;
use std::process::ExitCode;

/// Keeps tokens so that only a key inside a TPM, an HSM or a YubiKey can open them.
#[derive(Debug, Parser)]
#[command(name = "strongroom", version, after_help = exit::TABLE, max_term_width = 100, propagate_version = true)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = false)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Put(put::Put),
    Get(get::Get),
    Run(run::Run),
    List(list::List),
    Show(show::Show),
    History(log::History),
    Suspend(state::Suspend),
    Resume(state::Resume),
    Revoke(state::Revoke),
    Destroy(state::Destroy),
    Rename(state::Rename),
    Grant(grant::Grant),
    Ungrant(grant::Ungrant),
    Grants(grant::Grants),
    Agent(agent::Agent),
    Unlock(status::Unlock),
    Lock(status::Lock),
    Status(status::Status),
    Import(import::Import),
    Log(log::Log),
    Head(log::Head),
    Verify(verify::Verify),
    Trust(trust::Trust),
    Repair(trust::Repair),
    Reseal(reseal::Reseal),
    Device(device::Device),
    Doctor(doctor::Doctor),
    Man(shell::Man),
    Completions(shell::Completions),
}

/// What every command does.
trait Act {
    fn act(self, context: &mut Context) -> anyhow::Result<()>;
}

/// The whole program.
pub fn main() -> ExitCode {
    quiet::tpm2_tss();
    let hardened = harden::process();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match Cli::try_parse_from(&arguments) {
        Ok(cli) => {
            let output = Output::new(cli.globals.manner());
            let mut context = Context::new(cli.globals, output);
            let done = hardened
                .map_err(anyhow::Error::from)
                .and_then(|()| Ok(logging::start()?))
                .and_then(|()| cli.command.act(&mut context));
            exit::code(&mut context.out, done)
        }
        Err(error) => exit::usage(&mut Output::new(Globals::manner_of(&arguments)), &error),
    }
}

impl Command {
    fn act(self, context: &mut Context) -> anyhow::Result<()> {
        match self {
            Self::Init(command) => command.act(context),
            Self::Put(command) => command.act(context),
            Self::Get(command) => command.act(context),
            Self::Run(command) => command.act(context),
            Self::List(command) => command.act(context),
            Self::Show(command) => command.act(context),
            Self::History(command) => command.act(context),
            Self::Suspend(command) => command.act(context),
            Self::Resume(command) => command.act(context),
            Self::Revoke(command) => command.act(context),
            Self::Destroy(command) => command.act(context),
            Self::Rename(command) => command.act(context),
            Self::Grant(command) => command.act(context),
            Self::Ungrant(command) => command.act(context),
            Self::Grants(command) => command.act(context),
            Self::Agent(command) => command.act(context),
            Self::Unlock(command) => command.act(context),
            Self::Lock(command) => command.act(context),
            Self::Status(command) => command.act(context),
            Self::Import(command) => command.act(context),
            Self::Log(command) => command.act(context),
            Self::Head(command) => command.act(context),
            Self::Verify(command) => command.act(context),
            Self::Trust(command) => command.act(context),
            Self::Repair(command) => command.act(context),
            Self::Reseal(command) => command.act(context),
            Self::Device(command) => command.act(context),
            Self::Doctor(command) => command.act(context),
            Self::Man(command) => command.act(context),
            Self::Completions(command) => command.act(context),
        }
    }
}
