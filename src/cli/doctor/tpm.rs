//! TPMs: the machine's own, and those that are configured.

use super::{Finding, Status};
use crate::cli::context::Context;
use rustix::fs::{Access, access};
use std::path::Path;
use strongroom::config::ConfiguredDevice;
use strongroom::uri::{DeviceUri, Scheme};

const AREA: &str = "tpm";

/// The kernel's resource manager: the way to a TPM that several programs can share.
const TPM: &str = "/dev/tpmrm0";

/// All of them.
pub fn findings(context: &Context) -> Vec<Finding> {
    let mut uris = configured(context);
    let own = |uri: &DeviceUri| uri.attribute("tcti").is_none_or(|tcti| tcti == format!("device:{TPM}"));
    let mut findings = match uris.iter().any(own) {
        true => Vec::new(),
        false => machine().into_iter().collect(),
    };
    if Path::new(TPM).exists() && findings.is_empty() && !uris.iter().any(own) {
        uris.extend(DeviceUri::parse(&format!("tpm:?tcti=device:{TPM}")));
    }
    // Several devices may lie in one TPM.
    let mut seen = std::collections::HashSet::new();
    uris.retain(|uri| seen.insert(uri.attribute("tcti").map(str::to_owned)));
    findings.extend(uris.iter().flat_map(health));
    findings
}

fn configured(context: &Context) -> Vec<DeviceUri> {
    let devices = context.resolve().map(|resolved| resolved.devices).unwrap_or_default();
    let parsed = devices.iter().filter_map(|device| ConfiguredDevice::parsed(device).ok());
    parsed.map(|(uri, _)| uri).filter(|uri| uri.scheme() == Scheme::Tpm).collect()
}

/// Why this machine's own TPM cannot be used, if so.
fn machine() -> Option<Finding> {
    if !Path::new(TPM).exists() {
        let what = format!("there is no {TPM}: no TPM 2.0, or it is disabled in the firmware");
        let fix = "switch it on in the firmware's setup: sudo systemctl reboot --firmware-setup";
        return Some(Finding::new(AREA, Status::Missing, what).fix(fix));
    }
    access(TPM, Access::READ_OK | Access::WRITE_OK).err().map(|_| {
        Finding::new(AREA, Status::Missing, format!("{TPM} exists, but this user may not open it"))
            .fix("sudo usermod -aG tss \"$USER\", then log in again")
    })
}

#[cfg(feature = "tpm")]
fn health(uri: &DeviceUri) -> Vec<Finding> {
    use strongroom::device::tpm::examine;
    let health = match examine(uri) {
        Ok(health) => health,
        Err(error) => return vec![Finding::from_error(AREA, Status::Broken, &error)],
    };
    let identity = &health.identity;
    let simulator = if identity.simulator { ", a simulator" } else { "" };
    let fips = if health.fips { ", in FIPS mode" } else { "" };
    let what = format!(
        "{} ({} {}, firmware {}, specification {}{fips}{simulator})",
        uri.display_name(),
        identity.maker,
        identity.model,
        identity.firmware,
        health.revision
    );
    let (failures, limit) = health.tries;
    let lockout = match health.locked {
        true => Finding::new(AREA, Status::Note, format!("in lockout after {failures} wrong PINs"))
            .fix("wait, or `tpm2_dictionarylockout --clear-lockout`"),
        false if health.is_at_last_try() => {
            Finding::new(AREA, Status::Note, format!("{failures} wrong PINs count: one more locks it"))
                .fix("wait, or `tpm2_dictionarylockout --clear-lockout`")
        }
        false => Finding::new(AREA, Status::Ok, format!("{failures} wrong PINs count, {limit} lock it")),
    };
    let listed = |what: &[&str]| if what.is_empty() { "none".into() } else { what.join(", ") };
    let about = format!(
        "PCR banks: {}; endorsement key certificates: {}",
        listed(&health.banks),
        listed(&health.certificates)
    );
    let manager = match health.managed {
        true => Finding::new(AREA, Status::Ok, "a resource manager lets several programs use it"),
        false => Finding::new(AREA, Status::Note, "no resource manager: programs share three slots").fix(
            format!("name {TPM} or tpm2-abrmd in the URI: tcti=device:{TPM}, tcti=tabrmd:bus_type=system"),
        ),
    };
    vec![Finding::new(AREA, Status::Ok, what), lockout, Finding::new(AREA, Status::Ok, about), manager]
}

#[cfg(not(feature = "tpm"))]
fn health(_uri: &DeviceUri) -> Vec<Finding> {
    Vec::new()
}
