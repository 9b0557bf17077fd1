//! Tokens that are handed out only after a person has agreed.

use crate::agent_in_process::{SOMEBODY_ELSE, Served, cached, grant_on, me, own_uid};
use crate::credentials::{TOO_LONG, fetch, named};
use crate::daemon::Daemon;
use crate::http::ask;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use strongroom::agent::{AgentOwner, ConfirmPolicy, Options};
use strongroom::ledger::Prefix;
use strongroom::prompt::{PinRequest, Prompter};
use strongroom::vault::{GrantOptions, Op, PutOptions};
use strongroom::{Error, Kind, Result, Secret};
use test_support::executable::write_executable;
use test_support::home::Home;
use test_support::test_store::{name, secret};

/// A person whose answers a test gives.
struct Person(Sender<String>, Receiver<bool>);

impl Prompter for Person {
    fn pin(&mut self, _: &PinRequest<'_>) -> Result<Secret> {
        Err(Error::new(Kind::PinUnavailable, "get the PIN", "this person knows none"))
    }
    fn touch(&mut self, _: &str) -> Result<()> {
        Ok(())
    }
    fn confirm(&mut self, question: &str) -> Result<bool> {
        let _ = self.0.send(question.into());
        Ok(self.1.recv().unwrap_or(false))
    }
    fn is_attended(&self) -> bool {
        true
    }
}

/// What the person was asked, and where their answers go.
struct Dialogue {
    questions: Receiver<String>,
    answers: Sender<bool>,
}

impl Dialogue {
    fn will_say(&self, answers: &[bool]) {
        answers.iter().for_each(|answer| self.answers.send(*answer).unwrap());
    }

    fn question(&self) -> String {
        self.questions.recv_timeout(Duration::from_secs(20)).expect("a question")
    }
}

fn attended(owner: AgentOwner, change: impl FnOnce(&mut Options)) -> (Served, Dialogue) {
    let ((says, questions), (answers, hears)) = (channel(), channel());
    let served = Served::new(owner, |options| {
        options.confirm.prompter = Box::new(Person(says, hears));
        change(options);
    });
    (served, Dialogue { questions, answers })
}

fn outcomes(served: &Served) -> Vec<String> {
    let mut lines = served.another().accesses(0, 100).unwrap();
    lines.reverse();
    lines.into_iter().map(|line| line.access.outcome).collect()
}

#[test]
fn each_handing_out_is_confirmed_and_a_no_is_a_refusal_on_record() {
    let (served, person) = attended(AgentOwner::User(SOMEBODY_ELSE), |_| {});
    served.grant("prod/db", &me(), &[Op::GetConfirmed]);
    person.will_say(&[true, true, false]);
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
    let question = person.question();
    let program = std::env::current_exe().unwrap();
    let told = [format!("uid {}", own_uid()), program.display().to_string()];
    assert!(question.starts_with("Hand out prod/db to "), "{question}");
    assert!(told.iter().all(|part| question.contains(part)), "{question}");
    assert_eq!(served.get("/v1/values/prod/db?version=1").text(), "one");
    assert!(person.question().starts_with("Hand out prod/db@1 to "));
    let refused = served.get("/v1/values/prod/db").problem();
    assert_eq!((refused.0, refused.1.as_str()), (403, "refused"), "{}", refused.2);
    // After a no, the person is left in peace.
    assert!(served.get("/v1/values/prod/db").problem().2.contains("a moment ago"));
    person.question();
    assert!(person.questions.try_recv().is_err());
    // What is visible, and what is not, follows the grant.
    assert_eq!(served.get("/v1/tokens/prod/db").status, 200);
    assert_eq!(served.get("/v1/values/prod/key").problem().2, "this application was granted no such token");
    served.until("it is written down", || outcomes(&served).len() == 4);
    assert_eq!(outcomes(&served), ["opened", "opened", "not confirmed", "denied"]);
    assert_eq!(served.faults[0].opened.load(SeqCst), 2, "nothing is opened unconfirmed");
}

