//! `device pcrs` and `device check`: what the keys are bound to, and whether they will open after an update.

use crate::cli::Execute;
use crate::cli::context::Context;
use crate::cli::output::Output;
use crate::cli::output::format::EMPTY_CELL;
use crate::cli::output::table;
use clap::Args;
use serde_json::json;
use strongroom::device::{Measurement, Prediction};
use strongroom::error::printable;
use strongroom::replica::DeviceRow;
use strongroom::{Error, Kind, Result};

#[derive(Debug, Args)]
pub struct Pcrs {
    /// The device's name or id [default: every device at hand]
    name: Option<String>,
    /// Print only the digest of the policy over the present values, in hex: what the owner of --pcr-policy-key signs
    #[arg(long, requires = "name")]
    policy_digest: bool,
}

#[derive(Debug, Args)]
pub struct Check {
    /// The device's name or id [default: every device at hand]
    name: Option<String>,
    /// Predicted values: sha256:7=HEX,… or a file with one such line each, or as `systemd-measure` (11:sha256=HEX) or
    /// `tpm2_pcrread` print them; may be given several times
    #[arg(long, value_name = "VALUES|FILE")]
    predicted: Vec<String>,
}

impl Execute for Pcrs {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        context.with_vault(|vault, out| {
            let measured = vault.measure(self.name.as_deref(), &[])?;
            if self.policy_digest {
                let Some((_, Some(measurement))) = measured.first() else { return Err(unbound().into()) };
                return Ok(out.line(&hex::encode(measurement.policy_digest))?);
            }
            Ok(compare(out, &measured)?)
        })
    }
}

impl Execute for Check {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let predicted =
            self.predicted.iter().map(|text| predictions(text)).collect::<Result<Vec<_>>>()?.concat();
        context.with_vault(|vault, out| {
            let measured = vault.measure(self.name.as_deref(), &predicted)?;
            measured.iter().try_for_each(|(row, measurement)| verdict(out, row, measurement.as_ref()))?;
            let closed: Vec<_> = measured
                .iter()
                .filter(|(_, measurement)| {
                    measurement.as_ref().is_some_and(|measurement| !measurement.opens())
                })
                .map(|(row, _)| row.enrolment.name.as_str())
                .collect();
            match closed.is_empty() {
                true => Ok(()),
                false => Err(will_not_open(&closed).into()),
            }
        })
    }
}

fn compare(out: &mut Output, measured: &[(DeviceRow, Option<Measurement>)]) -> Result<()> {
    let mut table = out.table(&["DEVICE", "PCR", "MEASURES", "STATE", "ENROLLED", "NOW"]);
    for (row, measurement) in measured {
        if out.json_wanted() {
            out.json(&as_json(row, measurement.as_ref()))?;
            continue;
        }
        let Some(measurement) = measurement else {
            let cells = [
                &row.enrolment.name,
                EMPTY_CELL,
                "not bound to measurements",
                EMPTY_CELL,
                EMPTY_CELL,
                EMPTY_CELL,
            ];
            out.row(&mut table, cells.map(str::to_owned).into())?;
            continue;
        };
        for pcr in &measurement.pcrs {
            let cells = [
                row.enrolment.name.clone(),
                format!("{}:{}", measurement.bank, pcr.index),
                pcr.meaning.into(),
                if pcr.now == pcr.enrolled { "same".into() } else { "changed".into() },
                hex::encode(&pcr.enrolled),
                hex::encode(&pcr.now),
            ];
            out.row(&mut table, cells.into())?;
        }
    }
    out.end(table)?;
    for (row, measurement) in measured {
        if let Some((path, signed)) = measurement.as_ref().and_then(|m| m.signature.as_ref()) {
            let is = if *signed { "there is a signature" } else { "there is NO signature" };
            out.info(&format!("{}: {is} over the present values in {}", row.enrolment.name, printable(path)));
        }
    }
    Ok(())
}

fn verdict(out: &mut Output, row: &DeviceRow, measurement: Option<&Measurement>) -> Result<()> {
    if out.json_wanted() {
        return out.json(&as_json(row, measurement));
    }
    let name = &row.enrolment.name;
    let Some(measurement) = measurement else {
        return out.line(&format!("{name}: opens whatever is measured"));
    };
    let predicted = measurement.pcrs.iter().filter(|pcr| pcr.predicted).count();
    let with = match predicted {
        0 => "with the present values".to_owned(),
        n => format!("with {n} predicted and {} present values", measurement.pcrs.len() - n),
    };
    let changed = measurement.changed().iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    match (measurement.opens(), &measurement.signature) {
        (true, None) => out.line(&format!("{name}: opens {with}")),
        (true, Some((path, _))) => {
            out.line(&format!("{name}: opens {with}, with a signature in {}", printable(path)))
        }
        (false, None) => out.line(&format!("{name}: will not open {with}: PCR {changed} has changed")),
        (false, Some((path, _))) => {
            out.line(&format!(
                "{name}: will not open {with}: no signature over them in {}",
                printable(path)
            ))?;
            out.line(&format!(
                "        {} to be signed: {}",
                table::arrow(),
                hex::encode(measurement.policy_digest)
            ))
        }
    }
}

