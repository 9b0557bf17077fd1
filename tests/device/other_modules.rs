//! Other people's PKCS#11 modules, each over a simulator: the conformance suite, or a clear refusal.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use strongroom::device::{Algorithm, CreateOptions, Device, Purpose, connect};
use strongroom::error::Kind;
use test_support::device_conformance::{Bench, conforms, opens_rsa, signs_once};
use test_support::eventually::eventually;
use test_support::prompter::Scripted;
use test_support::resource_manager::ResourceManager;
use test_support::softhsm::{self, LABEL, PIN, SoftHsm, installed, isolated_with};
use test_support::subprocess::{assert_passes, rerun};
use test_support::swtpm::Swtpm;
use test_support::yubikey::{self, Options, VirtualYubiKey};

/// A token in a module, and the algorithms of keys in it.
struct Token<'a> {
    module: &'a Path,
    /// What names it in a URI: `token=demo`.
    name: &'a str,
    opening: Algorithm,
    signing: Algorithm,
}

impl Bench for Token<'_> {
    fn device(&self) -> Box<dyn Device> {
        let uri = format!("pkcs11:{}?module-path={}", self.name, self.module.display());
        connect(&uri.parse().unwrap()).unwrap()
    }

    fn prompter(&self) -> Scripted {
        Scripted::pin(PIN)
    }

    fn algorithm(&self) -> Algorithm {
        self.opening
    }

    fn signing(&self) -> Algorithm {
        self.signing
    }
}

/// The name of most tokens here.
const DEMO: &str = "token=demo";

/// A file in a directory where Debian has libraries. `None`, visibly, where its package is missing.
pub fn library(name: &str, package: &str) -> Option<PathBuf> {
    let directories = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu/pkcs11",
        "/usr/lib/aarch64-linux-gnu/pkcs11",
        "/usr/lib64",
        "/usr/lib64/pkcs11",
    ];
    let found =
        directories.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.exists());
    if found.is_none() {
        test_support::skip::skip(&format!("{name} is missing: apt-get install {package}"));
    }
    found
}

/// Tells a process of [`in_process`] that it is one.
const INSIDE: &str = "STRONGROOM_TEST_MODULE";

/// Runs a test in a process of its own, whose environment the module reads.
fn in_process<F: FnOnce()>(environment: &[(&str, OsString)], test: F) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    assert_passes(rerun(std::any::type_name::<F>()).env(INSIDE, "1").envs(environment.iter().cloned()));
}

