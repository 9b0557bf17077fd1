//! What goes wrong with a TPM, and that nothing is left behind in its few slots.

use crate::on_swtpm::{Client, OnSwtpm, PIN, open, with_swtpm};
use std::time::{Duration, Instant};
use strongroom::device::DeviceWorker;
use strongroom::device::{Algorithm, KeyRef, PrivateOperation, Purpose, TpmOptions};
use strongroom::error::Kind;
use test_support::device_conformance::Bench;
use test_support::prompter::Scripted;
use test_support::swtpm::Swtpm;
use test_support::tpm_relay::{CREATE, ECDH_ZGEN, Relay, code, refusal};

#[test]
fn a_tpm_that_was_killed_and_is_back_serves_on() {
    for client in Client::BOTH {
        let Some(tpm) = Swtpm::new() else { return };
        is_killed_and_back(tpm, client);
    }
}

fn is_killed_and_back(mut tpm: Swtpm, client: Client) {
    let bench = OnSwtpm { tpm: &tpm, options: TpmOptions::default(), client };
    let (opens, signs) = bench.keys();
    let mut device = bench.device();
    let prompter = &mut Scripted::default();
    open(&mut *device, &opens, prompter).unwrap();
    for _ in 0..2 {
        tpm.kill();
        tpm.start();
        open(&mut *device, &opens, prompter).unwrap();
        device.sign(&KeyRef::from(&signs), &[0; 32], prompter).unwrap();
    }
    tpm.kill();
    let error = open(&mut *device, &opens, prompter).unwrap_err();
    assert_eq!(error.kind(), Kind::DeviceGone, "{error}");
    tpm.start();
    open(&mut *device, &opens, prompter).unwrap();
    drop(device);
    assert_eq!(tpm.loaded(), (0, 0));
}

#[test]
fn a_pin_whose_fate_is_unknown_is_not_sent_again() {
    with_swtpm(TpmOptions { pin: true, ..TpmOptions::default() }, |bench| {
        let (opens, _) = bench.keys();
        let relay = Relay::before(bench.tpm);
        let sent = std::sync::Arc::new(std::sync::Mutex::new(0));
        let count = std::sync::Arc::clone(&sent);
        // The TPM gets the command; its answer is lost in a reset.
        relay.act(move |command, forward| {
            let response = forward(command);
            match code(command) {
                ECDH_ZGEN => {
                    *count.lock().unwrap() += 1;
                    refusal(0x910)
                }
                _ => response,
            }
        });
        let mut device = bench.through(&relay);
        open(&mut *device, &opens, &mut Scripted::pin(PIN)).unwrap_err();
        assert_eq!(*sent.lock().unwrap(), 1);
    });
}

#[test]
fn a_pin_whose_answer_was_lost_is_not_sent_again() {
    with_swtpm(TpmOptions { pin: true, ..TpmOptions::default() }, |bench| {
        let (opens, _) = bench.keys();
        let relay = Relay::before(bench.tpm);
        relay.act(|command, forward| {
            let response = forward(command);
            if code(command) == ECDH_ZGEN { Vec::new() } else { response }
        });
        let mut device = bench.through(&relay);
        let prompter = &mut Scripted::pin(PIN);
        let error = open(&mut *device, &opens, prompter).unwrap_err();
        assert_eq!(error.kind(), Kind::PinWrong, "{error}");
        assert!(error.message().starts_with("the response to the PIN was lost"), "{error}");
        relay.pass();
        let error = open(&mut *device, &opens, prompter).unwrap_err();
        assert!(error.message().contains("it is not sent again"), "{error}");
        assert_eq!(prompter.pins, 1);
        // Until a person says so.
        device.lock();
        open(&mut *device, &opens, prompter).unwrap();
        drop(device);
        assert_eq!(relay.loaded(), (0, 0));
    });
}

#[test]
fn a_reset_in_mid_use_is_recovered_from() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, signs) = bench.keys();
        let relay = Relay::before(bench.tpm);
        let mut device = bench.through(&relay);
        bench.opens(&mut *device, &opens);
        device.sign(&KeyRef::from(&signs), &[0; 32], &mut bench.prompter()).unwrap();

        bench.tpm.reset();
        let error = open(&mut *device, &opens, &mut bench.prompter()).unwrap_err();
        assert!(error.message().contains("TPM_RC_INITIALIZE (0x100)"), "{error}");
        // TPM2_Startup(TPM_SU_CLEAR), as the firmware does it.
        relay.send(&hex::decode("80010000000c000001440000").unwrap());
        bench.opens(&mut *device, &opens);
        device.sign(&KeyRef::from(&signs), &[0; 32], &mut bench.prompter()).unwrap();
        drop(device);
        assert_eq!(relay.loaded(), (0, 0));
    });
}

#[test]
fn a_tpm_that_hangs_is_given_up() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, _) = bench.keys();
        let patience = Duration::from_secs(5);
        let worker = DeviceWorker::connect(&bench.uri().parse().unwrap(), patience).unwrap();
        let try_opening = || {
            let opens = opens.clone();
            worker.call("open", &mut bench.prompter(), move |device, prompter| open(device, &opens, prompter))
        };
        try_opening().unwrap();
        bench.tpm.hang(true);
        let began = Instant::now();
        assert_eq!(try_opening().unwrap_err().message(), "the device has not answered for 5s");
        drop(worker);
        assert!(began.elapsed() < Duration::from_secs(120));
        bench.tpm.hang(false);
    });
}

