//! `agent`: the daemon, in the foreground.

use crate::cli::Execute;
use crate::cli::args::names;
use crate::cli::context::{Context, Globals};
use crate::cli::output::{Output, OutputOptions};
use clap::Args;
use rustix::fs::{Access, access};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::set_no_new_privs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use strongroom::agent::{
    self, AgentDevice, AgentOwner, CachePolicy, ConfirmPolicy, Options, PinPolicy, Sockets, StopHandle,
};
use strongroom::config::{AgentSettings, ConfiguredDevice, Period};
use strongroom::error::printable;
use strongroom::paths::agent_socket;
use strongroom::prompt::{self, ProgramPrompter, Prompter};
use strongroom::{Error, Kind, Result};

#[derive(Debug, Args)]
pub struct Agent {
    /// Listen on this socket; by default $XDG_RUNTIME_DIR/strongroom/agent.sock, for root /run/strongroom/agent.sock
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Hand out systemd credentials on this socket; by default, for root, /run/strongroom/credentials.sock
    #[arg(long, value_name = "PATH")]
    credentials: Option<PathBuf>,
    /// Keep an opened token, or those under a name, in locked memory for this time
    #[arg(long, value_name = "NAME=TIME", value_parser = cached)]
    cache: Vec<(String, Period)>,
    /// Ignore the label strongroom.cache=TIME
    #[arg(long)]
    no_cache_labels: bool,
    /// Lock a device whose PIN was typed after this time without use
    #[arg(long, value_name = "TIME")]
    idle: Option<Period>,
    /// Hand out this token, or those under this name, to nobody before a person has agreed, each time
    #[arg(long, value_name = "NAME")]
    confirm: Vec<String>,
    /// Ask for PINs and confirmations by this program: the question is its argument, the answer the line that it prints
    #[arg(long, value_name = "PROGRAM")]
    prompt: Option<PathBuf>,
    /// Sign a checkpoint this often with each device that is a witness; by default, three times within the age that the store
    /// asks for, or never
    #[arg(long, value_name = "TIME")]
    checkpoint_every: Option<Period>,
    /// Answer every request within this time [default: 30s]
    #[arg(long, value_name = "TIME")]
    deadline: Option<Period>,
    /// Serve at most this many connections at once [default: 12000]
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// Drop the oldest lines of the access log when it has more than this many [default: 10000000]
    #[arg(long, value_name = "LINES")]
    access_log_max: Option<u64>,
}

impl Execute for Agent {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        harden()?;
        // Without locked memory, cache labels are ignored, and cache options are refused.
        let memory = lock_memory();
        let (globals, locked) = (context.globals.clone(), memory.is_ok());
        let options = self.options(context, locked)?;
        match memory {
            Err(error) if !options.cache.is_empty() => return Err(error.into()),
            Err(error) => log::info!("{error}"),
            Ok(()) => {}
        }
        let sockets = self.sockets(context)?;
        let (shown, count) = (sockets.path().map(|path| path.display().to_string()), options.devices.len());
        let said = format!("serving on {} with {count} devices", shown.unwrap_or_default());
        let mut reload =
            || self.options(&Context::new(globals.clone(), Output::new(quiet(&globals))), locked);
        let mut ready = || context.out.info(&said);
        Ok(agent::run(options, sockets, &StopHandle::default(), &mut ready, &mut reload)?)
    }
}

impl Agent {
    fn options(&self, context: &Context, locked: bool) -> Result<Options> {
        let resolved = context.resolve()?;
        let device =
            |device: &ConfiguredDevice| device.parsed().map(|(uri, id)| AgentDevice::configured(uri, id));
        let devices = resolved.devices.iter().map(device).collect::<Result<_>>()?;
        let uid = rustix::process::geteuid();
        let owner = if uid.is_root() { AgentOwner::Machine } else { AgentOwner::User(uid.as_raw()) };
        let rotation = resolved.config.agent.rotation.is_some().then(|| resolved.config.clone());
        let settings = self.settings(resolved.config.agent);
        if let Some(program) = &settings.prompt {
            expect_program(program)?;
        }
        let mut options = Options::new(resolved.store, resolved.paths.state, devices, owner);
        let policy = |(name, period): (String, Period)| {
            names::prefix(&name).map(|on| CachePolicy { on, time: period.0 })
        };
        options.cache = settings.cache.into_iter().map(policy).collect::<Result<_>>()?;
        options.cache_labels = locked && settings.cache_labels.unwrap_or(true);
        options.deadline = settings.deadline.map_or(options.deadline, |period| period.0);
        options.checkpoint_every = settings.checkpoint_every.map(|period| period.0);
        options.confirm = ConfirmPolicy {
            prompter: person(settings.prompt.as_ref(), &resolved.config.prompt, options.deadline),
            on: settings.confirm.iter().map(|name| names::prefix(name)).collect::<Result<_>>()?,
        };
        options.pin_policy =
            PinPolicy { idle: settings.idle.map(|period| period.0), program: settings.prompt };
        options.connections = settings.connections.unwrap_or(options.connections);
        options.rotation = rotation;
        options.access_log_max = settings.access_log_max.unwrap_or(options.access_log_max);
        Ok(options)
    }

