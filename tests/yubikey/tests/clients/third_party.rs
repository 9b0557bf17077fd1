//! What other people's programs make of the card: `ykman`, `yubico-piv-tool`, and `pkcs11-tool` with ykcs11. Nobody here wrote them to
//! please this simulator.
//!
//! The same checks run twice: with the drop-in libpcsclite, and through a real pcscd (`behind_pcscd.rs`).

use std::path::{Path, PathBuf};
use std::process::Command;
use test_support::pcscd::is_installed;
use test_support::yubikey::{MANAGEMENT_KEY, Options, PIN, VirtualYubiKey};

/// Where the programs run, and how they see the cards.
pub struct Desk {
    pub dir: PathBuf,
    pub environment: Vec<(String, std::ffi::OsString)>,
    /// Serial of a card with firmware 5.4.3, in the first reader.
    pub old: u32,
    /// Serial of a card with firmware 5.7.1.
    pub new: u32,
}

/// Whether the programs are there. Where `CI` is set they have to be.
pub fn programs() -> bool {
    let missing: Vec<_> = ["ykman", "yubico-piv-tool", "pkcs11-tool", "openssl"]
        .into_iter()
        .filter(|program| !is_installed(program))
        .chain(ykcs11().is_none().then_some("ykcs11"))
        .collect();
    if missing.is_empty() {
        return true;
    }
    test_support::skip::skip(&format!(
        "missing: {missing:?}: apt-get install yubikey-manager yubico-piv-tool ykcs11 opensc openssl"
    ));
    false
}

/// ykcs11 on this machine.
pub fn ykcs11() -> Option<PathBuf> {
    let candidates = [
        "/usr/lib/x86_64-linux-gnu/libykcs11.so.2",
        "/usr/lib/aarch64-linux-gnu/libykcs11.so.2",
        "/usr/lib64/libykcs11.so.2",
        "/usr/local/lib/libykcs11.so.2",
    ];
    candidates.iter().map(PathBuf::from).find(|path| path.exists())
}

impl Desk {
    /// Runs a program; what it said on both of its outputs.
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.dir).env("HOME", &self.dir);
        let output = command.envs(self.environment.iter().cloned()).output().unwrap();
        let said =
            [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        said
    }

    fn ykman(&self, serial: u32, arguments: &[&str]) -> String {
        let serial = serial.to_string();
        self.run("ykman", &[&["--device", &serial], arguments].concat())
    }

    /// On the first card, the old one: this program chooses by reader, and before its version 2.3 knows only 3DES.
    fn piv_tool(&self, arguments: &[&str]) -> String {
        self.run("yubico-piv-tool", &[&["--reader=00 00"], arguments].concat())
    }

    fn pkcs11_tool(&self, arguments: &[&str]) -> String {
        let module = ykcs11().unwrap();
        let all = ["--module", module.to_str().unwrap(), "--slot-index", "0"];
        self.run("pkcs11-tool", &[&all, arguments].concat())
    }
}

/// ykman sees both cards for what they are, and can do an administrator's work.
pub fn administration(desk: &Desk, root: &Path) {
    let listed = desk.run("ykman", &["list", "--serials"]);
    assert!(listed.contains(&desk.new.to_string()) && listed.contains(&desk.old.to_string()), "{listed}");
    for (serial, firmware, algorithm) in [(desk.new, "5.7.1", "AES192"), (desk.old, "5.4.3", "TDES")] {
        let info = desk.ykman(serial, &["piv", "info"]);
        for wanted in [&format!("PIV version: {firmware}")[..], "PIN tries remaining: 3/3", algorithm] {
            assert!(info.contains(wanted), "{wanted}: {info}");
        }
    }
    let manage = ["--management-key", MANAGEMENT_KEY];
    let policies = ["--pin-policy", "ALWAYS", "--touch-policy", "CACHED", "9d", "public.pem"];
    desk.ykman(
        desk.old,
        &[&["piv", "keys", "generate", "--algorithm", "ECCP256"], &manage[..], &policies].concat(),
    );
    desk.ykman(desk.old, &["piv", "keys", "attest", "9d", "leaf.pem"]);
    desk.ykman(desk.old, &["piv", "certificates", "export", "f9", "intermediate.pem"]);
    let root = root.to_str().unwrap();
    let chain = ["verify", "-CAfile", root, "-untrusted", "intermediate.pem", "leaf.pem"];
    assert!(desk.run("openssl", &chain).contains("leaf.pem: OK"));
    let attested = desk.run("openssl", &["x509", "-in", "leaf.pem", "-noout", "-pubkey"]);
    assert_eq!(attested, std::fs::read_to_string(desk.dir.join("public.pem")).unwrap());
    desk.ykman(desk.old, &["piv", "access", "change-pin", "--pin", PIN, "--new-pin", "654321"]);
    desk.ykman(desk.old, &["piv", "access", "change-pin", "--pin", "654321", "--new-pin", PIN]);
    let protect = ["--protect", "--generate", "--pin", PIN, "--algorithm", "AES256"];
    desk.ykman(desk.new, &[&["piv", "access", "change-management-key"], &manage[..], &protect].concat());
    let info = desk.ykman(desk.new, &["piv", "info"]);
    assert!(info.contains("AES256") && info.contains("protected by PIN"), "{info}");
    // The PIN alone is enough from here on.
    desk.ykman(
        desk.new,
        &["piv", "keys", "generate", "--pin", PIN, "--algorithm", "ECCP384", "95", "other.pem"],
    );
    let back = ["--pin", PIN, "--new-management-key", MANAGEMENT_KEY, "--algorithm", "AES192", "--force"];
    desk.ykman(desk.new, &[&["piv", "access", "change-management-key"], &back[..]].concat());
}

