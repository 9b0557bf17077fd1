//! age's plugin protocol (C2SP, age-plugin.md): `age-plugin-strongroom` seals to devices and opens with them.
//!
//! Sealing asks no device and no store. Opening goes through an agent where there is one. The plugin has no terminal: what a
//! device asks a person is passed on to the age program.

use crate::error::{Error, Kind, Result};
use crate::prompt::{BatchPrompter, PinRequest, Prompter, Terminal, question};
use crate::seal::{FileKey, PLUGIN, PluginRecipient, Stanza};
use crate::secret::Secret;
use age_core::plugin::{BidirSend, Connection, IDENTITY_V1, RECIPIENT_V1};
use age_core::primitives::bech32_decode;
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const OPERATION: &str = "answer age";

/// The identity that stands for whatever devices a machine has. It holds no secret: `age -j strongroom` means the same.
///
/// # Errors
/// None in practice.
pub fn identity() -> Result<String> {
    let hrp = bech32::Hrp::parse(&identity_prefix()).map_err(|e| e.to_string());
    let text =
        hrp.and_then(|hrp| bech32::encode_upper::<bech32::Bech32>(hrp, &[]).map_err(|e| e.to_string()));
    text.map_err(|e| Error::new(Kind::Unsupported, "write the identity", e))
}

fn identity_prefix() -> String {
    format!("age-plugin-{PLUGIN}-")
}

/// Opens the file keys of several files; `None` for one that is sealed to no device of this store.
pub type OpenFiles<'a> =
    dyn FnMut(Vec<Vec<Stanza>>, Box<dyn Prompter + Send>) -> Vec<Result<Option<Secret>>> + Send + 'a;

/// Speaks one of the protocol's state machines on standard input and output. Failures are told to the age program.
///
/// # Errors
/// `Usage` for a state machine that is not known; `Io` when the age program breaks off.
pub fn serve(state_machine: &str, open: &mut OpenFiles<'_>) -> Result<()> {
    let mut connection = Connection::accept();
    let served = match state_machine {
        RECIPIENT_V1 => seal(&mut connection),
        IDENTITY_V1 => unseal(&mut connection, open),
        _ => return Err(Error::new(Kind::Usage, OPERATION, "it asks for a protocol that is not known here")),
    };
    served.map_err(|e| Error::new(Kind::Io, OPERATION, e.to_string()).caused_by(e))
}

/// What the age program is told of a failure: what it is about, and why.
type Failure = (Vec<String>, String);

fn internal(why: impl ToString) -> Failure {
    (vec!["internal".into()], why.to_string())
}

fn about(what: &str, index: usize, why: impl ToString) -> Failure {
    (vec![what.into(), index.to_string()], why.to_string())
}

/// The only argument of a command that has no data.
fn argument(mut stanza: Stanza) -> Result<String, Failure> {
    match (stanza.args.pop(), stanza.args.is_empty() && stanza.body.is_empty()) {
        (Some(argument), true) => Ok(argument),
        _ => Err(internal(format!("{} takes one argument", stanza.tag))),
    }
}

fn seal<R: Read, W: Write>(connection: &mut Connection<R, W>) -> io::Result<()> {
    let file_key = |stanza: Stanza| {
        let exact = <&[u8; 16]>::try_from(stanza.body.as_slice());
        let key = exact.map_err(|_| internal("a file key has 16 bytes"))?;
        Ok(FileKey::init_with_mut(|file_key| file_key.copy_from_slice(key)))
    };
    let (recipients, identities, file_keys, _) = connection.unidir_receive(
        ("add-recipient", argument),
        ("add-identity", argument),
        (Some("wrap-file-key"), file_key),
        (Some("extension-labels"), |_| Ok(())),
    )?;
    let file_keys = file_keys.unwrap_or_else(|| Ok(Vec::new()));
    let wrapped = match (recipients, identities, file_keys) {
        (Ok(recipients), Ok(identities), Ok(file_keys)) => wrap(&recipients, identities.len(), &file_keys),
        (recipients, identities, file_keys) => {
            let failures = [recipients.err(), identities.err(), file_keys.err()];
            Err(failures.into_iter().flatten().flatten().collect())
        }
    };
    connection.bidir_send(|mut phase| match wrapped {
        Err(failures) => failures.into_iter().try_for_each(|failure| tell(&mut phase, failure)),
        Ok(stanzas) => stanzas.iter().try_for_each(|(file, stanza)| {
            phase.send_stanza("recipient-stanza", &[&file.to_string()], stanza).map(drop)
        }),
    })
}

