//! The only place that prints. Data goes to stdout, messages to stderr.
//!
//! Text from outside (names, labels of devices, reasons, paths) goes through [`printable`] first, so that it cannot drive a
//! terminal. Only [`Output::bytes`] lets bytes through as they are.

pub mod format;
pub mod table;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::tcgetwinsize;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Stderr, Write};
use std::os::fd::AsFd;
use std::time::Duration;
use strongroom::error::printable;
use strongroom::{Error, Kind, Result};
use table::Table;

/// How to print: the options that every command has.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutputOptions {
    /// JSON instead of text.
    pub json: bool,
    /// Errors and warnings only.
    pub quiet: bool,
    /// When to use colour.
    pub colour: Colour,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Also into a pipe.
    Always,
    /// Not at all.
    Never,
}

/// Stdout and stderr.
pub struct Output {
    options: OutputOptions,
    /// A duplicate of stdout with a buffer of our own: the standard library's would flush at every line.
    data: Option<BufWriter<File>>,
    words: Stderr,
    terminal: bool,
    words_terminal: bool,
}

impl Output {
    /// On this process's stdout and stderr.
    pub fn new(options: OutputOptions) -> Self {
        let stdout = io::stdout();
        let data = stdout.as_fd().try_clone_to_owned().ok().map(|fd| BufWriter::new(File::from(fd)));
        let (terminal, words) = (stdout.is_terminal(), io::stderr());
        let words_terminal = words.is_terminal();
        Self { options, data, words, terminal, words_terminal }
    }

    /// Standard output and standard error, for what another program writes.
    ///
    /// # Errors
    /// Those of duplicating them.
    pub fn descriptors() -> io::Result<(File, File)> {
        let (data, words) =
            (io::stdout().as_fd().try_clone_to_owned()?, io::stderr().as_fd().try_clone_to_owned()?);
        Ok((File::from(data), File::from(words)))
    }

    /// Whether data is wanted as JSON.
    pub fn json_wanted(&self) -> bool {
        self.options.json
    }

    /// Whether data goes to a terminal.
    pub fn to_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether data may have colour.
    pub fn colours_data(&self) -> bool {
        colours(self.options.colour, self.terminal)
    }

    /// The terminal's width in columns; `None` if data does not go to a terminal.
    pub fn width(&self) -> Option<u16> {
        let size = self.terminal.then(|| tcgetwinsize(io::stdout()).ok())?;
        Some(size.map(|size| size.ws_col).filter(|columns| *columns > 0).unwrap_or(80))
    }

