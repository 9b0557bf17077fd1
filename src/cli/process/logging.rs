//! `STRONGROOM_LOG`: the library's log, on standard error, or in the journal where that is what standard error leads to. It
//! never holds a secret, at any level.
//!
//! A record has a message and, where the agent says what happened to whom, fields: `token=prod/db` on standard error,
//! `STRONGROOM_TOKEN=prod/db` in the journal (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::Write;
use strongroom::error::printable;
use strongroom::{Error, Kind};
use systemd_journal_logger::{JournalLog, connected_to_journal};

/// The variable.
const VARIABLE: &str = "STRONGROOM_LOG";

/// Libraries that would log the PINs they send to a device, with the most verbose level that is safe.
const TALKATIVE: [(&str, LevelFilter); 1] = [("yubikey", LevelFilter::Debug)];

/// Fields that have a meaning of their own in the journal (systemd.journal-fields(7)). The journal adds the unit of an
/// object, so that `journalctl -u web.service` shows what the agent says of that unit's processes.
const OF_THE_JOURNAL: [(&str, &str); 2] = [("message_id", "MESSAGE_ID"), ("pid", "OBJECT_PID")];

/// Starts logging; warnings only, and only our own, where the variable is not set.
///
/// # Errors
/// `Usage` for a level that does not exist.
pub fn start() -> Result<(), Error> {
    let mut builder = env_logger::Builder::new();
    match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        None => builder.filter_level(LevelFilter::Off).filter_module("strongroom", LevelFilter::Warn),
        Some(value) => {
            let level: LevelFilter =
                value.to_str().and_then(|value| value.parse().ok()).ok_or_else(unknown)?;
            builder.filter_level(level);
            TALKATIVE.iter().for_each(|(target, most)| {
                builder.filter_module(target, level.min(*most));
            });
            &mut builder
        }
    };
    let in_journal = connected_to_journal();
    // Without its socket, the journal takes a line's priority from the line's beginning (sd-daemon(3)).
    builder.format(move |out, record| {
        let (message, mut fields) = (printable(&record.args().to_string()), Fields::of(record));
        fields.0.retain(|(key, _)| key != "message_id");
        let level = record.level().as_str().to_ascii_lowercase();
        let priority = if in_journal { priority(record.level()) } else { "" };
        writeln!(out, "{priority}{level} {}: {message}{}", record.target(), fields.line())
    });
    let logger = builder.build();
    log::set_max_level(logger.filter());
    let journal = if in_journal { JournalLog::empty().ok() } else { None };
    let logger: Box<dyn Log> = match journal {
        Some(journal) => Box::new(ToJournal {
            filter: logger,
            journal: journal.with_syslog_identifier(env!("CARGO_PKG_NAME").into()),
        }),
        None => Box::new(logger),
    };
    log::set_boxed_logger(logger).map_err(|e| Error::new(Kind::Io, "start logging", e.to_string()))
}

/// Sends to the journal what the filter lets through.
struct ToJournal {
    filter: env_logger::Logger,
    journal: JournalLog,
}

impl Log for ToJournal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.filter.matches(record) {
            let (message, fields) = (printable(&record.args().to_string()), Fields::of(record).in_journal());
            let mut record = record.to_builder();
            self.journal.log(&record.args(format_args!("{message}")).key_values(&fields.0).build());
        }
    }

    fn flush(&self) {}
}

/// The fields of a record.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn of(record: &Record<'_>) -> Self {
        let mut fields = Self(Vec::new());
        // Collecting fails nowhere.
        let _ = record.key_values().visit(&mut fields);
        fields
    }

    /// As they are named in the journal.
    fn in_journal(mut self) -> Self {
        for (key, value) in &mut self.0 {
            *value = printable(value);
            let own = OF_THE_JOURNAL.iter().find(|(ours, _)| ours == key);
            *key = own
                .map_or_else(|| format!("STRONGROOM_{}", key.to_ascii_uppercase()), |(_, own)| (*own).into());
        }
        self
    }

    /// ` key=value` for each, quoted where it needs to be.
    fn line(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@+".contains(c);
        let field = |(key, value): &(String, String)| match !value.is_empty() && value.chars().all(plain) {
            true => format!(" {key}={value}"),
            false => format!(" {key}={value:?}"),
        };
        self.0.iter().map(field).collect()
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        // An empty field says nothing.
        let value = value.to_string();
        if !value.is_empty() {
            self.0.push((key.to_string(), value));
        }
        Ok(())
    }
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

fn unknown() -> Error {
    Error::new(Kind::Usage, "start logging", format!("{VARIABLE} is set to a level that does not exist"))
        .with_hint("set it to error, warn, info, debug or trace, or not at all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_for_people_and_for_the_journal() {
        let values = [
            ("message_id", "0f"),
            ("token", "prod/db"),
            ("outcome", "not confirmed"),
            ("pid", "7"),
            ("unit", ""),
        ];
        let record = Record::builder().key_values(&values).build();
        assert_eq!(
            Fields::of(&record).line(),
            " message_id=0f token=prod/db outcome=\"not confirmed\" pid=7"
        );
        let Fields(journal) = Fields::of(&record).in_journal();
        let keys: Vec<_> = journal.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["MESSAGE_ID", "STRONGROOM_TOKEN", "STRONGROOM_OUTCOME", "OBJECT_PID"]);
    }

    #[test]
    fn a_value_ends_neither_its_line_nor_its_quotes() {
        let record_of = |value: &str| Fields(vec![("program".into(), value.into())]).line();
        assert_eq!(record_of("a\nb \"c\" d=e\u{1b}[m"), " program=\"a\\nb \\\"c\\\" d=e\\u{1b}[m\"");
    }
}