/// Initialises the token with a PIN, by OpenSC's tool.
fn initialise(module: &Path, environment: &[(&str, OsString)]) {
    let steps: [&[&str]; 2] = [
        &["--init-token", "--slot-index", "0", "--label", LABEL, "--so-pin", "12345678"],
        &[
            "--token-label",
            LABEL,
            "--login",
            "--login-type",
            "so",
            "--so-pin",
            "12345678",
            "--init-pin",
            "--pin",
            PIN,
        ],
    ];
    for step in steps {
        let mut tool = Command::new("pkcs11-tool");
        let output =
            tool.arg("--module").arg(module).args(step).envs(environment.iter().cloned()).output().unwrap();
        assert!(output.status.success(), "{step:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn has_tool() -> bool {
    let there = installed("pkcs11-tool");
    if !there {
        test_support::skip::skip("pkcs11-tool is missing: apt-get install opensc");
    }
    there
}

#[test]
fn tpm2_pkcs11_opens_and_signs() {
    let body = || {
        let module = library("libtpm2_pkcs11.so.1", "libtpm2-pkcs11-1").unwrap();
        // The module offers no ECDH.
        let token =
            Token { module: &module, name: DEMO, opening: Algorithm::Rsa(2048), signing: Algorithm::P256 };
        let mut device = token.device();
        assert_eq!(
            device.provisioning().unwrap().algorithms(Purpose::Open).unwrap()[0],
            Algorithm::Rsa(3072)
        );
        assert!(device.identity().simulator, "swtpm is a simulator behind this module, too");
        let prompter = &mut token.prompter();
        let options = CreateOptions::default();
        let provision = device.provisioning().unwrap();
        let opens = provision.create(Purpose::Open, token.opening, &options, prompter).unwrap();
        let signs = provision.create(Purpose::Sign, token.signing, &options, prompter).unwrap();
        // Not the whole suite: a ciphertext without OAEP padding puts libtpms 0.9.2 into failure mode.
        for _ in 0..3 {
            opens_rsa(&mut *device, &opens, prompter).unwrap();
            signs_once(&mut *device, &(&signs).into(), 7, prompter).unwrap();
            drop(device);
            device = token.device();
            assert_eq!(device.keys(prompter).unwrap(), [opens.clone(), signs.clone()]);
        }
    };
    if std::env::var_os(INSIDE).is_some() {
        return in_process(&[], body);
    }
    let Some(module) = library("libtpm2_pkcs11.so.1", "libtpm2-pkcs11-1").filter(|_| has_tool()) else {
        return;
    };
    let Some(tpm) = Swtpm::new() else { return };
    let Some(manager) = ResourceManager::before(&tpm) else { return };
    let environment = [
        ("TPM2_PKCS11_STORE", tpm.dir.clone().into_os_string()),
        ("TPM2_PKCS11_TCTI", "tabrmd:bus_type=session".into()),
        ("TPM2_PKCS11_LOG_LEVEL", "0".into()),
        ("TSS2_LOG", "all+NONE".into()),
        ("DBUS_SESSION_BUS_ADDRESS", manager.address.clone().into()),
    ];
    initialise(&module, &environment);
    in_process(&environment, body);
}

#[test]
fn p11_kit_proxy_conforms() {
    let Some(module) = library("p11-kit-proxy.so", "p11-kit-modules") else { return };
    // The proxy starts all modules of the machine: tpm2-pkcs11 is not to make a store in somebody's home.
    isolated_with(&[("TPM2_PKCS11_STORE", "/nonexistent")], |_| {
        conforms(&Token { module: &module, name: DEMO, opening: Algorithm::P256, signing: Algorithm::P256 })
    });
}

/// A module behind `p11-kit server`, as ssh forwards it.
struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    fn start(hsm: &SoftHsm) -> Self {
        let socket = hsm.dir.join("p11-kit");
        let mut command = Command::new("p11-kit");
        command.args(["server", "--foreground", "--name"]).arg(&socket);
        command.arg("--provider").arg(softhsm::module().unwrap()).arg(format!("pkcs11:token={LABEL}"));
        command.envs(hsm.environment()).env("XDG_RUNTIME_DIR", &hsm.dir).stdout(Stdio::null());
        let server = Self { child: command.stderr(Stdio::null()).spawn().unwrap(), socket };
        let up = eventually(std::time::Duration::from_secs(20), || server.socket.exists());
        assert!(up, "p11-kit server does not start");
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_module_behind_p11_kit_server_conforms() {
    let body = || {
        let module = library("p11-kit-client.so", "p11-kit-modules").unwrap();
        // Its protocol has no words for the parameters of ECDH.
        conforms(&Token {
            module: &module,
            name: DEMO,
            opening: Algorithm::Rsa(2048),
            signing: Algorithm::P256,
        });
    };
    if std::env::var_os(INSIDE).is_some() {
        return in_process(&[], body);
    }
    if library("p11-kit-client.so", "p11-kit-modules").is_none() {
        return;
    }
    if !installed("p11-kit") {
        return test_support::skip::skip("p11-kit is missing: apt-get install p11-kit");
    }
    let Some(hsm) = SoftHsm::new() else { return };
    let server = Server::start(&hsm);
    let address = format!("unix:path={}", server.socket.display());
    in_process(
        &[("P11_KIT_SERVER_ADDRESS", address.into()), ("XDG_RUNTIME_DIR", hsm.dir.clone().into())],
        body,
    );
}

/// Kryoptic, which no distribution of Debian has yet. `None`, visibly, where `scripts/test` has not built it.
fn kryoptic() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kryoptic/debug/libkryoptic_pkcs11.so");
    if !built.exists() {
        test_support::skip::skip("kryoptic is missing: scripts/test builds it");
        return None;
    }
    Some(built)
}

/// Runs the suite on Kryoptic, with a token in a directory of its own.
fn kryoptic_conforms<F: FnOnce()>(test: F) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let Some(module) = kryoptic().filter(|_| has_tool()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let configuration = directory.path().join("kryoptic.conf");
    let token = directory.path().join("token.sql");
    let slot = format!("[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = {:?}\n", token.display());
    std::fs::write(&configuration, slot).unwrap();
    let environment = [("KRYOPTIC_CONF", configuration.into_os_string())];
    initialise(&module, &environment);
    in_process(&environment, test);
}

fn on_kryoptic(opening: Algorithm, signing: Algorithm) {
    let module = kryoptic().unwrap();
    let token = Token { module: &module, name: DEMO, opening, signing };
    assert!(token.device().identity().simulator);
    conforms(&token);
}

#[test]
fn kryoptic_conforms_with_p256() {
    kryoptic_conforms(|| on_kryoptic(Algorithm::P256, Algorithm::P256));
}

#[test]
fn kryoptic_conforms_with_p384() {
    kryoptic_conforms(|| on_kryoptic(Algorithm::P384, Algorithm::P384));
}

#[test]
fn kryoptic_conforms_with_rsa() {
    kryoptic_conforms(|| on_kryoptic(Algorithm::Rsa(2048), Algorithm::Rsa(2048)));
}

#[test]
fn kryoptic_conforms_with_aes() {
    kryoptic_conforms(|| on_kryoptic(Algorithm::Aes256, Algorithm::P256));
}

/// Not to share with the machine: its daemon's shared memory, sockets and files.
const NAMESPACES: [&str; 9] = [
    "--user",
    "--map-root-user",
    "--mount",
    "--net",
    "--ipc",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];

/// opencryptoki gives its files to the group pkcs11, which in the namespaces has to be root's.
const PREPARE: &str = "sed 's/^pkcs11:.*/pkcs11:x:0:/' /etc/group >/tmp/group.$$ && mount --bind /tmp/group.$$ /etc/group && \
    rm /tmp/group.$$ && for d in /var/lib/opencryptoki /var/log /run; do mount -t tmpfs tmpfs $d || exit 1; done && \
    mkdir -p /var/lib/opencryptoki/swtok/TOK_OBJ /run/lock/opencryptoki/swtok";

/// Gives opencryptoki's software token, in slot 3, a label and a PIN. The PINs that it is made with have to be changed.
const INITIALISE: &str = "pkcsslotd && pkcsconf -I -c 3 -S 87654321 <<<demo && pkcsconf -P -c 3 -S 87654321 -n 12345678 && \
    pkcsconf -u -c 3 -S 12345678 -n 11111111 && pkcsconf -p -c 3 -U 11111111 -n 1234";

#[test]
fn opencryptoki_conforms() {
    let Some(module) = library("libopencryptoki.so", "opencryptoki") else { return };
    test_support::subprocess::in_namespaces(&NAMESPACES, PREPARE, || {
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap());
        let output = Command::new("bash").args(["-c", INITIALISE]).env("PATH", path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // This version fills the token's time with something else, so that the label cannot be read.
        let token = Token {
            module: &module,
            name: "slot-id=3",
            opening: Algorithm::Rsa(2048),
            signing: Algorithm::Rsa(2048),
        };
        assert!(token.device().identity().simulator);
        conforms(&token);
    });
}

#[test]
fn the_softoken_of_nss_is_refused() {
    let Some(module) = library("libsoftokn3.so", "libnss3") else { return };
    let uri = format!("pkcs11:?module-path={}", module.display());
    let error = connect(&uri.parse().unwrap()).err().unwrap();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains("keeps its keys in files"), "{error}");
}

/// The modules for YubiKeys make keys for their security officer only, who is whoever has the management key.
fn says_what_makes_keys(yubikey: &VirtualYubiKey, module: &Path) {
    let uri = format!("pkcs11:?module-path={}", module.display());
    let mut device = connect(&uri.parse().unwrap()).unwrap();
    let mut prompter = Scripted::pin(yubikey::PIN);
    assert_eq!(device.keys(&mut prompter).unwrap(), []);
    let provision = device.provisioning().unwrap();
    let error = provision
        .create(Purpose::Open, Algorithm::P256, &CreateOptions::default(), &mut prompter)
        .unwrap_err();
    assert!(error.hint().unwrap().contains("piv:"), "{error:?}");
    assert_eq!(yubikey.tries().0, 3);
}

#[test]
fn opensc_makes_no_keys_and_says_what_does() {
    let Some(module) = library("opensc-pkcs11.so", "opensc-pkcs11") else { return };
    yubikey::isolated(Options::default(), |yubikey| says_what_makes_keys(yubikey, &module));
}

#[test]
fn ykcs11_makes_no_keys_and_says_what_does() {
    let Some(module) = library("libykcs11.so.2", "ykcs11") else { return };
    yubikey::isolated(Options::default(), |yubikey| says_what_makes_keys(yubikey, &module));
}
