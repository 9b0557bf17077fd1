//! `run --restart-on-change` and `--signal-on-change`: the program is a child, and is told of new versions of its tokens.

use super::child::{SIGNALS, ends, outcome, pass_on};
use super::run::not_started;
use super::watch::{News, follow};
use crate::cli::context::Context;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::iterator::Signals;
use std::collections::BTreeMap;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use strongroom::vault::{EffectiveState, GrantOn};

/// How often the program is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Changes that come together are one.
const TOGETHER: Duration = Duration::from_millis(300);

/// The first pause before a program is started again that ended, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A program that ran for this long, and was healthy, is taken to work.
const WORKS: Duration = Duration::from_secs(10);

/// A health command that runs; it is killed when nobody waits for its answer any more.
struct HealthCheck(Child);

impl Drop for HealthCheck {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is done at a change.
pub struct OnChange {
    /// The signal that the program gets; without it, it is started again.
    pub signal: Option<Signal>,
    /// How long a program that is to end may take.
    pub grace: Duration,
    /// A command for `sh -c` that succeeds when the program works.
    pub health: Option<String>,
}

enum Event {
    Changed(String),
    Signal(i32),
    /// Nobody watches any more.
    Blind(String),
}

/// Opens the tokens anew, and makes the program's command of them. What keeps files open for it goes with it.
type Prepare<'a, K> = &'a mut dyn FnMut(&mut Context) -> anyhow::Result<(Command, K)>;

/// Runs the program until it ends by itself, and fails with its exit code if that is not 0.
///
/// # Errors
/// Those of opening the tokens at first, of starting the program, and of watching.
pub fn run<K>(
    context: &mut Context,
    on: Vec<GrantOn>,
    change: &OnChange,
    prepare: Prepare<'_, K>,
) -> anyhow::Result<()> {
    let (sender, events) = channel();
    let signals = forward(sender.clone())?;
    watch(context, on, sender)?;
    let supervisor = Supervisor { change, events, pause: PAUSE, restarted: false, ends: false };
    let status = supervisor.run(context, prepare);
    signals.close();
    outcome(status?)
}

/// Passes this process's signals on as events.
fn forward(sender: Sender<Event>) -> io::Result<signal_hook::iterator::Handle> {
    let mut signals = Signals::new(SIGNALS)?;
    let handle = signals.handle();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let _ = sender.send(Event::Signal(signal));
        }
    });
    Ok(handle)
}

/// Watches the tokens in a thread. Comes back when it is known how they are: what changes from then on is an event.
fn watch(context: &Context, on: Vec<GrantOn>, sender: Sender<Event>) -> anyhow::Result<()> {
    let own = Context::new(context.globals.clone(), context.quiet_output());
    let (ready, known) = channel();
    std::thread::spawn(move || {
        let (mut versions, mut all): (BTreeMap<String, u64>, bool) = Default::default();
        let mut hear = |news| {
            match news {
                News::All => {
                    all = true;
                    let _ = ready.send(Ok(()));
                }
                News::Token(token) if token.state == Some(EffectiveState::Active) => {
                    let version = token.version.unwrap_or(0);
                    if versions.insert(token.name.clone(), version) != Some(version) && all {
                        return Ok(sender.send(Event::Changed(token.name)).is_ok());
                    }
                }
                News::Token(_) => {}
            }
            Ok(true)
        };
        if let Err(error) = follow(&own, &on, &mut hear) {
            let _ = sender.send(Event::Blind(format!("{error:#}")));
            let _ = ready.send(Err(error));
        }
    });
    known.recv().unwrap_or(Ok(()))
}

struct Supervisor<'a> {
    change: &'a OnChange,
    events: Receiver<Event>,
    pause: Duration,
    /// It was started again: if it ends now, that may be what the change has brought.
    restarted: bool,
    /// This process was told to end.
    ends: bool,
}

/// What a program that was waited for has come to.
enum Waited {
    Ended(ExitStatus),
    Changed(String),
    Unhealthy,
}

/// What comes after one run of the program.
enum Next<T> {
    Done(ExitStatus),
    Start(T),
    StartAgain,
}

