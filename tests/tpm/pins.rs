//! PINs and the dictionary attack protection.

use crate::on_swtpm::{OnSwtpm, PIN, open, with_swtpm};
use strongroom::device::{KeyRef, TpmOptions, connect};
use strongroom::error::Kind;
use strongroom::prompt::{BatchPrompter, TriesLeft};
use test_support::device_conformance::Bench;
use test_support::prompter::Scripted;

fn with_pin(test: impl Fn(&OnSwtpm<'_>)) {
    with_swtpm(TpmOptions { pin: true, ..TpmOptions::default() }, test);
}

/// swtpm begins with three tries.
const LIMIT: &str = "3";

fn failures(bench: &OnSwtpm<'_>) -> u32 {
    let properties = bench.tpm.tool("tpm2_getcap", &["properties-variable"]);
    let line = properties.lines().find(|line| line.starts_with("TPM2_PT_LOCKOUT_COUNTER:")).unwrap();
    u32::from_str_radix(line.rsplit("0x").next().unwrap().trim(), 16).unwrap()
}

#[test]
fn a_wrong_pin_is_never_tried_again() {
    with_pin(|bench| {
        let (opens, signs) = bench.keys();
        let mut device = bench.device();
        let mut wrong = Scripted::pin("battery staple");
        let error = open(&mut *device, &opens, &mut wrong).unwrap_err();
        assert_eq!(error.kind(), Kind::PinWrong, "{error}");
        assert_eq!(error.message(), "TPM_RC_AUTH_FAIL (0x98e, session 1) from TPM2_ECDH_ZGen");
        assert!(error.hint().unwrap().contains("2 tries are left"), "{:?}", error.hint());
        assert_eq!(wrong.tries, Some(TriesLeft::Count(3)));

        // Not by another key, not by another device of this process, not with another PIN.
        let mut right = Scripted::pin(PIN);
        let mut other = bench.device();
        assert_eq!(open(&mut *device, &opens, &mut right).unwrap_err().kind(), Kind::PinWrong);
        assert_eq!(
            other.sign(&KeyRef::from(&signs), &[0; 32], &mut right).unwrap_err().kind(),
            Kind::PinWrong
        );
        assert_eq!((wrong.pins, right.pins), (1, 0));

        // A person who locks it starts over, and is told what is left.
        device.lock();
        open(&mut *device, &opens, &mut right).unwrap();
        assert_eq!(right.tries, Some(TriesLeft::Count(2)));
        drop((device, other));
        assert_eq!(failures(bench), 1);
        assert_eq!(bench.tpm.loaded(), (0, 0));
    });
}

#[test]
fn the_last_try_is_used_only_when_confirmed() {
    with_pin(|bench| {
        let (opens, _) = bench.keys();
        for _ in 0..2 {
            open(&mut *bench.device(), &opens, &mut Scripted::pin("wrong")).unwrap_err();
        }
        let mut prompter = Scripted::pin(PIN);
        let error = open(&mut *bench.device(), &opens, &mut prompter).unwrap_err();
        assert_eq!(error.kind(), Kind::PinLocked, "{error}");
        assert_eq!((prompter.confirmations, prompter.pins), (1, 0));
        assert_eq!(failures(bench), 2);

        prompter.confirm = true;
        open(&mut *bench.device(), &opens, &mut prompter).unwrap();
        assert_eq!((prompter.confirmations, prompter.pins, prompter.tries), (2, 1, Some(TriesLeft::Last)));
    });
}

#[test]
fn a_lockout_is_recognised_and_never_made_worse() {
    with_pin(|bench| {
        let (opens, _) = bench.keys();
        let free = OnSwtpm { tpm: bench.tpm, options: TpmOptions::default(), client: bench.client };
        let (without, _) = free.keys();
        let mut wrong = Scripted { confirm: true, ..Scripted::pin("wrong") };
        for _ in 0..3 {
            open(&mut *bench.device(), &opens, &mut wrong).unwrap_err();
        }
        let mut right = Scripted::pin(PIN);
        for _ in 0..2 {
            let error = open(&mut *bench.device(), &opens, &mut right).unwrap_err();
            assert_eq!(error.kind(), Kind::PinLocked, "{error}");
            assert!(error.message().contains(&format!("after {LIMIT} wrong tries")), "{error}");
            let advice = error.hint().unwrap();
            assert!(
                advice.contains("forgives one wrong try every") && advice.contains("clear-lockout"),
                "{advice}"
            );
        }
        assert_eq!(right.pins, 0, "a PIN is not asked for in vain");
        assert_eq!(failures(bench), 3);

        // Keys without a PIN go on.
        free.opens(&mut *free.device(), &without);
        bench.tpm.tool("tpm2_dictionarylockout", &["--clear-lockout"]);
        open(&mut *bench.device(), &opens, &mut right).unwrap();
    });
}

#[test]
fn a_new_pin_is_asked_for_twice() {
    with_pin(|bench| {
        use strongroom::device::{Algorithm, Purpose};
        use strongroom::error::Result;
        use strongroom::prompt::{PinRequest, Prompter};
        use strongroom::secret::Secret;

        /// Types something else every time.
        struct Slips(u8);
        impl Prompter for Slips {
            fn pin(&mut self, _request: &PinRequest<'_>) -> Result<Secret> {
                self.0 += 1;
                Ok(Secret::new(vec![b'a' + self.0]))
            }
            fn touch(&mut self, _why: &str) -> Result<()> {
                Ok(())
            }
            fn confirm(&mut self, _question: &str) -> Result<bool> {
                Ok(false)
            }
        }
        let mut device = bench.device();
        let provision = device.provisioning().unwrap();
        let mut create = |prompter: &mut dyn Prompter| {
            provision.create(Purpose::Open, Algorithm::P256, &bench.options(), prompter)
        };
        assert_eq!(create(&mut Slips(0)).unwrap_err().kind(), Kind::PinWrong);
        assert_eq!(create(&mut BatchPrompter).unwrap_err().kind(), Kind::PinUnavailable);
        let mut careful = Scripted::pin(PIN);
        create(&mut careful).unwrap();
        assert_eq!(careful.pins, 2);
    });
}

#[test]
fn a_pin_comes_from_a_file() {
    with_pin(|bench| {
        let (opens, _) = bench.keys();
        let file = bench.tpm.dir.join("pin");
        std::fs::write(&file, format!("{PIN}\n")).unwrap();
        let uri = format!("{}&pin-source=file:{}", bench.uri(), file.display());
        open(&mut *connect(&uri.parse().unwrap()).unwrap(), &opens, &mut BatchPrompter).unwrap();
    });
}

#[test]
fn a_pin_that_cannot_be_right_is_not_sent() {
    with_pin(|bench| {
        let (opens, _) = bench.keys();
        for (pin, kind) in [
            ("", Kind::PinUnavailable),
            ("an authValue has at most 32 bytes", Kind::PinWrong),
            ("nul\0", Kind::PinWrong),
        ] {
            let error = open(&mut *bench.device(), &opens, &mut Scripted::pin(pin)).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.message().contains("not sent"), "{error}");
        }
        assert_eq!(failures(bench), 0);
    });
}