#[test]
fn a_grant_without_confirmation_needs_none() {
    let (served, person) = attended(AgentOwner::User(SOMEBODY_ELSE), |_| {});
    served.grant("prod/db", &me(), &[Op::GetConfirmed]);
    served.grant("prod/", &me(), &[Op::Get]);
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
    assert!(person.questions.try_recv().is_err());
    let both = GrantOptions { ops: vec![Op::Get, Op::GetConfirmed], ..GrantOptions::default() };
    let error = served.another().grant(&grant_on("dev/"), &me().parse().unwrap(), &both).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
}

#[test]
fn the_agents_owner_can_have_everything_confirmed() {
    let (served, person) = attended(AgentOwner::User(own_uid()), |options| {
        options.confirm.on = vec![Prefix::parse("prod/db").unwrap()];
    });
    person.will_say(&[true, false]);
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
    assert_eq!(served.get("/v1/values/prod/key").status, 200);
    assert_eq!(served.get("/v1/values/prod/db").status, 403);
}

#[test]
fn a_kept_token_is_confirmed_each_time() {
    let (served, person) = attended(AgentOwner::User(SOMEBODY_ELSE), |options| {
        options.cache = vec![cached("prod", Duration::from_secs(600))];
    });
    served.grant("prod/db", &me(), &[Op::GetConfirmed]);
    person.will_say(&[true, true, true, false]);
    let mut stream = served.connect();
    let mut get =
        || ask(&mut stream, b"GET /v1/values/prod/db HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\n\r\n").status;
    assert_eq!([get(), get(), get(), get()], [200, 200, 200, 403]);
    assert_eq!(person.questions.try_iter().count(), 4);
    assert_eq!(served.faults[0].opened.load(SeqCst), 1);
}

/// What happens while the person thinks counts: it is looked at again after a yes.
#[test]
fn a_yes_does_not_outlive_what_it_was_given_for() {
    let (served, person) = attended(AgentOwner::User(SOMEBODY_ELSE), |options| {
        options.cache = vec![cached("prod", Duration::from_secs(600))];
    });
    let during = |happens: &dyn Fn()| {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| served.get("/v1/values/prod/db").status);
            person.question();
            happens();
            person.will_say(&[true]);
            asked.join().unwrap()
        })
    };
    let id = served.grant("prod/db", &me(), &[Op::GetConfirmed]);
    assert_eq!(during(&|| {}), 200);
    assert_eq!(during(&|| served.ungrant(&id)), 403);
    served.grant("prod/db", &me(), &[Op::GetConfirmed]);
    let put =
        || drop(served.another().put(&name("prod/db"), &secret("three"), &PutOptions::default()).unwrap());
    assert_eq!(during(&put), 409);
    assert_eq!(during(&|| {}), 200);
}

#[test]
fn nothing_is_handed_out_after_a_lock_whatever_the_person_says() {
    let (served, person) = attended(AgentOwner::User(own_uid()), |options| {
        options.confirm.on = vec![Prefix::default()];
    });
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| served.get("/v1/values/prod/db").status);
        person.question();
        assert_eq!(served.ask("POST", "/v1/lock", b"").status, 200);
        person.will_say(&[true]);
        assert_eq!(asked.join().unwrap(), 423);
    });
}

#[test]
fn what_nobody_answers_is_refused_in_time_and_stops_nobody_else() {
    let (served, person) = attended(AgentOwner::User(SOMEBODY_ELSE), |options| {
        options.deadline = Duration::from_millis(700);
    });
    served.grant("prod/db", &me(), &[Op::GetConfirmed]);
    served.grant("prod/key", &me(), &[Op::Get]);
    std::thread::scope(|scope| {
        let began = Instant::now();
        let asked = scope.spawn(|| served.get("/v1/values/prod/db").problem().0);
        person.question();
        assert_eq!(served.get("/v1/values/prod/key").status, 200);
        assert_eq!(asked.join().unwrap(), 403);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    });
    drop(person);
}

