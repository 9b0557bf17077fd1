//! The command line: parse, resolve, act, and say what happened.
//!
//! One file per group of commands. A command takes its own arguments and a [`Context`], and answers an error or nothing:
//! what a person or a program gets to see goes through [`Output`], the exit code through [`exit`].

mod agent;
mod args;
mod completions;
mod confirm;
mod context;
mod devices;
mod doctor;
mod exit;
mod grants;
mod init;
mod ledger;
mod man;
mod output;
mod process;
#[cfg(all(test, feature = "agent"))]
mod reference;
mod tokens;

use args::Deferred;
use clap::{Parser, Subcommand};
use context::Context;
pub use context::Globals;
use output::Output;
use process::{hardening, logging, tss_log};
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
    /// Create a store, with this machine's device as its first
    ///
    /// Finds or creates two keys in the device, one that opens and one that signs, checks the evidence that they cannot
    /// leave it, proves that they work, and writes the store's first statements. The device goes into config.toml.
    Init(Deferred<init::Init>),
    /// Store a token: a new one, or a new version of one
    ///
    /// The token is read from standard input, or asked for (twice, unseen) when that is a terminal. Standard input and
    /// files are taken byte for byte: a newline at the end, as `echo` adds one, becomes part of the token unless --trim
    /// is given. Use `printf %s`, or --trim.
    ///
    /// What is not given is taken over from the version before: labels, description and --keep; not the times.
    Put(Deferred<tokens::put::Put>),
    /// Open a token and print it
    ///
    /// Its bytes as they were put; on a terminal a newline follows. Without a version, the newest that is not staged.
    Get(Deferred<tokens::get::Get>),
    /// Start a program with tokens in its environment or in memory-backed files
    ///
    /// Every token is opened before anything is started, each once; if one cannot be opened, nothing is started. Strongroom
    /// then becomes the program: signals, terminal and exit code are the program's own.
    ///
    /// The environment of a process can be read by its user and by root, and is handed to its children; files do not show
    /// up there.
    Run(Deferred<tokens::run::Run>),
    /// List tokens
    ///
    /// Each with its newest version. Into a pipe: columns with tabs between them and no header. With --json: one object
    /// for each line.
    List(Deferred<tokens::list::List>),
    /// Show a token's metadata, versions, recipients and grants
    ///
    /// With --sealed, the sealed bytes as they lie in the store go to standard output: an age file, which any age
    /// implementation opens that reaches the same hardware.
    Show(Deferred<tokens::show::Show>),
    /// Show the statements that changed a token, oldest first
    History(Deferred<ledger::log::History>),
    /// Close a token, or one of its versions, for now
    Suspend(Deferred<tokens::state::Suspend>),
    /// Open what was suspended again, or put a staged version into use
    Resume(Deferred<tokens::state::Resume>),
    /// Close a token, or one of its versions, for ever
    ///
    /// It takes effect at once, for every machine that follows the store. What was read before is known to its readers:
    /// have the issuer of the token refuse it too.
    Revoke(Deferred<tokens::state::Revoke>),
    /// Delete the sealed bytes of a token, or of one of its versions
    ///
    /// It cannot be undone. The statements that told of it stay. Needs the role `admin`.
    Destroy(Deferred<tokens::destroy::Destroy>),
    /// Give a token another name
    ///
    /// Its versions, states and grants stay. The old name is free again, and inherits nothing.
    Rename(Deferred<tokens::rename::Rename>),
    /// Let an application have a token, or all tokens under a prefix, from the agent
    ///
    /// A grant is signed like every change, and stands in the ledger. What nobody was granted, the agent gives to nobody
    /// but its owner.
    Grant(Deferred<grants::Grant>),
    /// Take a grant back; it takes effect at once, also in agents
    Ungrant(Deferred<grants::Ungrant>),
    /// List the grants that stand
    Grants(Deferred<grants::Grants>),
    /// Serve tokens to applications on a Unix socket
    ///
    /// It stays in the foreground, owns the devices, and gives each application what it was granted. The service manager's
    /// sockets are used where it hands some over. SIGHUP has it read the configuration again, SIGTERM finish what was begun.
    #[cfg(feature = "agent")]
    Agent(Deferred<agent::serve::Agent>),
    /// Unlock a device of the agent: its PIN once, then it stays logged in
    ///
    /// Until `strongroom lock`, an idle time, or its removal. Without a terminal the PIN is read from standard input.
    Unlock(Deferred<agent::unlock::Unlock>),
    /// Have the agent log all devices out, and forget PINs and cached tokens, at once
    Lock(Deferred<agent::unlock::Lock>),
    /// Show how the agent and its devices are
    Status(Deferred<agent::status::Status>),
    /// Store many tokens at once, with one signature for up to 10,000
    ///
    /// jsonl: one object for each line, {"name": "prod/db", "value": "text"} or "base64" in place of "value"; also "labels"
    /// (an object), "description" and "expires". env: VAR=value lines; the variable is the name.
    Import(Deferred<tokens::import::Import>),
    /// Show the ledger, newest first; with --access, who read what
    ///
    /// The ledger is signed and verified. The access log is what the reading machines wrote down: one that cheats can
    /// leave itself out.
    Log(Deferred<ledger::log::Log>),
    /// Print the line that introduces this store to another machine
    ///
    /// It holds the store's id and the verified position. Bring it to the other machine by a way you trust, and give it to
    /// `strongroom trust` there.
    Head(Deferred<ledger::head::Head>),
    /// Verify everything, from the first statement on
    ///
    /// Signatures, roles and order of all statements; the replica against the store; the bytes of every sealed token; the
    /// chain of the access log. Every problem is listed with its place, and the exit code is 7 if there is one.
    Verify(Deferred<ledger::verify::Verify>),
    /// Believe a store that this machine never met
    ///
    /// LINE is what `strongroom head` prints on a machine that knows the store, or the store's id alone. Everything else is
    /// verified against it, so get it by a way you trust, never from the store itself.
    Trust(Deferred<ledger::trust::Trust>),
    /// Set aside the end of a store that cannot be verified
    ///
    /// What this machine can verify stays. What follows is kept in the file for whoever investigates, and has no effect any
    /// more, for nobody. Needs the role `admin`.
    Repair(Deferred<ledger::repair::Repair>),
    /// Seal tokens that are there to the devices that should open them now
    ///
    /// To every device with the role `open`; what was put with --only stays with the devices it was put for. That is told from
    /// the ledger: a version that was sealed to every such device of its time is meant for all, also when --only named just
    /// these. Revoked and destroyed versions are left alone.
    ///
    /// Needs a device that opens the tokens and an admin device that signs. May be broken off and run again: at every moment each
    /// token opens with the devices of before or with those of after.
    Reseal(Deferred<devices::reseal::Reseal>),
    /// Show and change the enrolled devices
    Device(devices::Device),
    /// Say which hardware, modules, services and permissions are there, and what is missing
    ///
    /// The exit code is 0 unless something that is configured does not work.
    Doctor(Deferred<doctor::Doctor>),
    /// Print the man page, or write those of all commands into a directory
    Man(Deferred<man::Man>),
    /// Print completions for a shell
    ///
    /// For bash: `strongroom completions bash >/etc/bash_completion.d/strongroom`.
    Completions(Deferred<completions::Completions>),
}

