//! kill -9 at every failpoint and between them, with a real PostgreSQL, and another machine that goes on.
//!
//! `STRONGROOM_TEST_KILLS` says how many; `scripts/test-rotation` sets it.

use crate::machine::{Machines, NOW, RESUME, TOKEN, config, rotated};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use strongroom::config::Config;
use strongroom::rotation::Outcome;
use test_support::postgres::{Postgres, SUPERUSER};
use test_support::subprocess::{FAILPOINTS, rerun};
use test_support::test_store::{Actor, setup};

/// Where a child finds the store.
const DIR: &str = "STRONGROOM_TEST_ROTATION";

/// Between the steps.
const STEPS: [&str; 8] = [
    "rotate.made",
    "rotate.staged",
    "rotate.probed",
    "rotate.set",
    "rotate.tested",
    "rotate.finished",
    "rotate.retired",
    "rotate.revoked",
];

/// No test of its own: what the tests below have killed.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = Path::new(&dir);
    let url = format!("sqlite://{}", dir.join("store.sqlite").display());
    let config = Config::load(&dir.join("config.toml")).unwrap();
    let admin = Actor::named("admin");
    let mut vault = strongroom::Vault::open(setup(url, dir.join("first"), &[&admin])).unwrap();
    let _ = rotated(&mut vault, &config, NOW);
}

fn kills(default: usize) -> usize {
    std::env::var("STRONGROOM_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(default)
}

/// All failpoints: those of a rotation, and those of each of the three changes that it makes.
fn failpoints() -> Vec<String> {
    let steps = STEPS.iter().map(|step| (*step).to_owned());
    let changes = FAILPOINTS.iter().flat_map(|point| (1..=3).map(move |time| format!("{point}:{time}")));
    steps.chain(changes).collect()
}

/// The role and the password of a value.
fn login(value: &str) -> (String, String) {
    match value.strip_prefix("postgresql://").and_then(|rest| rest.split_once('@')) {
        Some((login, _)) => {
            let (role, password) = login.split_once(':').unwrap();
            (role.replace("%5F", "_"), password.to_owned())
        }
        None => ("app".to_owned(), value.to_owned()),
    }
}

struct Scene {
    postgres: Postgres,
    machines: Machines,
}

impl Scene {
    fn new(two_roles: bool) -> Option<Self> {
        let postgres = Postgres::start()?;
        postgres.sql("CREATE ROLE app LOGIN PASSWORD 'first'; CREATE ROLE app_b LOGIN");
        // Alone a role changes its own password; two need an administrator.
        let user = two_roles.then_some(SUPERUSER);
        let hook = format!(
            "kind = \"postgres-role\"\nurl = {:?}\nroles = [\"app\", \"app_b\"]\n",
            postgres.url(user)
        );
        let (value, params) = match two_roles {
            true => ("postgresql://app:first@h/d", ("roles", "app,app_b")),
            false => ("first", ("role", "app")),
        };
        Some(Self { machines: Machines::new(&hook, value, &[params]), postgres })
    }

    fn accepts(&self, value: &str) -> bool {
        let (role, password) = login(value);
        self.postgres.lets_in(&role, &password)
    }

    /// A process that is killed at a failpoint, or after a while. Whether it was.
    fn kill(&self, failpoint: Option<&str>, after: Duration) -> bool {
        let mut command = rerun("rotation::crashes::child");
        command.env(DIR, self.machines.store.dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(failpoint) = failpoint {
            command.env("STRONGROOM_FAILPOINT", failpoint);
        }
        let mut child = command.spawn().unwrap();
        if failpoint.is_none() {
            std::thread::sleep(after);
            let _ = child.kill();
        }
        !child.wait().unwrap().success()
    }

    /// Never a token that does not open; never an issuer that accepts nothing that is stored.
    fn is_sound(&self, context: &str) {
        self.machines.value();
        let stored = self.machines.stored();
        let accepted = stored.iter().any(|(.., value)| self.accepts(value));
        assert!(accepted, "{context}: the server accepts none of {stored:?}");
    }

    /// Another machine goes on, and the server accepts what is in use.
    fn goes_on(&self, context: &str) {
        let outcome = self.machines.rotate("second", RESUME);
        let outcome = outcome.unwrap_or_else(|error| panic!("{context}: {}", crate::machine::words(&error)));
        assert!(!matches!(outcome, Outcome::Undone(_)), "{context}: {outcome:?}");
        assert!(self.accepts(&self.machines.value()), "{context}");
        self.machines.is_tidy();
    }
}

fn killed_everywhere(two_roles: bool) {
    let Some(scene) = Scene::new(two_roles) else { return };
    let points = failpoints();
    let (mut at_points, wanted) = (0, kills(12));
    for number in 0..wanted {
        // A failpoint, and every third time some moment.
        let point = (number % 3 != 2).then(|| &points[(number * 2 / 3) % points.len()]);
        let after = Duration::from_millis(40 + (number as u64 * 37) % 400);
        let killed = scene.kill(point.map(String::as_str), after);
        let context = format!("kill {number} at {point:?}, {after:?}");
        at_points += u32::from(killed && point.is_some());
        scene.is_sound(&context);
        scene.goes_on(&context);
        assert!(killed || point.is_none_or(|point| point.ends_with(":3")), "{context}: it was not reached");
    }
    assert!(at_points as usize >= wanted / 3, "{at_points} of {wanted}");
    eprintln!(
        "{wanted} kills, {at_points} at failpoints, versions: {}",
        scene.machines.vault("reader").replica().find(TOKEN).unwrap().unwrap().latest
    );
}

#[test]
fn one_role_survives_every_kill() {
    killed_everywhere(false);
}

#[test]
fn two_roles_survive_every_kill() {
    killed_everywhere(true);
}

/// The one who goes on dies, too, and the next one as well.
#[test]
fn a_kill_on_top_of_kills() {
    let Some(scene) = Scene::new(false) else { return };
    config(
        &scene.machines.store,
        &format!("kind = \"postgres-role\"\nurl = {:?}\nroles = [\"app\"]\n", scene.postgres.url(None)),
    );
    for point in STEPS {
        scene.kill(Some(point), Duration::ZERO);
        scene.is_sound(point);
    }
    scene.goes_on("at last");
}
