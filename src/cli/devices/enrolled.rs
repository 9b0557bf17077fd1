//! A device that was just enrolled, as `init`, `device add` and `device renew` report it.

use serde_json::{Value, json};
use strongroom::device::{EvidenceLevel, KeyInfo};
use strongroom::ledger::body::Role;
use strongroom::vault::EnrolReport;

/// The device as names and values. `remembered` is the configuration that it was added to.
pub fn fields(report: &EnrolReport, remembered: &Option<String>) -> [(&'static str, String); 7] {
    let [opening, signing] = &report.keys;
    [
        ("device", format!("{} ({})", report.device_name, report.model)),
        ("id", report.device.to_string()),
        ("roles", roles(report).join(",")),
        ("opening key", key(opening, report.created[0])),
        ("signing key", key(signing, report.created[1])),
        ("evidence", evidence(report.evidence).to_owned()),
        ("configuration", remembered.clone().unwrap_or_default()),
    ]
}

/// The device as JSON.
pub fn as_json(report: &EnrolReport, remembered: &Option<String>) -> Value {
    json!({
        "device": report.device_name,
        "device_id": report.device.to_string(),
        "model": report.model,
        "roles": roles(report),
        "opening": key_json(&report.keys[0], report.created[0]),
        "signing": key_json(&report.keys[1], report.created[1]),
        "evidence": report.evidence.to_string(),
        "configuration": remembered,
    })
}

fn roles(report: &EnrolReport) -> Vec<String> {
    report.roles.iter().map(Role::to_string).collect()
}

/// A key as text, with its PIN and touch policies if known.
fn key(key: &KeyInfo, created: bool) -> String {
    let how = if created { "created" } else { "found" };
    let claims = key
        .evidence
        .claims
        .iter()
        .filter(|(claim, is)| *is && (claim.starts_with("pin-") || claim.starts_with("touch-")));
    let guards: Vec<_> = claims.map(|(claim, _)| claim.as_str()).collect();
    let guards = if guards.is_empty() { String::new() } else { format!(" ({})", guards.join(", ")) };
    format!("{}, {how}: {}{guards}", key.public.algorithm(), key.uri)
}

/// A key as JSON.
fn key_json(key: &KeyInfo, created: bool) -> Value {
    json!({"algorithm": key.public.algorithm().to_string(), "uri": key.uri, "created": created})
}

/// A level and what it is worth.
pub fn evidence(level: EvidenceLevel) -> &'static str {
    match level {
        EvidenceLevel::Simulator => "simulator: fine for tests, protects nothing",
        EvidenceLevel::Reported => "reported: the device reports that its keys cannot leave it",
        EvidenceLevel::Attested => "attested: the vendor's certificates prove that its keys cannot leave it",
    }
}