fn as_json(row: &DeviceRow, measurement: Option<&Measurement>) -> serde_json::Value {
    let Some(measurement) = measurement else {
        return json!({"device": row.enrolment.name, "opens": true, "bank": null, "pcrs": [], "policy": null, "signature": null});
    };
    let pcrs: Vec<_> = measurement
        .pcrs
        .iter()
        .map(|pcr| {
            json!({
                "pcr": pcr.index,
                "measures": pcr.meaning,
                "enrolled": hex::encode(&pcr.enrolled),
                "now": hex::encode(&pcr.now),
                "predicted": pcr.predicted,
            })
        })
        .collect();
    json!({
        "device": row.enrolment.name,
        "opens": measurement.opens(),
        "bank": measurement.bank,
        "pcrs": pcrs,
        "policy": hex::encode(measurement.policy_digest),
        "signature": measurement.signature.as_ref().map(|(path, signed)| json!({"file": path, "signed": signed})),
    })
}

/// The values of an argument: itself, or the file that it names.
fn predictions(argument: &str) -> Result<Vec<Prediction>> {
    if argument.contains('=') {
        let each =
            argument.split(',').map(|text| prediction(text.trim()).ok_or_else(|| unreadable(argument)));
        return each.collect();
    }
    let text = std::fs::read_to_string(argument).map_err(|e| {
        Error::new(Kind::Io, "read the predicted values", e.to_string()).with_target(printable(argument))
    })?;
    let values = of_file(&text).ok_or_else(|| unreadable(argument))?;
    if values.is_empty() { Err(unreadable(argument)) } else { Ok(values) }
}

/// One value each line; blank lines and comments are passed over. `tpm2_pcrread` puts the bank on a line of its own.
fn of_file(text: &str) -> Option<Vec<Prediction>> {
    let (mut bank, mut values) = (None, Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match (line.contains('='), line.strip_suffix(':'), bank, line.split_once(':')) {
            (true, ..) => values.push(prediction(line)?),
            (false, Some(name), ..) => bank = Some(name),
            (false, None, Some(bank), Some((index, value))) => values.push(value_of(bank, index, value)?),
            _ => return None,
        }
    }
    Some(values)
}

/// `sha256:7=HEX`, or `7:sha256=HEX`.
fn prediction(text: &str) -> Option<Prediction> {
    let (which, value) = text.split_once('=')?;
    let (first, second) = which.split_once(':')?;
    match first.trim().parse::<u8>() {
        Ok(_) => value_of(second, first, value),
        Err(_) => value_of(first, second, value),
    }
}

fn value_of(bank: &str, index: &str, value: &str) -> Option<Prediction> {
    let value = value.trim();
    let value = hex::decode(value.strip_prefix("0x").unwrap_or(value)).ok()?;
    let bank = bank.trim().to_ascii_lowercase();
    let size = match bank.as_str() {
        "sha1" => 20,
        "sha256" => 32,
        "sha384" => 48,
        "sha512" => 64,
        _ => return None,
    };
    let index = index.trim().parse().ok().filter(|index| *index < 24)?;
    (value.len() == size).then_some(Prediction { bank, index, value })
}

fn unreadable(argument: &str) -> Error {
    let message = format!("`{}` holds no value that can be read", printable(argument));
    Error::new(Kind::Usage, "read the predicted values", message).with_hint(
        "write sha256:7=HEX, with a value as long as the bank's hash, or name a file with one such line each",
    )
}

fn unbound() -> Error {
    Error::new(Kind::Unsupported, "print the digest of the policy", "the device's keys are bound to no PCRs")
}

fn will_not_open(names: &[&str]) -> Error {
    let message = format!("these will not open with these values: {}", names.join(", "));
    Error::new(Kind::Refused, "pass the check", message).with_hint(
        "before the update: make sure that another device can open (`strongroom device list`), or have the new values signed; \
         after it: run `strongroom device renew` with another device",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_in_the_forms_that_tools_print() {
        let value = "ab".repeat(32);
        let wanted = Prediction { bank: "sha256".into(), index: 7, value: vec![0xab; 32] };
        for text in [
            format!("sha256:7={value}"),
            format!("7:sha256={value}"),
            format!("# after the update\n\nsha256:7 = {value}\n"),
            format!("  sha256:\n    7 : 0x{}\n", value.to_uppercase()),
        ] {
            assert_eq!(of_file(&text).unwrap(), std::slice::from_ref(&wanted), "{text}");
        }
        for wrong in ["sha256:7=ab", "md5:7=ab", "sha256:24=", "7: 0xab", "nonsense"] {
            assert_eq!(of_file(wrong), None, "{wrong}");
        }
    }
}
