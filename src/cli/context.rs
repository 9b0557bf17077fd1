//! What every command works with: the global options resolved against the configuration, and the output.

use crate::cli::output::{Colour, Output, OutputOptions};
use clap::Args;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use strongroom::client::Client;
use strongroom::config::{Config, ConfiguredDevice};
use strongroom::paths::{MACHINE_SOCKET, Paths, agent_socket};
use strongroom::prompt::{self, Prompter};
use strongroom::uri::DeviceUri;
use strongroom::vault::{Setup, TokenBackend};
use strongroom::{Error, Kind, Result, Vault};

/// Options that every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// The store: sqlite:///path, a path, or postgres://USER@HOST/DATABASE.
    #[arg(long, global = true, value_name = "URL", env = "STRONGROOM_STORE", hide_env_values = true)]
    pub store: Option<String>,
    /// A device of this machine, instead of the configured ones. May be given several times.
    #[arg(
        long = "device",
        global = true,
        value_name = "URI",
        env = "STRONGROOM_DEVICE",
        hide_env_values = true
    )]
    pub devices: Vec<String>,
    /// Do not go through an agent.
    #[arg(long, global = true)]
    pub no_agent: bool,
    /// The agent's socket [env: STRONGROOM_AGENT]
    #[arg(long = "agent-socket", global = true, value_name = "PATH")]
    pub agent: Option<PathBuf>,
    /// Print JSON: one object, or one for each line of a listing.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print errors and warnings only, besides data.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Use colour.
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = false
    )]
    pub color: Colour,
}

impl Globals {
    /// How to print: the options that every command has.
    pub fn output_options(&self) -> OutputOptions {
        OutputOptions { json: self.json, quiet: self.quiet, colour: self.color }
    }

    /// The same, of a command line that does not parse.
    pub fn output_options_of(arguments: &[OsString]) -> OutputOptions {
        // What follows belongs to the program that `run` starts.
        let ours = || arguments.iter().take_while(|argument| *argument != "--");
        let colour = |value: &str| <Colour as clap::ValueEnum>::from_str(value, true).ok();
        let after = ours()
            .zip(ours().skip(1))
            .filter(|(option, _)| *option == "--color")
            .map(|(_, value)| value.to_str());
        let joined = ours().filter_map(|argument| argument.to_str()?.strip_prefix("--color="));
        OutputOptions {
            json: ours().any(|argument| argument == "--json"),
            quiet: false,
            colour: joined.chain(after.flatten()).find_map(colour).unwrap_or_default(),
        }
    }
}

/// What a command works with.
pub struct Context {
    /// Its output.
    pub out: Output,
    /// The global options.
    pub globals: Globals,
}

/// Opens a vault and reports progress.
pub type OpenVault = fn(Setup, &mut dyn FnMut(u64, u64)) -> Result<Vault>;

/// The configuration with the global options over it.
pub struct Resolved {
    /// This installation's directories.
    pub paths: Paths,
    /// What config.toml says.
    pub config: Config,
    /// The store's URL.
    pub store: String,
    /// The devices of this command.
    pub devices: Vec<ConfiguredDevice>,
}

impl Context {
    /// What a command works with.
    pub fn new(globals: Globals, out: Output) -> Self {
        Self { out, globals }
    }

    /// An output for what goes on beside a command: errors and warnings only.
    pub fn quiet_output(&self) -> Output {
        Output::new(OutputOptions { quiet: true, ..self.globals.output_options() })
    }

    /// Configuration and options.
    ///
    /// # Errors
    /// `Usage` for a configuration that does not parse; `Io`.
    pub fn resolve(&self) -> Result<Resolved> {
        let paths = Paths::discover()?;
        let config = Config::load(&paths.config)?;
        let store = match (&self.globals.store, &config.store) {
            (Some(store), _) => absolute(store),
            (None, Some(store)) => store.clone(),
            (None, None) => default_store(&paths),
        };
        let devices = match self.globals.devices.as_slice() {
            [] => config.devices.clone(),
            named => named.iter().map(|uri| named_device(uri, &config)).collect(),
        };
        Ok(Resolved { paths, config, store, devices })
    }

    /// What a vault is opened with.
    ///
    /// # Errors
    /// As [`Context::resolve`]; `Usage` for a URI that does not parse.
    pub fn setup(&self) -> Result<Setup> {
        let Resolved { paths, store, devices, config, .. } = self.resolve()?;
        let devices = devices.iter().map(ConfiguredDevice::parsed).collect::<Result<_>>()?;
        let prompter = prompt::for_process_with(&config.prompt);
        Ok(Setup { prompter, ..Setup::new(store, devices, paths.state) })
    }