    /// Data as it is.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.data.as_mut().ok_or_else(gone).and_then(|data| data.write_all(bytes)).map_err(not_written)
    }

    /// A line of data.
    pub fn line(&mut self, text: &str) -> Result<()> {
        self.bytes(printable(text).as_bytes())?;
        self.bytes(b"\n")
    }

    /// Data as JSON, on one line. Nothing but ASCII, so it can be looked at on any terminal.
    pub fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let text =
            serde_json::to_string(value).map_err(|e| Error::new(Kind::Io, "write JSON", e.to_string()))?;
        let text = ascii(&text);
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// The result of a command: an object with --json, else a message.
    pub fn done(&mut self, object: &impl Serialize, words: &str) -> Result<()> {
        if self.options.json {
            return self.json(object);
        }
        self.info(words);
        Ok(())
    }

    /// One entry of a listing: an object with --json, else a row.
    pub fn entry(
        &mut self,
        table: &mut Table,
        object: &impl Serialize,
        cells: impl Into<Vec<String>>,
    ) -> Result<()> {
        if self.options.json { self.json(object) } else { self.row(table, cells.into()) }
    }

    /// One line for each pair, its name padded to the longest; pairs without a value are left out.
    pub fn fields(&mut self, pairs: &[(&str, String)]) -> Result<()> {
        let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            self.line(&format!("{name:width$}  {value}"))?;
        }
        Ok(())
    }

    /// A table of data, whose rows may come one by one.
    pub fn table(&self, columns: &'static [&'static str]) -> Table {
        Table::new(columns, self.width())
    }

    /// A table that keeps its header and alignment also where it is not shown on a terminal.
    pub fn aligned_table(&self, columns: &'static [&'static str]) -> Table {
        Table::new(columns, Some(self.width().unwrap_or(u16::MAX)))
    }

    /// One more row.
    pub fn row(&mut self, table: &mut Table, cells: Vec<String>) -> Result<()> {
        let cells = cells.iter().map(|cell| printable(cell)).collect();
        match table.row(cells) {
            Some(text) => self.bytes(text.as_bytes()),
            None => Ok(()),
        }
    }

    /// The table's last rows.
    pub fn end(&mut self, mut table: Table) -> Result<()> {
        let rest = table.rest();
        self.bytes(rest.as_bytes())
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) -> Result<()> {
        self.data.as_mut().map_or(Ok(()), BufWriter::flush).map_err(not_written)
    }

    /// A message, which --quiet suppresses.
    pub fn info(&mut self, text: &str) {
        if !self.options.quiet {
            self.word(&printable(text));
        }
    }

    /// A warning, which --quiet does not suppress.
    pub fn warn(&mut self, text: &str) {
        let mark = self.paint("33", "warning");
        self.word(&format!("strongroom: {mark}: {}", printable(text)));
    }

    /// What was tried, on what, what came back, and what to do now.
    pub fn error(&mut self, error: &Error) {
        if self.options.json {
            return self.word(&ascii(&error_json(error)));
        }
        let name = self.paint("1;31", "strongroom");
        self.word(&format!("{name}: {}", printable(&error.to_string())));
        if let Some(hint) = error.hint() {
            self.word(&format!("  {} {}", table::arrow(), printable(hint)));
        }
    }

    /// Help for a command line that lacks a command.
    pub fn help_instead(&mut self, text: &str) {
        self.word(text.trim_end());
    }

    /// An error of the command line's parser, which repeats what was typed.
    pub fn parse_error(&mut self, text: &str) {
        let text = text.strip_prefix("error: ").unwrap_or(text).trim_end();
        if self.options.json {
            let (message, hint) = text.split_once('\n').unwrap_or((text, ""));
            let error = Error::new(Kind::Usage, "understand the command line", message);
            return self.error(&error.with_hint(hint.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
        let name = self.paint("1;31", "strongroom");
        let lines: Vec<String> = text.lines().map(printable).collect();
        self.word(&format!("{name}: {}", lines.join("\n")));
    }

    /// A progress bar on stderr, if that is a terminal. It appears after 300 ms.
    pub fn progress(&self) -> impl FnMut(&str, u64, u64) + use<> {
        let visible = self.words_terminal && !self.options.quiet;
        let mut shown: Option<(String, ProgressBar)> = None;
        let started = std::time::Instant::now();
        move |what, done, total| {
            if !visible || started.elapsed() < Duration::from_millis(300) {
                return;
            }
            if shown.as_ref().is_none_or(|(before, _)| before != what) {
                shown = Some((what.to_owned(), bar(what)));
            }
            if let Some((_, bar)) = &shown {
                bar.set_length(total);
                bar.set_position(done);
                if done >= total {
                    bar.finish_and_clear();
                }
            }
        }
    }

    /// A message that cannot be written is dropped: there is nowhere to report that.
    fn word(&mut self, text: &str) {
        // Keep the order of data and messages. A failure comes back with the next piece of data.
        let _ = self.flush();
        let _ = self.words.write_all(format!("{text}\n").as_bytes());
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match colours(self.options.colour, self.words_terminal) {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

fn bar(what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {human_pos}/{human_len} {eta}") {
        bar.set_style(style);
    }
    bar.set_prefix(what.to_owned());
    bar
}

/// <https://no-color.org>
fn colours(wanted: Colour, terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match wanted {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => {
            terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    }
}

/// Keeps the I/O error as the source, so that a closed pipe is recognized.
fn not_written(error: io::Error) -> Error {
    Error::new(Kind::Io, "write to standard output", error.to_string()).caused_by(error)
}

/// An error for programs.
#[derive(Serialize)]
struct ErrorJson<'a> {
    kind: &'static str,
    operation: &'a str,
    target: Option<&'a str>,
    message: &'a str,
    hint: Option<&'a str>,
}

fn error_json(error: &Error) -> String {
    let object = ErrorJson {
        kind: error.kind().name(),
        operation: error.operation(),
        target: error.target(),
        message: error.message(),
        hint: error.hint(),
    };
    serde_json::to_string(&object).map_or_else(|e| e.to_string(), |object| format!("{{\"error\":{object}}}"))
}

/// JSON text with everything outside printable ASCII escaped; outside strings JSON has nothing of that.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            ' '..='~' => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn json_is_ascii_and_means_the_same() {
        let value = json!({"a": "é\u{202e}\u{9b}\u{7f}\u{1b}[31m🔑"});
        let text = ascii(&value.to_string());
        assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
