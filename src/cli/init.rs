//! `init`: a new store, with one of this machine's devices as its first.

use crate::cli::Execute;
use crate::cli::args::new_keys::KeyOptions;
use crate::cli::context::Context;
use crate::cli::devices::configured::{self, Precedence};
use crate::cli::devices::{discovery, enrolled};
use crate::cli::output::Output;
use clap::Args;
use serde_json::json;
use strongroom::prompt;
use strongroom::uri::DeviceUri;
use strongroom::vault::{InitOptions, InitReport, Setup};
use strongroom::{Error, Kind, Result, Vault};

const OPERATION: &str = "create the store";

#[derive(Debug, Args)]
pub struct Init {
    /// The device's name in this store [default: its own label]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Use the only device found without asking
    #[arg(long, short)]
    yes: bool,
    /// Succeed if there is a store already, and do nothing but verify it
    #[arg(long)]
    if_missing: bool,
    /// Tie the store to a counter in the device, to notice when all of it is rolled back (TPM)
    #[arg(long)]
    anti_rollback: bool,
    #[command(flatten)]
    keys: KeyOptions,
}

impl Execute for Init {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let resolved = context.resolve()?;
        if self.if_missing && Vault::exists(&resolved.store)? {
            return verify_existing(context);
        }
        let (algorithm, create) = (self.keys.algorithm()?, self.keys.create()?);
        let uri = match context.globals.devices.as_slice() {
            [] => discovery::propose(OPERATION, self.yes)?,
            [uri] => DeviceUri::parse(uri)?,
            _ => {
                return Err(Error::new(
                    Kind::Usage,
                    OPERATION,
                    "a store begins with one device; enrol more later with `strongroom device add`",
                )
                .into());
            }
        };
        let uri = discovery::with_module(uri)?;
        let prompter = prompt::for_process_with(&resolved.config.prompt);
        let devices = vec![(uri.clone(), None)];
        let setup =
            Setup { prompter, ..Setup::new(resolved.store.clone(), devices, resolved.paths.state.clone()) };
        let options =
            InitOptions { device_name: self.name, algorithm, create, anti_rollback: self.anti_rollback };
        let (mut vault, report) = Vault::init(setup, &options)?;
        let remembered = configured::remember(resolved, &uri, &report.first.device, Precedence::First)?;
        print_report(&mut context.out, &vault, &report, &remembered)?;
        context.print_notices(&mut vault);
        Ok(())
    }
}

/// `--if-missing`, and nothing is missing.
fn verify_existing(context: &mut Context) -> anyhow::Result<()> {
    context.with_vault(|vault, out| {
        let (location, store) = (vault.location(), vault.head().store.to_string());
        let object = json!({"created": false, "location": location, "store": store});
        Ok(out.done(&object, &format!("{location}: the store exists and verifies; nothing was changed"))?)
    })
}

fn print_report(
    out: &mut Output,
    vault: &Vault,
    report: &InitReport,
    remembered: &Option<String>,
) -> Result<()> {
    if out.json_wanted() {
        let mut object = enrolled::as_json(&report.first, remembered);
        object["created"] = true.into();
        object["location"] = vault.location().into();
        object["store"] = report.store.to_string().into();
        return out.json(&object);
    }
    let mut fields = vec![("store", vault.location().to_owned()), ("store id", report.store.to_string())];
    fields.extend(enrolled::fields(&report.first, remembered));
    out.fields(&fields)?;
    if remembered.is_none() {
        out.info(
            "config.toml describes another store and was not changed: name this store with --store and --device",
        );
    }
    out.info("Keep the store id where an attacker cannot change it. Other machines need it for `strongroom trust`.");
    out.info("Next: `strongroom put NAME` stores a token, `strongroom get NAME` opens it.");
    Ok(())
}
