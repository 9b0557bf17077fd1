//! A real systemd, booted in namespaces of its own, with the units of packaging/: credentials in unmodified units, and
//! applications that are known by theirs.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use test_support::eventually::eventually;
use test_support::home::{Home, strongroom};

/// As many as a large unit has.
const MANY: usize = 24;

/// Whether namespaces and systemd can be had here; where `CI` is set they must.
fn can_boot() -> bool {
    let systemd = Path::new("/lib/systemd/systemd").exists();
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--mount", "--fork", "--mount-proc", "--cgroup", "true"]);
    let root = rustix::process::geteuid().is_root();
    let can = systemd && root && unshare.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !can {
        test_support::skip::skip("no systemd, not root, or no namespaces");
    }
    can
}

/// Units, and what they leave behind.
struct Machine<'a> {
    home: &'a Home,
    units: PathBuf,
    out: PathBuf,
}

impl<'a> Machine<'a> {
    fn new(home: &'a Home) -> Self {
        let (units, out) = (home.hsm.dir.join("units"), home.hsm.dir.join("out"));
        fs::create_dir(&units).unwrap();
        fs::create_dir(&out).unwrap();
        fs::set_permissions(&out, PermissionsExt::from_mode(0o777)).unwrap();
        fs::set_permissions(&home.hsm.dir, PermissionsExt::from_mode(0o755)).unwrap();
        let machine = Self { home, units, out };
        machine.package();
        machine
    }

    /// The packaged units, with the little that differs here in drop-ins.
    fn package(&self) {
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
        for unit in ["strongroom.service", "strongroom.socket", "strongroom-credentials.socket"] {
            fs::copy(packaging.join(unit), self.units.join(unit)).unwrap();
            self.drop_in(unit, "[Unit]\nDefaultDependencies=no\n");
        }
        // Whoever gets to the socket may ask, here everybody.
        self.drop_in(
            "strongroom.socket",
            "[Unit]\nDefaultDependencies=no\n[Socket]\nSocketGroup=\nSocketMode=0666\n",
        );
        let home = self.home.command("true");
        let mut service = String::from("[Unit]\nDefaultDependencies=no\n[Service]\n");
        for (key, value) in home.get_envs() {
            let (key, value) = (key.to_str().unwrap(), value.unwrap_or_default().to_str().unwrap());
            if key.starts_with("XDG_") || key.starts_with("SOFTHSM") || key == "STRONGROOM_PKCS11_MODULE" {
                writeln!(service, "Environment={key}={value}").unwrap();
            }
        }
        let (dir, out) = (self.home.hsm.dir.display(), self.out.join("agent.log"));
        // The checkout may lie under /tmp, which is another in there.
        let program = self.home.hsm.dir.join("strongroom");
        fs::copy(strongroom(), &program).unwrap();
        write!(
            service,
            "ExecStart=\nExecStart={} agent\nPrivateTmp=no\nReadWritePaths={dir}\nProtectHome=no\n\
             StandardError=append:{}\n",
            program.display(),
            out.display()
        )
        .unwrap();
        self.drop_in("strongroom.service", &service);
    }