/// A stanza for every file key and recipient, each with its file's number.
fn wrap(
    recipients: &[String],
    identities: usize,
    file_keys: &[FileKey],
) -> Result<Vec<(usize, Stanza)>, Vec<Failure>> {
    let by_identity =
        |index| about("identity", index, "seal to recipients: `strongroom age recipients` prints them");
    let mut failures: Vec<Failure> = (0..identities).map(by_identity).collect();
    let mut stanzas = Vec::new();
    for (index, text) in recipients.iter().enumerate() {
        let read = bech32_decode(
            text,
            |_| "it is no Bech32".to_owned(),
            |hrp| {
                if hrp.as_str() == format!("age1{PLUGIN}") {
                    Ok(())
                } else {
                    Err("it is another program's".into())
                }
            },
            |_, bytes| {
                PluginRecipient::from_bytes(&bytes.collect::<Vec<_>>()).map_err(|e| e.message().to_owned())
            },
        );
        let wrapped = read.and_then(|recipient| {
            let one = |key| recipient.wrap(key).map_err(|e| e.message().to_owned());
            file_keys.iter().map(one).collect::<Result<Vec<_>, _>>()
        });
        match wrapped {
            Ok(wrapped) => stanzas.extend(wrapped.into_iter().enumerate()),
            Err(why) => failures.push(about("recipient", index, why)),
        }
    }
    if failures.is_empty() { Ok(stanzas) } else { Err(failures) }
}

fn unseal<R: Read, W: Write>(connection: &mut Connection<R, W>, open: &mut OpenFiles<'_>) -> io::Result<()> {
    let stanza = |mut stanza: Stanza| {
        let number = stanza.args.first().and_then(|number| number.parse::<usize>().ok());
        let (Some(file), true) = (number, stanza.args.len() >= 2) else {
            return Err(internal("recipient-stanza takes a file's number and a stanza"));
        };
        let args = stanza.args.split_off(2);
        let tag = stanza.args.pop().unwrap_or_default();
        Ok((file, Stanza { tag, args, body: stanza.body }))
    };
    let (identities, stanzas, ..) = connection.unidir_receive(
        ("add-identity", argument),
        ("recipient-stanza", stanza),
        (None, |_| Ok(())),
        (None, |_| Ok(())),
    )?;
    let files = match (identities.and_then(|identities| are_ours(&identities)), stanzas) {
        (Ok(()), Ok(stanzas)) => by_file(stanzas),
        (identities, stanzas) => {
            Err([identities.err(), stanzas.err()].into_iter().flatten().flatten().collect())
        }
    };
    connection.bidir_send(|mut phase| {
        let opened = match files {
            Ok(files) => open_asking(&mut phase, files, open)?,
            Err(failures) => return failures.into_iter().try_for_each(|failure| tell(&mut phase, failure)),
        };
        for (file, opened) in opened.into_iter().enumerate() {
            match opened {
                Ok(None) => {}
                Ok(Some(key)) => drop(phase.send("file-key", &[&file.to_string()], key.expose())?),
                // Another identity may open it.
                Err(error) if error.kind() == Kind::SealedElsewhere => {
                    drop(phase.send("msg", &[], in_words(&error).as_bytes())?);
                }
                Err(error) => tell(&mut phase, internal(in_words(&error)))?,
            }
        }
        Ok(())
    })
}

