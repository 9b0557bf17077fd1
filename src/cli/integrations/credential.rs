//! `credential`: speaks the protocols in which other programs ask their helpers for a credential.

use crate::cli::args::names;
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::exit::{ExitWith, code_of};
use crate::cli::output::Output;
use crate::cli::{Execute, confirm};
use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use std::io::{BufRead, Read};
use strongroom::integrations::hosts::{HostTable, HostToken, open_first};
use strongroom::integrations::{age, aws, cargo, docker, git, kubectl, terraform};
use strongroom::ledger::Name;
use strongroom::prompt::Prompter;
use strongroom::seal::Stanza;
use strongroom::vault::{TokenBackend, TokenRef};
use strongroom::{Error, Kind, Result, Secret};
use zeroize::Zeroizing;

/// Far more than cargo writes in one line.
const MAX_LINE: u64 = 1 << 20;

#[derive(Debug, Args)]
pub struct Credential {
    #[command(subcommand)]
    program: Program,
}

/// Who asks.
#[derive(Debug, Subcommand)]
enum Program {
    /// Answer git: get, store or erase
    Git {
        /// Others than get, store and erase are ignored, as git wants it
        action: String,
    },
    /// Answer Docker, podman, skopeo or buildah
    Docker {
        /// What they want
        #[arg(value_enum)]
        action: DockerAction,
    },
    /// Answer cargo, until it closes the pipe
    Cargo {
        /// Given by cargo
        #[arg(long, hide = true)]
        cargo_plugin: bool,
    },
    /// Answer Terraform or OpenTofu
    Terraform {
        /// What it wants
        #[arg(value_enum)]
        action: TerraformAction,
        /// The host
        host: String,
    },
    /// Answer age or rage, as their plugin
    Age {
        /// Given by them
        #[arg(long = "age-plugin", value_name = "PROTOCOL")]
        protocol: String,
    },
    /// Answer the AWS tools, as credential_process
    Aws {
        /// The token
        #[arg(add = ArgValueCompleter::new(completions::names))]
        name: String,
    },
    /// Answer kubectl, as an exec credential
    Kubectl {
        /// The token: a bearer token, or with --certificate a private key
        #[arg(add = ArgValueCompleter::new(completions::names))]
        name: String,
        /// The token that holds the client's certificate
        #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(completions::names))]
        certificate: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DockerAction {
    Get,
    Store,
    Erase,
    List,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TerraformAction {
    Get,
    Store,
    Forget,
}

impl Execute for Credential {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        match &self.program {
            Program::Git { action } => git(context, action),
            Program::Docker { action } => docker(context, *action),
            Program::Cargo { .. } => cargo(context),
            Program::Terraform { action, host } => terraform(context, *action, host),
            Program::Age { protocol } => age(context, protocol),
            Program::Aws { name } => {
                let name = names::name(name)?;
                context.with_tokens(|tokens, out| print(out, &aws::answer(&named(tokens, &name)?)?))
            }
            Program::Kubectl { name, certificate } => {
                let (name, certificate) =
                    (names::name(name)?, certificate.as_deref().map(names::name).transpose()?);
                let info = std::env::var("KUBERNETES_EXEC_INFO").ok();
                context.with_tokens(|tokens, out| {
                    let found = named(tokens, &name)?;
                    let certificate = certificate.as_ref().map(|name| named(tokens, name)).transpose()?;
                    print(out, &kubectl::answer(info.as_deref(), &found, certificate.as_ref())?)
                })
            }
        }
    }
}

fn git(context: &mut Context, action: &str) -> anyhow::Result<()> {
    let action = match action {
        "get" => git::Action::Get,
        "store" => git::Action::Store,
        "erase" => git::Action::Erase,
        _ => return Ok(()),
    };
    let hosts = hosts(context, "git")?;
    let done = context
        .with_tokens(|tokens, out| print(out, &git::serve(action, std::io::stdin().lock(), &hosts, tokens)?));
    // A token that was closed is typed anew. Without the device, git is to ask nobody else.
    if let (git::Action::Get, Some(error)) = (action, failure_of(&done))
        && error.kind() != Kind::Refused
    {
        context.out.bytes(b"quit=1\n")?;
    }
    done
}

fn docker(context: &mut Context, action: DockerAction) -> anyhow::Result<()> {
    let action = match action {
        DockerAction::Get => docker::Action::Get,
        DockerAction::Store => docker::Action::Store,
        DockerAction::Erase => docker::Action::Erase,
        DockerAction::List => docker::Action::List,
    };
    let hosts = hosts(context, "docker")?;
    let done = context.with_tokens(|tokens, out| {
        match docker::serve(action, std::io::stdin().lock(), &hosts, tokens)? {
            Some(answer) => print(out, &answer),
            None => {
                out.line(docker::NOT_FOUND)?;
                Err(ExitWith(1).into())
            }
        }
    });
    // Clients show what is on standard output.
    if let Some(error) = failure_of(&done) {
        context.out.line(&error.to_string())?;
        return Err(ExitWith(code_of(error.kind())).into());
    }
    done
}

fn cargo(context: &mut Context) -> anyhow::Result<()> {
    let hosts = hosts(context, "cargo")?;
    context.out.bytes(cargo::HELLO)?;
    context.out.flush()?;
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Zeroizing::new(Vec::new());
        let read = (&mut input).take(MAX_LINE).read_until(b'\n', &mut line);
        match read.map_err(|e| Error::new(Kind::Io, "answer cargo", e.to_string()))? {
            0 => return Ok(()),
            // The rest of it is no request: nothing that follows is answered.
            n if n as u64 == MAX_LINE => {
                let error = Error::new(Kind::Usage, "answer cargo", "the request is too long");
                return Ok(context.out.bytes(&cargo::failure(&error))?);
            }
            _ => {}
        }
        let mut login = |name: &Name| ask(name);
        let answered = context.with_tokens(|tokens, _| Ok(cargo::serve(&line, &hosts, tokens, &mut login)?));
        match &answered {
            Ok(answer) => context.out.bytes(answer)?,
            Err(failure) => match failure.downcast_ref::<Error>() {
                Some(error) => context.out.bytes(&cargo::failure(error))?,
                None => return answered.map(drop),
            },
        }
        context.out.flush()?;
    }
}

fn ask(name: &Name) -> Result<Secret> {
    confirm::ask_new_token(&format!("put {name}"), name.as_str())
}

fn terraform(context: &mut Context, action: TerraformAction, host: &str) -> anyhow::Result<()> {
    let action = match action {
        TerraformAction::Get => terraform::Action::Get,
        TerraformAction::Store => terraform::Action::Store,
        TerraformAction::Forget => terraform::Action::Forget,
    };
    let hosts = hosts(context, "terraform")?;
    context.with_tokens(|tokens, out| {
        print(out, &terraform::serve(action, host, std::io::stdin().lock(), &hosts, tokens)?)
    })
}

fn age(context: &mut Context, protocol: &str) -> anyhow::Result<()> {
    let mut open = |files: Vec<Vec<Stanza>>, prompter: Box<dyn Prompter + Send>| {
        let count = files.len();
        let failed = |error: &Error| (0..count).map(|_| Err(error.with_context(error.operation()))).collect();
        let opened = context.with_tokens_asking(prompter, |tokens| {
            Ok(files.iter().map(|stanzas| tokens.open_age_file(stanzas)).collect::<Vec<_>>())
        });
        opened.unwrap_or_else(|error| failed(&error))
    };
    Ok(age::serve(protocol, &mut open)?)
}

fn hosts(context: &Context, protocol: &'static str) -> Result<HostTable> {
    HostTable::new(protocol, &context.resolve()?.config.hosts)
}

/// A token that has to be there.
fn named(tokens: &mut dyn TokenBackend, name: &Name) -> Result<HostToken> {
    match open_first(tokens, std::slice::from_ref(name), None)? {
        Some(found) => Ok(found),
        None => {
            let token = tokens.open(&TokenRef { name: name.clone(), version: None })?;
            Ok(HostToken { name: name.clone(), token, view: None })
        }
    }
}

fn print(out: &mut Output, answer: &[u8]) -> anyhow::Result<()> {
    Ok(out.bytes(answer)?)
}

fn failure_of(done: &anyhow::Result<()>) -> Option<&Error> {
    done.as_ref().err()?.downcast_ref::<Error>()
}
