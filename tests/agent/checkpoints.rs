//! Checkpoints that the agent signs by itself.

use crate::agent_in_process::{Served, own_uid};
use crate::daemon::Daemon;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use strongroom::agent::{AgentDevice, AgentOwner};
use strongroom::device::Device;
use strongroom::ledger::body::{Role, Settings, Witnesses};
use strongroom::{Error, Kind};
use test_support::eventually::eventually;
use test_support::forged_batch::Draft;
use test_support::home::Home;
use test_support::softhsm::LABEL;
use test_support::test_store::Actor;

const PATIENCE: Duration = Duration::from_secs(60);

fn published(metrics: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix("strongroom_checkpoints_total "));
    line.map_or(0, |number| number.parse().unwrap())
}

/// Another machine: what it has verified, and a device of its own.
struct Reader<'a> {
    home: &'a Home,
    device: String,
}

impl Reader<'_> {
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.home.strongroom(arguments);
        command.args(["--device", &self.device]).env("XDG_STATE_HOME", self.home.dir.join("reader"));
        command.output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// The position that the agent's device has witnessed, as this machine sees it.
    fn witnessed(&self) -> u64 {
        let report: serde_json::Value = serde_json::from_slice(&self.ok(&["verify", "--json"])).unwrap();
        let witnesses = report["witnesses"].as_array().unwrap();
        let own = witnesses.iter().find(|witness| witness["device"] == LABEL).unwrap();
        own["n"].as_u64().unwrap_or(0)
    }
}

#[test]
fn the_agent_witnesses_for_another_machine_and_says_once_what_it_lacks_itself() {
    let Some(home) = Home::with_store() else { return };
    home.put("prod/db", b"token");
    home.hsm.add_token("backup");
    let device = home.device().replacen(&format!("token={LABEL}"), "token=backup", 1);
    home.ok(&["device", "add", &device, "--role", "open", "--role", "witness", "--reseal", "--quiet"]);
    home.ok(&["device", "roles", LABEL, "--role", "open", "--role", "admin", "--role", "witness", "--quiet"]);
    home.ok(&["settings", "--witnesses", "1", "--max-age", "3s", "--quiet"]);
    let reader = Reader { home: &home, device };
    let line = String::from_utf8(home.ok(&["head"]).stdout).unwrap();
    reader.ok(&["trust", line.trim(), "--quiet"]);
    let refused = reader.run(&["get", "prod/db"]);
    assert_eq!(refused.status.code(), Some(7), "{}", String::from_utf8_lossy(&refused.stderr));
    // Its own word, once: for the agent's machine it grows old.
    reader.ok(&["checkpoint", "--quiet"]);
    let own = home.device();
    let daemon = Daemon::start_with(&home, &["--checkpoint-every", "1s", "--device", &own], |command| {
        command.env("STRONGROOM_LOG", "warn");
    });
    assert!(eventually(PATIENCE, || reader.run(&["get", "prod/db"]).stdout == b"token"), "{}", daemon.said());
    let before = reader.witnessed();
    home.put("prod/more", b"x");
    assert!(eventually(PATIENCE, || reader.witnessed() > before), "{}", daemon.said());
    let count = || published(&daemon.get("/metrics").text());
    let lacks = || daemon.said().matches("(demo is this machine's own; backup: ").count();
    assert!(eventually(PATIENCE, || lacks() > 0), "{}", daemon.said());
    // Old it is, and older at each look.
    let before = count();
    assert!(eventually(PATIENCE, || count() > before + 3), "{}", daemon.said());
    assert_eq!(lacks(), 1, "{}", daemon.said());
}

/// The agent's own checkpoints are nobody's use of the device.
#[test]
fn checkpoints_do_not_keep_a_pin_that_was_typed() {
    let served = Served::new(AgentOwner::User(own_uid()), |options| {
        options.pin_policy.idle = Some(Duration::from_millis(2_500));
        options.checkpoint_every = Some(Duration::from_secs(1));
    });
    *served.faults[0].pin.lock().unwrap() = Some("1234");
    let roles = ["open", "admin", "witness"].map(|role| role.parse().unwrap());
    served.another().set_roles("admin", &roles).unwrap();
    let name = served.get("/v1/health").json()["devices"][0]["device"].clone();
    let body = serde_json::json!({"device": name, "pin": "1234"}).to_string();
    let unlock = || served.ask("POST", "/v1/unlock", body.as_bytes()).status == 200;
    // One at least is signed with it; then nobody uses the device, and it is locked.
    let signs =
        || unlock() && eventually(Duration::from_secs(2), || published(&served.get("/metrics").text()) > 0);
    served.until("it signs", signs);
    served.until("it locks itself", || served.status(0) == "locked");
}

/// A device that does not say which one it is may be the very witness that is counted.
#[test]
fn a_device_that_is_not_recognized_yet_may_be_a_witness() {
    let gone = Arc::new(AtomicBool::new(true));
    let (away, stranger) = (Arc::clone(&gone), Actor::named("stranger").device);
    let served = Served::new(AgentOwner::User(own_uid()), move |options| {
        let uri = stranger.uri();
        let connect = move || match away.load(Ordering::SeqCst) {
            true => Err(Error::new(Kind::DeviceGone, "connect to the device", "it is not there")),
            false => Ok(Box::new(stranger.clone()) as Box<dyn Device>),
        };
        options.devices.push(AgentDevice { uri, id: None, connect: Arc::new(connect) });
    });
    let mut admin = served.another();
    for witness in ["one", "two"].map(Actor::named) {
        let body = witness.enrolment(vec![Role::Witness]);
        served.test_store.append(&Draft::on(&admin, &served.test_store.admin, [body]), &[]);
        admin.refresh().unwrap();
        served.test_store.client(witness.device.name(), &[&witness]).unwrap().checkpoint().unwrap();
    }
    let asked = |count| {
        let witnesses = Some(Witnesses { count, max_age: 60_000 });
        Settings { witnesses, ..Settings::default() }
    };
    admin.set_settings(&asked(1)).unwrap();
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
    plant_none(&served, "two");
    let (status, kind, words) = served.get("/v1/values/prod/db").problem();
    assert_eq!((status, kind.as_str()), (503, "stale"), "{words}");
    assert!(words.contains("it was not recognized yet"), "{words}");
    gone.store(false, Ordering::SeqCst);
    served.until("it is none of the store's", || served.get("/v1/values/prod/db").status == 200);
}

/// Takes a witness's checkpoint away, as somebody who can write to the file.
fn plant_none(served: &Served, witness: &str) {
    let id = Actor::named(witness).id;
    served.test_store.db().execute("DELETE FROM checkpoints WHERE device = ?1", [&id.0[..]]).unwrap();
}
