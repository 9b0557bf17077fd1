//! Lines of the ledger and of the access log in the Common Event Format, version 0, which log collectors read.

use strongroom::error::printable;
use strongroom::vault::{AccessView, EntryView, is_success};

/// Kinds of statements after which somebody should look.
const GRAVE: [&str; 9] =
    ["enrol", "retire", "roles", "destroy", "repair", "settings", "propose", "approve", "grant"];

/// A statement.
pub fn statement(entry: &EntryView) -> String {
    let severity = match &entry.ineffective {
        Some(_) => 7,
        None if GRAVE.contains(&entry.kind.as_str()) => 5,
        None => 3,
    };
    let outcome = if entry.ineffective.is_some() { "failure" } else { "success" };
    line(
        &format!("ledger-{}", entry.kind),
        &entry.kind,
        severity,
        &[
            ("rt", entry.time.unwrap_or(0).to_string()),
            ("externalId", entry.n.to_string()),
            ("suser", entry.by.clone()),
            ("suid", entry.author.clone()),
            ("outcome", outcome.into()),
            ("msg", entry.line()),
            ("fileHash", entry.hash.clone()),
        ],
    )
}

/// A line of the access log.
pub fn access(access: &AccessView) -> String {
    let done = is_success(&access.outcome);
    let name = match access.version {
        Some(version) => format!("{}@{version}", access.name),
        None => access.name.clone(),
    };
    line(
        "access",
        if done { "token opened" } else { "token not opened" },
        if done { 1 } else { 5 },
        &[
            ("rt", access.time.unwrap_or(0).to_string()),
            ("externalId", access.n.to_string()),
            ("suid", access.uid.to_string()),
            ("spid", access.pid.to_string()),
            ("sproc", access.exe.clone()),
            ("fname", name),
            ("dvchost", access.device.clone()),
            ("outcome", if done { "success" } else { "failure" }.into()),
            ("reason", access.outcome.clone()),
        ],
    )
}

fn line(id: &str, name: &str, severity: u8, extension: &[(&str, String)]) -> String {
    let header = [env!("CARGO_PKG_VERSION"), id, name].map(|text| escaped(text, '|')).join("|");
    let pairs: Vec<_> = extension
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key}={}", escaped(value, '=')))
        .collect();
    format!("CEF:0|Strongroom|strongroom|{header}|{severity}|{}", pairs.join(" "))
}

/// A value as the format wants it, on one line: `separator` and backslashes get a backslash before them.
fn escaped(text: &str, separator: char) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        if c == separator || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_its_field() {
        let view = AccessView {
            n: 7,
            time: Some(1_000),
            name: "prod/db".into(),
            version: None,
            outcome: "opened outcome=success\nCEF:0|x|".into(),
            uid: 0,
            pid: 1,
            exe: "/tmp/a\\b=c|d".into(),
            device: String::new(),
        };
        let expected = format!(
            "CEF:0|Strongroom|strongroom|{}|access|token not opened|5|rt=1000 externalId=7 suid=0 spid=1 \
             sproc=/tmp/a\\\\b\\=c|d fname=prod/db outcome=failure reason=opened outcome\\=success\\\\u{{a}}CEF:0|x|",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(access(&view), expected);
    }
}
