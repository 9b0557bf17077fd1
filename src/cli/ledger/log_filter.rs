//! Which lines of the ledger or of the access log are shown.

use crate::cli::args::time;
use clap::Args;
use serde_json::Value;
use strongroom::vault::{AccessView, EntryView};
use strongroom::{Error, Kind, Result};

#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Only what is of this time or later: 7d (ago), 12h, 2027-01-31 (00:00 local time) or RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what is earlier than this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only what concerns this token, or, with a / at the end, tokens under a prefix
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    /// Only what concerns this device; with --access, what it opened
    #[arg(long = "on-device", value_name = "NAME")]
    device: Option<String>,
    /// Only what this device signed; with --access, what this user (name or uid) or program (path) read
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// Only with this outcome: effective or ineffective; with --access, opened, not-opened, or the word in the column, such as denied
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
}

/// What lines have to be like.
#[derive(Debug, Default)]
pub struct Filter {
    since: Option<u64>,
    until: Option<u64>,
    token: Option<String>,
    device: Option<String>,
    by: Option<String>,
    /// The user's number, where `by` is a user of this machine.
    uid: Option<u32>,
    outcome: Option<String>,
}

impl FilterArgs {
    /// Reads the options.
    ///
    /// # Errors
    /// `Usage` for a time that is none, or an end that is not later than the beginning.
    pub fn filter(&self) -> Result<Filter> {
        let at =
            |option, text: &Option<String>| text.as_deref().map(|text| time::past(option, text)).transpose();
        let (since, until) = (at("--since", &self.since)?, at("--until", &self.until)?);
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(Error::new(Kind::Usage, "show the log", "--until is not later than --since"));
        }
        let uid = self.by.as_deref().and_then(uid_of);
        let (token, device) = (self.token.clone(), self.device.clone());
        Ok(Filter { since, until, token, device, by: self.by.clone(), uid, outcome: self.outcome.clone() })
    }
}

/// A user of this machine, or a number.
fn uid_of(by: &str) -> Option<u32> {
    let named = || nix::unistd::User::from_name(by).ok().flatten().map(|user| user.uid.as_raw());
    by.parse().ok().or_else(named)
}

impl Filter {
    /// Whether a statement is shown.
    pub fn admits(&self, entry: &EntryView) -> bool {
        let outcome = if entry.ineffective.is_some() { "ineffective" } else { "effective" };
        self.in_time(entry.time)
            && is(&self.by, |by| *by == entry.by || *by == entry.author)
            && is(&self.outcome, |wanted| wanted == outcome)
            && is(&self.token, |token| {
                names(&entry.body, &["name", "from", "to", "target"], &|name| is_under(token, name))
            })
            && is(&self.device, |device| {
                names(&entry.body, &["device", "device_id", "recipients", "recovery"], &|name| name == device)
            })
    }

    /// Whether a line of the access log is shown.
    pub fn admits_access(&self, line: &AccessView) -> bool {
        self.in_time(line.time)
            && is(&self.token, |token| is_under(token, &line.name))
            && is(&self.device, |device| *device == line.device)
            && is(&self.by, |by| self.uid == Some(line.uid) || *by == line.exe)
            && is(&self.outcome, |wanted| match wanted.as_str() {
                "not-opened" => line.outcome != "opened" && line.outcome != "resealed",
                wanted => line.outcome == wanted,
            })
    }

    fn in_time(&self, time: Option<u64>) -> bool {
        let time = time.unwrap_or(0);
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

fn is(wanted: &Option<String>, fits: impl FnOnce(&String) -> bool) -> bool {
    wanted.as_ref().is_none_or(fits)
}

/// `prod/` covers all below it, `prod` is one name.
fn is_under(wanted: &str, name: &str) -> bool {
    match wanted.ends_with('/') {
        true => name.starts_with(wanted),
        false => name == wanted,
    }
}

/// Whether one of these fields has a text that fits, here or in what lies below: a proposal holds the change, a put its
/// seals.
fn names(body: &Value, fields: &[&str], fits: &dyn Fn(&str) -> bool) -> bool {
    let text = |value: &Value| value.as_str().is_some_and(fits);
    match body {
        Value::Object(object) => object.iter().any(|(field, value)| {
            let named = fields.contains(&field.as_str());
            let texts = value.as_array().is_some_and(|texts| texts.iter().any(text));
            named && (text(value) || texts) || names(value, fields, fits)
        }),
        Value::Array(values) => values.iter().any(|value| value.is_object() && names(value, fields, fits)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(body: Value) -> EntryView {
        EntryView {
            n: 1,
            hash: String::new(),
            time: Some(1000),
            by: "web".into(),
            author: "aa".into(),
            kind: "put".into(),
            words: String::new(),
            body,
            ineffective: None,
        }
    }

    #[test]
    fn tokens_and_devices_are_found_wherever_a_statement_names_them() {
        let token = |token: &str| Filter { token: Some(token.into()), ..Filter::default() };
        let device = |device: &str| Filter { device: Some(device.into()), ..Filter::default() };
        let put = entry(
            json!({"name": "prod/db", "seals": [{"recipients": ["web", "safe"]}], "description": "prod/x"}),
        );
        assert!(token("prod/db").admits(&put) && token("prod/").admits(&put));
        assert!(!token("prod").admits(&put) && !token("prod/x").admits(&put) && !token("pro").admits(&put));
        assert!(device("safe").admits(&put) && !device("prod/db").admits(&put));
        let proposal = entry(json!({"change": {"device": "old"}}));
        assert!(device("old").admits(&proposal) && !device("web").admits(&proposal));
    }

    #[test]
    fn times_have_a_beginning_and_an_end() {
        let within = |since, until| Filter { since: Some(since), until: Some(until), ..Filter::default() };
        let entry = entry(json!({}));
        assert!(within(1000, 1001).admits(&entry));
        assert!(!within(1001, 2000).admits(&entry) && !within(0, 1000).admits(&entry));
    }
}