    /// What is configured, with this command's options over it.
    fn settings(&self, configured: AgentSettings) -> AgentSettings {
        AgentSettings {
            socket: self.socket.clone().or(configured.socket),
            credentials: self.credentials.clone().or(configured.credentials),
            cache: match self.cache.as_slice() {
                [] => configured.cache,
                given => given.iter().cloned().collect(),
            },
            cache_labels: if self.no_cache_labels { Some(false) } else { configured.cache_labels },
            idle: self.idle.or(configured.idle),
            confirm: match self.confirm.as_slice() {
                [] => configured.confirm,
                given => given.to_vec(),
            },
            prompt: self.prompt.clone().or(configured.prompt),
            checkpoint_every: self.checkpoint_every.or(configured.checkpoint_every),
            deadline: self.deadline.or(configured.deadline),
            connections: self.connections.or(configured.connections),
            access_log_max: self.access_log_max.or(configured.access_log_max),
            rotation: configured.rotation,
        }
    }

    fn sockets(&self, context: &Context) -> Result<Sockets> {
        if let Some(inherited) = Sockets::inherited()? {
            return Ok(inherited);
        }
        let root = rustix::process::geteuid().is_root();
        let settings = self.settings(context.resolve()?.config.agent);
        let path = settings.socket.map_or_else(agent_socket, Ok)?;
        let beside = || path.with_file_name("credentials.sock");
        let credentials = settings.credentials.or_else(|| root.then(beside));
        let group = if root { agent::group_of_applications() } else { None };
        Sockets::make(&path, group, credentials.as_deref())
    }
}

/// Or it would be missed when the first PIN is wanted, by whoever waits for a token.
fn expect_program(program: &Path) -> Result<()> {
    let search = std::env::var_os("PATH").filter(|_| program.components().count() == 1);
    let runs = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    let found = match &search {
        Some(directories) => {
            std::env::split_paths(directories).any(|directory| runs(&directory.join(program)))
        }
        None => runs(program),
    };
    match found {
        true => Ok(()),
        false => {
            let shown = printable(&program.display().to_string());
            Err(Error::new(Kind::Usage, "start the agent", "the program that asks for PINs cannot be run")
                .with_target(shown)
                .with_hint("check --prompt, or `prompt` in [agent] of config.toml: it is the path of an executable file"))
        }
    }
}

/// Whoever confirms: by the agent's own program, on the terminal that it was started on, or by a pinentry.
fn person(
    program: Option<&PathBuf>,
    settings: &prompt::Settings,
    patience: Duration,
) -> Box<dyn Prompter + Send> {
    match program {
        Some(program) => Box::new(ProgramPrompter { program: program.clone(), patience }),
        None => prompt::for_process_within(settings, patience),
    }
}

/// What a reload says goes to the log.
fn quiet(globals: &Globals) -> OutputOptions {
    OutputOptions { quiet: true, ..globals.output_options() }
}

/// NAME=TIME.
fn cached(text: &str) -> Result<(String, Period), String> {
    let (name, period) = text.rsplit_once('=').ok_or("it is NAME=TIME, as in prod/db=5m")?;
    Ok((name.to_owned(), period.parse::<Period>()?))
}

/// Beyond what every command does: gains no privileges, and raises the limit on open files.
fn harden() -> Result<()> {
    let failed = |e: rustix::io::Errno| Error::new(Kind::Io, "give up new privileges", e.to_string());
    set_no_new_privs(true).map_err(failed)?;
    let files = getrlimit(Resource::Nofile);
    // If it cannot be raised, there is room for fewer connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
    Ok(())
}

/// Keeps what this process holds out of the swap.
fn lock_memory() -> Result<()> {
    let refused = |message: String| {
        Error::new(Kind::Io, "lock the memory", message)
            .with_hint("set LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited`")
    };
    // With a limit, some later allocation would fail, in the middle of something.
    let limit = getrlimit(Resource::Memlock).current;
    if limit.is_some() && !rustix::process::geteuid().is_root() {
        return Err(refused("there is a limit on locked memory".into()));
    }
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    mlockall(flags).map_err(|e| refused(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str], configured: &str) -> AgentSettings {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            agent: Agent,
        }
        let line = <Line as clap::Parser>::try_parse_from([&["agent"], arguments].concat()).unwrap();
        line.agent.settings(toml::from_str(configured).unwrap())
    }

    #[test]
    fn options_come_before_the_configuration() {
        let configured =
            "idle = \"5m\"\ndeadline = \"10s\"\nconnections = 7\ncache = { a = \"1m\", b = \"2m\" }\n";
        let merged = settings(&["--idle", "2h", "--cache", "c=3m"], configured);
        let period = |seconds| Some(Period(Duration::from_secs(seconds)));
        assert_eq!((merged.idle, merged.deadline, merged.connections), (period(7200), period(10), Some(7)));
        assert_eq!(merged.cache.get("c").copied(), period(180));
        assert_eq!(merged.cache.len(), 1);
        assert_eq!(settings(&[], configured).cache.len(), 2);
        assert_eq!(settings(&["--no-cache-labels"], "cache-labels = true").cache_labels, Some(false));
        assert_eq!(settings(&[], "").cache_labels, None);
    }

    #[test]
    fn cached_names_have_a_time() {
        assert_eq!(cached("prod/db=30s").unwrap(), ("prod/db".into(), Period(Duration::from_secs(30))));
        assert!(cached("prod/db").is_err() && cached("prod/db=5").is_err());
    }
}
