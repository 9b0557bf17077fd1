//! A prompter on the device's thread that passes every question on to the caller's.

use crate::error::{Error, Kind, Result};
use crate::prompt::{PinRequest, Prompter, TriesLeft};
use crate::secret::Secret;
use crate::uri::PinSource;
use std::sync::mpsc::{Sender, channel};

/// A message from the device's thread to the caller's.
pub enum Message<T> {
    /// Ask the person.
    Question(Question),
    /// The driver waits for a person.
    Waiting,
    /// The job is done.
    Done(Result<T>),
}

/// A question, and the channel for the reply.
pub enum Question {
    Pin {
        device: String,
        source: Option<PinSource>,
        tries: TriesLeft,
        what_for: Option<String>,
        reply: Sender<Result<Secret>>,
    },
    Touch {
        why: String,
        reply: Sender<Result<()>>,
    },
    Confirm {
        question: String,
        reply: Sender<Result<bool>>,
    },
    Secret {
        question: String,
        reply: Sender<Result<Secret>>,
    },
}

impl Question {
    /// Asks the prompter and sends the reply. The driver may have been given up meanwhile, which does no harm.
    pub fn put_to(self, prompter: &mut dyn Prompter) {
        match self {
            Self::Pin { device, source, tries, what_for, reply } => {
                let (source, what_for) = (source.as_ref(), what_for.as_deref());
                let _ = reply.send(prompter.pin(&PinRequest { device: &device, source, tries, what_for }));
            }
            Self::Touch { why, reply } => drop(reply.send(prompter.touch(&why))),
            Self::Confirm { question, reply } => drop(reply.send(prompter.confirm(&question))),
            Self::Secret { question, reply } => drop(reply.send(prompter.secret(&question))),
        }
    }
}

/// The driver's prompter.
pub struct Relay<'a, T> {
    pub sender: &'a Sender<Message<T>>,
    pub attended: bool,
}

impl<T> Relay<'_, T> {
    fn ask<A>(&self, question: impl FnOnce(Sender<Result<A>>) -> Question) -> Result<A> {
        let (reply, answer) = channel();
        let gone = || Error::new(Kind::Cancelled, "ask the person", "the operation was given up meanwhile");
        self.sender.send(Message::Question(question(reply))).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

impl<T> Prompter for Relay<'_, T> {
    fn pin(&mut self, request: &PinRequest<'_>) -> Result<Secret> {
        let (device, source, tries) = (request.device.to_owned(), request.source.cloned(), request.tries);
        let what_for = request.what_for.map(str::to_owned);
        self.ask(|reply| Question::Pin { device, source, tries, what_for, reply })
    }

    fn touch(&mut self, why: &str) -> Result<()> {
        self.ask(|reply| Question::Touch { why: why.to_owned(), reply })
    }

    fn confirm(&mut self, question: &str) -> Result<bool> {
        self.ask(|reply| Question::Confirm { question: question.to_owned(), reply })
    }

    fn secret(&mut self, question: &str) -> Result<Secret> {
        self.ask(|reply| Question::Secret { question: question.to_owned(), reply })
    }

    fn is_attended(&self) -> bool {
        self.attended
    }

    fn still_waiting(&mut self) {
        let _ = self.sender.send(Message::Waiting);
    }
}
