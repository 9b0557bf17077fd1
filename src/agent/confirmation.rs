//! Asks a person before a token is handed out, where a grant (`grant --confirm`) or the agent's owner (`agent --confirm`)
//! says so.
//!
//! One question is asked at a time. A client has few questions waiting, and after a no it is refused for a while without
//! a question: nobody is worn down by dialogues.

use crate::agent::worker::{ShutdownGuard, Worker};
use crate::error::{Error, Kind, Result};
use crate::ledger::Prefix;
use crate::prompt::{BatchPrompter, Prompter};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many questions may wait, of all clients and of each.
const WAITING: usize = 64;
const WAITING_OF_EACH: usize = 3;

/// For so long after a no, the same client is not asked about for the same token.
const PEACE: Duration = Duration::from_secs(30);

/// Who is asked, and about what.
pub struct ConfirmPolicy {
    /// How a person is asked. If it is unattended, nothing is confirmed.
    pub prompter: Box<dyn Prompter + Send>,
    /// Tokens that nobody gets without confirmation, whatever was granted. The owner does not, either.
    pub on: Vec<Prefix>,
}

impl Default for ConfirmPolicy {
    fn default() -> Self {
        Self { prompter: Box::new(BatchPrompter), on: Vec::new() }
    }
}

/// What is to be confirmed.
pub struct Question<'a> {
    /// Whose questions are counted together.
    pub client: &'a str,
    /// The program, as the person sees it.
    pub program: &'a str,
    /// The token's name, with its version if one was named.
    pub token: &'a str,
}

/// The person, on a thread of their own.
pub struct Confirmations {
    /// `None` if nobody can be asked.
    person: Option<Worker<Box<dyn Prompter + Send>>>,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    waiting: HashMap<String, usize>,
    /// By client and token.
    declined: HashMap<(String, String), Instant>,
}

/// A question that waits for its answer.
struct Waiting<'a>(&'a Confirmations, &'a str);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut asked = self.0.asked();
        if let Some(count) = asked.waiting.get_mut(self.1) {
            *count -= 1;
        }
        asked.waiting.retain(|_, count| *count > 0);
    }
}

