//! The hook `exec`: a program that speaks the protocol of docs/reference/hooks.md.

use super::hook::{Answer, Hook, Request, Value};
use super::program::{Descriptors, Finished, Program};
use crate::config::HookSettings;
use crate::error::{Error, Kind, Result, printable};
use crate::secret::mask::Masker;
use crate::secret::{MAX_TOKEN_BYTES, Secret};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// The version of the protocol.
const PROTOCOL: u64 = 1;
/// The new value's file descriptor: to be read from, or in `create` to be written to.
const NEW: i32 = 3;
/// The old value's.
const OLD: i32 = 4;

/// A program of this machine's configuration.
pub(super) struct ExecHook {
    name: String,
    command: Vec<String>,
    user: Option<String>,
    timeout: Duration,
    creates: bool,
    replaces: bool,
}

/// What a program prints.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    protocol: u64,
    #[serde(default)]
    result: Option<Outcome>,
    #[serde(default)]
    accepts: Option<Vec<Which>>,
    #[serde(default)]
    message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Done,
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Which {
    Old,
    New,
}

impl ExecHook {
    pub(super) fn new(name: &str, settings: &HookSettings) -> Self {
        Self {
            name: name.into(),
            command: settings.command.clone(),
            user: settings.user.clone(),
            timeout: settings.timeout(),
            creates: settings.creates,
            replaces: settings.replaces,
        }
    }

    fn operation(&self, step: &str, token: &str) -> String {
        format!("{step} with the hook {} for {token}", self.name)
    }

    fn failed(&self, step: &str, token: &str, message: impl Into<String>) -> Error {
        Error::new(Kind::Io, self.operation(step, token), message)
    }

    fn ask(&self, step: &str, request: &Request<'_>) -> Result<(Reply, Option<Secret>)> {
        let makes = step == "create";
        let given: Vec<(&str, i32, Value<'_>)> = [("new", NEW, request.new), ("old", OLD, request.old)]
            .into_iter()
            .filter_map(|(which, number, value)| Some((which, number, value?)))
            .collect();
        let mut input = json!({
            "protocol": PROTOCOL, "step": step, "hook": self.name, "token": request.token.as_str(),
            "token_id": request.id.to_string(),
            "params": request.params.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        });
        for (which, number, value) in &given {
            input[which] = json!({"version": value.version, "fd": number});
        }
        if makes {
            input["write_fd"] = json!(NEW);
        }
        let token = request.token.as_str();
        let program = Program {
            operation: self.operation(step, token),
            command: &self.command,
            user: self.user.as_deref(),
            timeout: self.timeout,
        };
        let values = given.iter().map(|(_, number, value)| (*number, value.value)).collect();
        let descriptors = Descriptors { values, makes: makes.then_some(NEW) };
        let finished = program.run(input.to_string().as_bytes(), &descriptors)?;
        let values = given.iter().map(|(.., value)| value.value).chain(&finished.made);
        let mut mask = Masker::new(values.map(Secret::expose));
        self.understand(step, token, finished, &mut mask)
    }

    /// The answer, if it is one. Nothing that the program wrote is repeated with a value in it.
    fn understand(
        &self,
        step: &str,
        token: &str,
        finished: Finished,
        mask: &mut Masker,
    ) -> Result<(Reply, Option<Secret>)> {
        let words = mask.mask(&finished.stderr);
        for line in words.lines().filter(|line| !line.trim().is_empty()) {
            log::warn!("hook {}: {}", self.name, printable(line));
        }
        let last = words.lines().rfind(|line| !line.trim().is_empty()).map(printable);
        let said = last.map_or_else(String::new, |line| format!(": {line}"));
        if mask.finds(&finished.stdout) {
            let error = self.failed(step, token, "it printed a value, and its answer is not used");
            return Err(error.with_hint("values go through file descriptors only: correct the hook"));
        }
        if !finished.status.success() {
            return Err(self.failed(step, token, format!("it ended with {}{said}", finished.status)));
        }
        let reply: Reply = serde_json::from_slice(finished.stdout.trim_ascii()).map_err(|e| {
            self.failed(step, token, format!("it gave no answer of protocol {PROTOCOL}: {e}{said}"))
        })?;
        if reply.protocol != PROTOCOL {
            let message = format!("it speaks protocol {}, and this is protocol {PROTOCOL}", reply.protocol);
            return Err(self.failed(step, token, message));
        }
        let message = mask.mask(reply.message.as_bytes());
        Ok((Reply { message, ..reply }, finished.made))
    }

    fn step(&self, step: &str, request: &Request<'_>) -> Result<Answer> {
        let (reply, _) = self.ask(step, request)?;
        match (reply.result, reply.accepts) {
            (Some(Outcome::Done), None) => Ok(Answer::Done),
            (Some(Outcome::Refused), None) => Ok(Answer::Refused(printable(&reply.message))),
            _ => Err(self.failed(step, request.token.as_str(), "its answer has no `result`")),
        }
    }
}

impl Hook for ExecHook {
    fn overlaps(&self, _: &[(String, String)]) -> bool {
        !self.replaces
    }

    fn create(&self, request: &Request<'_>) -> Result<Option<Secret>> {
        if !self.creates {
            return Ok(None);
        }
        let failed = |message: &str| self.failed("create", request.token.as_str(), message);
        let (reply, made) = self.ask("create", request)?;
        match (reply.result, made) {
            (Some(Outcome::Done), Some(made)) if made.is_empty() => Err(failed("it made no value")),
            (Some(Outcome::Done), Some(made)) if made.len() > MAX_TOKEN_BYTES => {
                Err(failed("a token holds at most 1 MiB"))
            }
            (Some(Outcome::Done), Some(made)) => Ok(Some(made)),
            (Some(Outcome::Refused), _) => {
                Err(failed(&format!("the issuer made none: {}", printable(&reply.message))))
            }
            _ => Err(failed("its answer has no `result`")),
        }
    }

    fn probe(&self, request: &Request<'_>) -> Result<(bool, bool)> {
        let (reply, _) = self.ask("probe", request)?;
        match (reply.accepts, reply.result) {
            (Some(accepts), None) => Ok((accepts.contains(&Which::Old), accepts.contains(&Which::New))),
            _ => Err(self.failed("probe", request.token.as_str(), "its answer has no `accepts`")),
        }
    }

    fn set(&self, request: &Request<'_>) -> Result<Answer> {
        self.step("set", request)
    }

    fn test(&self, request: &Request<'_>) -> Result<Answer> {
        self.step("test", request)
    }

    fn retire(&self, request: &Request<'_>) -> Result<Answer> {
        self.step("retire", request)
    }
}