fn are_ours(identities: &[String]) -> Result<(), Vec<Failure>> {
    let check = |(index, text): (usize, &String)| {
        let read = bech32_decode(
            text,
            |_| "it is no Bech32",
            |hrp| {
                if hrp.as_str().eq_ignore_ascii_case(&identity_prefix()) {
                    Ok(())
                } else {
                    Err("it is another program's")
                }
            },
            |_, mut bytes| {
                if bytes.next().is_none() { Ok(()) } else { Err("it was written by a newer Strongroom") }
            },
        );
        read.err().map(|why| about("identity", index, why))
    };
    let failures: Vec<Failure> = identities.iter().enumerate().filter_map(check).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// The stanzas of each file; the files come one after the other.
fn by_file(stanzas: Vec<(usize, Stanza)>) -> Result<Vec<Vec<Stanza>>, Vec<Failure>> {
    let mut files: Vec<Vec<Stanza>> = Vec::new();
    for (file, stanza) in stanzas {
        match files.len() {
            count if file.checked_add(1) == Some(count) => files[file].push(stanza),
            count if file == count => files.push(vec![stanza]),
            _ => return Err(vec![internal("the files' numbers do not follow each other")]),
        }
    }
    Ok(files)
}

/// Opens files on a thread of its own, and has the age program answer what is asked there.
fn open_asking<R: Read, W: Write>(
    phase: &mut BidirSend<'_, R, W>,
    files: Vec<Vec<Stanza>>,
    open: &mut OpenFiles<'_>,
) -> io::Result<Vec<Result<Option<Secret>>>> {
    let (asker, asked) = sync_channel(0);
    std::thread::scope(|scope| {
        let opening = scope.spawn(move || open(files, Box::new(AgePrompter { asker })));
        let answered = answer_all(phase, &asked);
        // Whoever still waits for an answer gets none.
        drop(asked);
        let opened = opening.join().map_err(|_| io::Error::other("opening it failed"))?;
        answered.map(|()| opened)
    })
}

fn answer_all<R: Read, W: Write>(
    phase: &mut BidirSend<'_, R, W>,
    asked: &Receiver<Question>,
) -> io::Result<()> {
    for question in asked {
        match question {
            Question::Message(text) => drop(phase.send("msg", &[], text.as_bytes())?),
            Question::Secret(text, answer) => {
                let said = phase.send("request-secret", &[], text.as_bytes())?;
                let _ = answer.send(said.ok().map(|stanza| Secret::new(stanza.body)));
            }
            Question::Confirm(text, answer) => {
                let words = ["Yes", "No"].map(|word| BASE64.encode(word));
                let said = phase.send("confirm", &[&words[0], &words[1]], text.as_bytes())?;
                let _ = answer.send(said.is_ok_and(|stanza| stanza.args == ["yes"]));
            }
        }
    }
    Ok(())
}

fn tell<R: Read, W: Write>(phase: &mut BidirSend<'_, R, W>, (about, why): Failure) -> io::Result<()> {
    let about: Vec<&str> = about.iter().map(String::as_str).collect();
    phase.send("error", &about, why.as_bytes()).map(drop)
}

/// An error with what to do now.
fn in_words(error: &Error) -> String {
    error.hint().map_or_else(|| error.to_string(), |hint| format!("{error} ({hint})"))
}

enum Question {
    Message(String),
    Secret(String, SyncSender<Option<Secret>>),
    Confirm(String, SyncSender<bool>),
}

/// A person, by way of the age program.
struct AgePrompter {
    asker: SyncSender<Question>,
}

impl AgePrompter {
    fn ask_secret(&self, question: &str, of: &str) -> Result<Secret> {
        let (answer, answered) = sync_channel(0);
        let _ = self.asker.send(Question::Secret(question.trim_end_matches([' ', ':']).to_owned(), answer));
        let typed = answered.recv().ok().flatten().filter(|typed| !typed.is_empty());
        typed.ok_or_else(|| {
            Error::new(Kind::PinUnavailable, "get the PIN", "the age program did not answer the question")
                .with_target(of)
                .with_hint("run it on a terminal, or `strongroom unlock` an agent")
        })
    }
}

impl Prompter for AgePrompter {
    fn pin(&mut self, request: &PinRequest<'_>) -> Result<Secret> {
        match request.source {
            Some(_) => BatchPrompter.pin(request),
            None => self.ask_secret(&question(request), request.device),
        }
    }

    fn touch(&mut self, why: &str) -> Result<()> {
        let _ = self.asker.send(Question::Message(why.to_owned()));
        Ok(())
    }

    fn confirm(&mut self, question: &str) -> Result<bool> {
        let (answer, answered) = sync_channel(0);
        let _ = self.asker.send(Question::Confirm(question.to_owned(), answer));
        Ok(answered.recv().unwrap_or(false))
    }

    fn secret(&mut self, question: &str) -> Result<Secret> {
        self.ask_secret(question, question)
    }

    /// Nobody is waited for who sits at no terminal.
    fn is_attended(&self) -> bool {
        Terminal::open().is_some()
    }
}
