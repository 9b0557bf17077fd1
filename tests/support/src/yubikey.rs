//! A virtual YubiKey of a test's own: its own card, PC/SC service and directory, gone when the test is. No pcscd, no root.
//!
//! A process under test is pointed at it by [`VirtualYubiKey::environment`]: a drop-in libpcsclite and where its service
//! listens. A test that uses the driver itself runs in a process of its own: see [`isolated`]. tests/yubikey/README.md says what
//! is simulated.

use crate::subprocess::{assert_passes, rerun};
use std::ffi::OsString;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use virtual_yubikey::card::{Authority, simulator_root};
pub use virtual_yubikey::service::{Exchange, Lost, Options, Removal, Service, YubiKey};
pub use virtual_yubikey::touch::Touch;

/// The PIN that every card starts with.
pub const PIN: &str = "123456";
/// The PUK that every card starts with.
pub const PUK: &str = "12345678";
/// The management key that every card starts with, in hexadecimal.
pub const MANAGEMENT_KEY: &str = "010203040506070801020304050607080102030405060708";

/// Tells a process of [`isolated`] where its card lies.
const DIRECTORY: &str = "STRONGROOM_TEST_YUBIKEY";

/// A service with one card; [`VirtualYubiKey::add`] makes more. What can be done to the card is what can be done to a
/// [`YubiKey`].
pub struct VirtualYubiKey {
    /// What it lies in; room for a test's other files too.
    pub dir: PathBuf,
    key: YubiKey,
    owned: bool,
}

impl VirtualYubiKey {
    /// Starts a service with a card in it.
    pub fn start(options: Options) -> Self {
        let dir = directory();
        let mut yubikey = Self::at(&dir, &options);
        yubikey.owned = true;
        yubikey
    }

    fn at(dir: &Path, options: &Options) -> Self {
        let key = Service::start(dir).unwrap().add(options).unwrap();
        Self { dir: dir.into(), key, owned: false }
    }

    /// One more card on the same service.
    pub fn add(&self, options: &Options) -> YubiKey {
        self.service().add(options).unwrap()
    }

    /// What a child process needs to see it: add these to its environment.
    pub fn environment(&self) -> [(&'static str, OsString); 2] {
        environment(&self.dir)
    }

    /// The device URI: `piv:serial=…`.
    pub fn uri(&self) -> String {
        format!("piv:serial={}", self.card().profile().serial)
    }

    /// The device URI with the factory's PIN in a file.
    pub fn uri_with_pin(&self, pin: &str) -> String {
        let file = self.dir.join(format!("pin-{pin}"));
        std::fs::write(&file, format!("{pin}\n")).unwrap();
        format!("{}?pin-source=file:{}", self.uri(), file.display())
    }

    /// Tries left: PIN and PUK.
    pub fn tries(&self) -> (u8, u8) {
        let card = self.card();
        (card.memory().pin.left, card.memory().puk.left)
    }

    /// A directory with the root that its attestations rest on, `root.pem`.
    pub fn roots(&self) -> PathBuf {
        let roots = self.dir.join("roots");
        std::fs::create_dir_all(&roots).unwrap();
        std::fs::write(roots.join("root.pem"), self.authority().pem()).unwrap();
        roots
    }

    /// Stops the service, and starts it again: what was connected is not any more.
    pub fn restart_service(&self) {
        self.service().restart();
    }

    /// The commands of this instruction that the card got.
    pub fn count(&self, instruction: u8) -> usize {
        self.apdus().iter().filter(|exchange| exchange.instruction() == instruction).count()
    }

    /// Waits until the card asks for a touch.
    pub fn wait_until_blinking(&self) {
        assert!(
            self.hand().wait_until_blinking(Duration::from_secs(20)),
            "the card does not ask for a touch"
        );
    }
}

impl Deref for VirtualYubiKey {
    type Target = YubiKey;

    fn deref(&self) -> &YubiKey {
        &self.key
    }
}

impl Drop for VirtualYubiKey {
    fn drop(&mut self) {
        if self.owned {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Runs a test in a process of its own with a virtual YubiKey of its own: the test binary starts itself again for that one
/// test, with the drop-in libpcsclite in place of the system's. The card lives in that process, and other processes that are
/// given [`VirtualYubiKey::environment`] share it.
pub fn isolated<F: FnOnce(&VirtualYubiKey)>(options: Options, test: F) {
    isolated_with(options, &[], test);
}

/// As [`isolated`], with more variables in the process's environment.
pub fn isolated_with<F: FnOnce(&VirtualYubiKey)>(options: Options, more: &[(&str, &str)], test: F) {
    if let Some(dir) = std::env::var_os(DIRECTORY) {
        end_if_hung();
        return test(&VirtualYubiKey::at(Path::new(&dir), &options));
    }
    let dir = directory();
    let mut command = rerun(std::any::type_name::<F>());
    command.envs(environment(&dir)).env(DIRECTORY, &dir).envs(more.iter().copied());
    assert_passes(&mut command);
    std::fs::remove_dir_all(dir).unwrap();
}

/// A test that waits for ever fails, and says so. No test here takes a hundredth of this.
fn end_if_hung() {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(300));
        eprintln!("the test hangs");
        std::process::abort();
    });
}

/// A new directory with the drop-in library in it. Its path is short: a socket's has to be.
fn directory() -> PathBuf {
    let dir = tempfile::Builder::new().prefix("yubikey-").tempdir().unwrap().keep();
    std::fs::create_dir(dir.join("lib")).unwrap();
    std::os::unix::fs::symlink(library(), dir.join("lib/libpcsclite.so.1")).unwrap();
    dir
}

/// The drop-in library, which cargo puts beside this test.
fn library() -> PathBuf {
    let beside = std::env::current_exe().unwrap().with_file_name("libvirtual_pcsclite.so");
    assert!(beside.exists(), "{} is missing", beside.display());
    beside
}

fn environment(dir: &Path) -> [(&'static str, OsString); 2] {
    let mut path = dir.join("lib").into_os_string();
    if let Some(others) = std::env::var_os("LD_LIBRARY_PATH") {
        path.push(":");
        path.push(others);
    }
    [("LD_LIBRARY_PATH", path), ("STRONGROOM_TEST_PCSC", dir.join("socket").into())]
}