    /// Opens the vault and runs `work` on it. Prints the vault's notices, whatever `work` returns.
    ///
    /// # Errors
    /// The vault's and the work's.
    pub fn with_vault<T>(
        &mut self,
        work: impl FnOnce(&mut Vault, &mut Output) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.with_vault_by(Vault::open_with_progress, work)
    }

    /// Runs `work` on the agent, if this command goes through one, else on the vault.
    ///
    /// # Errors
    /// The agent's, the vault's and the work's.
    pub fn with_tokens<T>(
        &mut self,
        work: impl FnOnce(&mut dyn TokenBackend, &mut Output) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if let Some(mut agent) = self.agent()? {
            return work(&mut agent, &mut self.out);
        }
        let mut vault = self.open_vault(Vault::open_with_progress)?;
        let done = work(&mut vault, &mut self.out);
        self.print_notices(&mut vault);
        done
    }

    /// As [`Context::with_tokens`], with somebody else to ask. Prints nothing.
    ///
    /// # Errors
    /// As [`Context::with_tokens`].
    pub fn with_tokens_asking<T>(
        &self,
        prompter: Box<dyn Prompter + Send>,
        work: impl FnOnce(&mut dyn TokenBackend) -> Result<T>,
    ) -> Result<T> {
        match self.agent()? {
            Some(mut agent) => work(&mut agent),
            None => work(&mut Vault::open(Setup { prompter, ..self.setup()? })?),
        }
    }

    /// The agent that this command goes through. None if the user named a store or a device, or gave --no-agent.
    ///
    /// # Errors
    /// `Refused` when this user may not reach it.
    pub fn agent(&self) -> Result<Option<Client>> {
        let direct =
            self.globals.no_agent || self.globals.store.is_some() || !self.globals.devices.is_empty();
        if direct { Ok(None) } else { self.connect_agent() }
    }

    /// The running agent: the named one, this user's, or, for a user without a store, the machine's.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_agent(&self) -> Result<Option<Client>> {
        // Not by clap: a set variable would count as an argument, and `strongroom` alone would not show its help.
        let variable = || std::env::var_os("STRONGROOM_AGENT").map(PathBuf::from);
        if let Some(path) = self.globals.agent.clone().or_else(variable) {
            // Set to nothing: there is none.
            if path.as_os_str().is_empty() {
                return Ok(None);
            }
            // Whoever names one does not mean the store.
            let missing = || {
                Error::new(Kind::NoAgent, "reach the agent", "nobody listens there")
                    .with_target(path.display().to_string())
                    .with_hint("start it with `strongroom agent --socket`, or say --no-agent")
            };
            return Client::connect(&path)?.map(Some).ok_or_else(missing);
        }
        if let Ok(path) = agent_socket()
            && let Some(own) = Client::connect(&path)?
        {
            return Ok(Some(own));
        }
        let Resolved { paths, store, .. } = self.resolve()?;
        let own_store = paths.config.exists() || !store.starts_with("sqlite://") || paths.store.exists();
        if own_store { Ok(None) } else { Client::connect(Path::new(MACHINE_SOCKET)) }
    }

    /// As [`Context::with_vault`], opened by `open`.
    ///
    /// # Errors
    /// The vault's and the work's.
    pub fn with_vault_by<T>(
        &mut self,
        open: OpenVault,
        work: impl FnOnce(&mut Vault, &mut Output) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut vault = self.open_vault(open)?;
        let done = work(&mut vault, &mut self.out);
        self.print_notices(&mut vault);
        done
    }

    fn open_vault(&mut self, open: OpenVault) -> Result<Vault> {
        let mut progress = self.out.progress();
        let mut vault =
            open(self.setup()?, &mut |done, total| progress("verifying the ledger", done, total))?;
        self.print_notices(&mut vault);
        Ok(vault)
    }

    /// Prints the vault's notices as warnings.
    pub fn print_notices(&mut self, vault: &mut Vault) {
        vault.take_notices().iter().for_each(|notice| self.out.warn(notice));
    }
}

/// The default store.
pub fn default_store(paths: &Paths) -> String {
    format!("sqlite://{}", paths.store.display())
}

/// A path made absolute; a URL as it is.
fn absolute(store: &str) -> String {
    match (store.contains("://"), std::path::absolute(store)) {
        (false, Ok(path)) => format!("sqlite://{}", path.display()),
        _ => store.to_owned(),
    }
}

/// A device from the command line; its id is known when it is one of the configured.
fn named_device(uri: &str, config: &Config) -> ConfiguredDevice {
    let same =
        |configured: &&ConfiguredDevice| match (DeviceUri::parse(&configured.uri), DeviceUri::parse(uri)) {
            (Ok(configured), Ok(named)) => configured.display_name() == named.display_name(),
            _ => false,
        };
    let id = config.devices.iter().find(same).and_then(|device| device.id.clone());
    ConfiguredDevice { uri: uri.to_owned(), id }
}
