//! The command line: parse, resolve, execute, report.
//!
//! One file per command, by subject. A command takes its arguments and a [`Context`], and returns an error or nothing.
//! What it prints goes through [`Output`], its exit code through [`exit`].

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
mod integrations;
mod ledger;
mod man;
mod output;
mod process;
#[cfg(all(test, feature = "agent"))]
mod reference;
mod report;
mod rotation;
#[cfg(feature = "postgres")]
mod store;
mod tokens;

use args::LazyArgs;
use clap::{Parser, Subcommand};
use context::Context;
pub use context::Globals;
use integrations::link::by_name;
use output::{Output, OutputOptions};
use process::{hardening, logging, tss_log};
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
    /// Finds or creates two keys in the device: one opens tokens, one signs changes. Checks the evidence that they cannot
    /// leave it, tests them, and writes the store's first statements. Adds the device to config.toml.
    Init(LazyArgs<init::Init>),
    /// Store a token, or a new version of one
    ///
    /// Reads the token from standard input. On a terminal, asks for it twice and does not show it. Standard input and files
    /// are taken byte for byte: the newline that `echo` adds becomes part of the token. Use `printf %s`, or --trim.
    ///
    /// Labels, description and --keep are taken over from the version before, where they are not given. If that one expires,
    /// the new one expires as long after its put; --expires changes that. --not-before is not taken over.
    Put(LazyArgs<tokens::put::Put>),
    /// Change a token in an editor
    ///
    /// Runs $VISUAL or $EDITOR on a file in memory, and stores what it left as the next version. Takes away the newline that
    /// editors add.
    Edit(LazyArgs<tokens::edit::Edit>),
    /// Open a token and print it
    ///
    /// Prints the bytes as they were put, and a newline on a terminal. Without a version, opens the newest that came into use.
    Get(LazyArgs<tokens::get::Get>),
    /// Start a program with tokens in its environment or in files in memory
    ///
    /// Opens every token once, before it starts anything. If one cannot be opened, nothing is started. Strongroom then
    /// becomes the program: signals, terminal and exit code are the program's own.
    ///
    /// A process's environment can be read by its user and by root, and its children inherit it. A file is an open
    /// descriptor that children inherit, too, unless they close it (as ssh and Python's subprocess do).
    ///
    /// Without options that name tokens, takes the profile `default` of strongroom.toml, here or in a directory above.
    Run(LazyArgs<tokens::run::Run>),
    /// Print a project's variables for a shell, quoted
    ///
    /// For direnv, or for `eval "$(strongroom env)"`. Takes the same tokens as `run`.
    Env(LazyArgs<tokens::env::Env>),
    /// Check that a project's tokens are there and not closed
    ///
    /// Opens none, and asks no device. Takes the same tokens as `run`.
    Check(LazyArgs<tokens::check::Check>),
    /// List tokens
    ///
    /// Shows the newest version of each. In a pipe, prints columns with tabs between them and no header. With --json, prints
    /// one object per line.
    List(LazyArgs<tokens::list::List>),
    /// Tell when tokens change
    ///
    /// Prints a line for each token: its name, the version in use and its state, at first and whenever they are others. Needs
    /// no device. Goes on until it is interrupted.
    Watch(LazyArgs<tokens::watch::Watch>),
    /// Show a token's metadata, versions, recipients and grants
    ///
    /// With --sealed, writes the sealed bytes to standard output: an age file. Any age implementation that can use the same
    /// hardware opens it.
    Show(LazyArgs<tokens::show::Show>),
    /// Show the statements that changed a token, oldest first
    History(LazyArgs<ledger::log::History>),
    /// Close a token, or one of its versions, for now
    Suspend(LazyArgs<tokens::state::Suspend>),
    /// Reopen what was suspended, or put a staged version into use
    Resume(LazyArgs<tokens::state::Resume>),
    /// Close a token, or one of its versions, for ever
    ///
    /// Takes effect at once on every machine that follows the store. Whoever read the token before still knows it: have its
    /// issuer refuse it too.
    Revoke(LazyArgs<tokens::state::Revoke>),
    /// Delete the sealed bytes of a token, or of one of its versions
    ///
    /// This cannot be undone. The token's statements stay in the ledger. Needs the role `admin`.
    Destroy(LazyArgs<tokens::destroy::Destroy>),
    /// Give a token another name
    ///
    /// Its versions, states and grants stay. The old name is free again, and inherits nothing.
    Rename(LazyArgs<tokens::rename::Rename>),
    /// Let an application have a token, or all tokens under a prefix, from the agent
    ///
    /// A grant is a signed change, recorded in the ledger. Without grants, the agent serves only its owner.
    Grant(LazyArgs<grants::Grant>),
    /// Take a grant back, at once and for agents too
    Ungrant(LazyArgs<grants::Ungrant>),
    /// List the grants in force
    Grants(LazyArgs<grants::Grants>),
    /// Serve tokens to applications on a Unix socket
    ///
    /// Stays in the foreground, owns the devices, and gives each application what it was granted. Uses the service manager's
    /// sockets if it gets any. SIGHUP reads the configuration again. SIGTERM finishes the requests in progress and stops.
    /// The [agent] table of config.toml sets the same options.
    #[cfg(feature = "agent")]
    Agent(LazyArgs<agent::serve::Agent>),
    /// Give the agent a device's PIN; the device then stays unlocked
    ///
    /// Until `strongroom lock`, an idle time, or its removal. Without a terminal, reads the PIN from standard input.
    Unlock(LazyArgs<agent::unlock::Unlock>),
    /// Have the agent lock all devices and forget PINs and cached tokens, at once
    Lock(LazyArgs<agent::unlock::Lock>),
    /// Show the state of the agent and its devices
    Status(LazyArgs<agent::status::Status>),
    /// Answer another program that asks for a credential: git, Docker, cargo, Terraform, AWS, kubectl
    ///
    /// A host's token is PROTOCOL/HOST, such as git/github.com, or what [hosts.PROTOCOL] in config.toml names. Its label
    /// `username` is the user's name that goes with it.
    Credential(integrations::credential::Credential),
    /// Have age and rage seal to the store's devices, and open with this machine's
    ///
    /// They need the plugin: `strongroom link DIR` makes age-plugin-strongroom, in a directory of $PATH. Sealed tokens (`show
    /// --sealed`) open by the same rules as by `get`.
    Age(integrations::age::Age),
    /// Link this program by the names under which git, Docker, cargo, Terraform and age look for their helpers
    Link(LazyArgs<integrations::link::Link>),
    /// Write a file from a template with {{ strongroom://NAME }} where tokens belong
    ///
    /// Opens every token once. If one cannot be opened, nothing is written.
    Inject(LazyArgs<integrations::inject::Inject>),
    /// Store many tokens at once, with one signature for up to 10,000
    ///
    /// jsonl: one object per line, {"name": "prod/db", "value": "text"}, or "base64" in place of "value". Optional: "labels"
    /// (an object), "description" and "expires". env: VAR=value lines, where the variable is the name.
    ///
    /// Opens the tokens that exist, and leaves those alone that have the same value and metadata. Through an agent, each token
    /// takes a signature of its own; --no-agent signs them together.
    Import(LazyArgs<tokens::import::Import>),
    /// Show the ledger, newest first; with --access, who read what
    ///
    /// The ledger is signed and verified. The access log is what the reading machines report: a machine that cheats can
    /// leave out its own reads.
    Log(LazyArgs<ledger::log::Log>),
    /// Show who can do what with a token: devices and grantees
    ///
    /// A device opens what is sealed to it. Whoever runs an agent can open what its devices can.
    WhoCan(LazyArgs<ledger::audit::WhoCan>),
    /// Show what a device, a user or another grantee can open; with --ever, what it ever could
    ///
    /// For a device that was lost, --ever lists what must be rotated: an older copy of the store may still hold what was
    /// sealed to it. `strongroom log --access` shows what was read.
    WhatCould(LazyArgs<ledger::audit::WhatCould>),
    /// Write a page about the store for auditors
    ///
    /// Verifies everything first. Shows what did not verify or is due, the tokens by age and expiry, who can open what, the
    /// devices with their evidence, the grants and the accesses. The page is one file that loads nothing and runs nothing. It
    /// holds names, labels and descriptions, and no token.
    Report(LazyArgs<report::Report>),
    /// Print the trust anchor, the line that introduces this store to another machine
    ///
    /// It holds the store's id and the verified position. Take it to the other machine by a way you trust, and give it to
    /// `strongroom trust` there.
    Head(LazyArgs<ledger::head::Head>),
    /// Sign, as a witness, that the store is as this machine has verified it
    ///
    /// Needs a device here with the role `witness`. The checkpoint takes the place of the device's last one, and shows other
    /// machines news that are withheld from them, and forks. `strongroom settings --witnesses` says how many fresh ones each
    /// opening needs. An agent with such a device signs them by itself.
    Checkpoint(LazyArgs<ledger::checkpoint::Checkpoint>),
    /// Verify everything, from the first statement on
    ///
    /// Checks the signatures, roles and order of all statements, the replica against the store, the bytes of every sealed
    /// token, the chain of the access log, and the witnesses' checkpoints. Lists every problem with its place; the exit code
    /// is then 7.
    Verify(LazyArgs<ledger::verify::Verify>),
    /// Trust a store that this machine has never verified
    ///
    /// LINE is what `strongroom head` prints on a machine that knows the store, or the store's id alone. Everything else is
    /// verified against it. Get it by a way you trust, never from the store itself.
    Trust(LazyArgs<ledger::trust::Trust>),
    /// Set aside the end of a store that cannot be verified
    ///
    /// Keeps what this machine can verify. The rest stays in the file for an investigation, and no longer has any effect.
    /// Needs the role `admin`.
    Repair(LazyArgs<ledger::repair::Repair>),
    /// Copy the store into a file, and verify the copy
    ///
    /// Works while others use the store. The copy gets its name once all of it has been verified and leads to what this
    /// machine has verified; FILE.head then holds the line that `strongroom head` prints. It opens nothing without an
    /// enrolled device. Replaces an older backup only with --force, and nothing else.
    ///
    /// `strongroom backup check FILE` verifies a backup at any time, without a device.
    Backup(LazyArgs<ledger::backup::Backup>),
    /// Put a backup where the store was
    ///
    /// Verifies it first. Refuses where a store is, and, without --older, a backup that lacks what this machine has
    /// verified. On a machine that never verified the store, `strongroom trust` and `strongroom adopt` follow.
    Restore(LazyArgs<ledger::backup::Restore>),
    /// Seal existing tokens to the devices that should open them now
    ///
    /// Those are all devices with the role `open`. A token put with --only stays with the devices it was put for, unless
    /// they were all such devices at that time. Revoked and destroyed versions are left alone.
    ///
    /// Needs a device that opens the tokens and an admin device that signs. May be interrupted and run again: at every moment
    /// each token opens with either the old devices or the new ones.
    Reseal(LazyArgs<devices::reseal::Reseal>),
    /// Take an enrolled device into use on this machine
    ///
    /// For a machine that never had it, or lost its config.toml: finds out which enrolled device it is, and adds it to
    /// config.toml. Signs nothing. Trust the store first: `strongroom trust`.
    Adopt(LazyArgs<devices::adopt::Adopt>),
    /// Show and change the enrolled devices
    Device(devices::Device),
    /// Show and change what holds for the whole store
    ///
    /// Without options, prints the settings. A change is signed by an admin device at hand; where a quorum is set, it is
    /// proposed to the other admins.
    Settings(LazyArgs<devices::settings::Settings>),
    /// Set up the database of a store on PostgreSQL
    #[cfg(feature = "postgres")]
    Store(store::Store),
    /// Set, show and end rotation policies
    Policy(rotation::policy::Policy),
    /// List the tokens that are due for rotation
    ///
    /// NEEDS says what comes next: `rotate` for a new version, `finish` where a rotation has begun, `retire` where an older
    /// version has outlived the overlap. The exit code is 10 if anything is due. Opens nothing, and needs no device.
    Due(LazyArgs<rotation::due::Due>),
    /// Give tokens new values, and set these at their issuers
    ///
    /// Does what the policies ask for: makes and stages a new value, has the hook set and test it at the issuer, puts it into
    /// use, and revokes the version before after the overlap. May be interrupted at any moment and run again, here or on
    /// another machine: the token opens all the while, and its issuer accepts a version that is stored.
    Rotate(LazyArgs<rotation::rotate::Rotate>),
    /// Check hardware, modules, services and permissions, and say what is missing
    ///
    /// The exit code is 0 unless something that is configured does not work.
    Doctor(LazyArgs<doctor::Doctor>),
    /// Print the manual page, or write those of all commands into a directory
    Man(LazyArgs<man::Man>),
    /// Print completions for a shell
    ///
    /// For bash: `strongroom completions bash >/etc/bash_completion.d/strongroom`. They offer names of tokens, too, and open
    /// none.
    Completions(LazyArgs<completions::Completions>),
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
    let arguments = by_name(std::env::args_os().collect());
    match completions::answer() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => return exit::usage(&mut Output::new(OutputOptions::default()), &error),
    }
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
        dispatch!(self, context, Init Put Edit Get Run Env Check List Watch Show History Suspend Resume Revoke Destroy Rename Grant Ungrant
            Grants #[cfg(feature = "agent")] Agent Unlock Lock Status Credential Age Link Inject Import Log WhoCan WhatCould Report Head Checkpoint Verify Trust
            Repair Backup Restore Reseal Adopt Device Settings #[cfg(feature = "postgres")] Store Policy Due Rotate Doctor Man Completions)
    }
}
