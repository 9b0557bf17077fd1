//! Which lines of the ledger or of the access log are shown.

use crate::cli::args::time;
use clap::Args;
use serde_json::Value;
use strongroom::error::printable;
use strongroom::vault::{AccessView, EntryView, OUTCOMES, is_failure, outcome_word};
use strongroom::{Error, Kind, Result};

const OPERATION: &str = "show the log";

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
    /// Only with this outcome: effective or ineffective; with --access, opened, not-opened, or the first words in the column, such as denied
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
}

/// The outcomes of statements.
const STATEMENTS: [&str; 2] = ["effective", "ineffective"];

/// Every outcome in the access log that is a failure.
const NOT_OPENED: &str = "not-opened";

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
    /// Reads the options, for lines of the access log or of the ledger.
    ///
    /// # Errors
    /// `Usage` for a time that is none, an end that is not later than the beginning, and what no line can be like.
    pub fn filter(&self, access: bool) -> Result<Filter> {
        let at =
            |option, text: &Option<String>| text.as_deref().map(|text| time::past(option, text)).transpose();
        let (since, until) = (at("--since", &self.since)?, at("--until", &self.until)?);
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(Error::new(Kind::Usage, OPERATION, "--until is not later than --since"));
        }
        self.expect_possible_outcome(access)?;
        let uid = self.by.as_deref().and_then(uid_of);
        if let Some(by) = self.by.as_deref().filter(|by| access && uid.is_none() && !by.starts_with('/')) {
            let message = format!("this machine has no user `{}`", printable(by));
            return Err(Error::new(Kind::Usage, OPERATION, message).with_hint(
                "with --access, --by takes a user's name or number, or the path of a program, such as /usr/bin/git",
            ));
        }
        let (token, device) = (self.token.clone(), self.device.clone());
        Ok(Filter { since, until, token, device, by: self.by.clone(), uid, outcome: self.outcome.clone() })
    }
}

impl FilterArgs {
    fn expect_possible_outcome(&self, access: bool) -> Result<()> {
        let Some(wanted) = &self.outcome else { return Ok(()) };
        let words = match access {
            true => [OUTCOMES.as_slice(), &[NOT_OPENED]].concat(),
            false => STATEMENTS.to_vec(),
        };
        if words.contains(&wanted.as_str()) {
            return Ok(());
        }
        let message = format!("no line has the outcome `{}`", printable(wanted));
        let hint = format!("--outcome takes one of: {}", words.join(", "));
        Err(Error::new(Kind::Usage, OPERATION, message).with_hint(hint))
    }
}

/// A user of this machine, or a number.
fn uid_of(by: &str) -> Option<u32> {
    let named = || nix::unistd::User::from_name(by).ok().flatten().map(|user| user.uid.as_raw());
    by.parse().ok().or_else(named)
}

impl Filter {
    /// Whether a statement tells of the device in `by`, or none is asked for: a name that no statement tells of is a mistake.
    pub fn knows_author(&self, entry: &EntryView) -> bool {
        is(&self.by, |by| {
            *by == entry.by
                || *by == entry.author
                || names(&entry.body, &["device", "device_id"], &|name| name == by)
        })
    }

    /// The error where no statement tells of the device in `by`.
    pub fn unknown_author(&self) -> Error {
        let by = printable(self.by.as_deref().unwrap_or_default());
        Error::new(Kind::NotFound, OPERATION, format!("no device has the name or id `{by}`"))
            .with_hint("`strongroom device list` shows them; with --access, --by takes users and programs")
    }

    /// Whether a statement is shown.
    pub fn admits(&self, entry: &EntryView) -> bool {
        let outcome = STATEMENTS[usize::from(entry.ineffective.is_some())];
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
                NOT_OPENED => is_failure(&line.outcome),
                wanted => outcome_word(&line.outcome) == wanted,
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
