//! Questions on the terminal. Without a terminal, an option has to answer them.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use strongroom::error::printable;
use strongroom::prompt::{self, Prompter, Terminal};
use strongroom::{Error, Kind, Result, Secret};

/// A yes to `question`, from the person or from `--yes`.
///
/// # Errors
/// `Cancelled` for a no; `Usage` when nobody can be asked.
pub fn confirm(yes: bool, operation: &str, question: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    if Terminal::open().is_none() {
        return Err(nobody(operation));
    }
    match prompt::for_process().confirm(question)? {
        true => Ok(()),
        false => Err(Error::new(Kind::Cancelled, operation, "you declined")),
    }
}

/// The person's answer to `question`; `None` if nobody can be asked.
///
/// # Errors
/// `Io` when the terminal fails.
pub fn ask_yes_no(question: &str) -> Result<Option<bool>> {
    match Terminal::open() {
        None => Ok(None),
        Some(_) => prompt::for_process().confirm(question).map(Some),
    }
}

/// As [`confirm`], for what cannot be undone: the person has to type `word`.
///
/// # Errors
/// As [`confirm`].
pub fn confirm_typed(yes: bool, operation: &str, question: &str, word: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    let mut terminal =
        OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(|_| nobody(operation))?;
    let mut answer = String::new();
    let asked = writeln!(terminal, "{}", printable(question))
        .and_then(|()| write!(terminal, "Type {} to continue: ", printable(word)))
        .and_then(|()| BufReader::new(&terminal).read_line(&mut answer));
    asked.map_err(|e| Error::new(Kind::Io, operation, e.to_string()).caused_by(e))?;
    match answer.trim() == word {
        true => Ok(()),
        false => Err(Error::new(Kind::Cancelled, operation, "you typed something else")),
    }
}

/// A new token, typed twice and not shown.
///
/// # Errors
/// `Usage` when the two differ; `Io` when the terminal fails.
pub fn ask_new_token(operation: &str, name: &str) -> Result<Secret> {
    let failed = |e: Error| Error::new(Kind::Io, operation, e.message().to_owned());
    let nobody = || Error::new(Kind::Io, operation, "there is no terminal to ask on");
    let mut terminal = Terminal::open().ok_or_else(nobody)?;
    let first = terminal.secret(&format!("Token for {name}")).map_err(failed)?;
    if first != terminal.secret("Repeat it").map_err(failed)? {
        return Err(Error::new(Kind::Usage, operation, "the two entries differ")
            .with_hint("try again; nothing was stored"));
    }
    Ok(first)
}

fn nobody(operation: &str) -> Error {
    Error::new(Kind::Usage, operation, "there is no terminal to ask on").with_hint("give --yes to agree")
}