impl Confirmations {
    /// Starts the thread, if a person can be asked.
    ///
    /// # Errors
    /// `Io`.
    pub fn start(prompter: Box<dyn Prompter + Send>, alive: &ShutdownGuard) -> Result<Self> {
        let attended = prompter.is_attended();
        let person = attended.then(|| Worker::start("confirmation", WAITING, alive, prompter)).transpose()?;
        Ok(Self { person, asked: Mutex::default() })
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Comes back when a person has agreed.
    ///
    /// # Errors
    /// `Refused` after a no, without an answer by `deadline`, and at once if nobody can be asked.
    pub async fn ask(&self, operation: &str, question: &Question<'_>, deadline: Instant) -> Result<()> {
        let refused = |message: &str| Error::new(Kind::Refused, operation, message);
        let person = self.person.as_ref().ok_or_else(|| {
            refused("a person has to confirm it, and none can be asked here").with_hint(
                "name a program that asks, in config.toml: [prompt] pinentry = \"pinentry-gnome3\", or [agent] prompt",
            )
        })?;
        let _waiting = self.enter(question).map_err(&refused)?;
        let text = format!("Hand out {} to {}?", question.token, question.program);
        match person.call(deadline, move |prompter| prompter.confirm(&text)).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Err(error)) => return Err(refused(&format!("nobody could be asked: {}", error.message()))),
            Ok(Ok(false)) | Err(_) => {}
        }
        let key = (question.client.to_owned(), question.token.to_owned());
        self.asked().declined.insert(key, Instant::now());
        Err(refused("a person did not confirm it in time, or declined"))
    }

    fn enter<'a>(&'a self, question: &'a Question<'_>) -> Result<Waiting<'a>, &'static str> {
        let mut asked = self.asked();
        asked.declined.retain(|_, at| at.elapsed() < PEACE);
        if asked.declined.contains_key(&(question.client.to_owned(), question.token.to_owned())) {
            return Err("it was declined a moment ago");
        }
        let waiting = asked.waiting.entry(question.client.to_owned()).or_default();
        if *waiting == WAITING_OF_EACH {
            return Err("this client has too many questions that wait for an answer");
        }
        *waiting += 1;
        Ok(Waiting(self, question.client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::PinRequest;
    use crate::secret::Secret;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Passes questions on, and waits for their answers.
    struct Passes(Sender<String>, Receiver<bool>);

    impl Prompter for Passes {
        fn pin(&mut self, _: &PinRequest<'_>) -> Result<Secret> {
            Err(Error::new(Kind::PinUnavailable, "get the PIN", "there is none"))
        }
        fn touch(&mut self, _: &str) -> Result<()> {
            Ok(())
        }
        fn confirm(&mut self, question: &str) -> Result<bool> {
            self.0.send(question.into()).unwrap();
            self.1.recv().map_err(|_| Error::new(Kind::Cancelled, "ask", "the dialogue broke"))
        }
        fn is_attended(&self) -> bool {
            true
        }
    }

    fn attended() -> (Confirmations, Receiver<String>, Sender<bool>) {
        let ((says, said), (answers, answered)) = (channel(), channel());
        let prompter = Box::new(Passes(says, answered));
        (Confirmations::start(prompter, &ShutdownGuard::default()).unwrap(), said, answers)
    }

    fn ask(confirmations: &Confirmations, client: &str, token: &str, millis: u64) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let deadline = Instant::now() + Duration::from_millis(millis);
        let question = Question { client, program: "web.service, uid 7, /usr/bin/curl", token };
        runtime.block_on(confirmations.ask("open it", &question, deadline))
    }

    #[test]
    fn the_person_sees_token_unit_user_and_program() {
        let (confirmations, said, answers) = attended();
        answers.send(true).unwrap();
        ask(&confirmations, "uid 7", "prod/db@2", 20_000).unwrap();
        assert_eq!(said.recv().unwrap(), "Hand out prod/db@2 to web.service, uid 7, /usr/bin/curl?");
    }

    #[test]
    fn a_no_holds_for_this_client_and_this_token() {
        let (confirmations, said, answers) = attended();
        [false, true, true].iter().for_each(|answer| answers.send(*answer).unwrap());
        assert_eq!(ask(&confirmations, "uid 7", "a", 20_000).unwrap_err().kind(), Kind::Refused);
        let again = ask(&confirmations, "uid 7", "a", 20_000).unwrap_err();
        assert_eq!(again.message(), "it was declined a moment ago");
        ask(&confirmations, "uid 7", "b", 20_000).unwrap();
        ask(&confirmations, "uid 8", "a", 20_000).unwrap();
        assert_eq!(said.try_iter().count(), 3);
    }

    #[test]
    fn what_nobody_answers_is_refused_in_time() {
        let (confirmations, said, answers) = attended();
        assert_eq!(ask(&confirmations, "uid 7", "a", 20).unwrap_err().kind(), Kind::Refused);
        said.recv().unwrap();
        // An answer that comes late is an answer to nothing.
        answers.send(true).unwrap();
        answers.send(false).unwrap();
        assert!(ask(&confirmations, "uid 7", "b", 20_000).is_err());
        drop(answers);
        let broken = ask(&confirmations, "uid 7", "c", 20_000).unwrap_err();
        assert_eq!(
            (broken.kind(), broken.message()),
            (Kind::Refused, "nobody could be asked: the dialogue broke")
        );
    }

    #[test]
    fn a_client_has_few_questions_waiting() {
        let (confirmations, _said, answers) = attended();
        std::thread::scope(|scope| {
            let confirmations = &confirmations;
            let first =
                ["a", "b", "c"].map(|token| scope.spawn(move || ask(confirmations, "uid 7", token, 20_000)));
            while confirmations.asked().waiting.get("uid 7") != Some(&WAITING_OF_EACH) {
                std::thread::yield_now();
            }
            let more = ask(confirmations, "uid 7", "d", 20_000).unwrap_err();
            assert!(more.message().contains("too many questions"), "{more}");
            (0..4).for_each(|_| answers.send(true).unwrap());
            ask(confirmations, "uid 8", "d", 20_000).unwrap();
            first.into_iter().for_each(|asked| asked.join().unwrap().unwrap());
        });
        assert!(confirmations.asked().waiting.is_empty());
    }

    #[test]
    fn where_nobody_can_be_asked_that_is_said_at_once() {
        let nobody =
            Confirmations::start(ConfirmPolicy::default().prompter, &ShutdownGuard::default()).unwrap();
        let error = ask(&nobody, "uid 7", "a", 600_000).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.to_string().contains("none can be asked"), "{error}");
    }
}