/// yubico-piv-tool makes keys, and signs and decrypts with them.
pub fn key_operations(desk: &Desk) {
    assert!(desk.piv_tool(&["--action=status"]).contains(&desk.old.to_string()));
    let key = format!("--key={MANAGEMENT_KEY}");
    let pin = format!("--pin={PIN}");
    desk.run("openssl", &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ca.key"]);
    for (slot, algorithm, sum) in
        [("9a", "ECCP256", "SHA256"), ("9d", "ECCP384", "SHA384"), ("9e", "RSA2048", "SHA256")]
    {
        let (slot_option, algorithm_option) = (format!("--slot={slot}"), format!("--algorithm={algorithm}"));
        let public = format!("{slot}.pem");
        desk.piv_tool(&[&key, "--action=generate", &slot_option, &algorithm_option, "--output", &public]);
        // A certificate of whoever, about the card's key: this program tests keys only by certificates.
        let certificate = format!("{slot}.crt");
        let about =
            ["-force_pubkey", &public, "-subj", "/CN=strongroom", "-signkey", "ca.key", "-out", &certificate];
        desk.run("openssl", &[&["x509", "-new"], &about[..]].concat());
        desk.piv_tool(&[&key, "--action=import-certificate", &slot_option, "--input", &certificate]);
        let hash = format!("--hash={sum}");
        let test = ["--action=verify-pin", "--action=test-signature", &pin, &slot_option, &hash];
        desk.piv_tool(&[&test[..], &["--input", &certificate]].concat());
        let test = ["--action=verify-pin", "--action=test-decipher", &pin, &slot_option];
        desk.piv_tool(&[&test[..], &["--input", &certificate]].concat());
    }
    desk.piv_tool(&["--action=set-chuid", &key]);
    assert!(desk.piv_tool(&["--action=status"]).contains("strongroom"));
}

/// ykcs11 shows the card as a PKCS#11 token, whose signatures openssl verifies. After [`key_operations`].
pub fn as_a_token(desk: &Desk) {
    let slots = desk.pkcs11_tool(&["--list-slots"]);
    assert!(slots.contains(&format!("YubiKey PIV #{}", desk.old)), "{slots}");
    std::fs::write(desk.dir.join("digest"), [7; 32]).unwrap();
    let files = ["--input-file", "digest", "--output-file", "signature", "--signature-format", "openssl"];
    let sign = ["--login", "--pin", PIN, "--sign", "--mechanism", "ECDSA", "--id", "01"];
    desk.pkcs11_tool(&[&sign[..], &files].concat());
    let verify =
        ["pkeyutl", "-verify", "-pubin", "-inkey", "9a.pem", "-in", "digest", "-sigfile", "signature"];
    assert!(desk.run("openssl", &verify).contains("Successfully"));
}

#[test]
fn accept_the_card_with_the_drop_in_library() {
    if !programs() {
        return;
    }
    let options = |serial, firmware| Options { serial, firmware, ..Options::default() };
    let yubikey = VirtualYubiKey::start(options(10_001, [5, 4, 3]));
    yubikey.add(&options(10_002, [5, 7, 1]));
    let environment = yubikey.environment().map(|(name, value)| (name.to_owned(), value)).into();
    let desk = Desk { dir: yubikey.dir.clone(), environment, old: 10_001, new: 10_002 };
    administration(&desk, &yubikey.roots().join("root.pem"));
    key_operations(&desk);
    as_a_token(&desk);
}
