//! `age`: what other age programs are given, so that they seal to devices of the store and open with those of this machine.

use crate::cli::Execute;
use crate::cli::context::Context;
use clap::{Args, Subcommand};
use serde_json::json;
use strongroom::integrations::age;
use strongroom::replica::DeviceRow;
use strongroom::seal::{PluginRecipient, recipient_string};
use strongroom::{Error, Kind, Result};

#[derive(Debug, Args)]
pub struct Age {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the recipients of devices, for `age -R FILE` or `age -r`
    ///
    /// Devices with the role `open`, each in a line after a comment with its name. A device whose opening key is AES is left
    /// out: nobody seals to it without it.
    Recipients {
        /// Only these devices
        #[arg(value_name = "DEVICE")]
        devices: Vec<String>,
        /// The form that needs no plugin: age 1.3 and newer, P-256 only
        #[arg(long)]
        native: bool,
    },
    /// Print the identity that stands for this machine's devices, for `age -i FILE`
    ///
    /// It holds no secret, and is the same on every machine. `age -j strongroom` means the same.
    Identity,
}

impl Execute for Age {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        match self.what {
            What::Identity => {
                let identity = age::identity()?;
                match context.out.json_wanted() {
                    true => Ok(context.out.json(&json!({"identity": identity}))?),
                    false => Ok(context.out.line(&identity)?),
                }
            }
            What::Recipients { devices, native } => context.with_vault(|vault, out| {
                let rows = chosen(vault.replica().openers()?, &devices)?;
                let mut found = 0;
                for row in rows {
                    let name = &row.enrolment.name;
                    let recipient = match native {
                        true => recipient_string(&row.enrolment.opening.key)
                            .ok_or_else(|| "only P-256 keys have that form".to_owned()),
                        false => PluginRecipient::new(&row.enrolment.opening.key)
                            .and_then(|recipient| recipient.text())
                            .map_err(|error| error.message().to_owned()),
                    };
                    match recipient {
                        Err(why) => out.warn(&format!("{name} is left out: {why}")),
                        Ok(recipient) if out.json_wanted() => {
                            out.json(&json!({"device": name, "recipient": recipient}))?;
                            found += 1;
                        }
                        Ok(recipient) => {
                            out.line(&format!("# {name}"))?;
                            out.line(&recipient)?;
                            found += 1;
                        }
                    }
                }
                match found {
                    0 => {
                        Err(Error::new(Kind::NotFound, "print recipients", "no device can be sealed to")
                            .into())
                    }
                    _ => Ok(()),
                }
            }),
        }
    }
}

/// Those that were named, or all.
fn chosen(mut rows: Vec<DeviceRow>, named: &[String]) -> Result<Vec<DeviceRow>> {
    rows.retain(|row| row.retired.is_none());
    let is = |row: &DeviceRow, name: &String| row.enrolment.name == *name || row.id.to_string() == *name;
    if let Some(missing) = named.iter().find(|name| !rows.iter().any(|row| is(row, name))) {
        let error =
            Error::new(Kind::NotFound, "print recipients", format!("no device `{missing}` opens tokens"));
        return Err(error.with_hint("`strongroom device list` shows the devices"));
    }
    rows.retain(|row| named.is_empty() || named.iter().any(|name| is(row, name)));
    rows.sort_by(|a, b| a.enrolment.name.cmp(&b.enrolment.name));
    Ok(rows)
}
