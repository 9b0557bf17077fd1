//! `STRONGROOM_LOG`: the library's log on stderr. It never holds a secret, at any level.

use log::{Level, LevelFilter};
use std::io::Write;
use strongroom::error::printable;
use strongroom::{Error, Kind};

/// The variable.
const VARIABLE: &str = "STRONGROOM_LOG";

/// Libraries that would log the PINs they send to a device, with the most verbose level that is safe.
const TALKATIVE: [(&str, LevelFilter); 1] = [("yubikey", LevelFilter::Debug)];

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
    // Standard error is the journal's, which takes a line's priority from its beginning (sd-daemon(3)).
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    builder.format(move |out, record| {
        let message = printable(&record.args().to_string());
        let level = record.level().as_str().to_ascii_lowercase();
        let priority = if journal { priority(record.level()) } else { "" };
        writeln!(out, "{priority}{level} {}: {message}", record.target())
    });
    builder.try_init().map_err(|e| Error::new(Kind::Io, "start logging", e.to_string()))
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