impl Supervisor<'_> {
    fn run<K>(mut self, context: &mut Context, prepare: Prepare<'_, K>) -> anyhow::Result<ExitStatus> {
        let mut ready = prepare(context)?;
        loop {
            let command = &mut ready.0;
            let spawned = command.spawn();
            let mut child = spawned.map_err(|e| not_started(&e, &command.get_program().to_owned()))?;
            match self.attend(context, &mut child, command, prepare)? {
                Next::Done(status) => return Ok(status),
                Next::Start(fresh) => ready = fresh,
                // A newer version may have come while it was down.
                Next::StartAgain => ready = prepare(context).unwrap_or(ready),
            }
        }
    }

    /// Looks after one run of the program.
    fn attend<K>(
        &mut self,
        context: &mut Context,
        child: &mut Child,
        command: &Command,
        prepare: Prepare<'_, K>,
    ) -> anyhow::Result<Next<(Command, K)>> {
        loop {
            let (status, what) = match self.wait(context, child, command)? {
                Waited::Ended(status) if !self.restarted || self.ends || status.success() => {
                    return Ok(Next::Done(status));
                }
                Waited::Ended(status) => (status, format!("it ended with {status}")),
                Waited::Unhealthy => (self.stop(child)?, "it does not work".to_owned()),
                Waited::Changed(name) => match self.changed(context, child, &name, prepare)? {
                    Some(fresh) => return Ok(Next::Start(fresh)),
                    None => continue,
                },
            };
            context.out.warn(&format!("{what}, and is started again in {} s", self.pause.as_secs()));
            self.rest();
            return Ok(if self.ends { Next::Done(status) } else { Next::StartAgain });
        }
    }

    /// Tells the program of a change, or has it end; then what is to be started.
    fn changed<K>(
        &mut self,
        context: &mut Context,
        child: &mut Child,
        name: &str,
        prepare: Prepare<'_, K>,
    ) -> anyhow::Result<Option<(Command, K)>> {
        if let Some(signal) = self.change.signal {
            let _ = kill_process(Pid::from_child(child), signal);
            return Ok(None);
        }
        match prepare(context) {
            Ok(fresh) => {
                context.out.info(&format!("{name} is new: starting the program again"));
                self.stop(child)?;
                (self.restarted, self.pause) = (true, PAUSE);
                Ok(Some(fresh))
            }
            // It goes on with what it has until there is something better.
            Err(error) => {
                context.out.warn(&format!("the program keeps what it has: {error:#}"));
                Ok(None)
            }
        }
    }

    /// Waits until the program ends or has to be seen to.
    fn wait(
        &mut self,
        context: &mut Context,
        child: &mut Child,
        command: &Command,
    ) -> anyhow::Result<Waited> {
        let began = Instant::now();
        let mut checked = !self.restarted || self.change.health.is_none();
        let mut check: Option<HealthCheck> = None;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Waited::Ended(status));
            }
            if !checked && began.elapsed() >= PAUSE {
                checked = self.is_healthy(command, &mut check);
                if !checked && began.elapsed() > WORKS {
                    return Ok(Waited::Unhealthy);
                }
            }
            if checked && began.elapsed() > WORKS {
                self.pause = PAUSE;
            }
            match self.events.recv_timeout(LOOK) {
                Ok(Event::Changed(name)) => {
                    std::thread::sleep(TOGETHER);
                    self.drain(child);
                    return Ok(Waited::Changed(name));
                }
                Ok(Event::Signal(signal)) => self.pass_on(child, signal),
                Ok(Event::Blind(why)) => {
                    context.out.warn(&format!("changes are not noticed any more: {why}"))
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
            }
        }
    }

    /// Takes what came together; signals are passed on.
    fn drain(&mut self, child: &Child) {
        while let Ok(event) = self.events.try_recv() {
            if let Event::Signal(signal) = event {
                self.pass_on(child, signal);
            }
        }
    }

    fn pass_on(&mut self, child: &Child, signal: i32) {
        self.ends |= ends(signal);
        pass_on(Pid::from_child(child), signal);
    }

    /// Whether the health command has succeeded. It is started if none runs, and not waited for.
    fn is_healthy(&self, command: &Command, check: &mut Option<HealthCheck>) -> bool {
        let Some(health) = &self.change.health else { return true };
        if let Some(HealthCheck(running)) = check {
            let ended = running.try_wait();
            if !matches!(ended, Ok(None)) {
                *check = None;
            }
            return ended.is_ok_and(|ended| ended.is_some_and(|status| status.success()));
        }
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(health).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        *check = shell.spawn().ok().map(HealthCheck);
        false
    }

    /// Has it end in order, and ends it when it takes too long.
    fn stop(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let until = Instant::now() + self.change.grace;
        let _ = kill_process(Pid::from_child(child), Signal::TERM);
        while Instant::now() < until {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(LOOK);
        }
        child.kill()?;
        child.wait()
    }

    /// Waits before the next start: longer each time, until a change comes or this process is to end.
    fn rest(&mut self) {
        let until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        while !self.ends {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return };
            match self.events.recv_timeout(left) {
                Ok(Event::Signal(signal)) => self.ends |= ends(signal),
                Ok(Event::Changed(_)) => return,
                Ok(Event::Blind(_)) => {}
                Err(_) => return,
            }
        }
    }
}