#[test]
fn where_nobody_can_be_asked_it_is_refused_at_once() {
    let served = Served::new(AgentOwner::User(SOMEBODY_ELSE), |options| {
        options.confirm = ConfirmPolicy::default();
        options.deadline = Duration::from_secs(600);
    });
    served.grant("prod/db", &me(), &[Op::GetConfirmed]);
    let (status, _, message) = served.get("/v1/values/prod/db").problem();
    assert_eq!(status, 403);
    assert!(message.contains("none can be asked"), "{message}");
}

#[test]
fn a_credential_is_confirmed_too() {
    if own_uid() != 0 {
        return test_support::skip::skip("only root is believed");
    }
    let (served, person) = attended(AgentOwner::Machine, |_| {});
    let socket = served.test_store.dir.path().join("credentials.sock");
    let options =
        GrantOptions { ops: vec![Op::GetConfirmed], alias: Some("db".into()), ..GrantOptions::default() };
    let unit = "unit:web.service".parse().unwrap();
    served.another().grant(&grant_on("prod/db"), &unit, &options).unwrap();
    // Another token, whose own name is that id, does not spare the question.
    served.another().put(&name("db"), &secret("another"), &PutOptions::default()).unwrap();
    served.grant("db", "unit:web.service", &[Op::Get]);
    person.will_say(&[true, false]);
    assert_eq!(fetch(&socket, Some(&named("c0", "web.service", "db"))), b"two");
    assert_eq!(person.question(), "Hand out prod/db to web.service as db?");
    assert_eq!(fetch(&socket, Some(&named("c1", "web.service", "db"))).len(), TOO_LONG);
    assert!(outcomes(&served).ends_with(&["opened".into(), "not confirmed".into()]));
}

/// As a user does it: granted on the command line, asked by a program and by a pinentry.
#[test]
fn programs_and_pinentries_ask() {
    let Some(home) = Home::with_store() else { return };
    home.put("prod/db", b"the token");
    home.put("prod/key", b"the key");
    let (says, asks) = (home.dir.join("says"), home.dir.join("asks"));
    let program = home.dir.join("ask");
    let script = format!("#!/bin/sh\necho \"$1\" >>{}\ncat {}\n", asks.display(), says.display());
    write_executable(&program, &script);
    std::fs::write(&says, "yes\n").unwrap();
    let daemon = Daemon::start(&home, &["--prompt", program.to_str().unwrap(), "--confirm", "prod/db"]);
    assert_eq!(daemon.get("/v1/values/prod/db").text(), "the token");
    assert_eq!(daemon.get("/v1/values/prod/key").text(), "the key");
    let asked = std::fs::read_to_string(&asks).unwrap();
    assert!(asked.starts_with("Hand out prod/db to ") && asked.lines().count() == 1, "{asked}");
    std::fs::write(&says, "y\n").unwrap();
    assert_eq!(daemon.get("/v1/values/prod/db").status, 403);
    drop(daemon);

    let pinentry = home.dir.join("pinentry");
    let script = format!(
        "#!/bin/sh\necho OK\nwhile read -r line; do echo \"$line\" >>{}; case $line in CONFIRM) cat {};; \
         *) echo OK;; esac; done\n",
        asks.display(),
        says.display()
    );
    write_executable(&pinentry, &script);
    let config = home.dir.join("config/strongroom/config.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    let prompt = format!("[prompt]\npinentry = \"{}\"\n", pinentry.display());
    let agent = "[agent]\nconfirm = [\"prod/db\"]\n";
    std::fs::write(&config, format!("{prompt}{agent}{before}")).unwrap();
    std::fs::write(&says, "OK\n").unwrap();
    let daemon = Daemon::start_with(&home, &[], |command| {
        command.stdin(std::process::Stdio::null());
    });
    assert_eq!(daemon.get("/v1/values/prod/db").text(), "the token");
    assert!(std::fs::read_to_string(&asks).unwrap().contains("SETDESC Strongroom: Hand out prod/db to "));
    std::fs::write(&says, "ERR 83886194 Not confirmed\n").unwrap();
    assert_eq!(daemon.get("/v1/values/prod/db").status, 403);
    assert_eq!(daemon.get("/v1/values/prod/key").text(), "the key");
}
