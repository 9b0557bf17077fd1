//! The hook `exec`: a program that does as it should, and programs that do not.

use crate::machine::{ABORT, Machines, NOW, RESUME, TOKEN, words};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use strongroom::Kind;
use strongroom::ledger::body::State;
use strongroom::rotation::{Options, Outcome, revoke_at_issuer};
use strongroom::vault::PutOptions;
use test_support::executable::write_executable;
use test_support::test_store::{name, secret};

/// An issuer whose file `accepted` holds what it accepts, a line each. `$mode` says how it misbehaves.
const ISSUER: &str = r#"#!/bin/sh
set -eu
cd @DIR@
request=$(cat)
step=$(printf '%s' "$request" | sed -n 's/.*"step":"\([a-z]*\)".*/\1/p')
has() { case $request in *"\"$1\":{"*) ;; *) return 1 ;; esac; }
new='' old=''
if has new; then new=$(cat <&3); fi
if has old; then old=$(cat <&4); fi
mode=$(cat mode)
echo "$step" >>steps
answer() { printf '{"protocol":1,%s}\n' "$1"; exit 0; }
case $mode:$step in
hang:set) sleep 60 & sleep 60 ;;
lie:set) answer '"result":"done"' ;;
print:set) printf '{"protocol":1,"result":"done","message":"%s"}\n' "$new"; exit 0 ;;
shout:set) echo "I was given $new and $(printf %s "$new" | base64 -w0) and $(printf %s "$new" | od -An -tx1 | tr -d ' \n')" >&2; exit 3 ;;
same:create) printf %s "$old" >&3; answer '"result":"done"' ;;
daemon:set) setsid sleep 5 >/dev/null 2>&1 & ;;
half:set) printf '%s\n' "$new" >accepted; exit 1 ;;
old-protocol:probe) echo '{"protocol":2,"accepts":[]}'; exit 0 ;;
garbage:probe) echo 'all is well'; exit 0 ;;
more:probe) echo '{"protocol":1,"accepts":[],"extra":1}'; exit 0 ;;
refuse:set) answer '"result":"refused","message":"too weak"' ;;
refuse-retire:retire) answer '"result":"refused","message":"still in use"' ;;
environment:set) { env | sort; ls -l /proc/self/fd; } >environment ;;
esac
case $step in
create) printf 'made-%s' "$(wc -l <steps)" >&3; answer '"result":"done"' ;;
probe)
    list=''
    if [ -n "$old" ] && grep -qxF -- "$old" accepted; then list='"old"'; fi
    if [ -n "$new" ] && grep -qxF -- "$new" accepted; then list=$list${list:+,}'"new"'; fi
    answer "\"accepts\":[$list]" ;;
set) printf '%s\n' "$new" >accepted; answer '"result":"done"' ;;
test) if grep -qxF -- "$new" accepted; then answer '"result":"done"'; fi; answer '"result":"refused","message":"no entry"' ;;
retire) answer '"result":"done"' ;;
esac
"#;

struct Issuer {
    dir: tempfile::TempDir,
    machines: Machines,
}