#[test]
fn a_cleared_tpm_says_that_its_keys_are_gone() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, signs) = bench.keys();
        bench.tpm.tool("tpm2_clear", &["-c", "platform"]);
        let mut device = bench.device();
        let error = open(&mut *device, &opens, &mut bench.prompter()).unwrap_err();
        assert_eq!(error.kind(), Kind::KeyMissing, "{error}");
        assert!(error.message().contains("cleared and its keys are lost"), "{error}");
        assert!(error.hint().unwrap().contains("strongroom device renew"));
        assert!(!device.has_key(&KeyRef::from(&signs), &mut bench.prompter()).unwrap());
        drop(device);
        assert_eq!(bench.tpm.loaded(), (0, 0));
    });
}

#[test]
fn a_storage_root_key_that_was_evicted_is_made_again() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, signs) = bench.keys();
        bench.tpm.tool("tpm2_evictcontrol", &["-C", "o", "-c", "0x81000001"]);
        let mut device = bench.device();
        bench.opens(&mut *device, &opens);
        device.sign(&KeyRef::from(&signs), &[0; 32], &mut bench.prompter()).unwrap();
        bench.opens(&mut *device, &opens);
        drop(device);
        assert_eq!(bench.tpm.loaded(), (0, 0));
    });
}

#[test]
fn a_busy_tpm_is_waited_for() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, _) = bench.keys();
        let relay = Relay::before(bench.tpm);
        // TPM_RC_RETRY and TPM_RC_TESTING, more often than tpm2-tss puts up with by itself.
        let mut left = 24;
        relay.act(move |command, forward| {
            left -= 1;
            match left {
                0.. => refusal(if left % 2 == 0 { 0x922 } else { 0x90a }),
                _ => forward(command),
            }
        });
        let mut device = bench.through(&relay);
        bench.opens(&mut *device, &opens);
        drop(device);
        assert_eq!(relay.loaded(), (0, 0));
    });
}

#[test]
fn full_slots_are_told_and_nobody_elses_is_flushed() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, _) = bench.keys();
        for name in ["one.ctx", "two.ctx", "three.ctx"] {
            bench.tpm.tool("tpm2_createprimary", &["-C", "o", "-c", name]);
        }
        assert_eq!(bench.tpm.loaded(), (3, 0));
        let mut device = bench.device();
        let error = open(&mut *device, &opens, &mut bench.prompter()).unwrap_err();
        assert!(error.message().contains("TPM_RC_OBJECT_MEMORY (0x902)"), "{error}");
        drop(device);
        assert_eq!(bench.tpm.loaded(), (3, 0));

        // What the hint says frees them.
        let advised =
            error.hint().unwrap().split('`').filter_map(|part| part.strip_prefix("tpm2_flushcontext "));
        let advised: Vec<_> = advised.collect();
        assert_eq!(advised.len(), 2, "{error}");
        advised.iter().for_each(|argument| drop(bench.tpm.tool("tpm2_flushcontext", &[argument])));
        bench.opens(&mut *bench.device(), &opens);
    });
}

#[test]
fn a_connection_that_breaks_while_a_key_is_made_leaves_nothing_behind() {
    with_swtpm(TpmOptions::default(), |bench| {
        let relay = Relay::before(bench.tpm);
        let mut device = bench.through(&relay);
        relay.act(|command, forward| {
            let response = forward(command);
            if code(command) == CREATE { Vec::new() } else { response }
        });
        let provision = device.provisioning().unwrap();
        let made = provision.create(Purpose::Open, Algorithm::P256, &bench.options(), &mut bench.prompter());
        assert_eq!(made.unwrap_err().kind(), Kind::DeviceGone);
        drop(device);
        assert_eq!(relay.loaded(), (0, 0));
    });
}

/// Every kind of failure, many times over one connection; in the end every slot is free.
#[test]
fn no_failure_leaves_anything_behind() {
    with_swtpm(TpmOptions { pcrs: Some("sha256:16".into()), ..TpmOptions::default() }, |bench| {
        let (opens, signs) = bench.keys();
        let free = OnSwtpm { tpm: bench.tpm, options: TpmOptions::default(), client: bench.client };
        let (plain, _) = free.keys();
        bench.tpm.tool("tpm2_pcrextend", &[&format!("16:sha256={}", "11".repeat(32))]);
        let relay = Relay::before(bench.tpm);
        let mut device = bench.through(&relay);
        let prompter = &mut bench.prompter();
        let mut corrupt = plain.clone();
        let middle = corrupt.material.len() / 2;
        corrupt.material[middle] ^= 1;
        for _ in 0..6 {
            // A PCR that changed, for both keys; a point off the curve; a private half that was altered.
            assert_eq!(open(&mut *device, &opens, prompter).unwrap_err().kind(), Kind::Refused);
            let error = device.sign(&KeyRef::from(&signs), &[0; 32], prompter).unwrap_err();
            assert_eq!(error.kind(), Kind::Refused);
            let garbage = PrivateOperation::Ecdh { peer: &[0; 65] };
            let error = device.open_key(&KeyRef::from(&plain), garbage, prompter).unwrap_err();
            assert_eq!(error.kind(), Kind::Device, "{error}");
            device.lock();
            let error = open(&mut *device, &corrupt, prompter).unwrap_err();
            assert_eq!(error.kind(), Kind::KeyMissing, "{error}");
            assert!(relay.loaded().0 <= 2 && relay.loaded().1 <= 2, "{:?}", relay.loaded());
            free.opens(&mut *device, &plain);
        }
        // An answer to each command in turn that makes no sense.
        for nth in 0..8 {
            let mut seen = 0;
            relay.act(move |command, forward| {
                seen += 1;
                let mut response = forward(command);
                if seen == nth + 1 {
                    let last = response.len() - 1;
                    response[last] ^= 0x55;
                }
                response
            });
            device.lock();
            let _ = open(&mut *device, &plain, prompter);
            relay.pass();
            free.opens(&mut *device, &plain);
        }
        drop(device);
        assert_eq!(relay.loaded(), (0, 0));
    });
}