    fn drop_in(&self, unit: &str, text: &str) {
        let directory = self.units.join(format!("{unit}.d"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("test.conf"), text).unwrap();
    }

    /// A unit that runs a script once.
    fn unit(&self, name: &str, settings: &str, script: &str) {
        let file = self.out.join(format!("{name}.sh"));
        fs::write(&file, script).unwrap();
        let text = format!(
            "[Unit]\nDefaultDependencies=no\nAfter=strongroom.socket strongroom-credentials.socket\n\
             Wants=strongroom.socket strongroom-credentials.socket\n\
             [Service]\nType=oneshot\nTimeoutStartSec=60\nWorkingDirectory={}\nExecStart=/bin/sh {}\n{settings}\n",
            self.out.display(),
            file.display()
        );
        fs::write(self.units.join(format!("{name}.service")), text).unwrap();
    }

    /// Boots until the unit `last` has left its mark, after all of these.
    fn boot(&self, names: &[&str]) {
        let services: Vec<String> = names.iter().map(|name| format!("{name}.service")).collect();
        let services = services.join(" ");
        self.unit("last", "", "systemctl status --no-pager -l --all >status 2>&1\ntouch done");
        let ordered = format!("[Unit]\nAfter={services}\n");
        self.drop_in("last.service", &ordered);
        let target = format!("[Unit]\nDefaultDependencies=no\nWants={services} last.service\n");
        fs::write(self.units.join("test.target"), target).unwrap();
        let mut script =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agent/systemd/boot.sh"));
        script.arg("units").arg(&self.home.hsm.dir).arg("test.target");
        let console = fs::File::create(self.out.join("console")).unwrap();
        let booted = Booted(script.stdout(console.try_clone().unwrap()).stderr(console).spawn().unwrap());
        assert!(
            eventually(Duration::from_secs(120), || self.out.join("done").exists()),
            "it does not come up: {}\n{}",
            self.said("console"),
            self.said("agent.log")
        );
        drop(booted);
    }

    fn said(&self, file: &str) -> String {
        fs::read(self.out.join(file))
            .map_or_else(|e| format!("({e})"), |b| String::from_utf8_lossy(&b).into_owned())
    }
}

struct Booted(Child);

impl Drop for Booted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn load(ids: &[&str]) -> String {
    ids.iter().map(|id| format!("LoadCredential={id}:/run/strongroom/credentials.sock\n")).collect()
}

#[test]
fn units_get_their_credentials_and_no_others() {
    let Some(home) = Home::with_store() else { return };
    if !can_boot() {
        return;
    }
    let machine = Machine::new(&home);
    for (name, token) in [("prod/db", "the token"), ("prod/old", "revoked"), ("plain", "by its name")] {
        home.put(name, token.as_bytes());
    }
    home.ok(&["grant", "prod/db", "--to", "unit:web.service", "--as", "db-password", "--quiet"]);
    home.ok(&["grant", "prod/old", "--to", "unit:late.service", "--as", "old", "--quiet"]);
    home.ok(&["grant", "plain", "--to", "unit:web.service", "--quiet"]);
    home.ok(&["revoke", "prod/old", "--reason", "leaked"]);
    let ids: Vec<String> = (0..MANY).map(|i| format!("c{i}")).collect();
    for id in &ids {
        home.put(&format!("many/{id}"), id.as_bytes());
        home.ok(&["grant", &format!("many/{id}"), "--to", "unit:many.service", "--as", id, "--quiet"]);
    }
    let started = "touch $0.started\n";
    machine.unit(
        "web",
        &load(&["db-password", "plain"]),
        "cd $CREDENTIALS_DIRECTORY\ncat db-password plain >$OLDPWD/web.out",
    );
    machine.unit("other", &load(&["db-password"]), started);
    machine.unit("late", &load(&["old"]), started);
    machine.unit("wrong", &load(&["nosuch"]), started);
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    machine.unit("many", &load(&ids), "cat $CREDENTIALS_DIRECTORY/* >many.out");
    machine.boot(&["web", "other", "late", "wrong", "many"]);
    let all = || format!("{}\n{}", machine.said("console"), machine.said("agent.log"));
    assert_eq!(machine.said("web.out"), "the tokenby its name", "{}", all());
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(machine.said("many.out"), sorted.concat(), "{}", all());
    for unit in ["other", "late", "wrong"] {
        assert!(!machine.out.join(format!("{unit}.sh.started")).exists(), "{unit} started\n{}", all());
    }
    let log = home.ok(&["log", "--access", "-n", "100"]);
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("credential db-password of web.service"), 1, "{log}");
    assert_eq!(lines("\tdenied\t"), 2, "{log}");
    assert_eq!(lines(" of many.service"), MANY, "{log}");
}

#[test]
fn applications_are_known_by_their_unit() {
    let Some(home) = Home::with_store() else { return };
    if !can_boot() {
        return;
    }
    let machine = Machine::new(&home);
    home.put("prod/db", b"the token");
    home.ok(&["grant", "prod/db", "--to", "unit:app.service", "--quiet"]);
    let curl = "curl -s -H 'Strongroom: 1' -w '%{http_code}' --unix-socket /run/strongroom/agent.sock http://x/v1/values/prod/db >$1";
    let asks = |file: &str| {
        format!(
            "set -- {file}\n{curl}\ncurl -s --unix-socket /run/strongroom/agent.sock http://x/v1/whoami >{file}.who\n"
        )
    };
    let user = "User=daemon";
    machine.unit("app", user, &asks("app.out"));
    machine.unit("spy", user, &asks("spy.out"));
    // Who asks from below a unit's own group is still the unit.
    machine.unit("deep", "Delegate=yes", &asks("deep.out"));
    machine.boot(&["app", "spy", "deep"]);
    let all = || format!("{}\n{}", machine.said("status"), machine.said("agent.log"));
    assert_eq!(machine.said("app.out"), "the token200", "{}", all());
    assert!(machine.said("spy.out").ends_with("403"), "{}\n{}", machine.said("spy.out"), all());
    let who: serde_json::Value = serde_json::from_str(&machine.said("app.out.who")).unwrap();
    assert_eq!((&who["unit"], &who["uid"], &who["owner"]), (&"app.service".into(), &1.into(), &false.into()));
    assert!(who["exe"].as_str().unwrap().ends_with("/curl"), "{who}");
    // Root is the owner of the machine's agent, in whatever unit.
    assert_eq!(machine.said("deep.out"), "the token200");
}