impl Issuer {
    fn new(mode: &str, keys: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("hook");
        write_executable(&program, &ISSUER.replace("@DIR@", dir.path().to_str().unwrap()));
        std::fs::write(dir.path().join("accepted"), "first\n").unwrap();
        let hook = format!("kind = \"exec\"\ncommand = [{program:?}]\ntimeout = \"2s\"\n{keys}");
        let issuer = Self { machines: Machines::new(&hook, "first", &[]), dir };
        issuer.behaves(mode);
        issuer
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn behaves(&self, mode: &str) {
        std::fs::write(self.path("mode"), mode).unwrap();
    }

    fn accepted(&self) -> String {
        std::fs::read_to_string(self.path("accepted")).unwrap().trim_end().to_owned()
    }

    fn steps(&self) -> String {
        std::fs::read_to_string(self.path("steps")).unwrap().lines().collect::<Vec<_>>().join(" ")
    }

    /// Both invariants.
    fn is_sound(&self) {
        self.machines.value();
        let accepted = self.accepted();
        assert!(
            self.machines.stored().iter().any(|(.., value)| *value == accepted),
            "{accepted} is not stored"
        );
    }

    /// All is as after a rotation that nothing disturbed.
    fn is_rotated(&self) {
        assert_eq!(self.machines.value(), self.accepted());
        assert_ne!(self.accepted(), "first");
        self.machines.is_tidy();
    }
}

#[test]
fn a_rotation_takes_five_steps() {
    let issuer = Issuer::new("", "");
    assert_eq!(
        issuer.machines.rotate("one", crate::machine::RESUME).unwrap(),
        Outcome::NotDue(2_000_086_400_000)
    );
    assert_eq!(issuer.machines.rotate("one", NOW).unwrap(), Outcome::Rotated(2));
    issuer.is_rotated();
    assert_eq!(issuer.steps(), "probe probe set test probe retire");
    assert_eq!(issuer.accepted().len(), 32);
}

#[test]
fn a_hook_may_make_the_value() {
    let issuer = Issuer::new("", "creates = true\n");
    assert_eq!(issuer.machines.rotate("one", NOW).unwrap(), Outcome::Rotated(2));
    issuer.is_rotated();
    assert_eq!(issuer.accepted(), "made-1");
}

#[test]
fn a_hook_that_hangs_is_killed_with_what_it_started() {
    let issuer = Issuer::new("hang", "");
    let began = Instant::now();
    let error = issuer.machines.rotate("one", NOW).unwrap_err();
    assert!(words(&error).contains("did not answer within 2 s"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
    issuer.is_sound();
    assert_eq!(issuer.accepted(), "first");
    issuer.behaves("");
    // Another machine goes on.
    assert_eq!(issuer.machines.rotate("two", RESUME).unwrap(), Outcome::Rotated(2));
    issuer.is_rotated();
}

/// It says that it is done, and the issuer knows nothing of it.
#[test]
fn a_hook_that_lies_puts_nothing_into_use() {
    let issuer = Issuer::new("lie", "");
    let error = issuer.machines.rotate("one", NOW).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(words(&error).contains("no entry"), "{error}");
    issuer.is_sound();
    assert_eq!((issuer.machines.value(), issuer.accepted()), ("first".into(), "first".into()));
    let staged = issuer.machines.stored().iter().filter(|(_, state, _)| *state == State::Staged).count();
    assert_eq!(staged, 3);
    issuer.behaves("");
    assert_eq!(issuer.machines.rotate("one", RESUME).unwrap(), Outcome::Rotated(4));
    issuer.is_rotated();
}

#[test]
fn a_refused_value_is_not_offered_for_ever() {
    let issuer = Issuer::new("refuse", "");
    let error = issuer.machines.rotate("one", NOW).unwrap_err();
    assert!(words(&error).contains("too weak"), "{error}");
    assert_eq!(issuer.steps().matches("set").count(), 6);
    // The next run makes another, since the last one may be what it refuses.
    issuer.machines.rotate("one", RESUME).unwrap_err();
    assert!(issuer.machines.vault("one").replica().find(TOKEN).unwrap().unwrap().latest > 4);
    issuer.is_sound();
    assert_eq!(issuer.machines.rotate("one", ABORT).unwrap(), Outcome::Undone(1));
    assert_eq!(issuer.machines.value(), "first");
    issuer.machines.is_tidy();
}

#[test]
fn a_hook_that_prints_the_value_is_not_believed_and_not_repeated() {
    for mode in ["print", "shout"] {
        let issuer = Issuer::new(mode, "");
        let error = issuer.machines.rotate("one", NOW).unwrap_err();
        let stored = issuer.machines.stored();
        let (.., candidate) = &stored[1];
        let said = format!("{} {error:?}", words(&error));
        assert!(!said.contains(candidate.as_str()), "{said}");
        assert!(
            said.contains(if mode == "print" {
                "printed a value"
            } else {
                "I was given *** and ***= and ***"
            }),
            "{said}"
        );
        issuer.is_sound();
    }
}

/// The issuer has the new value, and the hook died before it said so.
#[test]
fn a_hook_that_fails_half_way_is_found_out_by_a_probe() {
    let issuer = Issuer::new("half", "");
    issuer.machines.rotate("one", NOW).unwrap_err();
    issuer.is_sound();
    assert_ne!(issuer.accepted(), "first");
    issuer.behaves("");
    assert_eq!(issuer.machines.rotate("two", RESUME).unwrap(), Outcome::Rotated(2));
    issuer.is_rotated();
    // Undone, the issuer gets the version in use back.
    issuer.behaves("half");
    issuer.machines.rotate("one", NOW).unwrap_err();
    issuer.behaves("");
    let before = issuer.machines.value();
    assert_eq!(issuer.machines.rotate("one", ABORT).unwrap(), Outcome::Undone(2));
    assert_eq!((issuer.machines.value(), issuer.accepted()), (before.clone(), before));
    issuer.machines.is_tidy();
}

/// A machine that was stopped for long sets a value that was staged when it fell asleep.
#[test]
fn who_resumes_notices_an_issuer_that_was_given_an_old_value() {
    let issuer = Issuer::new("", "");
    issuer.machines.rotate("one", NOW).unwrap();
    std::fs::write(issuer.path("accepted"), "first\n").unwrap();
    issuer.machines.rotate("two", RESUME).unwrap();
    issuer.is_rotated();
}

#[test]
fn another_protocol_is_no_answer() {
    for (mode, says) in
        [("old-protocol", "speaks protocol 2"), ("garbage", "no answer"), ("more", "unknown field")]
    {
        let issuer = Issuer::new(mode, "");
        let error = issuer.machines.rotate("one", NOW).unwrap_err();
        assert!(words(&error).contains(says), "{mode}: {error}");
        issuer.is_sound();
    }
}

#[test]
fn what_the_issuer_does_not_revoke_is_said() {
    let issuer = Issuer::new("refuse-retire", "");
    let error = issuer.machines.rotate("one", NOW).unwrap_err();
    assert!(words(&error).contains("did not revoke version 1: still in use"), "{error}");
    assert_eq!(issuer.machines.value(), issuer.accepted());
    issuer.behaves("");
    assert_eq!(issuer.machines.rotate("one", RESUME).unwrap(), Outcome::Retired);
    issuer.is_rotated();
}

#[test]
fn a_hook_sees_nothing_of_its_surroundings() {
    let issuer = Issuer::new("environment", "");
    let left_open = std::fs::File::create(issuer.path("left-open")).unwrap();
    let _inheritable: Vec<_> = (0..8).map(|_| rustix::io::dup(&left_open).unwrap()).collect();
    issuer.machines.rotate("one", NOW).unwrap();
    let seen = std::fs::read_to_string(issuer.path("environment")).unwrap();
    let names: Vec<&str> = seen.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let shells = ["OLDPWD", "PWD", "SHLVL", "_"];
    let given: Vec<_> = names.into_iter().filter(|name| !shells.contains(name)).collect();
    assert_eq!(given, ["LC_ALL", "PATH"], "{seen}");
    // Two values, none of the files that this process works on, and none that whoever started it left open.
    let numbers = seen
        .lines()
        .filter(|line| !line.contains("/proc/"))
        .filter_map(|line| line.split_once(" -> ")?.0.rsplit(' ').next()?.parse::<u32>().ok());
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3, 4], "{seen}");
    let open = |what: &str| seen.lines().filter(|line| line.contains("->") && line.contains(what)).count();
    assert_eq!((open("memfd"), open("sqlite")), (2, 0), "{seen}");
}

/// A policy is signed by who may write the token; what it may make a machine do is the machine's to say.
#[test]
fn a_hook_is_for_the_tokens_that_the_machine_names() {
    let issuer = Issuer::new("", "");
    let mut vault = issuer.machines.vault("one");
    vault.put(&name("other"), &secret("x"), &PutOptions::default()).unwrap();
    vault.set_policy(&"other".parse().unwrap(), Some(&crate::machine::policy(&[]))).unwrap();
    let open = |hook: &str, token: &str| {
        let opened = strongroom::rotation::open_hook(
            &issuer.machines.config,
            hook,
            &name(token),
            &mut |_| unreachable!(),
        );
        opened.err().map(|error| error.kind())
    };
    assert_eq!(open("h", "other"), Some(Kind::Refused));
    assert_eq!(open("nosuch", TOKEN), Some(Kind::NotFound));
    assert_eq!(open("h", TOKEN), None);
}

/// A new value that is the old one would be reported as rotated, and whoever knows the old one would go on knowing it.
#[test]
fn a_value_is_not_rotated_to_itself() {
    let issuer = Issuer::new("same", "creates = true\n");
    let error = issuer.machines.rotate("one", NOW).unwrap_err();
    assert!(words(&error).contains("made the value that is in use"), "{error}");
    assert_eq!(issuer.machines.stored().len(), 1);
    // By hand it is no better.
    let staged = PutOptions { staged: true, ..PutOptions::default() };
    issuer.machines.vault("one").put(&name(TOKEN), &secret("first"), &staged).unwrap();
    let error = issuer.machines.rotate("one", RESUME).unwrap_err();
    assert!(words(&error).contains("the staged version 2 holds the value that is in use"), "{error}");
    assert_eq!(issuer.machines.rotate("one", ABORT).unwrap(), Outcome::Undone(1));
    issuer.machines.is_tidy();
}

/// Another machine need not wait, nor take over.
#[test]
fn a_failed_rotation_keeps_nobody_from_going_on() {
    let issuer = Issuer::new("half", "");
    issuer.machines.rotate("one", NOW).unwrap_err();
    issuer.behaves("");
    let resume = Options { take_over: false, ..RESUME };
    assert_eq!(issuer.machines.rotate("two", resume).unwrap(), Outcome::Rotated(2));
}

/// What a hook leaves running outside of its process group is not found, and nobody waits for it.
#[test]
fn a_daemon_of_a_hook_holds_nothing_up() {
    let issuer = Issuer::new("daemon", "");
    let began = Instant::now();
    assert_eq!(issuer.machines.rotate("one", NOW).unwrap(), Outcome::Rotated(2));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    issuer.is_rotated();
}

/// Everything that a put keeps, and a time before which the token is not to be opened.
#[test]
fn a_new_version_has_what_the_one_before_had() {
    let issuer = Issuer::new("", "");
    let mut vault = issuer.machines.vault("one");
    let clock = test_support::test_store::NOW;
    for not_before in [clock + 60_000, clock - 60_000] {
        let options = PutOptions {
            labels: Some(vec![("team".into(), "db".into())]),
            description: Some("the orders".into()),
            not_before: Some(not_before),
            expiry: Some(clock + 3_600_000),
            keep: Some(3),
            ..PutOptions::default()
        };
        let put = vault.put(&name(TOKEN), &secret("first"), &options).unwrap();
        std::fs::write(issuer.path("accepted"), "first\n").unwrap();
        let rotated = issuer.machines.rotate("one", NOW).unwrap();
        assert_eq!(rotated, Outcome::Rotated(put.version + 1));
        let token = vault.replica().find(TOKEN).unwrap().unwrap();
        vault.refresh().unwrap();
        let row = vault.replica().version_row(&token, put.version + 1).unwrap().unwrap();
        assert_eq!((row.labels, row.description), (options.labels.unwrap(), "the orders".into()));
        assert_eq!((row.expiry, row.keep), (Some(clock + 3_600_000), Some(3)));
        assert_eq!(row.not_before, (not_before > clock).then_some(not_before));
    }
}

/// What leaked is closed here at once, and the issuer is asked again until it says yes.
#[test]
fn a_revocation_at_the_issuer_is_resumed() {
    let issuer = Issuer::new("refuse-retire", "");
    let hook = issuer.machines.hook();
    let revoke = |version| {
        let mut vault = issuer.machines.vault("one");
        revoke_at_issuer(&mut vault, &*hook, &name(TOKEN), version, "leaked")
    };
    for version in [None, None, Some(1)] {
        let error = revoke(version).unwrap_err();
        assert!(words(&error).contains("version 1: still in use"), "{error}");
        assert!(words(&error).contains("run it again"), "{error}");
        assert_eq!(issuer.machines.vault("two").get(&name(TOKEN), None).unwrap_err().kind(), Kind::Refused);
    }
    issuer.behaves("");
    assert_eq!(revoke(None).unwrap(), [1]);
    assert_eq!(issuer.steps(), "retire retire retire retire");
    let error = revoke(None).unwrap_err();
    assert!(words(&error).contains("revoked here already"), "{error}");
}

/// The one that stays is told to the issuer, and stays.
#[test]
fn one_version_is_revoked_at_the_issuer() {
    let issuer = Issuer::new("", "");
    let hook = issuer.machines.hook();
    let mut vault = issuer.machines.vault("one");
    vault.put(&name(TOKEN), &secret("second"), &PutOptions::default()).unwrap();
    assert_eq!(revoke_at_issuer(&mut vault, &*hook, &name(TOKEN), Some(1), "leaked").unwrap(), [1]);
    assert_eq!(issuer.machines.value(), "second");
    assert_eq!(issuer.machines.stored().len(), 1);
}

/// The value in use may be put again by hand: what the issuer accepts is not revoked there.
#[test]
fn the_same_value_is_not_revoked_at_the_issuer() {
    let issuer = Issuer::new("refuse-retire", "");
    issuer.machines.vault("one").put(&name(TOKEN), &secret("first"), &PutOptions::default()).unwrap();
    assert_eq!(issuer.machines.rotate("one", RESUME).unwrap(), Outcome::Retired);
    assert_eq!(issuer.machines.stored().len(), 1);
}

/// Who was chosen to open a version is who opens the next.
#[test]
fn a_rotation_widens_nothing() {
    let issuer = Issuer::new("", "");
    let mut vault = issuer.machines.vault("one");
    let narrow = PutOptions { only: vec!["admin".into()], keep: Some(1), ..PutOptions::default() };
    vault.put(&name(TOKEN), &secret("first"), &narrow).unwrap();
    let opener = &issuer.machines.store.opener;
    let roles = vec!["open".parse().unwrap()];
    let options = strongroom::vault::EnrolOptions { roles, ..Default::default() };
    vault.enrol(opener.device.uri(), Some(Box::new(opener.device.clone())), &options).unwrap();
    drop(vault);
    assert_eq!(issuer.machines.rotate("one", NOW).unwrap(), Outcome::Rotated(3));
    let vault = issuer.machines.vault("one");
    let token = vault.replica().find(TOKEN).unwrap().unwrap();
    let row = vault.replica().version_row(&token, 3).unwrap().unwrap();
    assert_eq!((row.only, row.recipients()), (true, vec![issuer.machines.store.admin.id]));
}

/// The examples of docs/reference/hooks.md.
#[test]
fn the_examples_work() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let rust = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples/hook");
    for program in [root.join("examples/hooks/hook.sh"), root.join("examples/hooks/hook.py"), rust] {
        if !program.exists() {
            test_support::skip::skip("the example is not built: cargo build --example hook");
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("web"), "first\n").unwrap();
        let hook = format!("kind = \"exec\"\ncommand = [{program:?}, {:?}]\n", dir.path());
        let machines = Machines::new(&hook, "first", &[("account", "web")]);
        for version in 2..4 {
            let outcome = machines
                .rotate("one", NOW)
                .unwrap_or_else(|e| panic!("{}: {}", program.display(), words(&e)));
            assert_eq!(outcome, Outcome::Rotated(version), "{}", program.display());
        }
        let accepted = std::fs::read_to_string(dir.path().join("web")).unwrap();
        assert_eq!(accepted, format!("{}\n", machines.value()), "{}", program.display());
        machines.is_tidy();
    }
}
