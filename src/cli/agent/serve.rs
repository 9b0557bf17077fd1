//! `agent`: the daemon, in the foreground.

use crate::cli::Execute;
use crate::cli::args::names;
use crate::cli::context::{Context, Globals};
use crate::cli::output::{Output, OutputOptions};
use clap::Args;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::set_no_new_privs;
use std::path::PathBuf;
use std::time::Duration;
use strongroom::agent::{self, AgentDevice, AgentOwner, CachePolicy, Options, Sockets, StopHandle};
use strongroom::config::ConfiguredDevice;
use strongroom::paths::agent_socket;
use strongroom::{Error, Kind, Result};

#[derive(Debug, Args)]
pub struct Agent {
    /// Listen here; by default $XDG_RUNTIME_DIR/strongroom/agent.sock, for root /run/strongroom/agent.sock
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Hand out systemd credentials here; by default, for root, /run/strongroom/credentials.sock
    #[arg(long, value_name = "PATH")]
    credentials: Option<PathBuf>,
    /// Keep an opened token, or those under a name, in locked memory for a while
    #[arg(long, value_name = "NAME=TIME")]
    cache: Vec<String>,
    /// Keep none because of its label strongroom.cache=TIME
    #[arg(long)]
    no_cache_labels: bool,
    /// Lock a device whose PIN was typed when nobody used it for so long
    #[arg(long, value_name = "TIME")]
    idle: Option<String>,
    /// Ask for PINs by running this program: the question is its argument, the PIN the line that it prints
    #[arg(long, value_name = "PROGRAM")]
    prompt: Option<PathBuf>,
    /// Answer every request within this time, one way or another
    #[arg(long, value_name = "TIME", default_value = "30s")]
    deadline: String,
    /// The most connections at once
    #[arg(long, value_name = "N", default_value_t = 12_000)]
    connections: usize,
}

impl Execute for Agent {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        harden()?;
        // Without locked memory, labels that ask for keeping are not heeded; an option that asks for it is refused.
        let memory = lock_memory();
        let (globals, locked) = (context.globals.clone(), memory.is_ok());
        let options = self.options(context, locked)?;
        match memory {
            Err(error) if !options.cache.is_empty() => return Err(error.into()),
            Err(error) => log::info!("{error}"),
            Ok(()) => {}
        }
        let sockets = self.sockets()?;
        let (socket, count) = (sockets.requests.local_addr().ok(), options.devices.len());
        let shown = socket.and_then(|address| address.as_pathname().map(|path| path.display().to_string()));
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
        let realm = if uid.is_root() { AgentOwner::Machine } else { AgentOwner::User(uid.as_raw()) };
        let mut options = Options::new(resolved.store, resolved.paths.state, devices, realm);
        options.cache = self.cache.iter().map(|text| policy(text)).collect::<Result<_>>()?;
        options.cache_labels = locked && !self.no_cache_labels;
        options.asking.idle = self.idle.as_deref().map(|text| span("--idle", text)).transpose()?;
        options.asking.program = self.prompt.clone();
        options.deadline = span("--deadline", &self.deadline)?;
        options.connections = self.connections;
        Ok(options)
    }

    fn sockets(&self) -> Result<Sockets> {
        if let Some(inherited) = Sockets::inherited()? {
            return Ok(inherited);
        }
        let root = rustix::process::geteuid().is_root();
        let path = self.socket.clone().map_or_else(agent_socket, Ok)?;
        let beside = || path.with_file_name("credentials.sock");
        let credentials = self.credentials.clone().or_else(|| root.then(beside));
        let group = if root { agent::group_of_applications() } else { None };
        Sockets::make(&path, group, credentials.as_deref())
    }
}

/// What a reload says goes to the log.
fn quiet(globals: &Globals) -> OutputOptions {
    OutputOptions { quiet: true, ..globals.output_options() }
}

/// NAME=TIME.
fn policy(text: &str) -> Result<CachePolicy> {
    let (name, time) = text.rsplit_once('=').ok_or_else(|| {
        Error::new(Kind::Usage, "use the value of --cache", "it is NAME=TIME, as in prod/db=5m")
    })?;
    Ok(CachePolicy { on: names::prefix(name)?, time: span("--cache", time)? })
}

fn span(option: &str, text: &str) -> Result<Duration> {
    strongroom::vault::span(text).ok_or_else(|| {
        Error::new(Kind::Usage, format!("use the value of {option}"), "a time is one of 30s, 5m, 2h")
    })
}

/// What this process forgoes beyond what every command does: it can gain no privileges, and has room for its connections.
fn harden() -> Result<()> {
    let failed = |e: rustix::io::Errno| Error::new(Kind::Io, "forgo new privileges", e.to_string());
    set_no_new_privs(true).map_err(failed)?;
    let files = getrlimit(Resource::Nofile);
    // One that cannot be raised holds fewer connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
    Ok(())
}

/// Keeps what this process holds out of the swap.
fn lock_memory() -> Result<()> {
    let refused = |answer: String| {
        Error::new(Kind::Io, "lock the memory", answer)
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

    #[test]
    fn times_have_a_unit() {
        assert_eq!(span("--idle", "5m").unwrap(), Duration::from_secs(300));
        assert!(span("--idle", "5").is_err());
        assert_eq!(policy("prod/db=30s").unwrap().on.as_str(), "prod/db");
        assert!(policy("prod/db").is_err() && policy("a//b=5m").is_err());
    }
}