/// Executes the variant that there is.
macro_rules! dispatch {
    ($command:expr, $context:expr, $($(#[$meta:meta])* $variant:ident)*) => {
        match $command { $($(#[$meta])* Self::$variant(command) => command.execute($context)),* }
    };
}

/// What every command does.
trait Execute {
    fn execute(self, context: &mut Context) -> anyhow::Result<()>;
}

/// The whole program.
pub fn main() -> ExitCode {
    tss_log::silence();
    let hardened = hardening::apply();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match Cli::try_parse_from(&arguments) {
        Ok(cli) => {
            let output = Output::new(cli.globals.output_options());
            let mut context = Context::new(cli.globals, output);
            let done = hardened
                .map_err(anyhow::Error::from)
                .and_then(|()| Ok(logging::start()?))
                .and_then(|()| cli.command.execute(&mut context));
            exit::code(&mut context.out, done)
        }
        Err(error) => exit::usage(&mut Output::new(Globals::output_options_of(&arguments)), &error),
    }
}

impl Command {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        dispatch!(self, context, Init Put Get Run List Show History Suspend Resume Revoke Destroy Rename Grant Ungrant
            Grants #[cfg(feature = "agent")] Agent Unlock Lock Status Import Log Head Verify Trust Repair Reseal Device
            Doctor Man Completions)
    }
}
